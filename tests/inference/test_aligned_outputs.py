"""Outputs that attention changes: ranks by coverage, source words for unknown tokens; the same in any batch."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.data.batches import UNK_ID
from transformer_jax.data.tokenizers import train_subword_tokenizer, train_word_tokenizer
from transformer_jax.decode.coverage import coverage_penalty
from transformer_jax.decode.searcher import BeamConfig
from transformer_jax.errors import RunError
from transformer_jax.inference.aligned_outputs import AlignedOutputs
from transformer_jax.inference.batch_search import NOTHING, Hypothesis
from transformer_jax.inference.translator import Translator
from transformer_jax.runs.loading import load_run


class Looks(nnx.Module):
    """A model whose attention follows a table: target token ``t`` looks at source place ``table[t]``."""

    def __init__(self, table: list[int]) -> None:
        self.table = nnx.Variable(np.array(table, np.int32))

    def attention_maps(self, source_tokens: Any, source_lengths: Any, target_inputs: Any) -> dict[str, Any]:
        weights = jax.nn.one_hot(self.table[...][: target_inputs.shape[1]], source_tokens.shape[1])
        return {"decoder_layer_0": jnp.tile(weights[None, None], (source_tokens.shape[0], 2, 1, 1))}


@pytest.fixture
def looking(tiny_run: Path) -> Callable[..., Translator]:
    """The tiny run with another model, and tokenizers of words."""

    def make(table: list[int], **changes: Any) -> Translator:
        run = load_run(tiny_run).predictor
        words = train_word_tokenizer(["the cat sat on a mat"])
        return dataclasses.replace(
            run, model=Looks(table), **({"source_tokenizer": words, "target_tokenizer": words} | changes)
        )

    return make


SEARCH = BeamConfig(max_len=6, num_beams=2, num_best=2)


def aligned(run: Translator, lines: list[str], found: list[list[Hypothesis]], **options: Any) -> Any:
    sources = [run.source_tokenizer.encode(line) for line in lines]
    return AlignedOutputs(run, SEARCH, **options)(run.state, lines, sources, found)


def test_unknown_tokens_become_the_word_looked_at(looking: Callable[..., Translator]) -> None:
    run = looking([0, 3, 1, 0, 0, 0])
    line = "the zyx sat Ork"
    assert run.source_tokenizer.count_unknown(run.source_tokenizer.encode(line)) == 2
    hypothesis = Hypothesis((5, UNK_ID, UNK_ID, 6), -1.0, True)
    ((found,),) = aligned(run, [line], [[hypothesis]], coverage=0.0, replaces_unknown=True)
    assert found.copied == ("Ork", "zyx")
    assert run.text(found).split()[1:3] == ["Ork", "zyx"]
    assert run.text(hypothesis).split()[1:3] == ["<unk>", "<unk>"]


def test_several_unknown_tokens_for_one_word_have_it_once(looking: Callable[..., Translator]) -> None:
    target = train_subword_tokenizer(["low lower lowest"] * 9, algorithm="bpe", vocab_size=16)
    run = looking([0, 1, 1, 1, 2, 0], target_tokenizer=target)
    low = target.encode("low")[0]
    hypothesis = Hypothesis((low, UNK_ID, UNK_ID, UNK_ID, low), -1.0, True)
    ((found,),) = aligned(run, ["the <unk>yx sat"], [[hypothesis]], coverage=0.0, replaces_unknown=True)
    assert run.scored_text(found) == "low<unk>yx low"


def test_the_space_before_a_word_stands_for_the_word(looking: Callable[..., Translator]) -> None:
    tokenizer = train_subword_tokenizer(["low lower lowest"] * 9, algorithm="bpe", vocab_size=16)
    run = looking([0], source_tokenizer=tokenizer)
    line = "low Zyx low"
    words = [run.source_word(line, place) for place in range(len(tokenizer.encode(line)))]
    assert words[0] == words[-1] == "low"
    assert set(words[1:-1]) == {"Zyx"}


def test_a_piece_of_a_word_stands_for_the_word(looking: Callable[..., Translator]) -> None:
    tokenizer = train_subword_tokenizer(["low lower lowest"] * 9, algorithm="bpe", vocab_size=16)
    run = looking([2, 0, 0, 0, 0, 0], source_tokenizer=tokenizer)
    assert tokenizer.pieces(tokenizer.encode("low lowest low"))[1:3] == ["▁lowe", "s"]
    assert [run.source_word("low lowest low", place) for place in range(5)] == [
        "low",
        "lowest",
        "lowest",
        "lowest",
        "low",
    ]


def test_coverage_ranks_anew(looking: Callable[..., Translator]) -> None:
    run = looking([0, 1, 2, 3, 0, 0])
    short, whole = Hypothesis((4, 5), -1.0, False), Hypothesis((4, 5, 6, 7), -1.5, False)
    ((first, second),) = aligned(
        run, ["the cat sat on"], [[short, whole]], coverage=0.2, replaces_unknown=False
    )
    assert (first.tokens, second.tokens) == (whole.tokens, short.tokens)
    assert first.score == pytest.approx(-1.5)
    assert second.score == pytest.approx(-1.0 + coverage_penalty(np.eye(4)[:2], 0.2))
    kept = aligned(run, ["the cat sat on"], [[short, whole]], coverage=0.01, replaces_unknown=False)
    assert kept[0][0].tokens == short.tokens


def test_a_line_without_tokens_keeps_nothing(looking: Callable[..., Translator]) -> None:
    found = aligned(looking([0] * 6), [""], [[NOTHING]], coverage=0.2, replaces_unknown=True)
    assert found == [[NOTHING]]


def test_by_the_command_the_lines_beside_do_not_matter(
    tiny_run: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    lines = ["cat", "attack", "sit", "cactus", "tactic", "it"]
    options = ("--beam", 3, "--n-best", 2, "--coverage-penalty", 0.3, "--replace-unknown")
    outputs = []
    for order in (lines, lines[::-1]):
        (tmp_path / "in.txt").write_text("\n".join(order) + "\n")
        ran = run_command("translate", tiny_run, "--input", tmp_path / "in.txt", *options)
        assert ran.status == 0
        rows = [row.split("\t") for row in ran.out.splitlines()]
        outputs.append({order[int(number) - 1]: [] for number, *_ in rows})
        for number, *rest in rows:
            outputs[-1][order[int(number) - 1]].append(rest)
    assert outputs[0] == outputs[1]
    scores = [float(score) for score, _ in outputs[0]["cactus"]]
    assert scores == sorted(scores, reverse=True)


def test_coverage_within_the_search_is_counted_once(
    tiny_run: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    (tmp_path / "in.txt").write_text("cactus\nattack\nit\n")
    words = ("translate", tiny_run, "--input", tmp_path / "in.txt", "--beam", 3, "--n-best", 3)
    rows = {}
    for name, options in {
        "plain": (),
        "after": ("--coverage-penalty", 0.4),
        "within": ("--coverage-penalty", 0.4, "--stepwise-coverage"),
    }.items():
        ran = run_command(*words, *options)
        assert ran.status == 0, ran.err
        split = [row.split("\t") for row in ran.out.splitlines()]
        rows[name] = {(number, text): float(score) for number, score, text in split}
    both = rows["after"].keys() & rows["within"].keys()
    assert both
    for one in both:  # the same penalty, whenever it is counted
        assert rows["within"][one] == pytest.approx(rows["after"][one], abs=3e-4)
    assert any(rows["plain"][one] > rows["within"][one] + 1e-3 for one in both & rows["plain"].keys())


def test_what_cannot_be_is_refused(tiny_run: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    (tmp_path / "in.txt").write_text("cat\n")
    words = ("translate", tiny_run, "--input", tmp_path / "in.txt")
    assert "--coverage-penalty ranks the outputs of a beam: add --beam N" in fails(
        *words, "--coverage-penalty", 0.2
    )
    assert "--coverage-penalty must be a number of at least 0" in fails(
        *words, "--beam", 2, "--coverage-penalty", -1
    )
    assert "--coverage-penalty out" in fails(*words, "--temperature", 1, "--coverage-penalty", 0.2)
    assert "add --coverage-penalty B" in fails(*words, "--beam", 2, "--stepwise-coverage")


def test_a_model_without_attention_is_told(looking: Callable[..., Translator]) -> None:
    class Blind(nnx.Module):
        def attention_maps(self, *unused: Any) -> dict[str, Any]:
            return {}

    run = dataclasses.replace(looking([0]), model=Blind())
    with pytest.raises(RunError, match=r"no attention to look at: leave `replace_unknown` out"):
        AlignedOutputs(run, SEARCH, coverage=0.0, replaces_unknown=True)
