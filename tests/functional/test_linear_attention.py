"""Linear attention: three forms, a NumPy double loop in float64, and decoding step by step."""

import inspect
import itertools
from inspect import unwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional.linear_attention import (
    FORMS,
    LinearAttentionState,
    linear_attention,
    linear_attention_step,
)

BATCH, LENGTH, HEADS, HEAD_DIM, VALUE_DIM = 2, 13, 3, 4, 5


@pytest.fixture
def arrays(random_generator):
    draw = random_generator.normal
    widths = (HEAD_DIM, HEAD_DIM, VALUE_DIM)
    return [jnp.asarray(draw(size=(BATCH, LENGTH, HEADS, width)), jnp.float32) for width in widths]


def double_loop(query, key, value, valid):
    """The paper's sums, a pair at a time."""
    query, key, value = (np.asarray(array, np.float64) for array in (query, key, value))
    features = [np.where(array > 0, array + 1, np.exp(np.minimum(array, 0))) for array in (query, key)]
    output = np.zeros(value.shape)
    for row, head, t in np.ndindex(BATCH, HEADS, LENGTH):
        if not valid[row, t]:
            continue
        weights = [
            features[0][row, t, head] @ features[1][row, s, head] * valid[row, s] for s in range(t + 1)
        ]
        output[row, t, head] = np.average(value[row, : t + 1, head], axis=0, weights=weights)
    return output


@pytest.mark.parametrize("chunk", [1, 4, 13, 64])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_double_loop(arrays, form, chunk):
    valid = np.ones((BATCH, LENGTH), bool)
    valid[0, :2] = valid[1, 5] = valid[1, 9:] = False
    expected = double_loop(*arrays, valid)
    garbage = [jnp.where(jnp.asarray(valid)[:, :, None, None], array, jnp.nan) for array in arrays]
    output, state = linear_attention(*garbage, valid=jnp.asarray(valid), form=form, chunk=chunk)
    np.testing.assert_allclose(output, expected, atol=1e-5 * np.abs(expected).max())
    assert np.isfinite(state.values).all()


@pytest.mark.parametrize(
    ("form", "chunk"),
    [
        ("chunked", 4),
        ("recurrent", 64),
        *(pytest.param("chunked", chunk, marks=pytest.mark.full) for chunk in (1, 64)),
        pytest.param("parallel", 64, marks=pytest.mark.full),
    ],
)
def test_sequences_of_a_row_are_as_each_by_itself(arrays, form, chunk):
    segments = jnp.array([[3] * 2 + [4] * 7 + [9] * 4, [1] * 5 + [2] * 8])
    before = linear_attention(*arrays, form="parallel")[1]  # belongs to the first sequence
    output, state = linear_attention(*arrays, segments=segments, state=before, form=form, chunk=chunk)
    for row, ends in enumerate(((0, 2, 9, 13), (0, 5, 13))):
        own = jax.tree.map(lambda leaf, row=row: leaf[row : row + 1], before)
        for begin, end in itertools.pairwise(ends):
            part = [array[row : row + 1, begin:end] for array in arrays]
            wanted, last = linear_attention(*part, state=own if begin == 0 else None, form="parallel")
            np.testing.assert_allclose(output[row : row + 1, begin:end], wanted, atol=1e-5)
        for have, want in zip(jax.tree.leaves(state), jax.tree.leaves(last), strict=True):
            np.testing.assert_allclose(have[row : row + 1], want, rtol=1e-4, atol=1e-4)


def test_segments_of_another_shape_are_refused(arrays):
    with pytest.raises(ShapeError, match="segments must be"):
        unwrap(linear_attention)(*arrays, segments=jnp.ones((BATCH, 3), int))


@pytest.mark.parametrize("form", ["chunked", "recurrent"])
def test_gradients_are_those_of_the_parallel_form(arrays, form):
    def loss(arrays, form):
        output, state = linear_attention(*arrays, form=form, chunk=4)
        return (jnp.sin(output) ** 2).sum() + (state.values**2).sum() + state.features.sum()

    expected = jax.grad(loss)(arrays, "parallel")
    for have, want in zip(jax.grad(loss)(arrays, form), expected):
        np.testing.assert_allclose(have, want, atol=1e-4 * float(jnp.abs(want).max()))


def test_a_prefix_then_steps_is_the_whole(arrays):
    expected, last = linear_attention(*arrays, form="parallel")
    output, state = linear_attention(*(array[:, :6] for array in arrays), chunk=4)
    np.testing.assert_allclose(output, expected[:, :6], atol=1e-5)
    for t in range(6, 9):
        state, output = linear_attention_step(state, *(array[:, t] for array in arrays))
        np.testing.assert_allclose(output, expected[:, t], atol=1e-5)
    output, state = linear_attention(*(array[:, 9:] for array in arrays), state=state, chunk=3)
    np.testing.assert_allclose(output, expected[:, 9:], atol=1e-5)
    np.testing.assert_allclose(state.values, last.values, rtol=1e-5)
    np.testing.assert_allclose(state.features, last.features, rtol=1e-5)


def test_memory_of_the_chunked_form_is_linear():
    shape = jax.ShapeDtypeStruct((1, 16384, 4, 32), jnp.float32)

    def loss(query, key, value):
        return linear_attention(query, key, value)[0].sum()

    compiled = jax.jit(jax.grad(loss, (0, 1, 2))).lower(shape, shape, shape).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 16384**2 * 4


def test_bfloat16_stays_near_and_sums_in_float32(arrays):
    expected, _ = linear_attention(*arrays)
    output, state = linear_attention(*(array.astype(jnp.bfloat16) for array in arrays))
    assert (output.dtype, state.values.dtype) == (jnp.bfloat16, jnp.float32)
    np.testing.assert_allclose(
        output.astype(jnp.float32), expected, atol=2e-2 * float(jnp.abs(expected).max())
    )


def test_no_steps_at_all():
    empty = jnp.zeros((2, 0, 3, 4))
    for form in FORMS:
        output, state = linear_attention(empty, empty, empty, form=form)
        assert output.shape == (2, 0, 3, 4)
        assert not state.values.any()


def test_what_does_not_fit_is_refused(arrays):
    raw = inspect.unwrap(linear_attention)  # past the tests' own checks of shapes
    with pytest.raises(ConfigError, match="did you mean 'chunked'"):
        raw(*arrays, form="chunks")
    with pytest.raises(ConfigError, match="chunk must be at least 1; got 0"):
        raw(*arrays, chunk=0)
    with pytest.raises(ShapeError, match=r"\(2, 12, 3, 4\)"):
        raw(arrays[0], arrays[1][:, 1:], arrays[2])
    assert LinearAttentionState.zeros(2, 3, 4, 5).values.shape == (2, 3, 4, 5)
