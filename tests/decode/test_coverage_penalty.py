"""The coverage penalty against the formula written out, at its ends, and within a search against lists."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.decode import BeamOutput, beam_search
from transformer_jax.decode.coverage import MIN_COVERAGE, coverage_penalties, coverage_penalty
from transformer_jax.decode.protocol import TokenInputs
from transformer_jax.decode.search_options import RowOptions, SearchIds
from transformer_jax.decode.searcher import BeamConfig, make_searcher
from transformer_jax.errors import ConfigError
from transformer_jax.testing.tiny_models import TableModel

PAD, BOS, EOS = 0, 2, 3
IDS = SearchIds(bos_id=BOS, eos_id=EOS, pad_id=PAD)
MAX_LEN, KV_LEN, NUM_SOURCES = 5, 4, 12
LENGTHS = np.array([4, 3, 2, 1] * 3, np.int32)


def test_equals_the_formula_by_a_double_loop() -> None:
    weights = np.random.default_rng(0).dirichlet(np.ones(5), size=7)
    total = 0.0
    for source in range(5):
        total += math.log(min(sum(weights[target][source] for target in range(7)), 1.0))
    assert coverage_penalty(weights, 0.3) == pytest.approx(0.3 * total, rel=1e-12)


def test_nothing_is_lost_where_all_was_seen_and_much_where_a_token_was_not() -> None:
    assert coverage_penalty(np.eye(4), 0.5) == 0.0
    assert coverage_penalty([[1.0, 0.0]], 0.5) == pytest.approx(0.5 * math.log(MIN_COVERAGE))
    assert coverage_penalty(np.full((3, 2), 0.5), 0.0) == 0.0


def test_of_many_hypotheses_as_of_each_and_padding_does_not_count() -> None:
    weights = np.random.default_rng(1).dirichlet(np.ones(5), size=(2, 3, 4))  # [batch, beams, step, source]
    lengths = [5, 2]
    found = coverage_penalties(
        jnp.asarray(weights.sum(axis=2), jnp.float32), jnp.asarray(lengths, jnp.int32), 0.4
    )
    for row, length in enumerate(lengths):
        for beam in range(3):
            wanted = coverage_penalty(weights[row, beam, :, :length], 0.4)
            assert float(found[row, beam]) == pytest.approx(wanted, rel=1e-5)


class Exact:
    """The tables of a `LookingTable` in float64, for the oracle."""

    def __init__(self, logits: np.ndarray, looks: np.ndarray) -> None:
        self.log_probs = logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))
        self.looks = looks

    def after(self, source: int, tokens: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Log-probabilities of the next token, and where the step that gives them looks."""
        code = 0
        for token in (BOS, *tokens):
            code = (code * self.log_probs.shape[2] + token + 1) % self.log_probs.shape[1]
        return self.log_probs[source, code], self.looks[source, code]

    def penalty(self, source: int, tokens: tuple[int, ...], beta: float) -> float:
        """The formula, term by term."""
        covered = np.stack([self.after(source, tokens[:step])[1] for step in range(len(tokens))]).sum(axis=0)
        tokens_seen = covered[: LENGTHS[source]]
        return beta * sum(math.log(min(max(one, MIN_COVERAGE), 1.0)) for one in tokens_seen)


class LookingTable(TableModel):
    """A table of logits, and a table of where the step after each prefix looks."""

    def __init__(self, logits: np.ndarray, looks: np.ndarray) -> None:
        super().__init__(logits)
        self.looks = nnx.Variable(jnp.asarray(looks, jnp.float32))
        self.exact = Exact(np.asarray(self.table[...], np.float64), np.asarray(self.looks[...], np.float64))

    def step_with_attention(self, state: Any, tokens: Any) -> Any:
        logits, after = self.step(state, tokens)
        return logits, self.looks[...][after.source, after.prefix], after


@pytest.fixture(scope="module")
def looking() -> LookingTable:
    generator = np.random.default_rng(5)
    looks = generator.dirichlet(np.full(KV_LEN, 0.3), size=(NUM_SOURCES, 4001))
    looks = np.where(np.arange(KV_LEN) < LENGTHS[:, None, None], looks, 0.0) + 1e-4 * (np.arange(KV_LEN) == 0)
    looks /= looks.sum(axis=2, keepdims=True)
    return LookingTable(generator.normal(size=(NUM_SOURCES, 4001, 5)), looks)


Found = tuple[float, float, tuple[int, ...]]


