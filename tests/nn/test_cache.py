"""Key/value caches: each row writes at its own place, and what lies beyond its length does not count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.errors import ShapeError
from transformer_jax.nn.cache import AttentionMemory, KeyValueCache


def tokens(start, num, batch=2):
    """Keys that tell row and token: ``100 * row + token`` in every feature."""
    numbers = 100.0 * jnp.arange(batch)[:, None] + jnp.arange(start, start + num)[None, :]
    return jnp.broadcast_to(numbers[:, :, None, None], (batch, num, 1, 3))


def test_append_writes_behind_each_rows_length():
    cache = KeyValueCache.empty(2, 6, 1, 3)
    cache = cache.append(tokens(0, 3), -tokens(0, 3), num_valid=jnp.array([1, 3], jnp.int32))
    cache = cache.append(tokens(50, 2), -tokens(50, 2))
    assert cache.length.tolist() == [3, 5]
    keys = np.asarray(cache.keys.array)[:, :, 0, 0]
    np.testing.assert_array_equal(keys[0, :3], [0, 50, 51])
    np.testing.assert_array_equal(keys[1, :5], [100, 101, 102, 150, 151])
    np.testing.assert_array_equal(cache.values, -cache.keys.array)


def test_mask_shows_the_tokens_up_to_each_query():
    cache = KeyValueCache.empty(2, 4, 1, 3).append(
        tokens(0, 2), tokens(0, 2), num_valid=jnp.array([1, 2], jnp.int32)
    )
    positions = cache.next_positions(2)
    assert positions.tolist() == [[1, 2], [2, 3]]
    mask = cache.mask(positions).materialize(2, 4)[:, 0].astype(int)
    assert mask.tolist() == [[[1, 1, 0, 0], [1, 1, 1, 0]], [[1, 1, 1, 0], [1, 1, 1, 1]]]


def test_cache_is_carried_by_a_compiled_loop():
    def body(carry):
        step, cache = carry
        new = jnp.broadcast_to(step.astype(jnp.float32), (2, 1, 1, 3))
        return step + 1, cache.append(new, new)

    start = (jnp.int32(0), KeyValueCache.empty(2, 5, 1, 3))
    _, cache = jax.jit(lambda start: jax.lax.while_loop(lambda carry: carry[0] < 4, body, start))(start)
    np.testing.assert_array_equal(cache.values[1, :, 0, 0], [0, 1, 2, 3, 0])
    assert cache.length.tolist() == [4, 4]


def test_rows_can_be_repeated_and_reordered():
    cache = KeyValueCache.empty(2, 3, 1, 3).append(tokens(0, 2), tokens(0, 2))
    cache = jax.tree.map(lambda leaf: leaf[jnp.array([1, 1, 0])], cache)
    np.testing.assert_array_equal(cache.values[:, 0, 0, 0], [100, 100, 0])


def test_views_undo_the_stored_layout():
    keys = jax.random.normal(jax.random.key(0), (2, 5, 3, 4))
    memory = AttentionMemory.of(keys, 2 * keys)
    assert memory.stored_keys.shape == (2, 3, 4, 5)
    assert memory.stored_values.shape == (2, 3, 5, 4)
    np.testing.assert_array_equal(memory.keys.array, keys)
    np.testing.assert_array_equal(memory.values, 2 * keys)


def test_more_tokens_than_slots_are_refused():
    with pytest.raises(ShapeError, match="cache has 2 slots a row, got 3"):
        KeyValueCache.empty(2, 2, 1, 3).append(tokens(0, 3), tokens(0, 3))


def test_what_does_not_fit_is_left_out_and_what_is_held_stays():
    cache = KeyValueCache.empty(2, 4, 1, 3)
    cache = cache.append(tokens(0, 3), tokens(0, 3), num_valid=jnp.array([1, 3], jnp.int32))
    cache = jax.jit(lambda cache: cache.append(tokens(50, 3), tokens(50, 3)))(cache)
    np.testing.assert_array_equal(cache.values[:, :, 0, 0], [[0, 50, 51, 52], [100, 101, 102, 150]])
    assert cache.length.tolist() == [4, 6]


def test_beams_without_room_keep_their_tokens():
    one = jnp.ones((2, 1, 1, 3))
    cache = KeyValueCache.empty(1, 1, 1, 3).repeated(2).append(one, one)
    after = cache.append(2 * one, 2 * one)
    np.testing.assert_array_equal(after.stored_keys, cache.stored_keys)
    np.testing.assert_array_equal(after.stored_values, cache.stored_values)


def test_caches_go_with_numbers_of_64_bits():
    with jax.enable_x64(True):
        cache = KeyValueCache.empty(2, 4, 1, 3).append(tokens(0, 2), tokens(0, 2))
        beams = cache.repeated(2).append(jnp.ones((4, 1, 1, 3)), jnp.ones((4, 1, 1, 3)))
    assert cache.length.dtype == beams.length.dtype == beams.ancestors.dtype == jnp.int32
    np.testing.assert_array_equal(cache.values[0, :, 0, 0], [0, 1, 0, 0])
    np.testing.assert_array_equal(beams.stored_values[0, 0, :, :, 0], [[0, 1, 1, 0]] * 2)
