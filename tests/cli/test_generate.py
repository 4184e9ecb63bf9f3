"""generate, and score and evaluate of a language model's text: outputs, options, and what is refused in one line."""

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from transformer_jax.data.tokenizers import train_character_tokenizer
from transformer_jax.errors import ConfigError
from transformer_jax.inference.text_generator import TextGenerator
from transformer_jax.runs.hub import load
from transformer_jax.testing.processes import cpu_environment

SHORT = ("--max-tokens", 8)


def generate(run_command: Callable[..., Any], *words: Any) -> str:
    """Standard output of a command that succeeds."""
    ran = run_command("generate", *words)
    assert ran.status == 0, ran.err
    return ran.out


def rows(run_command: Callable[..., Any], *words: Any) -> list[dict[str, Any]]:
    """The objects that ``--json`` writes."""
    return [json.loads(line) for line in generate(run_command, *words, "--json").splitlines()]


def give_stdin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Standard input that is no terminal."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_streamed_text_is_that_of_one_call(language_run: Path, run_command: Callable[..., Any]) -> None:
    words = (language_run, "--prompt", "cat ", "--seed", 3, "--max-tokens", 40)
    (row,) = rows(run_command, *words)
    assert generate(run_command, *words) == f"cat {row['text']}\n"
    assert len(row["text"]) == 40, "past the context of 16"
    assert row["prompt"] == "cat "
    assert row["sample"] == 0
    assert not row["finished"]
    assert row["log_prob"] < 0
    one = load(language_run).generate("cat ", seed=3, max_tokens=40)[0]
    assert (one.text, one.log_prob) == (row["text"], row["log_prob"])