def by_lists(
    exact: Exact, source: int, *, num_beams: int, num_best: int, alpha: float, beta: float
) -> list[Found]:
    """The best ``(score, log-probability, tokens)`` of a search that never stops early, in float64."""

    def scored(tokens: tuple[int, ...], log_prob: float) -> Found:
        penalty = exact.penalty(source, tokens, beta)
        return log_prob / ((5 + len(tokens)) / 6) ** alpha + penalty, log_prob, tokens

    live: list[Found] = [(0.0, 0.0, ())]
    ended: list[Found] = []
    for step in range(MAX_LEN):
        candidates = [
            scored((*tokens, token), log_prob + added)
            for _, log_prob, tokens in live
            for token, added in enumerate(exact.after(source, tokens)[0].tolist())
        ]
        candidates.sort(key=lambda one: -one[0])
        last = step + 1 == MAX_LEN
        ended += [one for one in candidates[:num_beams] if one[2][-1] == EOS or last]
        live = [one for one in candidates if one[2][-1] != EOS][:num_beams]
    return sorted(ended, key=lambda one: -one[0])[:num_best]


@functools.partial(jax.jit, static_argnames=("graph", "num_beams", "num_best", "alpha", "beta"))
def _search(graph: Any, params: Any, *, num_beams: int, num_best: int, alpha: float, beta: float) -> Any:
    model: Any = nnx.merge(graph, params)
    state = model.start(TokenInputs(jnp.arange(NUM_SOURCES)[:, None], jnp.asarray(LENGTHS)), max_len=MAX_LEN)
    config = BeamConfig(
        max_len=MAX_LEN, num_beams=num_beams, num_best=num_best, length_penalty=alpha, coverage_penalty=beta
    )
    return beam_search(model, state, config, IDS, RowOptions(source_lengths=jnp.asarray(LENGTHS)))


def search(model: LookingTable, **options: Any) -> BeamOutput:
    return jax.tree.map(np.asarray, _search(*nnx.split(model), **options))


@pytest.mark.parametrize("alpha", [0.0, 0.8])
@pytest.mark.parametrize(("num_beams", "num_best"), [(2, 1), (3, 3), (50, 2)])
def test_within_a_search_equals_lists(
    looking: LookingTable, alpha: float, num_beams: int, num_best: int
) -> None:
    options = {"num_beams": num_beams, "num_best": num_best, "alpha": alpha, "beta": 0.3}
    output = search(looking, **options)
    for source in range(NUM_SOURCES):
        wanted = by_lists(looking.exact, source, **options)
        assert len(wanted) == num_best
        for place, (score, log_prob, tokens) in enumerate(wanted):
            assert output.tokens[source, place].tolist() == [*tokens, *[PAD] * (MAX_LEN - len(tokens))]
            assert output.scores[source, place] == pytest.approx(score, rel=1e-5)
            assert output.log_probs[source, place] == pytest.approx(log_prob, rel=1e-5)


def test_it_finds_what_ranking_the_ended_ones_alone_does_not(looking: LookingTable) -> None:
    within = search(looking, num_beams=3, num_best=1, alpha=0.0, beta=1.0)
    plain = search(looking, num_beams=3, num_best=3, alpha=0.0, beta=0.0)
    gained = 0
    for source in range(NUM_SOURCES):
        ranked = []
        for tokens, log_prob, length, finished in zip(
            plain.tokens[source], plain.log_probs[source], plain.lengths[source], plain.finished[source]
        ):
            said = tuple(tokens[: length + finished].tolist())
            ranked.append(log_prob + looking.exact.penalty(source, said, 1.0))
        gained += within.scores[source, 0] > max(ranked) + 1e-4
    assert gained >= 3


def test_without_it_the_model_is_not_asked_where_it_looks(looking: LookingTable) -> None:
    blind = TableModel(looking.table[...])
    plain, same = (search(one, num_beams=3, num_best=2, alpha=0.6, beta=0.0) for one in (blind, looking))
    jax.tree.map(np.testing.assert_array_equal, plain, same)


def test_what_it_needs_is_named(looking: LookingTable) -> None:
    with pytest.raises(ConfigError, match="step_with_attention; TableModel has none"):
        search(TableModel(looking.table[...]), num_beams=2, num_best=1, alpha=0.0, beta=0.1)
    state = looking.start(TokenInputs(jnp.zeros((1, 1), int), jnp.ones(1, int)), max_len=4)
    with pytest.raises(ConfigError, match="coverage_penalty needs source_lengths"):
        beam_search(looking, state, BeamConfig(max_len=4, num_beams=2, coverage_penalty=0.2), IDS)
    for bad in (-0.1, math.inf, math.nan):
        with pytest.raises(ConfigError, match="coverage_penalty must be zero"):
            BeamConfig(max_len=4, num_beams=2, coverage_penalty=bad)


def test_a_searcher_takes_it_from_its_config(looking: LookingTable) -> None:
    config = BeamConfig(max_len=MAX_LEN, num_beams=3, coverage_penalty=0.3)
    searcher = make_searcher(looking, config, IDS)
    tokens = np.tile(np.arange(NUM_SOURCES)[:, None], (1, KV_LEN))
    found = searcher(nnx.state(looking), TokenInputs(tokens, LENGTHS))
    wanted = search(looking, num_beams=3, num_best=1, alpha=0.0, beta=0.3)
    np.testing.assert_array_equal(found.tokens, wanted.tokens)
    np.testing.assert_array_equal(found.scores, wanted.scores)
