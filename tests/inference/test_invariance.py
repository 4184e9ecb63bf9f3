"""A line's tokens and score are the same bits whatever stands beside it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest
from flax import nnx

from transformer_jax.decode.searcher import BeamConfig, GreedyConfig
from transformer_jax.inference.batch_search import BatchSearcher
from transformer_jax.models.build import build_model
from transformer_jax.models.encoder_decoder import EncoderDecoderConfig
from transformer_jax.models.recurrent_config import Bahdanau, Luong, RecurrentSeq2SeqConfig
from transformer_jax.models.sizes import Sizes
from transformer_jax.nn.experts import Experts
from transformer_jax.nn.local_attention import Predictive

VOCAB = 40


def recurrent(attention: Bahdanau | Luong) -> RecurrentSeq2SeqConfig:
    return RecurrentSeq2SeqConfig(
        embedding_dim=24,
        hidden_dim=32,
        cell="gru",
        num_encoder_layers=1,
        num_decoder_layers=1,
        bidirectional=True,
        attention=attention,
        dropout_rate=0.0,
        residual=False,
    )


MODELS = {
    "transformer": EncoderDecoderConfig(
        model_dim=32,
        num_heads=4,
        num_kv_heads=4,
        feed_forward_dim=64,
        num_encoder_layers=2,
        num_decoder_layers=2,
    ),
    "experts": EncoderDecoderConfig(
        model_dim=32,
        num_heads=4,
        num_kv_heads=4,
        feed_forward_dim=64,
        num_encoder_layers=1,
        num_decoder_layers=1,
        feed_forward=Experts(num_experts=4, top_k=1),
    ),
    "bahdanau": recurrent(Bahdanau(attention_dim=32)),
    "luong": recurrent(Luong(score="general", input_feeding=True)),
    "luong_local": recurrent(Luong(score="concat", input_feeding=False, local=Predictive(half_width=2))),
}
SEARCHES = {
    "greedy": GreedyConfig(max_len=9),
    "beam": BeamConfig(max_len=9, num_beams=4, num_best=2, length_penalty=0.6),
    "coverage": BeamConfig(max_len=9, num_beams=4, num_best=2, length_penalty=0.6, coverage_penalty=0.2),
}
PAIRS = [
    *((model, search) for model in ("transformer", "bahdanau") for search in ("greedy", "beam")),
    *((model, search) for model in ("luong", "luong_local") for search in ("beam", "coverage")),
    ("transformer", "coverage"),
    ("experts", "beam"),
]
SOURCES = st.lists(st.lists(st.integers(4, VOCAB - 1), max_size=12), min_size=1, max_size=40)


FIRST = {
    ("transformer", "beam"),
    ("transformer", "coverage"),
    ("experts", "beam"),
    ("bahdanau", "greedy"),
    ("luong", "coverage"),
    ("luong_local", "beam"),
}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(pair, marks=() if pair in FIRST else pytest.mark.full, id="-".join(pair))
        for pair in PAIRS
    ],
)
def searching(request: pytest.FixtureRequest) -> tuple[BatchSearcher, nnx.State]:
    model_name, search_name = request.param
    model = build_model(MODELS[model_name], Sizes.of_pairs(VOCAB), seed=0)
    searcher = BatchSearcher(model, SEARCHES[search_name], batch_size=8, lengths=[4, 8, 12])
    return searcher, nnx.split(model)[1]


@hypothesis.settings(max_examples=8)
@hypothesis.given(sources=SOURCES, seed=st.integers(0, 2**32 - 1))
def test_no_bit_depends_on_the_neighbours(
    searching: tuple[BatchSearcher, nnx.State], sources: list[list[int]], seed: int
) -> None:
    searcher, state = searching
    found = searcher(state, sources)
    assert searcher.changed_by_neighbours(state, sources, found, seed=seed) == []
    alone = [searcher(state, [source])[0] for source in sources[:3]]
    assert alone == found[:3]


def test_what_differs_is_named(searching: tuple[BatchSearcher, nnx.State]) -> None:
    searcher, state = searching
    sources = [[5, 6], [7], [8, 9, 10]]
    found = searcher(state, sources)
    found[1] = found[2]
    assert searcher.changed_by_neighbours(state, sources, found) == [1]


def test_the_command_verifies_its_own_lines(
    tiny_run: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    path = tmp_path / "in.txt"
    path.write_text("cat\n\nattack\ntic\n" * 20)
    plain = run_command("translate", tiny_run, "--input", path)
    verified = run_command("translate", tiny_run, "--input", path, "--verify-invariance")
    assert (verified.status, verified.out) == (0, plain.out)
    assert "verified: 80 lines" in verified.err


def test_lines_that_come_alone_are_searched_alone_unless_invariance_is_wanted(
    tiny_run: Path, tmp_path: Path, run_command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = []
    search = BatchSearcher.__call__

    def watched(self: BatchSearcher, *arguments: Any, **options: Any) -> Any:
        rows.append(self.batch_size)
        return search(self, *arguments, **options)

    monkeypatch.setattr(BatchSearcher, "__call__", watched)
    one, many = tmp_path / "one.txt", tmp_path / "many.txt"
    one.write_text("cat\n")
    many.write_text("cat\nattack\ntic\n")
    scores = []
    for words in ((one,), (one, "--invariant"), (many,)):
        ran = run_command("translate", tiny_run, "--beam", 4, "--n-best", 4, "--input", *words)
        assert ran.status == 0, ran.err
        scores.append([line.split("\t") for line in ran.out.splitlines() if line.startswith("1\t")])
    assert rows == [1, 10, 10]
    assert (
        [line[2] for line in scores[0]] == [line[2] for line in scores[1]] == [line[2] for line in scores[2]]
    )
    for (_, alone, _), (_, filled, _) in zip(scores[0], scores[1], strict=True):
        assert float(alone) == pytest.approx(float(filled), abs=2e-4)
