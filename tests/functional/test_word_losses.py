"""Losses of word vectors against loops over pairs, written from the papers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.functional.word_losses import (
    Windows,
    full_softmax_loss,
    hierarchical_softmax_loss,
    negative_sampling_loss,
)

BATCH, TIME, MARGIN, WIDTH, NOISE, VOCAB = 3, 7, 2, 5, 4, 11
RNG = np.random.default_rng(0)
WORDS = RNG.normal(size=(BATCH, TIME + 2 * MARGIN, WIDTH)).astype(np.float32)
NOISE_VECTORS = RNG.normal(size=(BATCH, NOISE, WIDTH)).astype(np.float32)
TABLE = RNG.normal(size=(VOCAB, WIDTH)).astype(np.float32)
IDS = RNG.integers(0, VOCAB, (BATCH, TIME))
CENTRES = TABLE[IDS]
RADIUS = RNG.integers(0, MARGIN + 1, (BATCH, TIME)).astype(np.int32)
SEGMENTS = np.sort(RNG.integers(1, 4, (BATCH, TIME + 2 * MARGIN)), axis=1).astype(np.int32)
SEGMENTS[0, :MARGIN] = 0  # the text begins here
DEPTH = 3
NODES = RNG.normal(size=(BATCH, TIME, DEPTH, WIDTH)).astype(np.float32)
SIGNS = RNG.choice([-1.0, 1.0], (BATCH, TIME, DEPTH)).astype(np.float32)
SIGNS[:, ::2, 2] = 0.0


def log_sigmoid(x: float) -> float:
    return -float(np.log1p(np.exp(-x)))


def contexts(row: int, place: int) -> list[int]:
    """Places of the row's words that are contexts of a centre."""
    own = place + MARGIN
    near = range(own - RADIUS[row, place], own + RADIUS[row, place] + 1)
    return [other for other in near if other != own and SEGMENTS[row, other] == SEGMENTS[row, own]]


def inputs(averages: bool) -> list[tuple[int, int, np.ndarray]]:
    """Row, centre and input vector of everything that is scored."""
    found = []
    for row in range(BATCH):
        for place in range(TIME):
            vectors = [WORDS[row, other] for other in contexts(row, place)]
            if vectors and averages:
                vectors = [np.mean(vectors, axis=0)]
            found += [(row, place, vector) for vector in vectors]
    return found


WINDOWS = Windows(jnp.asarray(RADIUS), jnp.asarray(SEGMENTS))


@pytest.mark.parametrize("averages", [False, True])
def test_negative_sampling_is_that_of_the_paper(averages: bool) -> None:
    wanted = 0.0
    for row, place, vector in inputs(averages):
        wanted -= log_sigmoid(vector @ CENTRES[row, place])
        wanted -= 3.0 / NOISE * sum(log_sigmoid(-(vector @ one)) for one in NOISE_VECTORS[row])
    loss = negative_sampling_loss(
        jnp.asarray(WORDS), jnp.asarray(CENTRES), jnp.asarray(NOISE_VECTORS), WINDOWS,
        num_negatives=3, averages=averages,
    )  # fmt: skip
    assert float(loss.count) == len(inputs(averages)) > 10
    np.testing.assert_allclose(float(loss.sum), wanted, rtol=1e-5)


@pytest.mark.parametrize("averages", [False, True])
def test_hierarchical_softmax_is_that_of_the_paper(averages: bool) -> None:
    wanted = 0.0
    for row, place, vector in inputs(averages):
        for level in range(DEPTH):
            sign = SIGNS[row, place, level]
            wanted -= log_sigmoid(sign * (vector @ NODES[row, place, level])) if sign else 0.0
    loss = hierarchical_softmax_loss(
        jnp.asarray(WORDS), jnp.asarray(NODES), jnp.asarray(SIGNS), WINDOWS, averages=averages
    )
    assert float(loss.count) == len(inputs(averages))
    np.testing.assert_allclose(float(loss.sum), wanted, rtol=1e-5)


@pytest.mark.parametrize("averages", [False, True])
def test_full_softmax_is_that_of_the_paper(averages: bool) -> None:
    wanted = 0.0
    for row, place, vector in inputs(averages):
        logits = TABLE.astype(np.float64) @ vector
        wanted -= logits[IDS[row, place]] - np.log(np.exp(logits).sum())
    loss = full_softmax_loss(
        jnp.asarray(WORDS), jnp.asarray(CENTRES), jnp.asarray(TABLE), WINDOWS, averages=averages
    )
    assert float(loss.count) == len(inputs(averages))
    np.testing.assert_allclose(float(loss.sum), wanted, rtol=1e-5)


@pytest.mark.parametrize("averages", [False, True])
def test_gradients_of_negative_sampling_are_those_of_plain_autodiff(averages: bool) -> None:
    chosen = WINDOWS.mask().astype(jnp.float32)

    def plain(words: jax.Array, centres: jax.Array, noise: jax.Array) -> jax.Array:
        if averages:
            weights = (chosen.sum(axis=-1) > 0).astype(jnp.float32)
            hidden = (
                jnp.einsum("btw,bwd->btd", chosen, words) / jnp.maximum(chosen.sum(axis=-1), 1.0)[..., None]
            )
            own = jnp.sum(weights * jax.nn.softplus(-jnp.einsum("btd,btd->bt", hidden, centres)))
            other = jax.nn.softplus(jnp.einsum("btd,bnd->btn", hidden, noise)).sum(axis=-1)
            return own + 3.0 / NOISE * jnp.sum(weights * other)
        own = jnp.sum(chosen * jax.nn.softplus(-jnp.einsum("btd,bwd->btw", centres, words)))
        other = jax.nn.softplus(jnp.einsum("bwd,bnd->bwn", words, noise)).sum(axis=-1)
        return own + 3.0 / NOISE * jnp.sum(chosen.sum(axis=1) * other)

    def ours(words: jax.Array, centres: jax.Array, noise: jax.Array) -> jax.Array:
        return negative_sampling_loss(words, centres, noise, WINDOWS, num_negatives=3, averages=averages).sum

    arguments = tuple(map(jnp.asarray, (WORDS, CENTRES, NOISE_VECTORS)))
    for found, wanted in zip(
        jax.grad(ours, (0, 1, 2))(*arguments), jax.grad(plain, (0, 1, 2))(*arguments), strict=True
    ):
        np.testing.assert_allclose(found, wanted, atol=1e-5 * float(jnp.abs(wanted).max()))


def test_a_word_outside_of_every_window_has_no_gradient() -> None:
    def loss(words: jax.Array) -> jax.Array:
        return negative_sampling_loss(
            words, jnp.asarray(CENTRES), jnp.asarray(NOISE_VECTORS), WINDOWS, num_negatives=3, averages=False
        ).sum

    gradient = np.asarray(jax.grad(loss)(jnp.asarray(WORDS)))
    used = {(row, other) for row in range(BATCH) for place in range(TIME) for other in contexts(row, place)}
    unused = {(row, place) for row in range(BATCH) for place in range(TIME + 2 * MARGIN)} - used
    assert unused
    assert all(not gradient[one].any() for one in unused)
    assert all(gradient[one].any() for one in used)
