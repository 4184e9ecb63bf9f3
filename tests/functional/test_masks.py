"""Attention masks: parts, their conjunction, slices, facts and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional import AttentionMask, MaskRule, attention
from transformer_jax.pytree import pytree_dataclass
from transformer_jax.testing.attention_suite import case_names, make_case, oracle_visible
from transformer_jax.typing import Array

MASKS = {name: make_case(name) for name in case_names() if not make_case(name).mask.allows_all}


def _sizes(case):
    batch, q_len, heads, _ = case.arrays["query"].shape
    return batch, heads, q_len, case.arrays["key"].shape[1]


@pytest.mark.parametrize("name", MASKS)
def test_materialize_equals_the_loop_over_pairs(name):
    case = MASKS[name]
    sizes = _sizes(case)
    mask = case.mask.materialize(*sizes[2:])
    assert mask.shape[2:] == sizes[2:]
    np.testing.assert_array_equal(np.broadcast_to(mask, sizes), oracle_visible(case.mask, sizes))


@pytest.mark.parametrize("name", ["all_parts", "positions", "segments", "valid", "dense_heads", "window"])
def test_a_slice_is_a_slice_of_the_whole(name):
    case = MASKS[name]
    q_len, kv_len = _sizes(case)[2:]
    whole = case.mask.materialize(q_len, kv_len)
    static = case.mask.materialize(q_len, kv_len, query_slice=slice(1, 3), key_slice=slice(2, None))
    np.testing.assert_array_equal(static, whole[:, :, 1:3, 2:])

    @jax.jit
    def block(query_start, key_start):
        return case.mask.materialize(q_len, kv_len, query_slice=(query_start, 2), key_slice=(key_start, 1))

    for key_start in range(kv_len):
        np.testing.assert_array_equal(block(1, key_start), whole[:, :, 1:3, key_start : key_start + 1])


@pytest.mark.parametrize("name", MASKS)
def test_rows_that_cannot_be_empty_are_not(name):
    case = MASKS[name]
    sizes = _sizes(case)
    if not case.mask.may_have_empty_rows(*sizes[2:]):
        assert oracle_visible(case.mask, sizes).any(-1).all()


def test_facts_about_empty_rows():
    assert not AttentionMask().may_have_empty_rows(3, 5)
    assert AttentionMask().may_have_empty_rows(3, 0)
    assert not AttentionMask.causal().may_have_empty_rows(9, 5)
    assert not AttentionMask.window(2, 1).may_have_empty_rows(5, 5)
    assert AttentionMask.window(2, 1).may_have_empty_rows(9, 5)
    assert AttentionMask.valid(jnp.ones((1, 5), bool)).may_have_empty_rows(3, 5)


def test_no_part_allows_all():
    mask = AttentionMask()
    assert mask.allows_all
    assert mask.compact(2, 3) is None
    np.testing.assert_array_equal(mask.materialize(2, 3), np.ones((1, 1, 2, 3), bool))
    assert mask.materialize(4, 3, query_slice=slice(0, 2), key_slice=(1, 2)).shape == (1, 1, 2, 2)
    positions = AttentionMask.positions(jnp.zeros((1, 2), int), jnp.zeros((1, 3), int))
    assert positions.allows_all


def test_parts_combine_by_and():
    left = AttentionMask.window(4, None) & AttentionMask.from_lengths(jnp.array([3, 5]), 6)
    right = AttentionMask.window(2, 3) & AttentionMask.from_lengths(jnp.array([4, 2]), 6)
    both = left & right
    assert (both.window_left, both.window_right) == (2, 3)
    assert both.key_lengths.tolist() == [3, 2]
    for mask in (both, right & left):
        wanted = left.materialize(6, 6) & right.materialize(6, 6)
        np.testing.assert_array_equal(mask.materialize(6, 6), wanted)
    segments = AttentionMask.segments(jnp.array([[0, 0, 1, 1, 2, 2]]), jnp.array([[0, 0, 1, 1, 2, 2]]))
    others = AttentionMask.segments(jnp.array([[0, 1, 1, 1, 1, 2]]), jnp.array([[0, 1, 1, 1, 1, 2]]))
    wanted = segments.materialize(6, 6) & others.materialize(6, 6)
    np.testing.assert_array_equal((segments & others).materialize(6, 6), wanted)


def test_positions_of_one_side_rule_the_other_sides_causal_part():
    positions = AttentionMask.positions(jnp.array([[3]]), jnp.arange(5)[None])
    for mask in (AttentionMask.causal() & positions, positions & AttentionMask.causal()):
        assert mask.materialize(1, 5)[0, 0].tolist() == [[True, True, True, True, False]]


def test_a_mask_is_a_pytree():
    mask = MASKS["all_parts"].mask
    q_len, kv_len = _sizes(MASKS["all_parts"])[2:]
    whole = mask.materialize(q_len, kv_len)
    np.testing.assert_array_equal(jax.jit(lambda m: m.materialize(q_len, kv_len))(mask), whole)
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), mask)
    mapped = jax.vmap(lambda m: m.materialize(q_len, kv_len))(stacked)
    np.testing.assert_array_equal(mapped, jnp.stack([whole, whole]))
    assert jax.tree.structure(AttentionMask.causal()) != jax.tree.structure(AttentionMask())


@pytest.mark.parametrize(
    ("left", "right", "message"), [(-1, None, "left .* got -1"), (0, -3, "right .* got -3")]
)
def test_a_negative_window_is_refused(left, right, message):
    with pytest.raises(ConfigError, match=message):
        AttentionMask.window(left, right)


def test_two_sets_of_positions_are_refused():
    def positions():
        return AttentionMask.positions(jnp.zeros((1, 2), int), jnp.zeros((1, 3), int))

    one = positions()
    assert (one & one).query_positions is one.query_positions
    with pytest.raises(ConfigError, match="both bring positions"):
        one & positions()


def test_lengths_made_for_other_sizes_are_refused():
    with pytest.raises(ShapeError, match="kv_len 4, the other 5"):
        AttentionMask.from_lengths(jnp.array([1]), 4) & AttentionMask.from_lengths(jnp.array([1]), 5)


def _unchecked(constructor):
    """The constructor without the test run's own shape checks in front of it."""
    function = constructor.__func__
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return lambda *arguments: function(AttentionMask, *arguments)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: _unchecked(AttentionMask.valid)(jnp.ones(3, bool)),
            ShapeError,
            "key_valid must have 2 axes",
        ),
        (
            lambda: _unchecked(AttentionMask.valid)(jnp.ones((1, 3))),
            ConfigError,
            "key_valid must hold bool, got float32",
        ),
        (
            lambda: _unchecked(AttentionMask.dense)(jnp.ones((2, 3), bool)),
            ShapeError,
            "mask must have 4 axes",
        ),
        (
            lambda: _unchecked(AttentionMask.segments)(jnp.ones((1, 3)), jnp.ones((1, 3), int)),
            ConfigError,
            "query_segments must hold integers, got float32",
        ),
        (
            lambda: _unchecked(AttentionMask.from_lengths)(jnp.ones((2, 1), int), 3),
            ShapeError,
            r"key_lengths must have 1 axes, got shape \(2, 1\)",
        ),
    ],
)
def test_bad_parts_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_subclass_is_refused_where_its_own_rule_would_be_dropped():
    class Mine(AttentionMask):
        def compact(self, q_len, kv_len, **slices):
            return jnp.zeros((1, 1, q_len, kv_len), bool)

    for combine in (lambda: Mine() & AttentionMask.causal(), lambda: AttentionMask.causal() & Mine()):
        with pytest.raises(
            ConfigError,
            match=r"subclass Mine, .* MaskRule, .* AttentionMask.dense\(array\)",
        ):
            combine()
    ones = jnp.ones((1, 2, 1, 4))
    for implementation in (None, "reference", "blockwise", "xla"):
        with pytest.raises(ConfigError, match="subclass Mine"):
            attention(ones, ones, ones, mask=Mine(), implementation=implementation)
    with pytest.raises(TypeError):
        AttentionMask() & 3


