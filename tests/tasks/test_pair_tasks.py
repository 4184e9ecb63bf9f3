"""A third task on pairs of lines is one class: its scores, its sentences' measure, and nothing above it knows it."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

import transformer_jax as tj
from transformer_jax.errors import ConfigError
from transformer_jax.evaluate.error_rates import ErrorSum
from transformer_jax.evaluate.report import ScoreReport
from transformer_jax.tasks.pair_evaluation import PairEvaluation
from transformer_jax.tasks.pairs import PairTask
from transformer_jax.tasks.pronunciation import Pronunciation
from transformer_jax.tasks.translation import Translation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rhyme(PairTask):
    """Right where the last phoneme is."""

    kind: Literal["rhyme"] = "rhyme"
    metrics: ClassVar[Mapping[str, Any]] = {"off": "min"}
    compares_texts: ClassVar[bool] = False
    sentence_measure: ClassVar[str] = "whether the last phoneme is right"

    def sentence_score(self, output: str, references: Sequence[str]) -> float:
        return 100.0 * any(output.split()[-1:] == one.split()[-1:] for one in references)

    def scores_of(self, outputs: Any, references: Any, **options: Any) -> ScoreReport:
        wrong = [not self.sentence_score(*pair) for pair in zip(outputs, references, strict=True)]
        return ScoreReport(self.kind, len(wrong), {"off": ErrorSum(sum(wrong), len(wrong))})


def test_a_third_task_is_one_class(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("attention\ncat\n")
    (tmp_path / "out.txt").write_text("S T EY SH AH N\nD AO G\n")
    files = {"source": tmp_path / "in.txt", "reference": tmp_path / "out.txt"}
    translator = tj.load_pretrained("g2p-en").predictor
    task, page = Rhyme(data=translator.data), tmp_path / "page.html"
    found = task.evaluate(translator, PairEvaluation(**files, page=page))
    assert found["off"] == 50.0
    assert found["text"] == ["OFF    50.00 %  (1 of 2)"]
    assert "whether the last phoneme is right" in page.read_text()
    with pytest.raises(ConfigError, match=r"`by_length` is for translation; .* is for rhyme"):
        task.evaluate(translator, PairEvaluation(**files, by_length=True))
    with pytest.raises(ConfigError, match="`against` is for translation"):
        task.evaluate(translator, PairEvaluation(**files, against=("other", translator)))
    with pytest.raises(ConfigError, match="task 'rhyme' does not train on `text`"):
        task.file_overrides({"text": ["a.txt"]})


def test_sentences_are_measured_as_their_task_says() -> None:
    assert Translation().sentence_score("two dogs", ["two dogs"]) == 100.0
    assert 0.0 < Translation().sentence_score("two dogs", ["two cats"]) < 100.0
    assert Pronunciation().sentence_score("K AE T", ["K AE T S", "K AA T S"]) == 75.0
    assert Translation.compares_texts
    assert not Pronunciation.compares_texts
