"""Position biases by block."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.errors import ConfigError
from transformer_jax.functional import Alibi, RelativeBuckets, alibi_slopes
from transformer_jax.testing.attention_suite import oracle_bucket

QUERIES, KEYS = jnp.array([[4, 7], [0, 1]]), jnp.array([[3, 4, 9]])


def test_alibi_is_the_formula():
    block = Alibi(alibi_slopes(2)).block(QUERIES, KEYS)
    assert block.shape == (2, 2, 2, 3)
    for row, head, i, j in np.ndindex(2, 2, 2, 3):
        distance = abs(int(QUERIES[row, i]) - int(KEYS[0, j]))
        assert float(block[row, head, i, j]) == pytest.approx(-(2.0 ** (-4 * (head + 1))) * distance)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_buckets_read_the_table(random_generator, bidirectional):
    table = random_generator.normal(size=(8, 3)).astype(np.float32)
    bias = RelativeBuckets(jnp.asarray(table), bidirectional=bidirectional, max_distance=6)
    block = bias.block(QUERIES, KEYS)
    for row, head, i, j in np.ndindex(2, 3, 2, 3):
        bucket = oracle_bucket(int(KEYS[0, j]) - int(QUERIES[row, i]), bidirectional, 8, 6)
        assert float(block[row, head, i, j]) == table[bucket, head]


def test_a_block_is_a_slice_of_the_whole(random_generator):
    bias = RelativeBuckets(jnp.asarray(random_generator.normal(size=(8, 2)), jnp.float32), True, 9)
    positions = jnp.arange(12)[None]
    whole = bias.block(positions, positions)
    np.testing.assert_array_equal(whole[:, :, 3:5, 6:], bias.block(positions[:, 3:5], positions[:, 6:]))


def test_biases_are_pytrees_with_gradients():
    positions = jnp.arange(4)[None]
    bias = RelativeBuckets(jnp.zeros((4, 2)), bidirectional=False, max_distance=3)
    gradient = jax.grad(lambda b: b.block(positions, positions).sum())(bias)
    # Every pair with key >= query falls in bucket 0; of distances 1, 2, 3 there are 3, 2 and 1.
    np.testing.assert_array_equal(gradient.table[:, 0], [10, 3, 2, 1])
    slopes = jax.jit(jax.grad(lambda b: b.block(positions, positions).sum()))(Alibi(jnp.ones(2))).slopes
    np.testing.assert_array_equal(slopes, [-20, -20])


def test_a_bad_table_is_refused():
    with pytest.raises(ConfigError, match="num_buckets must be an even number"):
        RelativeBuckets(jnp.zeros((3, 2)), bidirectional=True, max_distance=9)
