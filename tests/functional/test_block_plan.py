"""The plan of blocks: every pair that the mask allows is computed, and few that it does not."""

import numpy as np
import pytest

from transformer_jax.functional import AttentionMask
from transformer_jax.functional.attention.block_plan import QueryGroup, needed_blocks, plan_keys, plan_queries

MASKS = {
    "full": AttentionMask(),
    "causal": AttentionMask.causal(),
    "window": AttentionMask.window(3, 2),
    "causal window": AttentionMask.causal() & AttentionMask.window(5, None),
    "look ahead": AttentionMask.window(None, 4),
    "look back": AttentionMask.window(4, None),
}


def covered(
    mask: AttentionMask, q_len: int, kv_len: int, block: int, key_block: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """How often each pair is computed, as the engine reads the plan, and which are taken to be visible unasked."""
    counts, clears = np.zeros((q_len, kv_len), int), np.zeros((q_len, kv_len), bool)
    for group in plan_queries(mask, q_len, kv_len, block):
        for index in range(group.num_blocks):
            start = group.start + index * group.block
            first = group.keys_start
            if group.moves:
                first = min(max(first + index * group.block, 0), kv_len - group.num_keys)
            for run in plan_keys(group, key_block):
                begin, middle, stop = (int(place) for place in needed_blocks(group, run, index))
                assert 0 <= begin <= middle <= stop <= run.num_blocks
                clear = slice(first + run.offset + begin * run.block, first + run.offset + middle * run.block)
                clears[start : start + group.block, clear] = True
                keys = slice(first + run.offset + begin * run.block, first + run.offset + stop * run.block)
                counts[start : start + group.block, keys] += 1
    return counts, clears


@pytest.mark.parametrize("block", [1, 4, 7, 64])
@pytest.mark.parametrize("sizes", [(1, 1), (37, 37), (64, 64), (20, 50), (50, 20), (0, 5), (5, 0)])
@pytest.mark.parametrize("name", MASKS)
def test_every_visible_pair_is_computed_once(name: str, sizes: tuple[int, int], block: int) -> None:
    counts, clears = covered(MASKS[name], *sizes, block)
    assert counts.max(initial=0) <= 1
    visible = np.asarray(MASKS[name].materialize(*sizes))[0, 0]
    assert np.all(counts[visible] == 1)
    assert np.all(visible[clears])


@pytest.mark.parametrize("block", [32, 128])
def test_a_causal_pass_computes_about_half_and_a_window_a_band(block: int) -> None:
    length = 1024
    causal, clears = covered(MASKS["causal"], length, length, block, key_block=64)
    assert causal.sum() - clears.sum() <= 2 * block * length + 64 * length  # all but the diagonal is known
    assert causal.sum() <= (0.5 + 96 / length) * length**2
    assert len(plan_queries(MASKS["causal"], length, length, block)) <= 8
    window = AttentionMask.window(64, 0)
    assert covered(window, length, length, block, key_block=64)[0].sum() == length * (64 + block)


def test_positions_of_ones_own_rule_nothing_out() -> None:
    import jax.numpy as jnp

    positions = jnp.arange(8)[None]
    mask = AttentionMask.causal() & AttentionMask.positions(positions, positions)
    counts, clears = covered(mask, 8, 8, 2)
    assert counts.sum() == 64
    assert not clears.any()


@pytest.mark.parametrize(("num_keys", "block"), [(0, 4), (3, 4), (8, 4), (9, 4)])
def test_keys_are_cut_without_a_gap(num_keys: int, block: int) -> None:
    places = [
        run.offset + index * run.block + place
        for run in plan_keys(QueryGroup(0, 1, 1, 0, num_keys, False, num_clear=num_keys // 2), block)
        for index in range(run.num_blocks)
        for place in range(run.block)
    ]
    assert places == list(range(num_keys))
