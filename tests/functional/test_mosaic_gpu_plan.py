"""The plan of the Mosaic GPU kernels against the mask itself, pair by pair."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.functional import AttentionMask
from transformer_jax.functional.attention.mosaic_gpu_plan import (
    MAX_HEAD_DIM,
    SHARED_MEMORY_BYTES,
    TILE,
    Reach,
    Span,
    block_sizes,
    key_blocks,
    padded,
    query_blocks,
    reach_of,
    shared_memory,
    stretches,
    visible_pairs,
)

REACHES = [
    Reach(None, None),
    Reach(None, 0),
    Reach(30, None),
    Reach(None, 70),
    Reach(40, 9),
    Reach(0, 0),
    Reach(5, 130),
    Reach(200, 0),
    Reach(100, 20),
]
# Queries, keys, and where the keys that may be seen end.
LENGTHS = [
    (300, 300, 300),
    (130, 520, 270),
    (520, 130, 130),
    (1, 700, 0),
    (256, 256, 256),
    (64, 200, 129),
    (400, 130, 130),
]


def visible(q_len: int, kv_len: int, key_stop: int, reach: Reach) -> np.ndarray:
    """The mask of the padded lengths, ``[padded q_len, padded kv_len]``."""
    rows, keys = np.arange(padded(q_len, TILE))[:, None], np.arange(padded(kv_len, TILE))[None]
    mask = np.broadcast_to(keys < key_stop, (rows.size, keys.size)).copy()
    if reach.back is not None:
        mask &= keys >= rows - reach.back
    if reach.ahead is not None:
        mask &= keys <= rows + reach.ahead
    return mask


def members(start: int, stop: int, count: int) -> np.ndarray:
    return (np.arange(count) >= start) & (np.arange(count) < stop)


@pytest.mark.parametrize("block", [64, 128])
@pytest.mark.parametrize("reach", REACHES)
@pytest.mark.parametrize("lengths", LENGTHS)
def test_a_tile_of_queries_visits_the_blocks_that_it_sees_and_no_others(lengths, reach, block):
    mask = visible(*lengths, reach)
    for first_row in range(0, mask.shape[0], TILE):
        blocks = mask[first_row : first_row + TILE].reshape(TILE, -1, block)
        span = key_blocks(first_row, TILE, lengths[2], reach, block)
        np.testing.assert_array_equal(
            members(span.first, span.stop, blocks.shape[1]), blocks.any(axis=(0, 2))
        )
        np.testing.assert_array_equal(
            members(span.full_first, span.full_stop, blocks.shape[1]), blocks.all(axis=(0, 2))
        )


@pytest.mark.parametrize("block", [64, 128])
@pytest.mark.parametrize("reach", REACHES)
@pytest.mark.parametrize("lengths", LENGTHS)
def test_a_tile_of_keys_visits_the_blocks_that_see_it_and_no_others(lengths, reach, block):
    q_len, _, key_stop = lengths
    mask = visible(*lengths, reach)
    real = np.arange(mask.shape[0]) < q_len
    for first_key in range(0, mask.shape[1], TILE):
        # Hidden keys and queries of the padding have no say.
        own = mask[:, first_key : min(first_key + TILE, max(key_stop, first_key))]
        blocks = (mask.shape[0] // block, block, own.shape[1])
        seen = (own & real[:, None]).reshape(blocks).any(axis=(1, 2))
        whole = own.reshape(blocks).all(axis=(1, 2)) & seen
        span = query_blocks(first_key, TILE, q_len, key_stop, reach, block)
        np.testing.assert_array_equal(members(span.first, span.stop, len(seen)), seen)
        np.testing.assert_array_equal(members(span.full_first, span.full_stop, len(seen)), whole)


@pytest.mark.parametrize("reach", REACHES)
def test_traced_places_give_the_same_spans(reach):
    def both(first, stop):
        return key_blocks(first, TILE, stop, reach, 64), query_blocks(first, TILE, 300, stop, reach, 64)

    traced = jax.jit(both)
    for first in (0, 128, 256):
        for stop in (0, 129, 300):
            assert jax.tree.map(int, traced(first, stop)) == both(first, stop)


def test_what_is_known_to_be_empty_is_not_built():
    assert stretches(Span(0, 0, 4, 4), always_masked=False) == [(0, 4, False)]
    assert stretches(Span(0, 0, 4, 5), always_masked=True) == [(0, 5, True)]
    assert stretches(Span(2, 2, 2, 2), always_masked=False) == []

    def count(first):
        causal = stretches(key_blocks(first, TILE, 1024, Reach(None, 0), 64), False)
        of_keys = stretches(query_blocks(first, TILE, 1024, 1024, Reach(None, 0), 64), False)
        return jnp.asarray([len(causal), len(of_keys)])

    # The far side of a causal mask has no edge, so no masked loop there even if places are traced.
    assert jax.jit(count)(0).tolist() == [2, 2]


@pytest.mark.parametrize(
    "mask",
    [
        AttentionMask(),
        AttentionMask.causal(),
        AttentionMask.window(3, 2),
        AttentionMask.window(None, 4),
        AttentionMask.window(19, 29),
        AttentionMask.causal() & AttentionMask.window(5, 9),
    ],
)
@pytest.mark.parametrize("sizes", [(20, 30), (30, 20), (1, 7)])
def test_reach_and_visible_pairs_are_the_mask(mask, sizes):
    reach = reach_of(mask, *sizes)
    rows, keys = np.mgrid[: sizes[0], : sizes[1]]
    got = visible_pairs(jnp.asarray(rows), jnp.asarray(keys), sizes[1], reach)
    np.testing.assert_array_equal(got, mask.materialize(*sizes)[0, 0])
    assert not np.any(visible_pairs(jnp.asarray(rows), jnp.asarray(keys), 0, reach))


@pytest.mark.parametrize("value_dim", [64, 128])
@pytest.mark.parametrize("head_dim", [64, 128])
def test_buffers_fit_the_shared_memory(head_dim, value_dim):
    sizes = block_sizes(head_dim, value_dim)
    assert all(TILE % size == 0 for size in sizes), "padded lengths are whole numbers of blocks"
    # Barriers, scratch for reductions across warps and alignment take their share.
    for used in shared_memory(sizes, head_dim, value_dim).values():
        assert used + 4 * 1024 <= SHARED_MEMORY_BYTES
    assert max(head_dim, value_dim) <= MAX_HEAD_DIM
