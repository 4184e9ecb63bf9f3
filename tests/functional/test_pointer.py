"""The pointer's mixture, its label log-probabilities and the coverage loss against loops written from the paper."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.errors import ShapeError
from transformer_jax.functional.pointer import (
    CopySource,
    coverage_loss,
    pointer_label_log_probs,
    pointer_log_probs,
)

VOCAB, KV_LEN, TIME = 6, 5, 3
TOKENS = np.array(
    [
        [2, 7, 2, 8, 7],  # words of the vocabulary twice, and two that it does not have, one twice
        [5, 5, 5, -3, 99],  # padding holds anything
        [4, 0, 0, 0, 0],  # nothing can be copied from an empty source
    ]
)
LENGTHS = np.array([5, 3, 0])


def drawn(seed: int = 0) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Logits, gates and attention that is zero behind the lengths."""
    draws = np.random.default_rng(seed)
    logits = 2.0 * draws.normal(size=(3, TIME, VOCAB))
    attention = draws.uniform(0.05, 1.0, (3, TIME, KV_LEN)) * (np.arange(KV_LEN) < LENGTHS[:, None])[:, None]
    attention /= np.maximum(attention.sum(axis=-1, keepdims=True), 1e-9)
    gate = draws.normal(size=(3, TIME)) - 2.0  # more often copying than not
    return jnp.float32(logits), jnp.float32(gate), jnp.float32(attention)


def by_loops(*arrays: jax.Array) -> np.ndarray:
    """Equation 9, one token after the other."""
    logits, gate, attention = map(np.asarray, arrays)
    found = np.zeros((3, TIME, VOCAB + KV_LEN))
    for row in range(3):
        for step in range(TIME):
            generating = 1.0 / (1.0 + np.exp(-float(gate[row, step]))) if LENGTHS[row] else 1.0
            exponentials = np.exp(logits[row, step].astype(np.float64))
            found[row, step, :VOCAB] = generating * exponentials / exponentials.sum()
            for place in range(LENGTHS[row]):
                found[row, step, TOKENS[row, place]] += (1.0 - generating) * attention[row, step, place]
    return found


SOURCE = CopySource(jnp.asarray(TOKENS), jnp.asarray(LENGTHS))


def test_mixture_is_that_of_the_loop() -> None:
    logits, gate, attention = drawn()
    wanted = by_loops(logits, gate, attention)
    found = jnp.exp(pointer_log_probs(logits, gate, attention, SOURCE, extended=True))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found.sum(axis=-1), 1.0, rtol=1e-5)
    plain = jnp.exp(pointer_log_probs(logits, gate, attention, SOURCE))
    np.testing.assert_allclose(plain, wanted[..., :VOCAB], rtol=1e-5, atol=1e-7)


def test_labels_have_the_mixture_s_probability_and_rank() -> None:
    logits, gate, attention = drawn(1)
    wanted = by_loops(logits, gate, attention)
    is_first_seen = set()
    for label in range(VOCAB + KV_LEN):
        labels = jnp.full((3, TIME), label)
        found, first = pointer_label_log_probs(logits, gate, attention, SOURCE, labels)
        np.testing.assert_allclose(jnp.exp(found), wanted[..., label], rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(first, wanted.argmax(axis=-1) == label)
        is_first_seen |= {label} if bool(first.any()) else set()
    assert any(label >= VOCAB for label in is_first_seen), "no copied word came first in any case"


def test_gradients_are_those_of_the_mixture_and_finite() -> None:
    logits, gate, attention = drawn(2)
    labels = jnp.array([[7, 2, 1], [5, 5, 0], [1, 2, 3]])

    def by_labels(*arguments: jax.Array) -> jax.Array:
        return pointer_label_log_probs(*arguments, SOURCE, labels)[0].sum()

    def by_mixture(*arguments: jax.Array) -> jax.Array:
        all_of_them = pointer_log_probs(*arguments, SOURCE, extended=True)
        return jnp.take_along_axis(all_of_them, labels[..., None], axis=-1).sum()

    arguments = (logits, gate, attention)
    for found, wanted in zip(
        jax.grad(by_labels, (0, 1, 2))(*arguments), jax.grad(by_mixture, (0, 1, 2))(*arguments)
    ):
        assert bool(jnp.isfinite(found).all())
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


def test_label_that_nothing_gives_is_impossible() -> None:
    logits, gate, attention = drawn()
    labels = jnp.full((3, TIME), VOCAB + 4)
    found, first = pointer_label_log_probs(logits, gate, attention, SOURCE, labels)
    assert bool((found == -jnp.inf).all())
    assert not bool(first.any())


def test_coverage_loss_is_that_of_the_loop() -> None:
    attention = np.array(drawn(3)[2])
    weights = np.array([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]], np.float32)
    wanted = 0.0
    for row in range(3):
        covered = np.zeros(KV_LEN)
        for step in range(TIME):
            wanted += weights[row, step] * np.minimum(attention[row, step], covered).sum()
            covered += attention[row, step]
    attention[weights == 0] = np.nan  # must reach nothing
    found = coverage_loss(jnp.asarray(attention), jnp.asarray(weights))
    np.testing.assert_allclose(found.sum, wanted, rtol=1e-5)
    assert float(found.count) == weights.sum()


def test_attention_over_another_source_is_refused() -> None:
    logits, gate, attention = drawn()
    with pytest.raises(ShapeError, match="4 positions and the source 5"):
        pointer_log_probs(logits, gate, attention[..., :4], SOURCE)
