"""Masked softmax and the running softmax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.functional import (
    masked_softmax,
    online_softmax_finish,
    online_softmax_merge,
    online_softmax_start,
    online_softmax_update,
)


def _loop_softmax(scores, mask):
    weights = np.zeros(scores.shape)
    for index in np.ndindex(*scores.shape[:-1]):
        allowed = [j for j in range(scores.shape[-1]) if mask[index][j]]
        if allowed:
            exponentials = np.exp(scores[index][allowed] - scores[index][allowed].max())
            weights[index][allowed] = exponentials / exponentials.sum()
    return weights


def _example(generator):
    scores = generator.normal(size=(3, 4, 7)) * 5
    mask = generator.random((3, 4, 7)) < 0.6
    mask[1, 2] = False
    return scores, mask


def test_equals_the_loop(random_generator):
    scores, mask = _example(random_generator)
    weights = masked_softmax(jnp.asarray(scores, jnp.float32), jnp.asarray(mask))
    np.testing.assert_allclose(weights, _loop_softmax(scores, mask), atol=1e-6)
    assert np.all(np.asarray(weights)[1, 2] == 0)
    everything = masked_softmax(jnp.asarray(scores, jnp.float32))
    np.testing.assert_allclose(everything, _loop_softmax(scores, np.ones_like(mask)), atol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, -3])
def test_other_axes(random_generator, axis):
    scores, mask = (jnp.asarray(array) for array in _example(random_generator))
    for own in (mask, None):
        turned = None if own is None else jnp.moveaxis(own, axis, -1)
        wanted = jnp.moveaxis(masked_softmax(jnp.moveaxis(scores, axis, -1), turned), -1, axis)
        np.testing.assert_allclose(masked_softmax(scores, own, axis=axis), wanted, atol=1e-7)


def test_a_mask_of_one_row_is_broadcast(random_generator):
    scores = jnp.asarray(random_generator.normal(size=(2, 3, 5)), jnp.float32)
    mask = jnp.array([[[True, False, True, True, False]]])
    wide = masked_softmax(scores, jnp.broadcast_to(mask, scores.shape))
    np.testing.assert_array_equal(masked_softmax(scores, mask), wide)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf])
def test_garbage_in_masked_slots_reaches_neither_value_nor_gradient(random_generator, garbage):
    scores, mask = _example(random_generator)
    cotangent = jnp.asarray(random_generator.normal(size=scores.shape), jnp.float32)
    spoiled = jnp.asarray(np.where(mask, scores, garbage), jnp.float32)

    def run(scores):
        weights, pull_back = jax.vjp(lambda s: masked_softmax(s, jnp.asarray(mask)), scores)
        tangents = jax.jvp(lambda s: masked_softmax(s, jnp.asarray(mask)), (scores,), (scores,))[1]
        return weights, pull_back(cotangent)[0], tangents

    for got, wanted in zip(run(spoiled), run(jnp.asarray(scores, jnp.float32))):
        np.testing.assert_array_equal(got, wanted)


def test_nan_in_an_allowed_slot_is_shown():
    weights = masked_softmax(jnp.array([[jnp.nan, 1.0], [0.0, 0.0]]), jnp.array([[True, True]]))
    assert np.isnan(np.asarray(weights[0])).all()
    np.testing.assert_array_equal(weights[1], [0.5, 0.5])


def test_the_gradient_is_the_closed_form(random_generator):
    scores, mask = _example(random_generator)
    cotangent = random_generator.normal(size=scores.shape)
    weights = _loop_softmax(scores, mask)
    wanted = weights * (cotangent - (weights * cotangent).sum(-1, keepdims=True))
    pull_back = jax.vjp(lambda s: masked_softmax(s, jnp.asarray(mask)), jnp.asarray(scores, jnp.float32))[1]
    gradient = pull_back(jnp.asarray(cotangent, jnp.float32))[0]
    np.testing.assert_allclose(gradient, wanted, atol=1e-6)
    assert np.all(np.asarray(gradient)[~mask] == 0)


def test_large_scores_do_not_overflow_and_minus_infinity_is_a_mask():
    weights = masked_softmax(jnp.array([[3e38, 3e38, -3e38], [-jnp.inf, 2.0, 2.0], [-jnp.inf] * 3]))
    np.testing.assert_array_equal(weights, [[0.5, 0.5, 0], [0, 0.5, 0.5], [0, 0, 0]])


def test_sixteen_bits_in_float32_out():
    assert masked_softmax(jnp.zeros((2, 3), jnp.bfloat16)).dtype == jnp.float32


def test_jit_vmap_and_a_row_of_no_slots(random_generator):
    scores, mask = (jnp.asarray(array) for array in _example(random_generator))
    mapped = jax.jit(jax.vmap(masked_softmax))(scores, mask)
    np.testing.assert_allclose(mapped, masked_softmax(scores, mask), atol=1e-7)
    assert masked_softmax(jnp.zeros((2, 0))).shape == (2, 0)


def test_blocks_in_any_order_equal_the_whole(random_generator):
    scores, mask = _example(random_generator)
    values = random_generator.normal(size=(3, 4, 7, 2))
    wanted = np.einsum("abs,absf->abf", _loop_softmax(scores, mask), values)
    states = []
    for start, stop in ((0, 3), (3, 4), (4, 7)):
        block = (jnp.asarray(array[:, :, start:stop], jnp.float32) for array in (scores, values))
        state = online_softmax_start((3, 4), 2)
        states.append(online_softmax_update(state, *block, jnp.asarray(mask[:, :, start:stop])))
    for order in ((0, 1, 2), (2, 0, 1)):
        merged = states[order[0]]
        for index in order[1:]:
            merged = online_softmax_merge(merged, states[index])
        np.testing.assert_allclose(online_softmax_finish(merged), wanted, atol=1e-6)
    running = online_softmax_start((3, 4), 2)
    for start in range(7):
        piece = slice(start, start + 1)
        arrays = (jnp.asarray(array[:, :, piece], jnp.float32) for array in (scores, values))
        running = online_softmax_update(running, *arrays, jnp.asarray(mask[:, :, piece]))
    np.testing.assert_allclose(online_softmax_finish(running), wanted, atol=1e-6)


def test_the_running_softmax_does_not_read_masked_values():
    state = online_softmax_start((1,), 1)
    values = jnp.array([[[jnp.nan], [3.0]]])
    state = online_softmax_update(state, jnp.array([[jnp.nan, 0.0]]), values, jnp.array([[False, True]]))
    assert online_softmax_finish(state).tolist() == [[3.0]]
