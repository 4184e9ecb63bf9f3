"""evaluate and plot: scores that follow from translate's output, pictures, and bad input in one line."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import sacrebleu

from transformer_jax.data.examples import EncodedExamples
from transformer_jax.data.line_pairs import EvaluationItem
from transformer_jax.data.pairs_config import (
    ChosenBuckets,
    MosesText,
    NamedDataset,
    PairsConfig,
    Subwords,
    TsvFiles,
)
from transformer_jax.data.tokenizers import train_character_tokenizer
from transformer_jax.decode.searcher import GreedyConfig
from transformer_jax.inference.batch_search import Hypothesis
from transformer_jax.inference.translator import Translator
from transformer_jax.models.encoder_decoder import EncoderDecoderConfig
from transformer_jax.runs import figures as plotting
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.runs.experiment_runner import RunOptions, run_experiment
from transformer_jax.tasks.pair_metrics import bleu_tokenizer, percentages, score_outputs
from transformer_jax.tasks.pairs import PairEvaluator
from transformer_jax.tasks.translation import Translation
from transformer_jax.testing.tiny_models import TableModel
from transformer_jax.training.config import Adam, Constant, TrainConfig


def write(folder: Path, sources: list[str], references: list[str]) -> tuple[Any, ...]:
    (folder / "source.txt").write_text("".join(f"{line}\n" for line in sources))
    (folder / "reference.txt").write_text("".join(f"{line}\n" for line in references))
    return ("--source", folder / "source.txt", "--reference", folder / "reference.txt")


def test_scores_are_those_of_the_translations(
    tiny_run: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    words, references = ["cat", "attack", "sit"], ["C A T", "A T T A C K", "S I T"]
    files = write(tmp_path, words, references)
    outputs = run_command("translate", tiny_run, "--input", tmp_path / "source.txt").out.splitlines()
    ran = run_command("evaluate", tiny_run, *files, "--json")
    assert ran.status == 0
    scores = json.loads(ran.out)
    wanted = percentages(score_outputs("pronunciation", outputs, [(line,) for line in references]))
    assert wanted == {name: scores[name] for name in wanted}
    assert {"per", "wer"} <= wanted.keys()
    assert (scores["lines"], scores["task"], scores["unknown"], scores["too_long"]) == (
        3,
        "pronunciation",
        0,
        0,
    )
    table = run_command("evaluate", tiny_run, *files).out
    assert f"{scores['per']:.2f}" in table
    assert "3 lines" in table


def test_its_own_outputs_have_no_errors(
    tiny_run: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    words = ["cat", "attack", "sit", "tack"] * 10
    write(tmp_path, words, [])
    outputs = run_command("translate", tiny_run, "--input", tmp_path / "source.txt").out.splitlines()
    ran = run_command("evaluate", tiny_run, *write(tmp_path, words, outputs), "--json")
    assert json.loads(ran.out)["wer"] == 0.0
    wrong = ["A A A A A A A A A A", *outputs[1:]]
    ran = run_command("evaluate", tiny_run, *write(tmp_path, words, wrong), "--json")
    assert json.loads(ran.out)["wer"] == 100.0 / len(words)


def test_unknown_characters_and_long_lines_are_counted(
    tiny_run: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    files = write(tmp_path, ["cßt", "a" * 9], ["C A T", "A"])
    ran = run_command("evaluate", tiny_run, *files, "--json", "--too-long", "truncate")
    scores = json.loads(ran.out)
    assert (scores["unknown"], scores["too_long"]) == (1, 1)
    assert "1 character never seen in training became <unk>: 'ß' 1" in ran.err
    assert "line 2: 9 tokens" in ran.err


def test_bad_files(tiny_run: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    files = write(tmp_path, ["cat", "sit", "at"], ["C A T", "S I T"])
    message = fails("evaluate", tiny_run, *files)
    assert "3 lines" in message
    assert "has 2" in message
    long = write(tmp_path, ["cat", "a" * 9], ["C", "A"])
    assert "line 2: 9 tokens" in fails("evaluate", tiny_run, *long, "--too-long", "fail")
    (tmp_path / "source.txt").write_bytes(b"")
    assert "empty" in fails("evaluate", tiny_run, *files)
    (tmp_path / "source.txt").write_bytes(b"\0\0\n")
    assert "binary" in fails("evaluate", tiny_run, *files)
    (tmp_path / "source.txt").write_bytes(b"\xff\n")
    assert "not UTF-8" in fails("evaluate", tiny_run, *files)
    (tmp_path / "source.txt").unlink()
    assert "source.txt: no such file" in fails("evaluate", tiny_run, *files)


def test_folders_that_hold_no_run(tiny_run: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    files = write(tmp_path, ["cat"], ["C A T"])
    assert "no such run folder; did you mean 'tiny'?" in fails("evaluate", tiny_run.parent / "tny", *files)
    assert "'config.json' is missing" in fails("evaluate", tmp_path, *files)


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("config.json", "{", "config.json: not JSON"),
        ("config.json", '{"name": "x"}', "config.json: key 'task' is missing"),
        ("source_tokenizer.json", "[]", "source_tokenizer.json: not a tokenizer"),
        ("target_tokenizer.json", "", "target_tokenizer.json"),
    ],
)
def test_damaged_run_folders(
    name: str, content: str, part: str, tiny_run: Path, tmp_path: Path, fails: Callable[..., str]
) -> None:
    shutil.copytree(tiny_run, tmp_path / "run")
    (tmp_path / "run" / name).write_text(content)
    assert part in fails("evaluate", tmp_path / "run", *write(tmp_path, ["cat"], ["C A T"]))


def test_damaged_checkpoint(tiny_run: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    shutil.copytree(tiny_run, tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints").rglob("*"):
        if path.is_file() and "model" in path.parts:
            path.write_bytes(b"")
    message = fails("evaluate", tmp_path / "run", *write(tmp_path, ["cat"], ["C A T"]))
    assert "checkpoint" in message
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    assert "no checkpoint yet" in fails("evaluate", tmp_path / "run", *write(tmp_path, ["cat"], ["C A T"]))


def test_plot_draws_curves_and_attention(
    tiny_run: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    ran = run_command("plot", tiny_run, "--output", tmp_path / "figures", "--line", "cat", "tack")
    assert ran.status == 0, ran.err
    paths = [Path(line) for line in ran.out.splitlines()]
    assert [path.name for path in paths] == [
        "loss.png",
        "per.png",
        "attention_1_cat.png",
        "attention_2_tack.png",
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_plot_draws_the_output_of_translate(
    tiny_run: Path, tmp_path: Path, run_command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the run's own beam search, where greedy search finds another."""
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    config = json.loads((run / "config.json").read_text())
    config["task"]["search"] = {"kind": "beam", "max_len": 9, "num_beams": 4, "length_penalty": 0.0}
    (run / "config.json").write_text(json.dumps(config))
    lines = ["cactus", "\U000f1234 a/b"]
    (tmp_path / "in.txt").write_text("".join(f"{line}\n" for line in lines))
    drawn: list[Any] = []
    monkeypatch.setattr(
        plotting, "attention_heads", lambda maps, *labels, **rest: drawn.append((*labels, rest))
    )
    ran = run_command("plot", run, "--output", tmp_path / "figures", "--line", *lines)
    assert ran.status == 0, ran.err
    assert [Path(path).name for path in ran.out.splitlines()[-2:]] == [
        "attention_1_cactus.png", "attention_2_a_b.png",
    ]  # fmt: skip
    written = [" ".join(piece for piece in target if piece != "<end>") for _, target, _ in drawn]
    translated = run_command("translate", run, "--input", tmp_path / "in.txt").out.splitlines()
    assert written == translated
    greedy = run_command("translate", run, "--input", tmp_path / "in.txt", "--beam", 1).out.splitlines()
    assert written != greedy, "the case says nothing"
    assert "U+F1234; install one" in ran.err