@pytree_dataclass
class Mirrored(MaskRule):
    """A query sees positions up to as far as it stands from ``center [batch|1]``."""

    center: Array

    def allows(self, query_positions, key_positions):
        center = self.center[:, None, None, None]
        return abs(key_positions - center) <= abs(query_positions - center)


def test_a_rule_of_ones_own_combines_and_is_written_out_by_blocks():
    rule = Mirrored(jnp.array([1, 2]))
    wanted = np.array(
        [[[[abs(j - center) <= abs(i - center) for j in range(4)] for i in range(3)]] for center in (1, 2)]
    )
    for mask in (rule & AttentionMask(), AttentionMask() & rule):
        np.testing.assert_array_equal(mask.materialize(3, 4), wanted)
        block = mask.materialize(3, 4, query_slice=(jnp.int32(1), 2), key_slice=slice(1, 3))
        np.testing.assert_array_equal(block, wanted[:, :, 1:, 1:3])
    both = (rule & Mirrored(jnp.array([0]))) & AttentionMask.causal()
    assert len(both.rules) == 2
    assert both.is_pairwise
    assert both.may_have_empty_rows(3, 4)
    at = AttentionMask.positions(jnp.array([[5, 6]]), jnp.array([[4, 5, 6]])) & Mirrored(jnp.array([5]))
    assert at.materialize(2, 3)[0, 0].astype(int).tolist() == [[0, 1, 0], [1, 1, 1]]


def test_a_rule_alone_is_a_mask():
    ones = jnp.arange(2 * 3 * 4.0).reshape(2, 3, 1, 4)
    rule = Mirrored(jnp.array([1, 2]))
    wanted = attention(ones, ones, ones, mask=AttentionMask.dense(rule_array(rule)))
    np.testing.assert_array_equal(attention(ones, ones, ones, mask=rule), wanted)


def rule_array(rule):
    return (AttentionMask() & rule).materialize(3, 3)


def _rule(returned, base=MaskRule):
    @pytree_dataclass
    class Mine(base):
        def allows(self, query_positions, key_positions):
            return returned(query_positions, key_positions)

    return Mine()


@pytest.mark.parametrize(
    ("rule", "error", "message"),
    [
        (MaskRule(), ConfigError, "mask rule MaskRule must be a pytree: write @pytree_dataclass"),
        (
            Mirrored(jnp.array([1, 2, 3])),
            ShapeError,
            r"Mirrored: .center must be .* with batch 2, got shape \[3\]",
        ),
        (Mirrored(jnp.array(1)), ShapeError, r"belongs into a static_field"),
        (_rule(lambda q, k: q - k), ConfigError, "rule Mine: allows must return a bool array, got int32"),
        (_rule(lambda q, k: q[0] >= k[0]), ShapeError, r"allows must return \[batch\|1, heads\|1"),
        (_rule(lambda q, k: jnp.ones((1, 2, 3, 3), bool)), ConfigError, "define for_heads"),
    ],
)
def test_a_rule_that_does_not_fit_is_refused(rule, error, message):
    ones = jnp.ones((2, 3, 2, 4))
    with pytest.raises(error, match=message):
        attention(ones, ones, ones, mask=AttentionMask() & rule)
