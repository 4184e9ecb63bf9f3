"""The closed forms that search stands on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.decode import (
    clean_logits,
    keep_min_p,
    keep_top_p,
    length_penalty,
    penalize_repetition,
    top_k_rows,
)
from transformer_jax.decode.logits import choice_log_probs, forbid_tokens
from transformer_jax.errors import ConfigError


@pytest.mark.parametrize("num_columns", [5, 63, 640, 5000, 8192])
@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("kind", ["distinct", "ties", "mostly impossible"])
def test_top_k_rows_equals_a_stable_sort(random_generator, num_columns, k, kind):
    values = random_generator.normal(size=(6, num_columns)).astype(np.float32)
    if kind == "ties":
        values = np.round(values) + 0.0  # Without -0.0, which top_k ranks below 0.0.
    if kind == "mostly impossible":
        values = np.where(random_generator.random(values.shape) < 0.001, values, -np.inf)
    order = np.argsort(-values, axis=1, kind="stable")[:, :k]
    found_values, found = top_k_rows(jnp.array(values), k)
    np.testing.assert_array_equal(found_values, np.take_along_axis(values, order, axis=1))
    np.testing.assert_array_equal(found, order)


def test_top_k_rows_refuses_more_than_there_are():
    with pytest.raises(ConfigError, match="between 1 and the number of columns, 3; got 4"):
        top_k_rows(jnp.zeros((1, 3)), 4)


def test_clean_logits():
    logits = clean_logits(jnp.array([[jnp.nan, jnp.inf, -jnp.inf, 2.0]], dtype=jnp.bfloat16))
    assert logits.dtype == jnp.float32
    assert logits.tolist() == [[-np.inf, np.finfo(np.float32).max, -np.inf, 2.0]]


def test_log_probs_are_those_of_a_softmax_and_never_positive(random_generator):
    logits = jnp.array(random_generator.normal(size=(50, 7)) * 20, dtype=jnp.float32)
    log_probs = choice_log_probs(logits, jax.nn.logsumexp(logits, axis=-1))
    np.testing.assert_allclose(log_probs, jax.nn.log_softmax(logits), atol=1e-5)
    assert float(log_probs.max()) <= 0.0


def test_impossible_row_has_log_probs_of_minus_infinity():
    logits = jnp.full((1, 4), -jnp.inf)
    assert choice_log_probs(logits, jax.nn.logsumexp(logits, axis=-1)).tolist() == [[-np.inf] * 4]


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [(0.01, {1}), (0.4, {1}), (0.45, {1, 3}), (0.7, {1, 3}), (0.75, {1, 3, 0}), (1.0, {0, 1, 2, 3})],
)
def test_nucleus_is_the_smallest_set_that_reaches_the_mass(top_p, kept):
    logits = jnp.log(jnp.array([[0.2, 0.42, 0.08, 0.3]])) + 3.0
    finite = np.flatnonzero(np.isfinite(np.asarray(keep_top_p(logits, top_p)[0])))
    assert set(finite.tolist()) == kept


def test_nucleus_of_ties_prefers_lower_ids():
    assert np.isfinite(np.asarray(keep_top_p(jnp.zeros((1, 4)), 0.5))).tolist() == [
        [True, True, False, False]
    ]


def test_length_penalty_of_wu_et_al():
    lengths = np.arange(1, 30)
    for alpha in (0.0, 0.2, 0.6, 1.0):
        np.testing.assert_allclose(
            length_penalty(jnp.array(lengths), alpha), (5 + lengths) ** alpha / (5 + 1) ** alpha, rtol=1e-5
        )


def test_forbidden_tokens():
    logits = jnp.arange(4.0)[None]
    assert forbid_tokens(logits, ()).tolist() == logits.tolist()
    assert forbid_tokens(logits, (0, 3)).tolist() == [[-np.inf, 1.0, 2.0, -np.inf]]
    with pytest.raises(ConfigError, match="below the vocabulary's size, 4; got 4"):
        forbid_tokens(logits, (4,))


def test_min_p_is_that_of_a_loop(random_generator):
    logits = random_generator.normal(size=(20, 9)).astype(np.float32) * 3
    logits[3, :4] = -np.inf
    logits[4] = -np.inf
    for min_p in (0.0, 0.05, 0.3, 1.0):
        found = np.asarray(keep_min_p(jnp.asarray(logits), min_p))
        for row in range(20):
            shares = np.exp(logits[row].astype(np.float64))
            kept = shares >= min_p * shares.max() * (1 - 1e-6)
            np.testing.assert_array_equal(found[row], np.where(kept, logits[row], -np.inf))


def test_min_p_of_a_case_by_hand():
    """Of 0.5, 0.25, 0.125 and 0.125 those of at least 0.3 * 0.5 = 0.15 are kept."""
    logits = np.log(np.array([[0.5, 0.25, 0.125, 0.125]], np.float32)) + 7
    assert np.isfinite(keep_min_p(jnp.asarray(logits), 0.3)).tolist() == [[True, True, False, False]]
    with pytest.raises(ConfigError, match="min_p must be between 0"):
        keep_min_p(jnp.asarray(logits), 1.5)


def test_repetition_penalty_of_a_case_by_hand():
    """Positive logits are divided and negative ones multiplied, of tokens said before alone."""
    logits = jnp.array([[2.0, -2.0, 0.0, 5.0, -jnp.inf], [3e38, 1.0, -3e38, 1.0, 1.0]])
    seen = jnp.array([[True, True, True, False, True], [True, False, True, False, True]])
    # A possible token stays possible, however large the numbers.
    assert penalize_repetition(logits, seen, 2.0).tolist() == [
        [1.0, -4.0, 0.0, 5.0, -np.inf], [float(np.float32(1.5e38)), 1.0, float(np.finfo(np.float32).min), 1.0, 0.5],
    ]  # fmt: skip
    assert np.isfinite(np.asarray(penalize_repetition(logits, seen, 0.5))[1]).all()