def test_plot_of_what_cannot_be_drawn(tiny_run: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    assert "holds no run" in fails("plot", tmp_path)
    beside = tiny_run.with_name(f"{tiny_run.name}y")
    assert f"no such run folder; did you mean '{tiny_run.name}'?" in fails("plot", beside)
    assert "no token to look at" in fails("plot", tiny_run, "--output", tmp_path, "--line", "")
    assert "no token to look at" in fails("plot", tiny_run, "--output", tmp_path, "--line", "a" * 300)


@pytest.fixture(scope="module")
def translation_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few updates of a tiny translation run on Moses-style text, with development and test sets of its own."""
    folder = tmp_path_factory.mktemp("translation")
    lines = [
        ("A cat, a dog.", "Eine Katze, ein Hund."),
        ("Two dogs!", "Zwei Hunde!"),
        ("It's a man.", "Es ist ein Mann."),
    ]
    (folder / "pairs.tsv").write_text("".join(f"{source}\t{target}\n" for source, target in lines * 8))
    config = ExperimentConfig(
        name="tiny_translation",
        task=Translation(
            data=PairsConfig(
                dataset=TsvFiles(train=str(folder / "pairs.tsv"), development=str(folder / "pairs.tsv")),
                moses=MosesText(source_language="en", target_language="de"),
                source_tokenizer=Subwords(vocab_size=60),
                target_tokenizer=Subwords(vocab_size=60),
                share_vocabulary=True,
                batch_tokens=200,
                buckets=ChosenBuckets(max_shapes=1),
                batch_size=8,
            ),
            search=GreedyConfig(max_len=12),
        ),
        model=EncoderDecoderConfig(
            model_dim=16,
            num_heads=2,
            num_kv_heads=2,
            feed_forward_dim=16,
            num_encoder_layers=1,
            num_decoder_layers=1,
            share_embeddings="all",
        ),
        train=TrainConfig(
            updates=6,
            optimizer=Adam(),
            schedule=Constant(peak_learning_rate=0.01),
            evaluate_every=6,
            checkpoint_every=6,
            metric="bleu",
            metric_mode="max",
        ),
    )
    run_experiment(config, folder / "run", RunOptions(quiet=True))
    return folder / "run"


def test_a_split_of_the_runs_own_data(
    translation_run: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    pairs = [line.split("\t") for line in (translation_run.parent / "pairs.tsv").read_text().splitlines()]
    files = write(tmp_path, [source for source, _ in pairs], [target for _, target in pairs])
    by_files = json.loads(run_command("evaluate", translation_run, *files, "--json").out)
    by_split = json.loads(run_command("evaluate", translation_run, "--split", "development", "--json").out)
    assert by_split == by_files
    assert by_split["training"]["updates"] == 6
    assert by_split["environment"]["cores"] >= 1
    assert by_split["search"]["max_len"] == 12
    assert {"bleu", "chrf", "ter", "wer", "cer"} <= by_split.keys()
    assert "tok:none" in by_split["details"]["bleu"]["signature"]
    assert by_split["training"]["bleu_tokenizer"] == "none"
    named = run_command("evaluate", translation_run, *files, "--bleu-tokenizer", "char").out
    assert "tok:char" in named
    assert "'char' (as named)" in named


@pytest.mark.parametrize(("name", "words"), [("zn", "must be one of"), ("ja-mecab", "cannot be had here")])
def test_a_bleu_tokenizer_that_cannot_be_had_is_refused_before_the_search(
    translation_run: Path, fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu.tokenizers.tokenizer_ja_mecab", None)
    monkeypatch.setattr(Translator, "searcher", lambda *words, **names: pytest.fail("it searched"))
    assert words in fails("evaluate", translation_run, "--split", "development", "--bleu-tokenizer", name)


CHINESE = ("\u6211\u5f88\u559c\u6b22\u559d\u8336\u3002", "\u6211\u559c\u6b22\u559d\u8336\u3002")


def test_checkpoints_are_chosen_by_a_bleu_that_cuts_the_target_language() -> None:
    """Of outputs that are nearly right, which 13a would give 0."""
    items = [EvaluationItem("tea", (CHINESE[0],))] * 2
    tokenizer = train_character_tokenizer(CHINESE)
    ids = tuple(tokenizer.encode(CHINESE[1]))
    nothing = EncodedExamples(*[np.zeros(0, np.int32), np.zeros(3, np.int64)] * 2)
    data: Any = SimpleNamespace(
        development_items=items, development=nothing, target_tokenizer=tokenizer,
        plan=SimpleNamespace(shapes=[(4, 4)]), config=SimpleNamespace(copies_unknown=False),
    )  # fmt: skip
    scores: Any = PairEvaluator(Translation(), TableModel.countdown(vocab_size=5, eos_id=3), data)
    scores.searcher = lambda state, sources: [[Hypothesis(ids, 0.0, True)]] * 2
    wanted = sacrebleu.corpus_bleu([CHINESE[1]] * 2, [[CHINESE[0]] * 2], tokenize="zh").score
    assert scores(None)["bleu"] == pytest.approx(wanted)
    assert wanted > 30.0
    assert (scores.tokenizer.name, scores.tokenizer.reason) == ("zh", "script of the references: Han")


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (PairsConfig(), "13a"),
        (PairsConfig(bleu_tokenizer="intl"), "intl"),
        (PairsConfig(dataset=TsvFiles(train="t", target_language="zh")), "zh"),
        (PairsConfig(dataset=TsvFiles(train="t"), moses=MosesText(source_language="de", target_language="en")), "none"),
        (
            PairsConfig(dataset=TsvFiles(train="t", source_language="zh", target_language="en"), moses=MosesText()),
            "none",
        ),
        (
            PairsConfig(
                dataset=NamedDataset(name="tatoeba-zh-en", source_language="en", target_language="zh")
            ),
            "zh",
        ),
    ],
)  # fmt: skip
def test_a_config_says_what_bleu_cuts_words_with(data: PairsConfig, wanted: str) -> None:
    assert bleu_tokenizer(data, [("A cat sat.",)]).name == wanted
    assert bleu_tokenizer(data, [("A cat sat.",)], name="char").name == "char"


def test_two_runs_and_lengths(translation_run: Path, run_command: Callable[..., Any]) -> None:
    words = (
        "evaluate",
        translation_run,
        "--split",
        "development",
        "--against",
        translation_run,
        "--by-length",
    )
    scores = json.loads(run_command(*words, "--json").out)
    assert [one["metric"] for one in scores["against"]["metrics"]] == ["BLEU", "chrF2"]
    assert all(
        one["score"] == one["other_score"] and one["p_value"] > 0.9 for one in scores["against"]["metrics"]
    )
    assert scores["by_length"] == [{"words": "1 to 10", "lines": 24, "bleu": scores["bleu"]}]
    text = run_command(*words).out
    assert "no difference that could not be chance" in text
    assert "1 to 10" in text


def test_translations_are_plain_text(
    translation_run: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    (tmp_path / "in.txt").write_text("A cat, a dog.\n\n\u4e2d\n")
    ran = run_command("translate", translation_run, "--input", tmp_path / "in.txt")
    assert ran.status == 0
    assert ran.out.count("\n") == 3
    assert "&apos;" not in ran.out


def test_what_evaluate_cannot_do_is_said(
    translation_run: Path, tiny_run: Path, tmp_path: Path, fails: Callable[..., str]
) -> None:
    files = write(tmp_path, ["cat"], ["C A T"])
    assert "wanted two files, --source and --reference, or --split" in fails("evaluate", tiny_run)
    assert "wanted two files, --source and --reference, or --split" in fails("evaluate", tiny_run, *files[:2])
    assert "wanted two files, --source and --reference, or --split" in fails(
        "evaluate", tiny_run, *files, "--split", "test"
    )
    assert "have no test set" in fails("evaluate", translation_run, "--split", "test")
    assert "--by-length is for translation" in fails("evaluate", tiny_run, *files, "--by-length")
    assert "is for pronunciation" in fails("evaluate", translation_run, *files, "--against", tiny_run)


def test_a_foreign_tokenizer_is_refused(
    translation_run: Path, tmp_path: Path, fails: Callable[..., str]
) -> None:
    shutil.copytree(translation_run, tmp_path / "run")
    path = tmp_path / "run" / "source_tokenizer.json"
    document = json.loads(path.read_text())
    symbols = sorted(document["model"]["vocab"], key=document["model"]["vocab"].get)
    first, second = symbols[4:6]
    document["model"]["vocab"] |= {
        first: 5,
        second: 4,
    }  # of the same size: only the meaning of two ids changes
    path.write_text(json.dumps(document))
    assert "trained with another tokenizer" in fails("evaluate", tmp_path / "run", "--split", "development")


def test_a_page_shows_the_worst_and_the_best_sentences(
    tiny_run: Path, tmp_path: Path, run_command: Callable[..., Any], fails: Callable[..., str]
) -> None:
    (tmp_path / "in.txt").write_text("cat\n<b>at\nact\n")
    (tmp_path / "ref.txt").write_text("C A T\nA T\nA C T\n")
    files = ("--source", tmp_path / "in.txt", "--reference", tmp_path / "ref.txt")
    ran = run_command("evaluate", tiny_run, *files, "--page", tmp_path / "page.html")
    assert ran.status == 0, ran.err
    page = (tmp_path / "page.html").read_text()
    assert "&lt;b&gt;at" in page
    assert "<b>at" not in page
    assert page.count("<article>") == 3
    assert page.index("The worst") < page.index("The best")
    assert page.count("<details>") == 3
    scores = [float(text) for text in re.findall(r"score ([\d.]+)</p>", page)]
    assert scores[0] == min(scores)
    assert scores[1] <= scores[2]
    assert "http" not in page
    assert "is an input file" in fails("evaluate", tiny_run, *files, "--page", tmp_path / "in.txt")