def test_prompt_from_standard_input(
    language_run: Path, run_command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = generate(run_command, language_run, "--prompt", "tack", *SHORT)
    give_stdin(monkeypatch, b"tack\n")
    assert generate(run_command, language_run, *SHORT) == wanted


def test_prompts_of_a_file(language_run: Path, tmp_path: Path, run_command: Callable[..., Any]) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("cat\\ntack\nis\n")
    found = rows(run_command, language_run, "--input", prompts, "--num-samples", 2, *SHORT)
    assert [(row["prompt"], row["sample"]) for row in found] == [
        ("cat\ntack", 0),
        ("cat\ntack", 1),
        ("is", 0),
        ("is", 1),
    ]
    assert found[0]["text"] != found[1]["text"]
    text = generate(run_command, language_run, "--input", prompts, "--num-samples", 2, *SHORT)
    for number, row in enumerate(found):
        assert (
            f"=== prompt {number // 2 + 1}, sample {number % 2 + 1}\n{row['prompt']}{row['text']}\n" in text
        )


def test_lines_of_prompts_may_hold_line_breaks_and_backslashes(
    language_run: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    (tmp_path / "prompts.txt").write_text("a\\nb\nc\\\\name\nd\\t\n")
    found = rows(run_command, language_run, "--input", tmp_path / "prompts.txt", "--max-tokens", 1)
    assert [row["prompt"] for row in found] == ["a\nb", "c\\name", "d\\t"]


def test_output_file(
    language_run: Path, tmp_path: Path, run_command: Callable[..., Any], fails: Callable[..., str]
) -> None:
    (tmp_path / "prompts.txt").write_text("cat\nact\n")
    for words in (("--prompt", "cat"), ("--input", tmp_path / "prompts.txt"), ("--prompt", "cat", "--json")):
        wanted = generate(run_command, language_run, *words, *SHORT)
        assert generate(run_command, language_run, *words, *SHORT, "--output", tmp_path / "out.txt") == ""
        assert (tmp_path / "out.txt").read_text() == wanted
    words = ("--input", tmp_path / "prompts.txt", "--output", tmp_path / "prompts.txt")
    assert "is an input file" in fails("generate", language_run, *words)


def test_seed_gives_the_same_text_whatever_stands_beside_it(
    language_run: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("cat\n" + "tack at act\n" * 11)
    many = rows(run_command, language_run, "--input", prompts, "--seed", 5, *SHORT)
    (alone,) = rows(run_command, language_run, "--prompt", "cat", "--seed", 5, *SHORT)
    (exact,) = rows(run_command, language_run, "--prompt", "cat", "--seed", 5, "--invariant", *SHORT)
    assert many[0] == exact
    assert alone.pop("log_prob") == pytest.approx(many[0]["log_prob"], rel=1e-5)
    assert alone == {name: value for name, value in many[0].items() if name != "log_prob"}
    assert many == rows(run_command, language_run, "--input", prompts, "--seed", 5, *SHORT)
    (other,) = rows(run_command, language_run, "--prompt", "cat", "--seed", 6, *SHORT)
    assert other["text"] != alone["text"]


def test_stop_ends_a_text_before_it(language_run: Path, run_command: Callable[..., Any]) -> None:
    words = (language_run, "--prompt", "cat", "--seed", 1, "--max-tokens", 30)
    (whole,) = rows(run_command, *words)
    stop = whole["text"][6:8]
    (cut,) = rows(run_command, *words, "--stop", "never!", "--stop", stop)
    assert cut["text"] == whole["text"][: whole["text"].index(stop)]
    assert cut["finished"]
    assert (cut["reason"], whole["reason"]) == ("stop", "length")
    assert whole["log_prob"] < cut["log_prob"] < 0
    assert generate(run_command, *words, "--stop", "never!", "--stop", stop) == f"cat{cut['text']}\n"


def test_options_of_the_draws(language_run: Path, run_command: Callable[..., Any]) -> None:
    words = (language_run, "--prompt", "cat", *SHORT)
    greedy = generate(run_command, *words, "--temperature", 0)
    assert generate(run_command, *words, "--temperature", 0, "--seed", 9) == greedy
    assert generate(run_command, *words, "--top-k", 1) == greedy
    assert generate(run_command, *words, "--min-p", 1) == greedy
    assert generate(run_command, *words, "--top-p", 1e-6) == greedy
    assert generate(run_command, *words, "--top-k", 1, "--repetition-penalty", 1000) != greedy


def test_empty_prompt_begins_a_line(
    language_run: Path, run_command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = generate(run_command, language_run, "--prompt", "", *SHORT)
    assert len(text) == 9
    give_stdin(monkeypatch, b"")
    assert generate(run_command, language_run, *SHORT) == text
    (row,) = rows(run_command, language_run, "--prompt", "\n", *SHORT)
    assert f"{row['text']}\n" == text


def test_prompt_longer_than_the_context(
    language_run: Path, run_command: Callable[..., Any], fails: Callable[..., str]
) -> None:
    long = "cat tack at act tact attack cactus"
    text = generate(run_command, language_run, "--prompt", long, *SHORT)
    assert text.startswith(long)
    assert len(text) == len(long) + 9
    message = fails(
        "generate", language_run, "--prompt", long, "--beyond", "refuse", *SHORT
    )  # and writes nothing
    assert "34 tokens" in message
    assert "16" in message
    assert "context" in message


def test_unknown_characters_are_counted(language_run: Path, run_command: Callable[..., Any]) -> None:
    ran = run_command("generate", language_run, "--prompt", "c\u00e4t \u4e2d", *SHORT)
    assert ran.status == 0
    assert ran.out.startswith("c\u00e4t \u4e2d")
    assert "2 characters never seen in training became <unk>" in ran.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--prompt", "a", "--input", "x.txt"), "--prompt and --input both name prompts"),
        (("--input", "no-such.txt"), "no-such.txt"),
        (("--prompt", "a\udcff"), "--prompt: not UTF-8"),
        (("--prompt", "a", "--max-tokens", 0), "--max-tokens must be at least 1"),
        (("--prompt", "a", "--top-p", 0), "top_p"),
        (("--prompt", "a", "--temperature", "nan"), "--temperature must be"),
        (("--prompt", "a", "--stop", ""), "--stop is empty"),
        (("--prompt", "a", "--beyond", "guess"), "--beyond"),
    ],
)
def test_impossible_options(
    language_run: Path, fails: Callable[..., str], words: tuple[Any, ...], said: str
) -> None:
    assert said in fails("generate", language_run, *words)


def test_prompts_that_are_no_text(
    language_run: Path, tmp_path: Path, fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty.txt").write_text("")
    assert "empty.txt: the file is empty" in fails(
        "generate", language_run, "--input", tmp_path / "empty.txt"
    )
    (tmp_path / "binary.txt").write_bytes(b"a\0b\n")
    assert "binary.txt" in fails("generate", language_run, "--input", tmp_path / "binary.txt")
    give_stdin(monkeypatch, b"a\xffb")
    assert "standard input: not UTF-8 text (byte 1)" in fails("generate", language_run)


def test_commands_name_the_one_that_suits_a_run(
    language_run: Path, tiny_run: Path, tmp_path: Path, fails: Callable[..., str]
) -> None:
    (tmp_path / "a.txt").write_text("cat\n")
    files = ("--source", tmp_path / "a.txt", "--target", tmp_path / "a.txt")
    suits = "is for language_modelling, which translate does not do: use transformer-jax generate"
    assert suits in fails("translate", language_run, "--input", tmp_path / "a.txt")
    suits = "is for pronunciation, which generate does not do: use transformer-jax translate"
    assert suits in fails("generate", tiny_run, "--prompt", "cat")
    assert "is for language_modelling" in fails("score", language_run, *files)
    assert "is for pronunciation" in fails("score", tiny_run, "--input", tmp_path / "a.txt")
    assert "has no --beam" in fails("evaluate", language_run, "--split", "development", "--beam", 2)
    assert "has no --reference" in fails(
        "evaluate", language_run, "--source", tmp_path / "a.txt", "--reference", tmp_path / "a.txt"
    )
    assert "has no --stride" in fails("evaluate", tiny_run, *files[:2], "--stride", 2)


@pytest.fixture
def copied_run(language_run: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may damage."""
    return Path(shutil.copytree(language_run, tmp_path / "copy"))


def test_tokenizer_of_another_model(copied_run: Path, fails: Callable[..., str]) -> None:
    path = copied_run / "tokenizer.json"
    own = load(copied_run).artifacts["tokenizer"]
    letters = own.decode(list(range(4, own.vocab_size)))
    train_character_tokenizer([letters.translate(str.maketrans("cait", "wxyz"))]).save(path)
    assert "trained with another tokenizer" in fails("generate", copied_run, "--prompt", "a")
    train_character_tokenizer(["abcdefghijklmnopqrstuvwxyz"]).save(path)
    assert str(copied_run) in fails("generate", copied_run, "--prompt", "a")
    path.write_text("{}")
    assert "tokenizer.json" in fails("generate", copied_run, "--prompt", "a")
    path.unlink()
    assert "'tokenizer.json' is missing" in fails("generate", copied_run, "--prompt", "a")


def test_folder_of_a_task_that_is_not_known(copied_run: Path, fails: Callable[..., str]) -> None:
    path = copied_run / "config.json"
    document = json.loads(path.read_text())
    document["task"]["kind"] = "poetry"
    path.write_text(json.dumps(document))
    message = fails("generate", copied_run, "--prompt", "a")
    assert 'unknown kind "poetry"' in message
    assert "language_modelling" in message, "the known ones are named"


def test_interrupted_in_the_middle(
    language_run: Path, run_command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = TextGenerator.stream

    def interrupted(self: TextGenerator, *words: Any, **options: Any) -> Iterator[str]:
        yield next(stream(self, *words, **options))
        raise KeyboardInterrupt

    monkeypatch.setattr(TextGenerator, "stream", interrupted)
    ran = run_command("generate", language_run, "--prompt", "cat", "--max-tokens", 60)
    assert ran.status == 130
    assert ran.err.endswith("interrupted\n")
    assert ran.out.startswith("cat")
    assert len(ran.out) > 3, "what had come is kept"


def test_scores_of_a_text_token_by_token(
    language_run: Path, tmp_path: Path, run_command: Callable[..., Any], fails: Callable[..., str]
) -> None:
    text = "cat tack at act\nis\u4e2d"
    (tmp_path / "text.txt").write_text(text)
    ran = run_command("score", language_run, "--input", tmp_path / "text.txt", "--stride", 4)
    assert ran.status == 0
    found = [line.split("\t") for line in ran.out.splitlines()]
    assert "".join(json.loads(piece) for _, piece in found[:-1]) == text[:-1]
    assert found[0][0] == "nan"
    (wanted,) = load(language_run).score([text], stride=4)
    assert [float(one) for one, _ in found[1:]] == pytest.approx(wanted.log_probs[1:].tolist(), abs=1e-3)
    assert f"perplexity {wanted.perplexity:.3f}" in ran.err
    assert "1 character never seen in training" in ran.err
    assert "stride" in fails("score", language_run, "--input", tmp_path / "text.txt", "--stride", 17)
    (tmp_path / "empty.txt").write_text("")
    assert "empty.txt" in fails("score", language_run, "--input", tmp_path / "empty.txt")
    if Path("/dev/full").exists():
        full = fails("score", language_run, "--input", tmp_path / "text.txt", "--output", "/dev/full")
        assert "No space left" in full


def test_evaluation_of_a_text(
    language_run: Path,
    language_experiment: Path,
    tmp_path: Path,
    run_command: Callable[..., Any],
    fails: Callable[..., str],
) -> None:
    ran = run_command("evaluate", language_run, "--split", "development", "--json")
    assert ran.status == 0
    found = json.loads(ran.out)
    again = language_experiment.parent / "development.txt"
    ran = run_command("evaluate", language_run, "--source", again, "--json")
    assert {name: value for name, value in json.loads(ran.out).items() if name != "environment"} == {
        name: value for name, value in found.items() if name != "environment"
    }
    trained = json.loads((language_run / "result.json").read_text())["development"]
    assert found["nats"] == pytest.approx(trained["nats"], rel=1e-4)
    slower = run_command("evaluate", language_run, "--source", again, "--stride", 1, "--json")
    assert json.loads(slower.out)["nats"] != found["nats"]
    assert "have no test text" in fails("evaluate", language_run, "--split", "test")
    for name, content in (("empty.txt", b""), ("binary.txt", b"a\0\xff"), ("one.txt", b"c")):
        (tmp_path / name).write_bytes(content)
        assert name in fails("evaluate", language_run, "--source", tmp_path / name)


def test_evaluation_says_what_was_scored(
    language_run: Path, language_experiment: Path, run_command: Callable[..., Any]
) -> None:
    path = language_experiment.parent / "development.txt"
    ran = run_command("evaluate", language_run, "--source", path)
    text = path.read_text()
    assert ran.out.startswith(
        f"{len(text):,} characters, task language_modelling\n{path}: {len(text) - 1:,} tokens\n"
    )


def test_two_models_on_the_same_tokens(
    language_run: Path, tiny_run: Path, language_experiment: Path, run_command: Callable[..., Any], copied_run: Path,
    fails: Callable[..., str],
) -> None:  # fmt: skip
    words = ("evaluate", language_run, "--source", language_experiment.parent / "development.txt")
    found = json.loads(run_command(*words, "--against", copied_run, "--json").out)["against"]
    assert (found["difference"], found["interval"], found["differs"]) == (0.0, [0.0, 0.0], False)
    other = load(copied_run)
    run = load(language_run)
    params = nnx.state(other.predictor.model, nnx.Param)
    nnx.update(other.predictor.model, jax.tree.map(lambda leaf: 0.5 * leaf, params))
    worse = run.evaluate(split="development", against=other)
    assert worse["against"]["differs"]
    assert (
        worse["against"]["interval"][0]
        <= worse["against"]["difference"]
        <= worse["against"]["interval"][1]
        < 0
    )
    assert worse["against"]["difference"] == pytest.approx(worse["nats"] - worse["against"]["nats"], rel=1e-4)
    assert "difference -" in worse["text"][-1]
    assert str(tiny_run) in fails(*words, "--against", tiny_run)
    other.predictor.tokenizer = train_character_tokenizer(["abc"])
    with pytest.raises(ConfigError, match="cuts text into other tokens"):
        run.evaluate(split="development", against=other)


def test_loss_that_is_no_number_is_said(
    language_run: Path,
    language_experiment: Path,
    run_command: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = load(language_run)
    params = nnx.state(run.predictor.model, nnx.Param)
    nnx.update(run.predictor.model, jax.tree.map(lambda leaf: leaf + jnp.nan, params))
    monkeypatch.setattr("transformer_jax.runs.ensemble.load_run", lambda folder: run)
    monkeypatch.setattr("transformer_jax.cli.score_files.load_for", lambda *words: run)
    path = language_experiment.parent / "development.txt"
    ran = run_command("evaluate", language_run, "--source", path, "--json")
    found = json.loads(ran.out)
    assert (ran.status, found["nats"], found["perplexity"]) == (0, None, None)
    assert "have no finite log-probability, the first of them is token 2: the model computes" in ran.err
    ran = run_command("score", language_run, "--input", path)
    assert "have no finite log-probability" in ran.err
    assert "perplexity nan" in ran.err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"\0\1\2\xff" * 50, "not"),
        (b"a" * 400, "one distinct token, 'a'"),
        (b"abc", "context"),
        (b"cat tack at act", "context"),
        (b"\xff\xfe" * 100, "not"),
    ],
    ids=["empty", "binary", "one distinct token", "three characters", "below a context", "not UTF-8"],
)
def test_text_that_cannot_be_trained_on(
    language_experiment: Path, tmp_path: Path, fails: Callable[..., str], content: bytes, said: str
) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    dataset = json.dumps({"kind": "files", "train": [str(path)]})
    run_dir = tmp_path / "run"
    message = fails("train", language_experiment, "--run-dir", run_dir, "--set", f"data.dataset={dataset}")
    assert said in message
    assert not (run_dir / "config.json").exists()


def test_text_smaller_than_a_batch_of_streams(
    language_experiment: Path, tmp_path: Path, fails: Callable[..., str]
) -> None:
    path = tmp_path / "short.txt"
    path.write_text("cat tack at act tact\n")
    dataset = json.dumps({"kind": "files", "train": [str(path)]})
    windows = json.dumps({"kind": "contiguous", "context_len": 16})
    message = fails(
        "train", language_experiment, "--run-dir", tmp_path / "run",
        "--set", f"data.dataset={dataset}", f"data.windows={windows}", "data.batch_size=64",
    )  # fmt: skip
    assert "batch_size" in message


BROKEN_PLUGIN = """
[transformer_jax.tasks]
broken = no_such_module_of_a_plugin:Task
"""


def test_pipe_that_closes_and_plugin_that_fails(language_run: Path, tmp_path: Path) -> None:
    """Another process with a broken package installed: one note names it, and the reader that goes is no error."""
    folder = tmp_path / "broken_package-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-package\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(BROKEN_PLUGIN)
    environment = cpu_environment(fast_compile=True)
    environment["PYTHONPATH"] = f"{tmp_path}:{environment.get('PYTHONPATH', '')}:{Path.cwd()}"
    command = f"{sys.executable} -m transformer_jax.cli.main generate {language_run} --prompt cat"
    script = f"{command} --max-tokens 4000 | head -c 10; status=${{PIPESTATUS[0]}}; echo; echo $status"
    ran = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=300)
    text, status = ran.stdout.splitlines()[0], ran.stdout.splitlines()[-1]
    assert text.startswith("cat")
    assert status == "141", ran
    (note,) = ran.stderr.splitlines()
    assert note.startswith("note: package broken-package: plug-in 'broken' of 'transformer_jax.tasks'"), note
    assert "ModuleNotFoundError" in note
