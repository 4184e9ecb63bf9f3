"""tokenizer train: a file that runs take, and bad input in one line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from transformer_jax.data.pairs_config import (
    PairsConfig,
    ParallelFiles,
    SavedTokenizer,
    TsvFiles,
    with_absolute_paths,
)
from transformer_jax.data.prepare import prepare
from transformer_jax.data.tokenizers import Tokenizer


@pytest.fixture
def texts(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "a.en").write_text("the cat sat\na dog sat\n" * 20)
    (tmp_path / "a.de").write_text("die katze sitzt\nein hund sitzt\n" * 20)
    return tmp_path / "a.en", tmp_path / "a.de"


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
def test_a_joint_tokenizer_serves_both_sides_of_a_run(
    algorithm: str, texts: tuple[Path, Path], tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    output = tmp_path / "joint.json"
    words = ("tokenizer", "train", *texts, "--output", output, "--vocab-size", 40, "--algorithm", algorithm)
    ran = run_command(*words)
    assert (ran.status, ran.out) == (0, "")
    assert "80 lines" in ran.err
    tokenizer = Tokenizer.load(output)
    assert tokenizer.vocab_size <= 40
    saved = SavedTokenizer(path=str(output))
    data = prepare(
        PairsConfig(
            dataset=ParallelFiles(train_source=str(texts[0]), train_target=str(texts[1])),
            source_tokenizer=saved,
            target_tokenizer=saved,
            share_vocabulary=True,
        )
    )
    assert data.source_tokenizer.symbols == data.target_tokenizer.symbols == tokenizer.symbols
    assert data.report.train.num_source_unknown == 0


def test_paths_are_kept_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    config = with_absolute_paths(PairsConfig(source_tokenizer=SavedTokenizer(path="one.json")))
    assert config.source_tokenizer == SavedTokenizer(path=str(tmp_path / "one.json"))
    files = with_absolute_paths(PairsConfig(dataset=TsvFiles(train="a.tsv", target_language="zh"))).dataset
    assert files == TsvFiles(train=str(tmp_path / "a.tsv"), target_language="zh")


def test_bad_input_is_one_line(texts: tuple[Path, Path], tmp_path: Path, fails: Callable[..., str]) -> None:
    output = tmp_path / "out.json"
    assert "no such file" in fails("tokenizer", "train", tmp_path / "none", "--output", output)
    assert "is an input file" in fails("tokenizer", "train", texts[0], "--output", texts[0])
    assert "vocab_size 6 must be at least" in fails(
        "tokenizer", "train", texts[0], "--output", output, "--vocab-size", 6
    )
    (tmp_path / "blank").write_text("\n \n")
    assert "holds no character" in fails("tokenizer", "train", tmp_path / "blank", "--output", output)
    fails("tokenizer", "trian", texts[0], "--output", output)
    assert not output.exists()
