"""translate: one line out for each line in, whatever the line holds."""

import contextlib
import dataclasses
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.decode.searcher import GreedyConfig
from transformer_jax.inference.batch_search import NOTHING, BatchSearcher
from transformer_jax.models.recurrent_config import Luong, RecurrentSeq2SeqConfig
from transformer_jax.nn.position_encodings import Learned
from transformer_jax.runs.building import build_from
from transformer_jax.runs.loading import load_run


@pytest.fixture
def feed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[bytes], None]]:
    """Make bytes the standard input of the next command (a file with a descriptor, as in a shell)."""
    with contextlib.ExitStack() as opened:

        def give(content: bytes) -> None:
            path = tmp_path / "stdin"
            path.write_bytes(content)
            monkeypatch.setattr(sys, "stdin", opened.enter_context(io.TextIOWrapper(path.open("rb"))))

        yield give


ODD_LINES = [
    "cat",
    "",
    "   ",
    "ß中😀",
    "a\u2028b\x0bc\x85",
    "nul\0here",
    "[PAD] <unk> special: pad",
    "cat\r",
    "\t",
    "attack",
]


def test_one_line_out_for_each_line_in(
    tiny_run: Path, feed: Callable[[bytes], None], run_command: Callable[..., Any]
) -> None:
    feed("\n".join(ODD_LINES).encode())  # no line feed after the last line
    ran = run_command("translate", tiny_run)
    assert ran.status == 0
    lines = ran.out.split("\n")
    assert len(lines) == len(ODD_LINES) + 1
    assert lines[-1] == ""
    assert lines[1] == ""
    assert lines[0] == lines[7]  # a carriage return belongs to the line's end
    assert "never seen in training became <unk>" in ran.err


