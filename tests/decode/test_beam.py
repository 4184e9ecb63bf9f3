"""Beam search against enumeration of all sequences and against beam search by lists."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tiers import tiered

from transformer_jax.decode import BeamOutput, beam_search, greedy_search
from transformer_jax.decode.protocol import TokenInputs
from transformer_jax.decode.search_config import BeamConfig, GreedyConfig
from transformer_jax.decode.search_options import RowOptions, SearchIds
from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.testing.search_oracles import SearchOracle
from transformer_jax.testing.tiny_models import TableModel

PAD, BOS, EOS = 0, 2, 3
IDS = SearchIds(bos_id=BOS, eos_id=EOS, pad_id=PAD)

SOURCES = [0, 1, 2]


def enumerate_hypotheses(model, source, max_len, alpha):
    oracle = SearchOracle(model=model, bos_id=BOS, eos_id=EOS, max_len=max_len, alpha=alpha)
    return oracle.enumerate(source)


@functools.partial(jax.jit, static_argnames=("graphdef", "max_len", "num_beams", "num_best", "alpha"))
def _run(graphdef, params, sources, max_lens=None, *, max_len, num_beams, num_best, alpha):
    model = nnx.merge(graphdef, params)
    state = model.start(TokenInputs(sources[:, None], jnp.ones_like(sources)), max_len=max_len)
    config = BeamConfig(max_len=max_len, num_beams=num_beams, num_best=num_best, length_penalty=alpha)
    return beam_search(model, state, config, IDS, RowOptions(max_lens=max_lens))


def search(
    model, sources=SOURCES, max_lens=None, *, max_len=4, num_beams=4, num_best=1, alpha=0.0
) -> BeamOutput:
    max_lens = None if max_lens is None else jnp.array(max_lens)
    output = _run(
        *nnx.split(model),
        jnp.array(sources),
        max_lens,
        max_len=max_len,
        num_beams=num_beams,
        num_best=num_best,
        alpha=alpha,
    )
    return jax.tree.map(np.asarray, output)


def assert_row_equals(output: BeamOutput, row: int, expected, max_len: int) -> None:
    count = len(expected)
    gaps = -np.diff([hypothesis.score for hypothesis in expected])
    assert np.all(gaps > 2e-6), "the oracle has ties: choose another seed"
    assert output.tokens[row, :count].tolist() == [hypothesis.padded(max_len) for hypothesis in expected]
    assert output.lengths[row, :count].tolist() == [hypothesis.length for hypothesis in expected]
    assert output.finished[row, :count].tolist() == [hypothesis.finished for hypothesis in expected]
    np.testing.assert_allclose(output.log_probs[row, :count], [h.log_prob for h in expected], rtol=1e-5)
    np.testing.assert_allclose(output.scores[row, :count], [h.score for h in expected], rtol=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
def test_enough_beams_equal_exhaustive_enumeration(table_model, alpha):
    total = 1 + 4 + 16 + 64 + 256  # Ended after 1 to 4 tokens, and cut off at 4.
    output = search(table_model, num_beams=350, num_best=350, alpha=alpha)
    for row, source in enumerate(SOURCES):
        expected = enumerate_hypotheses(table_model, source, 4, alpha)
        assert len(expected) == total
        assert_row_equals(output, row, expected, max_len=4)
    # Places without a hypothesis.
    assert np.all(output.scores[:, total:] == -np.inf)
    assert np.all(output.log_probs[:, total:] == -np.inf)
    assert np.all(output.tokens[:, total:] == PAD)
    assert not output.finished[:, total:].any()
    assert np.all(output.lengths[:, total:] == 0)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_small_pool_keeps_the_best_of_all(table_model, alpha):
    """The loop may stop early here; what it returns must still be the best of all sequences."""
    output = search(table_model, num_beams=350, num_best=3, alpha=alpha)
    for row, source in enumerate(SOURCES):
        assert_row_equals(output, row, enumerate_hypotheses(table_model, source, 4, alpha)[:3], max_len=4)


@pytest.mark.parametrize(
    ("num_beams", "num_best", "alpha"),
    tiered(
        [(*beams, alpha) for beams in ((2, 1), (2, 2), (3, 2)) for alpha in (0.0, 0.6, 1.5)],
        {(2, 1, 0.6), (2, 2, 0.0), (3, 2, 1.5)},
    ),
)
def test_narrow_beam_equals_lists(alpha, num_beams, num_best):
    model = TableModel.random(seed=7, num_sources=16, num_prefixes=40009, scale=1.5)
    sources = list(range(16))
    oracle = SearchOracle(model=model, bos_id=BOS, eos_id=EOS, max_len=6, alpha=alpha)
    output = search(model, sources, max_len=6, num_beams=num_beams, num_best=num_best, alpha=alpha)
    for row, source in enumerate(sources):
        expected = oracle.beam(source, num_beams, num_best)
        assert_row_equals(output, row, expected, max_len=6)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 3.0])
def test_one_beam_is_greedy(alpha):
    model = TableModel.random(seed=3, num_sources=16)
    sources = jnp.arange(16)
    beam = search(model, sources, max_len=7, num_beams=1, alpha=alpha)
    state = model.start(TokenInputs(sources[:, None], jnp.ones(16, int)), max_len=7)
    greedy = greedy_search(model, state, GreedyConfig(max_len=7), IDS)
    assert 0 < int(greedy.finished.sum()) < 16, "the seed must give both kinds of rows"
    best = jax.tree.map(lambda leaf: leaf[:, 0] if leaf.ndim > 1 else leaf, beam)
    np.testing.assert_array_equal(best.tokens, greedy.tokens)
    np.testing.assert_array_equal(best.lengths, greedy.lengths)
    np.testing.assert_array_equal(best.finished, greedy.finished)
    np.testing.assert_allclose(best.log_probs, greedy.log_probs, rtol=1e-6)
    assert int(best.num_steps) == int(greedy.num_steps)


@pytest.mark.smoke
def test_one_beam_is_greedy_on_ties():
    model = TableModel(np.zeros((1, 8, 5)))
    model.table[...] = model.table[...].at[:, :, 3:].set(1.0)  # The end ties with token 4.
    assert search(model, [0], num_beams=1).tokens.tolist() == [[[EOS, PAD, PAD, PAD]]]


def test_hypotheses_are_sorted_and_scores_follow_the_formula(table_model):
    output = search(table_model, max_len=6, num_beams=5, num_best=5, alpha=0.8)
    assert np.all(np.diff(output.scores, axis=1) <= 0)
    generated = output.lengths + output.finished
    np.testing.assert_allclose(output.scores, output.log_probs / ((5 + generated) / 6) ** 0.8, rtol=1e-6)
    for row in range(len(SOURCES)):
        assert len({tuple(tokens) for tokens in output.tokens[row].tolist()}) == 5


def test_tokens_after_the_end_are_padding_and_the_end_is_kept(table_model):
    output = search(table_model, max_len=6, num_beams=4, num_best=4)
    places = np.arange(6)[None, None]
    lengths = output.lengths[:, :, None]
    assert output.finished.any()
    assert np.all(output.tokens[places > lengths] == PAD)
    ends = np.broadcast_to(places == lengths, output.tokens.shape) & output.finished[:, :, None]
    assert np.all(output.tokens[ends] == EOS)
    assert np.all((output.tokens == EOS).sum(axis=2) == output.finished)


def test_loop_stops_when_nothing_better_can_come():
    model = TableModel.countdown(eos_id=EOS)
    output = search(model, [0], max_len=50, num_beams=3)
    assert output.tokens[0, 0, :4].tolist() == [1, 0, EOS, PAD]
    # The end is seen in the third step, and every live hypothesis is worse by then.
    assert int(output.num_steps) == 3
    # A length penalty lets a longer hypothesis hope, but not with a margin of 9 logits for ever.
    assert int(search(model, [0], max_len=50, num_beams=3, alpha=0.6).num_steps) < 10


def test_rows_without_end_are_returned_unfinished():
    table = np.zeros((1, 8, 5))
    table[:, :, EOS] = -np.inf
    table[:, :, 4] = 1.0
    output = search(TableModel(table), [0, 0], max_len=3, num_beams=2, num_best=2, alpha=1.0)
    assert output.tokens[:, 0].tolist() == [[4, 4, 4]] * 2
    assert not output.finished.any()
    assert output.lengths.tolist() == [[3, 3]] * 2
    log_prob = 3 * (1 - np.log(np.e + 3))
    np.testing.assert_allclose(output.log_probs[:, 0], log_prob, rtol=1e-5)
    np.testing.assert_allclose(output.scores[:, 0], log_prob / (8 / 6), rtol=1e-5)


def test_row_limits(table_model):
    output = search(table_model, [0, 1, 2, 0], [2, 0, 9, 4], max_len=4, num_beams=350, num_best=5, alpha=0.6)
    assert_row_equals(output, 0, enumerate_hypotheses(table_model, 0, 2, 0.6)[:5], max_len=4)
    assert output.tokens[1].tolist() == [[PAD] * 4] * 5
    assert output.log_probs[1].tolist() == [0.0] + [-np.inf] * 4
    assert_row_equals(output, 2, enumerate_hypotheses(table_model, 2, 4, 0.6)[:5], max_len=4)
    assert_row_equals(output, 3, enumerate_hypotheses(table_model, 0, 4, 0.6)[:5], max_len=4)


@pytest.mark.smoke
def test_rows_do_not_see_their_neighbours(table_model):
    together = search(table_model, max_len=6, num_beams=3, num_best=3, alpha=0.6)
    for row, source in enumerate(SOURCES):
        alone = search(table_model, [source], max_len=6, num_beams=3, num_best=3, alpha=0.6)
        np.testing.assert_array_equal(alone.tokens[0], together.tokens[row])
        np.testing.assert_array_equal(alone.scores[0], together.scores[row])


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_impossible_tokens_are_never_chosen(bad):
    table = np.array(TableModel.random(seed=2).table[...])
    table[:, :, [1, 4]] = bad
    output = search(TableModel(table), num_beams=350, num_best=20)
    possible = output.log_probs > -np.inf
    assert possible.all()
    assert not np.isin(output.tokens, [1, 4]).any()
    # The remaining three tokens take all the probability.
    everything = search(TableModel(table), num_beams=350, num_best=350)
    np.testing.assert_allclose(np.exp(everything.log_probs).sum(axis=1), 1.0, rtol=1e-5)


def test_positive_infinity_takes_all_the_probability():
    table = np.zeros((1, 8, 5))
    table[:, :, 1] = np.inf
    output = search(TableModel(table), [0], max_len=3, num_beams=2)
    assert output.tokens.tolist() == [[[1, 1, 1]]]
    assert output.log_probs.tolist() == [[0.0]]


def test_row_without_any_possible_token_gives_no_hypothesis():
    table = np.array(TableModel.random(seed=2).table[...])
    table[1] = np.nan
    output = search(TableModel(table), num_beams=2, num_best=2)
    assert output.scores[1].tolist() == [-np.inf] * 2
    assert output.tokens[1].tolist() == [[PAD] * 4] * 2
    assert not output.finished[1].any()
    clean = search(TableModel.random(seed=2), num_beams=2, num_best=2)
    for row in (0, 2):
        np.testing.assert_array_equal(output.tokens[row], clean.tokens[row])
        np.testing.assert_array_equal(output.scores[row], clean.scores[row])


def test_forbidden_tokens_leave_the_models_own_probabilities(table_model):
    state = table_model.start(TokenInputs(jnp.zeros((1, 1), int), jnp.ones(1, int)), max_len=4)
    config = BeamConfig(max_len=4, num_beams=350, num_best=200, forbidden_ids=(PAD, BOS))
    output = beam_search(table_model, state, config, IDS)
    expected = [
        hypothesis
        for hypothesis in enumerate_hypotheses(table_model, 0, 4, 0.0)
        if not {PAD, BOS} & set(hypothesis.tokens)
    ]
    assert len(expected) == 1 + 2 + 4 + 8 + 16
    assert_row_equals(jax.tree.map(np.asarray, output), 0, expected, max_len=4)
    assert np.all(np.asarray(output.scores)[0, len(expected) :] == -np.inf)


@pytest.mark.parametrize(
    "options",
    [{"num_beams": 0}, {"num_beams": 2, "num_best": 3}, {"num_beams": 2, "alpha": -1.0}, {"max_len": 0}],
)
def test_bad_options_are_refused(table_model, options):
    with pytest.raises(ConfigError, match="got"):
        search(table_model, **options)


def test_token_outside_the_vocabulary_is_refused(table_model):
    state = table_model.start(TokenInputs(jnp.zeros((1, 1), int), jnp.ones(1, int)), max_len=4)
    with pytest.raises(ConfigError, match="eos_id"):
        beam_search(table_model, state, BeamConfig(max_len=4, num_beams=2), SearchIds(bos_id=BOS, eos_id=5))
    with pytest.raises(ShapeError, match="batch as axis 0"):
        beam_search(
            table_model,
            {"a": jnp.zeros((2, 1)), "b": jnp.zeros(3)},
            BeamConfig(max_len=4, num_beams=2),
            IDS,
        )


def test_best_is_the_first_hypothesis(table_model):
    state = table_model.start(TokenInputs(jnp.array([[0], [1]]), jnp.ones(2, int)), max_len=4)
    output = beam_search(table_model, state, BeamConfig(max_len=4, num_beams=3, num_best=3), IDS)
    best = output.best()
    for name in ("tokens", "lengths", "log_probs", "finished"):
        np.testing.assert_array_equal(getattr(best, name), np.asarray(getattr(output, name))[:, 0])
