r"""Attention in memory linear in the length, in pure JAX, for every score rule, mask and bias.

Blocks of queries meet blocks of the keys that they may see; a running softmax joins the blocks of one row. Saved
for the gradient are the output and each row's log-sum-exp :math:`L_i` alone; the backward pass computes the
scores again:

.. math::
   p_{ij} = e^{s_{ij} - L_i}, \quad dv_j = \sum_i p_{ij}\, do_i, \quad
   ds_{ij} = p_{ij} (do_i \cdot v_j - do_i \cdot o_i)

and gives :math:`ds` of each block to the derivative of the score rule and of the bias. Forward mode and derivatives of
derivatives go through a plain form, a block of queries against all keys at a time.

Source: Dao et al. 2022, https://arxiv.org/abs/2205.14135, algorithms 1 and 4; Rabe and Staats 2021,
https://arxiv.org/abs/2112.05682.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from transformer_jax.functional.attention.block_plan import QueryGroup, plan_queries
from transformer_jax.functional.attention.block_products import (
    keys_first,
    keys_last,
    weighted_rows,
    weighted_values,
)
from transformer_jax.functional.attention.block_scores import (
    Blocks,
    Fixed,
    Place,
    add_at,
    bias_block,
    bias_start,
    biased_scores,
    block_factors,
    differentiable_scores,
    hidden_scores,
)
from transformer_jax.functional.attention.contract import AttentionCall, by_own_rows
from transformer_jax.functional.attention.guard import guard_in_linear_memory, mark_poisoned
from transformer_jax.functional.biases import PositionBias
from transformer_jax.functional.derivatives import Rules, with_backward
from transformer_jax.functional.dropout import kept
from transformer_jax.functional.dtypes import wide
from transformer_jax.functional.masks import AttentionMask, pick
from transformer_jax.functional.score_products import products
from transformer_jax.functional.scores import Dot, General, LinearConcat, Location
from transformer_jax.typing import Array

BLOCK_ELEMENTS = 2**22
"""Numbers of one block's largest array, at most: scores, or the hidden units of an additive rule."""

SHORT_KEYS = 512
"""Up to so many keys the heads of a sequence go together on a CPU: see ``benchmarks/attention.py``."""


class Sizes(NamedTuple):
    """Static values of a call: block sizes and the dropout rate."""

    query_block: int
    key_block: int
    dropout_rate: float


def refusals(call: AttentionCall) -> list[str]:
    """Reasons not to do the call: none, every case is served."""
    return []


def attend(call: AttentionCall) -> Array:
    """The output ``[batch, q_len, heads, value_dim]``."""
    output, _, poisoned = attend_with_logsumexp(call)
    return mark_poisoned(output, poisoned)


@by_own_rows
def attend_with_logsumexp(call: AttentionCall) -> tuple[Array, Array, Array | None]:
    """Output, log-sum-exp of the scores ``[batch, heads, q_len]`` (``-inf`` in empty rows), poisoned rows."""
    return _attend_own_rows(call, *call.dropout_words())


def attend_with_words(call: AttentionCall, words: Array | None, rate: float) -> tuple[Array, Array]:
    """Output and log-sum-exp of a call whose dropout is given as its rows' words, in place of the call's own.

    Args:
      call: Its rows are those of one device.
      words: As ``dropout.row_keys`` gives them for ``[batch, heads, q_len]``; ``None`` = nothing is dropped.
      rate: Of dropout.
    """
    output, logsumexp, poisoned = _attend_own_rows(call, words, rate)
    return mark_poisoned(output, poisoned), logsumexp