def test_line_breaks_inside_outputs_are_escaped_and_counted(
    tiny_run: Path, tmp_path: Path, run_command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a byte-level tokenizer can write them."""
    monkeypatch.setattr(Tokenizer, "decode", lambda self, ids: "two\nlines\u2028\tand\r" if len(ids) else "")
    (tmp_path / "in.txt").write_text("cat\n\nattack\n")
    (tmp_path / "ref.txt").write_text("two lines\n\ntwo lines\n")
    ran = run_command("translate", tiny_run, "--input", tmp_path / "in.txt")
    one = "two\\nlines\\u2028\tand\\r"
    assert ran.out == f"{one}\n\n{one}\n"
    assert "2 outputs hold a line break" in ran.err
    ran = run_command("translate", tiny_run, "--input", tmp_path / "in.txt", "--beam", 2, "--n-best", 2)
    assert [row.split("\t")[2:] for row in ran.out.splitlines()] == [
        ["two\\nlines\\u2028\\tand\\r"] if number != 2 else [""] for number in (0, 1, 2, 3, 4)
    ]
    files = ("--source", tmp_path / "in.txt", "--reference", tmp_path / "ref.txt")
    assert "2 outputs hold a line break" in run_command("evaluate", tiny_run, *files).err


def test_unknown_characters_are_counted_by_kind(
    tiny_run: Path, feed: Callable[[bytes], None], run_command: Callable[..., Any]
) -> None:
    feed("cßt\nßat\nc中t\n".encode())
    ran = run_command("translate", tiny_run)
    assert "3 characters never seen in training became <unk>: 'ß' 2, '中' 1" in ran.err


@pytest.mark.parametrize("content", [b"", b"\n", b"\n\n\n"])
def test_no_lines_and_empty_lines(
    content: bytes, tiny_run: Path, feed: Callable[[bytes], None], run_command: Callable[..., Any]
) -> None:
    feed(content)
    ran = run_command("translate", tiny_run)
    assert (ran.status, ran.out, ran.err) == (0, content.decode(), "")


def test_files_and_standard_streams_agree(
    tiny_run: Path, tmp_path: Path, feed: Callable[[bytes], None], run_command: Callable[..., Any]
) -> None:
    text = "".join(f"{word}\n" for word in ("cat", "attack", "", "sit") * 30)
    (tmp_path / "in.txt").write_text(text)
    assert (
        run_command(
            "translate", tiny_run, "--input", tmp_path / "in.txt", "--output", tmp_path / "out.txt"
        ).out
        == ""
    )
    feed(text.encode())
    assert run_command("translate", tiny_run).out == (tmp_path / "out.txt").read_text()
    assert (tmp_path / "out.txt").read_text().count("\n") == 120


def test_a_byte_order_mark_is_no_character(
    tiny_run: Path, tmp_path: Path, feed: Callable[[bytes], None], run_command: Callable[..., Any]
) -> None:
    (tmp_path / "in.txt").write_text("cat\n", encoding="utf-8-sig")
    ran = run_command("translate", tiny_run, "--input", tmp_path / "in.txt")
    feed("cat\n".encode("utf-8-sig"))
    assert run_command("translate", tiny_run) == ran
    assert ran.err == ""


def test_beam_of_one_is_greedy_and_n_best_is_best_first(
    tiny_run: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    (tmp_path / "in.txt").write_text("cat\n\nattack\n")
    words = ("translate", tiny_run, "--input", tmp_path / "in.txt")
    assert run_command(*words).out == run_command(*words, "--beam", 1).out
    rows = [line.split("\t") for line in run_command(*words, "--beam", 3, "--n-best", 2).out.splitlines()]
    assert [row[0] for row in rows] == ["1", "1", "2", "3", "3"]
    assert rows[2] == ["2", "0.0000", ""]
    assert float(rows[0][1]) >= float(rows[1][1])
    best = run_command(*words, "--beam", 3).out.splitlines()
    assert best == [rows[0][2], "", rows[3][2]]


def test_attention_file_holds_weights_that_sum_to_one_and_alignments_their_largest(
    tiny_run: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    (tmp_path / "in.txt").write_text("cat\n\nattack\n")
    words = ("translate", tiny_run, "--input", tmp_path / "in.txt")
    out = run_command(
        *words, "--attention", tmp_path / "maps.npz", "--alignments", tmp_path / "links.txt"
    ).out
    links = (tmp_path / "links.txt").read_text().splitlines()
    assert run_command(*words, "--alignments", tmp_path / "again.txt").out == out
    assert (tmp_path / "again.txt").read_text().splitlines() == links
    with np.load(tmp_path / "maps.npz", allow_pickle=False) as maps:
        assert {"1/source", "1/target", "2/source", "3/source"} <= set(maps.files)
        assert maps["1/source"].tolist() == ["c", "a", "t"]
        written = [text for text in maps["1/target"].tolist() if text != "<end>"]
        assert " ".join(written) == out.splitlines()[0]
        names = [
            name for name in maps.files if name.startswith("3/") and name not in ("3/source", "3/target")
        ]
        assert names
        for name in names:
            assert maps[name].shape[1:] == (len(maps["3/target"]), 6)
            np.testing.assert_allclose(maps[name].sum(-1), 1.0, atol=1e-5)
        assert len(links) == 3
        assert links[1] == ""
        for number in (1, 3):
            (weights,) = (
                maps[name].mean(0)
                for name in maps.files
                if name.startswith(f"{number}/") and not name.endswith(("source", "target"))
            )
            count = int((maps[f"{number}/target"] != "<end>").sum())
            wanted = [f"{weights[place].argmax()}-{place}" for place in range(count)]
            assert links[number - 1].split() == wanted


@pytest.mark.parametrize(("choice", "out_is_empty"), [("skip", True), ("truncate", False)])
def test_lines_over_the_capacity(
    choice: str, out_is_empty: bool, tiny_run: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    (tmp_path / "in.txt").write_text("cat\n" + "a" * 9 + "\n" + "a" * 5000 + "\n")
    (tmp_path / "cut.txt").write_text("cat\n" + "a" * 8 + "\n" + "a" * 8 + "\n")
    ran = run_command("translate", tiny_run, "--input", tmp_path / "in.txt", "--too-long", choice)
    assert ran.status == 0
    assert "in.txt: line 2: 9 tokens; the limit of training is 8" in ran.err
    assert "2 lines were over the limit of training" in ran.err
    cut = run_command("translate", tiny_run, "--input", tmp_path / "cut.txt").out
    assert ran.out.splitlines()[1:] == (["", ""] if out_is_empty else cut.splitlines()[1:])


def test_a_line_longer_than_those_of_training_is_translated(
    tiny_run: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    """Whole, its output as long in proportion; only one that is no sentence any more is an empty line."""
    lines = ["cat", "attackattack", "c" * 300, "sit"]
    (tmp_path / "in.txt").write_text("".join(f"{line}\n" for line in lines))
    ran = run_command(
        "translate", tiny_run, "--input", tmp_path / "in.txt", "--attention", tmp_path / "maps.npz"
    )
    assert ran.status == 0
    outputs = ran.out.split("\n")
    assert [bool(line) for line in outputs] == [True, True, False, True, False]
    run = load_run(tiny_run)
    run = load_run(tiny_run).predictor
    source = run.source_tokenizer.encode(lines[1])
    wide = BatchSearcher(run.model, GreedyConfig(max_len=14), batch_size=4, lengths=[12])  # ceil(9 * 12 / 8)
    assert outputs[1] == run.text(wide(run.state, [source])[0][0])
    assert (
        "line 2: 12 tokens; the limit of training is 8 (data.max_source_len): more than it was trained on"
        in ran.err
    )
    assert "line 3: 300 tokens; the limit of training is 8 (data.max_source_len): left out" in ran.err
    assert "2 lines were over the limit of training, 1 of them left out" in ran.err
    with np.load(tmp_path / "maps.npz", allow_pickle=False) as maps:
        shapes = [maps[name].shape for name in maps.files if name.startswith("2/") and maps[name].ndim == 3]
        assert shapes
        assert all(shape[2] == 12 for shape in shapes)


@pytest.mark.parametrize(
    "limited_by",
    ["learned positions", "location scores"],
)
def test_only_what_the_model_cannot_take_is_left_out(
    limited_by: str, tiny_run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = load_run(tiny_run)
    if limited_by == "learned positions":
        config: Any = dataclasses.replace(run.config.model, positions=Learned(max_len=10))
    else:
        config = RecurrentSeq2SeqConfig(
            embedding_dim=4, hidden_dim=4, cell="gru", num_encoder_layers=1, num_decoder_layers=1,
            bidirectional=False, dropout_rate=0.0, residual=False,
            attention=Luong(score="location", max_len=10, input_feeding=False),
        )  # fmt: skip
    config = dataclasses.replace(run.config, model=config)
    limited = dataclasses.replace(
        run.predictor,
        model=build_from(config, run.artifacts),
        source_limit=config.model.source_limit,
        target_limit=config.model.target_limit,
    )
    sources = limited.encode(["a" * 8, "a" * 10, "a" * 11], too_long="whole", where="here")
    assert [len(ids) for ids in sources] == [8, 10, 0]
    assert (limited.report.num_too_long, limited.report.num_left_out) == (2, 1)
    assert capfd.readouterr().err == ""
    said = "\n".join(limited.report.take_remarks())
    assert "here: line 2: 10 tokens" in said
    assert "left out, since the model takes at most 10" in said
    searcher = limited.searcher(config.task.search)
    found = searcher(limited.state, sources)
    assert found[2] == [NOTHING]
    aligned = limited.attention_reader(config.task.search)(
        limited.state, sources, [one[0] for one in found], limited.source_tokenizer, limited.target_tokenizer
    )
    assert [len(one.source) for one in aligned] == [8, 10, 0]


def test_too_long_fail_names_the_line(tiny_run: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    (tmp_path / "in.txt").write_text("cat\n" * 700 + "a" * 9 + "\n")
    message = fails("translate", tiny_run, "--input", tmp_path / "in.txt", "--too-long", "fail")
    assert "line 701: 9 tokens" in message
    assert "the limit of training is 8" in message


def test_bad_input_files(tiny_run: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    path = tmp_path / "in.txt"
    assert "in.txt: no such file" in fails("translate", tiny_run, "--input", path)
    path.write_bytes(b"")
    assert "empty" in fails("translate", tiny_run, "--input", path)
    path.write_bytes(b"\x7fELF\0\0")
    assert "binary" in fails("translate", tiny_run, "--input", path)
    path.write_bytes(b"good\ngr\xfcn\n")
    assert "not UTF-8 at line 2" in fails("translate", tiny_run, "--input", path)
    assert "cannot read" in fails("translate", tiny_run, "--input", tmp_path)


def test_standard_input_that_is_not_utf8(
    tiny_run: Path, feed: Callable[[bytes], None], fails: Callable[..., str]
) -> None:
    feed(b"good\ngr\xfcn\n")
    assert "standard input: line 2: not UTF-8" in fails("translate", tiny_run)


def test_bad_outputs(tiny_run: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    path = tmp_path / "in.txt"
    path.write_text("cat\n")
    assert "is an input file" in fails("translate", tiny_run, "--input", path, "--output", path)
    (tmp_path / "link").symlink_to(path)
    assert "is an input file" in fails("translate", tiny_run, "--input", path, "--output", tmp_path / "link")
    assert "is an input file" in fails("translate", tiny_run, "--input", path, "--attention", path)
    assert path.read_text() == "cat\n"
    assert path.read_text() == "cat\n"
    assert "No such file" in fails(
        "translate", tiny_run, "--input", path, "--output", tmp_path / "no" / "out.txt"
    )
    assert "Is a directory" in fails("translate", tiny_run, "--input", path, "--output", tmp_path)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--beam", "0"], "--beam must be at least 1, got 0"),
        (["--n-best", "0"], "--n-best must be at least 1, got 0"),
        (["--n-best", "2"], "--n-best 2 needs at least as many beams, there are 1"),
        (["--beam", "2", "--n-best", "3"], "--n-best 3 needs at least as many beams, there are 2"),
    ],
)
def test_impossible_searches(
    words: list[str], part: str, tiny_run: Path, tmp_path: Path, fails: Callable[..., str]
) -> None:
    (tmp_path / "in.txt").write_text("cat\n")
    assert part in fails("translate", tiny_run, "--input", tmp_path / "in.txt", *words)


def test_outputs_keep_the_rules_that_are_given(
    tiny_run: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    (tmp_path / "in.txt").write_text("cat\nattack\nsit\ncactus\n")
    (tmp_path / "begin.txt").write_text("C U\n\nS\n\n")
    words = ("translate", tiny_run, "--input", tmp_path / "in.txt")
    free = run_command(*words).out.splitlines()
    begun = run_command(*words, "--prefix", tmp_path / "begin.txt").out.splitlines()
    assert begun[0].startswith("C U")
    assert begun[2].startswith("S")
    assert begun[1::2] == free[1::2]
    long = run_command(*words, "--min-len", 5, "--no-repeat-ngram", 1).out.splitlines()
    for line in long:
        assert len(line.split()) >= 5
        assert len(set(line.split())) == len(line.split())


def test_lines_without_an_output_that_keeps_the_rules_are_told(
    tiny_run: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    """Of seven letters, none of them twice, eight cannot be said."""
    (tmp_path / "in.txt").write_text("cat\n\nsit\n")
    words = ("translate", tiny_run, "--input", tmp_path / "in.txt", "--min-len", 8, "--no-repeat-ngram", 1)
    ran = run_command(*words, "--beam", 2, "--n-best", 1)
    assert ran.out == "1\t-inf\t\n2\t0.0000\t\n3\t-inf\t\n"
    assert (
        "note: 2 lines have no output that keeps the rules of the search: line 1 and others are left"
        in ran.err
    )
    assert ran.status == 0


def test_a_draw_follows_from_seed_and_line_alone(
    tiny_run: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    (tmp_path / "in.txt").write_text("cat\nattack\nsit\n" * 3)
    words = ("translate", tiny_run, "--input", tmp_path / "in.txt", "--temperature", 2)
    first = run_command(*words, "--verify-invariance")
    assert first.status == 0, first.err
    assert run_command(*words).out == first.out
    assert run_command(*words, "--seed", 1).out != first.out
    assert run_command(*words, "--top-k", 1).out == run_command(*words[:-2], "--beam", 1).out
    several = run_command(*words, "--num-samples", 3, "--verify-invariance")
    rows = [line.split("\t") for line in several.out.splitlines()]
    assert [row[0] for row in rows] == [str(number) for number in range(1, 10) for _ in range(3)]
    assert [row[2] for row in rows[::3]] == first.out.splitlines()
    assert len({row[2] for row in rows[:3]}) > 1


def test_searches_that_cannot_be_are_refused(
    tiny_run: Path, tmp_path: Path, fails: Callable[..., str]
) -> None:
    (tmp_path / "in.txt").write_text("cat\nact\n")
    (tmp_path / "begin.txt").write_text("C\n")
    words = ("translate", tiny_run, "--input", tmp_path / "in.txt")
    assert "has 1 lines" in fails(*words, "--prefix", tmp_path / "begin.txt")
    (tmp_path / "begin.txt").write_text("C\n?\n")
    assert "line 2: '?' was never seen" in fails(*words, "--prefix", tmp_path / "begin.txt")
    (tmp_path / "begin.txt").write_text("C\n" + "C " * 20 + "\n")
    assert "line 2: 20 tokens leave no room" in fails(*words, "--prefix", tmp_path / "begin.txt")
    assert "for each line of --input" in fails("translate", tiny_run, "--prefix", tmp_path / "begin.txt")
    assert "--min-len 9 leaves no room" in fails(*words, "--min-len", 9)
    assert "--min-len must be at least 0" in fails(*words, "--min-len", -1)
    assert "add --temperature" in fails(*words, "--top-k", 3)
    assert "leave --beam" in fails(*words, "--temperature", 1, "--beam", 2)
    assert "add --beam N" in fails(*words, "--length-penalty", 1)
    assert "temperature" in fails(*words, "--temperature", -1)
    assert "add --temperature" in fails(*words, "--num-samples", 2)
    assert "must be 1 to 2,047" in fails(*words, "--temperature", 1, "--num-samples", 3000)
    assert "top_p" in fails(*words, "--temperature", 1, "--top-p", 0)


@pytest.mark.parametrize(
    "options", [(), ("--beam", 3, "--n-best", 2), ("--temperature", 1, "--num-samples", 2)]
)
def test_a_broken_off_output_goes_on_behind_its_whole_lines(
    tiny_run: Path, tmp_path: Path, run_command: Callable[..., Any], options: tuple
) -> None:
    (tmp_path / "in.txt").write_text("cat\nattack\n\nsit\ncactus\n")
    words = (
        "translate",
        tiny_run,
        "--input",
        tmp_path / "in.txt",
        *options,
        "--output",
        tmp_path / "out.txt",
    )
    assert run_command(*words).status == 0
    whole = (tmp_path / "out.txt").read_bytes()
    for size in (0, 1, len(whole) // 2, len(whole) - 1, len(whole)):
        (tmp_path / "out.txt").write_bytes(whole[:size])
        assert run_command(*words, "--continue").status == 0
        assert (tmp_path / "out.txt").read_bytes() == whole
    (tmp_path / "out.txt").unlink()
    assert run_command(*words, "--continue").status == 0
    assert (tmp_path / "out.txt").read_bytes() == whole


def test_what_cannot_go_on_is_refused(tiny_run: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    (tmp_path / "in.txt").write_text("cat\n")
    words = ("translate", tiny_run, "--input", tmp_path / "in.txt")
    assert "name both files" in fails(*words, "--continue")
    both = ("--output", tmp_path / "out.txt", "--alignments", tmp_path / "links.txt")
    assert "without --attention and --alignments" in fails(*words, *both, "--continue")
    assert "--alignments" in fails(*words, "--alignments", tmp_path / "in.txt")
    (tmp_path / "out.txt").write_text("C A T\nC\n")
    assert "holds 2 lines" in fails(*words, "--output", tmp_path / "out.txt", "--continue")
    assert "not a line of --n-best" in fails(
        *words, "--beam", 2, "--n-best", 2, "--output", tmp_path / "out.txt", "--continue"
    )
    assert (tmp_path / "out.txt").read_text() == "C A T\nC\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_is_one_line(tiny_run: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    (tmp_path / "in.txt").write_text("cat\n")
    message = fails("translate", tiny_run, "--input", tmp_path / "in.txt", "--output", "/dev/full")
    assert "No space left on device; what was written is kept" in message
