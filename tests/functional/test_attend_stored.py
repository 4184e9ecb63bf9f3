"""A decoder's step over stored keys is attention over the same keys turned."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from tiers import tiered

from transformer_jax.errors import ShapeError
from transformer_jax.functional import AttentionMask, attention
from transformer_jax.functional.attention.stored import attend_stored

BATCH, HEADS, DIM, SLOTS = 3, 4, 8, 7


def draw(generator, *shape, dtype=jnp.float32):
    return jnp.asarray(generator.normal(size=shape), dtype)


@pytest.mark.parametrize(
    ("biased", "q_len", "kv_heads"),
    tiered(
        itertools.product((False, True), (1, 3), (4, 2, 1)),
        {(False, 1, 4), (True, 1, 2), (False, 3, 1), (True, 3, 4)},
    ),
)
def test_it_is_attention(random_generator, kv_heads, q_len, biased):
    query = draw(random_generator, BATCH, q_len, HEADS, DIM)
    key = draw(random_generator, BATCH, SLOTS, kv_heads, DIM)
    value = draw(random_generator, BATCH, SLOTS, kv_heads, 5)
    visible = jnp.asarray(random_generator.random((BATCH, q_len, SLOTS)) < 0.6).at[1].set(False)
    bias = draw(random_generator, 1, HEADS, q_len, SLOTS) if biased else None
    wanted = attention(query, key, value, mask=AttentionMask.dense(visible[:, None]), bias=bias)
    have = attend_stored(query, jnp.moveaxis(key, 1, 3), jnp.swapaxes(value, 1, 2), visible, bias)
    np.testing.assert_allclose(have, wanted, atol=1e-6)
    assert not np.asarray(have[1]).any()


def test_half_precision_stays_near(random_generator):
    query, key, value = (draw(random_generator, BATCH, n, HEADS, DIM) for n in (1, SLOTS, SLOTS))
    visible = jnp.ones((1, 1, SLOTS), bool)
    exact = attend_stored(query, jnp.moveaxis(key, 1, 3), jnp.swapaxes(value, 1, 2), visible)
    half = [
        array.astype(jnp.bfloat16) for array in (query, jnp.moveaxis(key, 1, 3), jnp.swapaxes(value, 1, 2))
    ]
    rounded = attend_stored(*half, visible)
    assert rounded.dtype == jnp.bfloat16
    np.testing.assert_allclose(rounded.astype(jnp.float32), exact, atol=3e-2)


def test_heads_that_do_not_divide_are_refused():
    ones = jnp.ones((1, 3, DIM, SLOTS))
    with pytest.raises(ShapeError, match="4 heads of the query must be divisible by the 3"):
        attend_stored(jnp.ones((1, 1, 4, DIM)), ones, jnp.swapaxes(ones, 2, 3), jnp.ones((1, 1, SLOTS), bool))
