"""Sampling: supports by closed form, frequencies with a fixed key, reproducibility."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.decode import greedy_search, sample_search, sample_tokens
from transformer_jax.decode.protocol import TokenInputs
from transformer_jax.decode.search_config import GreedyConfig, SampleConfig
from transformer_jax.decode.search_options import NO_ROW_OPTIONS, RowOptions, SearchIds
from transformer_jax.errors import ConfigError
from transformer_jax.testing.tiny_models import TableModel

PAD, BOS, EOS = 0, 2, 3
IDS = SearchIds(bos_id=BOS, eos_id=EOS, pad_id=PAD)

PROBABILITIES = np.array([0.05, 0.4, 0.1, 0.25, 0.2])
NUM_DRAWS = 20_000


def draw(seed=0, logits=None, **options) -> np.ndarray:
    logits = np.log(PROBABILITIES) if logits is None else logits
    keys = jax.random.split(jax.random.key(seed), NUM_DRAWS)
    rows = jnp.tile(jnp.asarray(logits, dtype=jnp.float32)[None], (NUM_DRAWS, 1))
    return np.asarray(jax.jit(functools.partial(sample_tokens, **options))(keys, rows))


def restricted(kept: list[int], temperature: float = 1.0) -> np.ndarray:
    powers = PROBABILITIES ** (1 / temperature)
    weights = np.where(np.isin(np.arange(5), kept), powers, 0.0)
    return weights / weights.sum()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, PROBABILITIES),
        ({"temperature": 2.0}, restricted([0, 1, 2, 3, 4], 2.0)),
        ({"top_k": 2}, restricted([1, 3])),
        ({"top_k": 99}, PROBABILITIES),
        ({"top_p": 0.6}, restricted([1, 3])),
        ({"top_p": 0.66}, restricted([1, 3, 4])),
        # Of the first three, 0.4, 0.25 and 0.2 of 0.85, two reach 0.7.
        ({"top_k": 3, "top_p": 0.7}, restricted([1, 3])),
        # The temperature comes first: at 0.5 the two most probable have 0.82 of the mass.
        ({"temperature": 0.5, "top_p": 0.8}, restricted([1, 3], 0.5)),
        # 0.45 of the largest is 0.18.
        ({"min_p": 0.45}, restricted([1, 3, 4])),
        ({"min_p": 1.0}, restricted([1])),
        # At a temperature of 0.5 the ratios to the largest are squared: 0.39, 0.25, 0.06, 0.02.
        ({"temperature": 0.5, "min_p": 0.3}, restricted([1, 3], 0.5)),
        ({"top_k": 4, "min_p": 0.2}, restricted([1, 2, 3, 4])),
        ({"top_p": 0.66, "min_p": 0.6}, restricted([1, 3])),
    ],
)
def test_frequencies(options, expected):
    counts = np.bincount(draw(**options), minlength=5)
    assert np.all(counts[expected == 0] == 0), "a token outside the support was drawn"
    support = expected > 0
    chi_square = np.sum(
        (counts[support] - NUM_DRAWS * expected[support]) ** 2 / (NUM_DRAWS * expected[support])
    )
    # The 0.9999 quantile for four degrees of freedom.
    assert chi_square < 23.5


@pytest.mark.parametrize(
    "options", [{"temperature": 0.0}, {"temperature": 1e-6}, {"top_k": 1}, {"top_p": 1e-6}]
)
def test_narrow_options_take_the_most_probable(options):
    assert set(draw(**options).tolist()) == {1}


def test_large_logits_and_small_temperature_do_not_overflow():
    logits = np.array([3e38, 2e38, -np.inf, -3e38, 0.0])
    assert set(draw(logits=logits, temperature=1e-3).tolist()) == {0}


def test_impossible_tokens_are_never_drawn():
    logits = np.array([-np.inf, 0.0, -np.inf, 0.0, -np.inf])
    for options in ({}, {"top_k": 4}, {"top_p": 0.99}, {"top_k": 4, "top_p": 0.99}):
        assert set(draw(logits=logits, **options).tolist()) == {1, 3}


def search(model, sources, *, seed=0, max_len=6, rows=NO_ROW_OPTIONS, **options):
    sources = jnp.asarray(sources, dtype=jnp.int32)
    state = model.start(TokenInputs(sources[:, None], jnp.ones_like(sources)), max_len=max_len)
    config = SampleConfig(max_len=max_len, **options)
    output = sample_search(model, state, config, IDS, rows, rng_key=jax.random.key(seed))
    return jax.tree.map(np.asarray, output)


def test_zero_temperature_is_greedy():
    model = TableModel.random(seed=3, num_sources=12)
    sources = jnp.arange(12)
    state = model.start(TokenInputs(sources[:, None], jnp.ones_like(sources)), max_len=6)
    greedy = greedy_search(model, state, GreedyConfig(max_len=6), IDS)
    for temperature in (0.0, 1e-5):
        sampled = search(model, sources, temperature=temperature)
        np.testing.assert_array_equal(sampled.tokens, greedy.tokens)
        np.testing.assert_array_equal(sampled.log_probs, greedy.log_probs)


def test_same_key_same_result_other_key_other_result(table_model):
    sources = [0, 1, 2] * 4
    first, again, other = (search(table_model, sources, seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.tokens, again.tokens)
    assert not np.array_equal(first.tokens, other.tokens)
    # Rows with the same source draw from streams of their own.
    assert len({tuple(row) for row in first.tokens[::3].tolist()}) > 1


def test_rows_do_not_see_their_neighbours(table_model):
    together = search(table_model, [0, 1, 2])
    changed = search(table_model, [0, 2, 2])
    fewer = search(table_model, [0, 1])
    np.testing.assert_array_equal(changed.tokens[[0, 2]], together.tokens[[0, 2]])
    np.testing.assert_array_equal(fewer.tokens, together.tokens[:2])
    np.testing.assert_array_equal(fewer.log_probs, together.log_probs[:2])


def test_log_probs_are_the_models_own(table_model):
    output = search(table_model, [0, 1, 2], temperature=0.5, top_k=3)
    for row in range(3):
        tokens = output.tokens[row][: output.lengths[row] + output.finished[row]].tolist()
        total = sum(
            table_model.prefix_log_probs(row, [BOS, *tokens[:place]])[token]
            for place, token in enumerate(tokens)
        )
        np.testing.assert_allclose(output.log_probs[row], total, rtol=1e-5)
        assert np.all(output.tokens[row][len(tokens) :] == PAD)


def test_sequences_have_the_models_frequencies():
    """Two tokens drawn one after the other, from one source in many rows."""
    model = TableModel.random(seed=8, num_sources=1)
    output = search(model, np.zeros(8_000), max_len=2)
    codes = output.tokens[:, 0] * 5 + output.tokens[:, 1]
    expected = np.zeros(25)
    for first, first_log_prob in enumerate(model.prefix_log_probs(0, [BOS])):
        if first == EOS:
            expected[first * 5 + PAD] = np.exp(first_log_prob)
        else:
            following = model.prefix_log_probs(0, [BOS, first])
            expected[first * 5 : first * 5 + 5] = np.exp(first_log_prob + following)
    counts = np.bincount(codes, minlength=25)
    assert counts[expected == 0].sum() == 0
    support = expected > 0
    chi_square = np.sum((counts[support] - 8_000 * expected[support]) ** 2 / (8_000 * expected[support]))
    # The 0.9999 quantile for twenty degrees of freedom.
    assert chi_square < 52.4


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"min_p": -0.1},
        {"min_p": 1.1},
        {"min_p": float("nan")},
        {"repetition_penalty": 0.0},
        {"repetition_penalty": float("inf")},
    ],
)
def test_bad_options_are_refused(table_model, options):
    with pytest.raises(ConfigError, match="got"):
        search(table_model, [0], **options)


def test_a_repetition_penalty_is_that_of_a_loop():
    """Most probable tokens under the penalty, prompts counted; the log-probabilities stay the model's own."""
    model, penalty, num_rows = TableModel.random(seed=4, num_sources=24, vocab_size=7), 2.5, 24
    table = np.array(model.table[...])
    table[:, :, EOS] -= 5.0
    model = TableModel(table)
    prompts = np.tile(np.array([[4, 5], [5, 5], [6, 1], [0, 1], [4, 6], [5, 2]]), (4, 1))
    lengths = np.tile(np.array([2, 2, 2, 2, 1, 0]), 4)
    rows = RowOptions(context=TokenInputs(prompts, lengths))
    options = {"temperature": 0.0, "repetition_penalty": penalty, "max_len": 9}
    output = search(model, range(num_rows), rows=rows, **options)
    changed = 0
    for row in range(num_rows):
        seen, fed, total = set(prompts[row, : lengths[row]].tolist()), [BOS], 0.0
        while len(fed) <= 9 and fed[-1] != EOS:
            code = 0
            for token in fed:
                code = (code * 7 + token + 1) % table.shape[1]
            logits = table[row, code].astype(np.float64)
            best = logits.argmax()
            for token in seen:
                logits[token] = logits[token] / penalty if logits[token] > 0 else logits[token] * penalty
            token = int(logits.argmax())
            changed += token != best
            total += model.prefix_log_probs(row, fed)[token]
            seen.add(token)
            fed.append(token)
        said = fed[1:]
        assert output.tokens[row].tolist() == said + [PAD] * (9 - len(said))
        np.testing.assert_allclose(output.log_probs[row], total, rtol=1e-5)
    assert changed > 5, "the penalty must count"
    alone = search(model, range(num_rows), temperature=0.0, max_len=9)
    none = search(model, range(num_rows), temperature=0.0, max_len=9, rows=rows, repetition_penalty=1.0)
    np.testing.assert_array_equal(alone.tokens, none.tokens)


@pytest.mark.parametrize(
    "options",
    [{"min_p": 0.1}, {"repetition_penalty": 1.3}, {"min_p": 0.05, "top_k": 4, "repetition_penalty": 0.8}],
)
def test_a_draw_depends_on_its_number_alone(table_model, options):
    """Whatever the batch and its rows: the same seed, number and step draw the same."""
    numbers = np.array([7, 2, 9, 4])
    together = search(table_model, [0, 1, 2, 0], rows=RowOptions(row_ids=numbers), seed=3, **options)
    for places in ([2, 0, 3, 1], [1, 3], [3]):
        rows = RowOptions(row_ids=numbers[places])
        found = search(table_model, np.array([0, 1, 2, 0])[places], rows=rows, seed=3, **options)
        np.testing.assert_array_equal(found.tokens, together.tokens[places])
        np.testing.assert_array_equal(found.log_probs, together.log_probs[places])