def _attend_own_rows(
    call: AttentionCall, words: Array | None, rate: float
) -> tuple[Array, Array, Array | None]:
    batch, q_len, num_heads, _ = call.query.shape
    if not batch or not q_len:
        empty = jnp.zeros((batch, q_len, num_heads, call.value.shape[-1]), call.value.dtype)
        return empty, jnp.zeros((batch, num_heads, q_len), wide(call.query)), None
    safe = guard_in_linear_memory(call)
    position_bias = call.bias if isinstance(call.bias, PositionBias) else None
    dense_bias = None if isinstance(call.bias, PositionBias) else call.bias
    blocks = Blocks(
        call.score.prepare_query(safe.query),
        safe.key if call.key_is_prepared else call.score.prepare_key(safe.key),
        safe.value,
        call.score,
        position_bias,
        dense_bias,
        call.reweight,
    )
    fixed = Fixed(call.mask, words)
    value_heads = call.value.shape[2]
    if _goes_by_lanes() and batch * value_heads > 1:
        sizes = _sizes(blocks, call.mask, num_heads // value_heads, rate)
        output, logsumexp = _over_lanes(sizes, blocks, fixed)
    else:
        sizes = _sizes(blocks, call.mask, batch * num_heads, rate)
        output, logsumexp = _attend(sizes, blocks, fixed)
    return output, logsumexp, safe.poisoned


def _goes_by_lanes() -> bool:
    """On a CPU one lane at a time, as plain matrix products; elsewhere everything at once."""
    return jax.default_backend() == "cpu"


def _is_product(blocks: Blocks) -> bool:
    """Whether the rule holds one number a pair, and not a row of hidden units."""
    return isinstance(blocks.score, Dot | General | LinearConcat | Location)


def _is_short(blocks: Blocks) -> bool:
    return _is_product(blocks) and blocks.key.shape[1] <= SHORT_KEYS


def _sizes(blocks: Blocks, mask: AttentionMask, num_rows: int, rate: float) -> Sizes:
    """Block sizes: rows enough for fast products, and blocks that fit the cache.

    Args:
      blocks: The arrays of the call.
      mask: Its mask.
      num_rows: Query heads that go together.
      rate: Of dropout.
    """
    q_len, kv_len = blocks.query.shape[1], blocks.key.shape[1]
    is_product = _is_product(blocks)
    width = num_rows * (1 if is_product else blocks.query.shape[-1])
    if not is_product:
        limit = 64
    else:
        limit = 128 if _is_short(blocks) else 512
    if mask.is_causal or mask.has_window:
        limit = min(limit, max(64, q_len // 4))
    query_block = max(1, min(limit, q_len))
    key_block = max(64, BLOCK_ELEMENTS // (query_block * width))
    return Sizes(query_block, max(1, min(key_block, kv_len)), rate)


def _over_lanes(sizes: Sizes, blocks: Blocks, fixed: Fixed) -> tuple[Array, Array]:
    """One key/value head of one sequence at a time, with the query heads that share it: a lane.

    Lanes of short sequences go together, as many as a sequence has: alone their products are too small.
    """
    batch, q_len, num_heads, _ = blocks.query.shape
    value_heads = blocks.value.shape[2]
    group = num_heads // value_heads

    def lanes(
        array: Array,
    ) -> Array:  # [batch, length, heads, width] -> [lanes, 1, length, heads of a lane, width]
        length, heads, width = array.shape[1:]
        split = array.reshape(batch, length, value_heads, heads // value_heads, width)
        return jnp.moveaxis(split, 2, 1).reshape(batch * value_heads, 1, length, heads // value_heads, width)

    def one_lane(inputs: tuple) -> tuple[Array, Array]:
        lane, query, key, value = inputs
        row, head = lane // value_heads, lane % value_heads * group
        own = Blocks(
            query,
            key,
            value,
            blocks.score.for_heads(head, group),
            None if blocks.bias is None else blocks.bias.for_heads(head, group),
            None if blocks.dense_bias is None else pick(pick(blocks.dense_bias, 0, row, 1), 1, head, group),
            None if blocks.reweight is None else blocks.reweight.for_heads(row, head, group),
        )
        keys = fixed.dropout_keys
        if keys is not None:
            keys = pick(pick(keys, 0, row, 1), 1, head, group)
        return _attend(sizes, own, Fixed(fixed.mask.of_heads(row, head, group), keys))

    arrays = (lanes(blocks.query), lanes(blocks.key), lanes(blocks.value))
    together = value_heads if _is_short(blocks) else None
    output, logsumexp = lax.map(one_lane, (jnp.arange(batch * value_heads), *arrays), batch_size=together)
    value_dim = blocks.value.shape[-1]
    output = output.reshape(batch, value_heads, q_len, group, value_dim)
    output = jnp.moveaxis(output, 1, 2).reshape(batch, q_len, num_heads, value_dim)
    return output, logsumexp.reshape(batch, num_heads, q_len)


def _attend(sizes: Sizes, blocks: Blocks, fixed: Fixed) -> tuple[Array, Array]:
    """Output ``[batch, q_len, heads, value_dim]`` and log-sum-exp ``[batch, heads, q_len]``."""
    return with_backward(_RULES, sizes, blocks, fixed)[0]


def _value(sizes: Sizes, blocks: Blocks, fixed: Fixed) -> tuple[tuple[Array, Array], None]:
    groups = plan_queries(fixed.mask, blocks.query.shape[1], blocks.key.shape[1], sizes.query_block)

    def rows(group: QueryGroup, index: Any) -> tuple[Array, Array]:
        return _forward_rows(sizes, blocks, fixed, Place(blocks, fixed, group, index))

    return _of_all_queries(groups, blocks, rows), None


def _plain(sizes: Sizes, blocks: Blocks, fixed: Fixed) -> tuple[Array, Array]:
    """The same without a running softmax, in loops that JAX differentiates; weights are computed again for that."""
    q_len, kv_len = blocks.query.shape[1], blocks.key.shape[1]
    count, rest = divmod(q_len, sizes.query_block)
    groups = [
        QueryGroup(start, block, num_blocks, 0, kv_len, False)
        for start, block, num_blocks in ((0, sizes.query_block, count), (q_len - rest, rest, 1))
        if block and num_blocks
    ]

    def rows(group: QueryGroup, index: Any) -> tuple[Array, Array]:
        @jax.checkpoint
        def block(blocks: Blocks, fixed: Fixed, index: Any) -> tuple[Array, Array]:
            return _plain_rows(sizes, blocks, fixed, Place(blocks, fixed, group, index))

        return block(blocks, fixed, index)

    return _of_all_queries(groups, blocks, rows)


def _of_all_queries(
    groups: list[QueryGroup], blocks: Blocks, rows: Callable[[QueryGroup, Any], tuple[Array, Array]]
) -> tuple[Array, Array]:
    """Output and log-sum-exp of all groups, ``rows`` giving those of one block of one group."""
    batch, q_len, num_heads, _ = blocks.query.shape
    value_dim = blocks.value.shape[-1]
    outputs, sums = [], []
    for group in groups:
        if group.num_blocks == 1:
            output, logsumexp = rows(group, 0)
        else:
            num_rows = group.num_blocks * group.block
            output, logsumexp = lax.map(
                lambda index, group=group: rows(group, index), jnp.arange(group.num_blocks)
            )
            output = jnp.moveaxis(output, 0, 1).reshape(batch, num_rows, num_heads, value_dim)
            logsumexp = jnp.moveaxis(logsumexp, 0, 2).reshape(batch, num_heads, num_rows)
        outputs.append(output)
        sums.append(logsumexp)
    if not outputs:
        return (
            jnp.zeros((batch, q_len, num_heads, value_dim), blocks.value.dtype),
            jnp.zeros((batch, num_heads, q_len), wide(blocks.query.dtype)),
        )
    return jnp.concatenate(outputs, axis=1), jnp.concatenate(sums, axis=2)


def _forward_rows(sizes: Sizes, blocks: Blocks, fixed: Fixed, place: Place) -> tuple[Array, Array]:
    batch, num_rows, num_heads = place.query.shape[:3]
    dtype = wide(blocks.query.dtype)

    def visit(carry: tuple, mask: AttentionMask, first: Any, size: int) -> tuple:
        maximum, total, accumulator = carry
        key, value = pick(blocks.key, 1, first, size), pick(blocks.value, 1, first, size)
        scores = biased_scores(blocks, fixed.mask, place, first, size)(
            blocks.score, blocks.bias, bias_block(blocks.dense_bias, place, first, size), place.query, key
        )
        scores = hidden_scores(scores, blocks, mask, place, first, size)
        new_maximum = jnp.maximum(maximum, scores.max(axis=-1))
        shift = jnp.where(jnp.isneginf(new_maximum), 0.0, new_maximum)
        weights = jnp.exp(scores - shift[..., None])
        shrink = jnp.exp(maximum - shift)
        total = shrink * total + weights.sum(axis=-1)
        if place.reweight is not None:
            weights = weights * block_factors(blocks, fixed.mask, first, size, weights)(place.reweight)
        if place.dropout_keys is not None:
            weights = jnp.where(kept(place.dropout_keys, first, size, sizes.dropout_rate), weights, 0.0)
        added = weighted_values(weights, value)
        return new_maximum, total, shrink[..., None] * accumulator + added

    rows = (batch, num_heads, num_rows)
    start = (
        jnp.full(rows, -jnp.inf, dtype),
        jnp.zeros(rows, dtype),
        jnp.zeros((*rows, blocks.value.shape[-1]), dtype),
    )
    maximum, total, accumulator = place.visits(sizes.key_block, visit, start)
    divisor = jnp.where(total == 0, 1.0, total) * (1.0 - sizes.dropout_rate)
    output = jnp.swapaxes(accumulator / divisor[..., None], 1, 2).astype(blocks.value.dtype)
    return output, maximum + jnp.log(total)


def _plain_rows(sizes: Sizes, blocks: Blocks, fixed: Fixed, place: Place) -> tuple[Array, Array]:
    """A block of queries against all keys at once."""
    kv_len = blocks.key.shape[1]
    dense = bias_block(blocks.dense_bias, place, 0, kv_len)
    scores = biased_scores(blocks, fixed.mask, place, 0, kv_len)(
        blocks.score, blocks.bias, dense, place.query, blocks.key
    )
    scores = hidden_scores(scores, blocks, fixed.mask, place, 0, kv_len)
    maximum = lax.stop_gradient(jnp.max(scores, axis=-1, initial=-jnp.inf))
    shift = jnp.where(jnp.isneginf(maximum), 0.0, maximum)
    exponentials = jnp.exp(scores - shift[..., None])
    total = exponentials.sum(axis=-1)
    is_empty = total == 0
    divisor = jnp.where(is_empty, 1.0, total)
    weights = exponentials / divisor[..., None]
    if place.reweight is not None:
        weights = weights * block_factors(blocks, fixed.mask, 0, kv_len, weights)(place.reweight)
    if place.dropout_keys is not None:
        keep = kept(place.dropout_keys, 0, kv_len, sizes.dropout_rate)
        weights = jnp.where(keep, weights / (1.0 - sizes.dropout_rate), 0.0)
    output = jnp.swapaxes(weighted_values(weights, blocks.value), 1, 2).astype(blocks.value.dtype)
    return output, jnp.where(is_empty, -jnp.inf, shift + jnp.log(divisor))


def _backward(
    sizes: Sizes, blocks: Blocks, fixed: Fixed, outputs: tuple[Array, Array], cotangents: tuple[Array, Array]
) -> Blocks:
    output, logsumexp = outputs
    d_output, d_logsumexp = cotangents
    dtype = logsumexp.dtype
    own_products = (d_output.astype(dtype) * output.astype(dtype)).sum(axis=-1)
    delta = jnp.swapaxes(own_products, 1, 2) - d_logsumexp  # [batch, heads, q_len]
    # A fully masked row has no weights; a zero query keeps its contents out of the sums over rows.
    empty = jnp.isneginf(logsumexp)
    query = jnp.where(jnp.swapaxes(empty, 1, 2)[..., None], 0, blocks.query)
    blocks = blocks._replace(query=query)
    logsumexp = jnp.where(empty, 0.0, logsumexp)
    q_len, kv_len = query.shape[1], blocks.key.shape[1]

    totals = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, wide(leaf.dtype)), blocks._replace(query=None))
    # Gradients of keys and values are summed with the keys last: a product's large operand is then never turned.
    totals = totals._replace(key=keys_last(totals.key), value=keys_last(totals.value))
    d_queries = []
    for group in plan_queries(fixed.mask, q_len, kv_len, sizes.query_block):

        def rows(totals: Blocks, index: Any, group: QueryGroup = group) -> tuple[Blocks, Array]:
            place = Place(blocks, fixed, group, index)
            own = place.rows(d_output, 1), place.rows(delta, 2), place.rows(logsumexp, 2)
            return _backward_rows(sizes, blocks, fixed, place, own, totals)

        if group.num_blocks == 1:
            totals, d_query = rows(totals, 0)
        else:
            totals, d_query = lax.scan(rows, totals, jnp.arange(group.num_blocks))
            num_rows = group.num_blocks * group.block
            d_query = jnp.moveaxis(d_query, 0, 1).reshape(query.shape[0], num_rows, *query.shape[2:])
        d_queries.append(d_query)
    d_query = jnp.concatenate(d_queries, axis=1) if d_queries else jnp.zeros_like(query)
    gradient = totals._replace(query=d_query, key=keys_first(totals.key), value=keys_first(totals.value))
    return jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), gradient, blocks)


_RULES = Rules(_value, _backward, _plain)


def _backward_rows(
    sizes: Sizes, blocks: Blocks, fixed: Fixed, place: Place, own: tuple[Array, Array, Array], totals: Blocks
) -> tuple[Blocks, Array]:
    """Add what a block of queries gives to the totals; the gradient of the block itself."""
    d_output, delta, logsumexp = own
    keep_scale = 1.0 / (1.0 - sizes.dropout_rate)

    def visit(
        carry: tuple[Blocks, Array], mask: AttentionMask, first: Any, size: int
    ) -> tuple[Blocks, Array]:
        totals, d_query = carry
        key, value = pick(blocks.key, 1, first, size), pick(blocks.value, 1, first, size)
        scores, pull_back = differentiable_scores(
            blocks, fixed.mask, place, first, key, one_query_at_a_time=_goes_by_lanes()
        )
        scores = hidden_scores(scores, blocks, mask, place, first, size)
        weights = jnp.exp(scores - logsumexp[..., None])
        applied, d_applied = weights, products(d_output, value)  # do . v of all pairs
        keep = None
        if place.dropout_keys is not None:
            keep = kept(place.dropout_keys, first, size, sizes.dropout_rate)
            d_applied = jnp.where(keep, d_applied * keep_scale, 0.0)
        d_weights, d_reweight = d_applied, None
        if place.reweight is not None:
            factors, pull_back_factors = jax.vjp(
                block_factors(blocks, fixed.mask, first, size, weights), place.reweight
            )
            applied, d_weights = weights * factors, d_applied * factors
            (d_reweight,) = pull_back_factors(weights * d_applied)
        if keep is not None:
            applied = jnp.where(keep, applied * keep_scale, 0.0)
        d_value = weighted_rows(applied, d_output, value.shape[2])
        d_score, d_bias, d_dense, d_rows, d_key = pull_back(weights * (d_weights - delta[..., None]))
        totals = Blocks(
            None,
            add_at(totals.key, d_key, (0, 0, 0, first)),
            add_at(totals.value, d_value, (0, 0, 0, first)),
            jax.tree.map(jnp.add, totals.score, d_score),
            jax.tree.map(jnp.add, totals.bias, d_bias),
            totals.dense_bias
            if d_dense is None
            else add_at(totals.dense_bias, d_dense, bias_start(totals.dense_bias, place, first)),
            jax.tree.map(
                lambda total, part: add_at(total, part, (0, 0, place.start)), totals.reweight, d_reweight
            ),
        )
        return totals, d_query + d_rows

    start = (totals, jnp.zeros(place.query.shape, wide(place.query.dtype)))
    return place.visits(sizes.key_block, visit, start)
