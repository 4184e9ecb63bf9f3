"""Look into attention in memory linear in the length: what its rows hold, without ever holding all of them."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional.attention.contract import AttentionCall, PreparedKey, make_call
from transformer_jax.functional.attention.guard import guard_in_linear_memory
from transformer_jax.functional.biases import PositionBias
from transformer_jax.functional.dtypes import as_array, wide
from transformer_jax.functional.masks import AttentionMask, pick
from transformer_jax.functional.reweights import Reweight
from transformer_jax.functional.scores import ScaledDot, ScoreRule
from transformer_jax.functional.softmax import masked_softmax
from transformer_jax.pytree import pytree_dataclass
from transformer_jax.typing import Array, Float, Int

BLOCK_ELEMENTS = 2**22
"""Numbers of one block's largest array, at most: weights, or the hidden units of an additive rule."""

_SCALED_DOT = ScaledDot()


@pytree_dataclass
class AttentionInspection:
    """Result of :func:`inspect_attention`; no array in it has ``q_len * kv_len`` entries.

    Attributes:
      logsumexp: Of each row's scores, ``-inf`` for a row that may attend to nothing.
      entropy: Of each row's weights, in nats: 0 = one key, ``log(n)`` = ``n`` keys alike.
      key_mass: What each key receives from all queries together.
      top_keys: The keys of each row with the largest weights, largest first; -1 where a row sees fewer.
      top_weights: Their weights.
      rows: The full weights of the rows that were asked for, or ``None``.
    """

    logsumexp: Float[Array, "batch heads q_len"]
    entropy: Float[Array, "batch heads q_len"]
    key_mass: Float[Array, "batch heads kv_len"]
    top_keys: Int[Array, "batch heads q_len top"]
    top_weights: Float[Array, "batch heads q_len top"]
    rows: Float[Array, "batch chosen_heads chosen_queries kv_len"] | None


def inspect_attention(
    query: Float[Array, "batch q_len heads query_dim"],
    key: Float[Array, "batch kv_len kv_heads key_dim"] | PreparedKey,
    *,
    score: ScoreRule = _SCALED_DOT,
    mask: AttentionMask | None = None,
    bias: PositionBias | Float[Array, "#batch #heads #q_len #kv_len"] | None = None,
    reweight: Reweight | None = None,
    top: int = 8,
    rows: tuple[Sequence[int] | None, Sequence[int] | None] | None = None,
) -> AttentionInspection:
    r"""Log-sum-exp, entropy, the mass that each key receives, the largest weights, and chosen rows in full.

    .. math:: L_i = \log \sum_j e^{s_{ij}}, \quad H_i = -\sum_j p_{ij} \log p_{ij}, \quad m_j = \sum_i a_{ij}

    :math:`a = p` are the weights that :func:`attention` takes under the same arguments (without dropout); with
    ``reweight``, :math:`a = g p`, of which masses, largest weights and rows are taken. Computed by blocks of queries
    against all keys.

    Args:
      query: As in :func:`attention`.
      key: As in :func:`attention`.
      score: As in :func:`attention`.
      mask: As in :func:`attention`.
      bias: As in :func:`attention`.
      reweight: As in :func:`attention`.
      top: How many of the largest weights of each row to keep; ``kv_len`` at most are kept.
      rows: ``(heads, queries)`` whose weights to keep in full; ``None`` in place of either = all of them, in
        place of both = no rows.

    Returns:
      The inspection, float32 (float64 for float64 queries); a row that sees a NaN or Inf is NaN throughout, and so is
      its keys' mass.

    Raises:
      ShapeError: If shapes do not fit, or a chosen head or query does not exist.
      ConfigError: If ``top`` is negative, or a dtype is wrong.

    Example:
      >>> ones = jnp.ones((1, 4, 2, 8))
      >>> seen = inspect_attention(ones, ones, mask=AttentionMask.causal(), top=2, rows=([0], [3]))
      >>> [round(float(entropy), 3) + 0.0 for entropy in seen.entropy[0, 0]]
      [0.0, 0.693, 1.099, 1.386]
      >>> seen.rows.tolist()
      [[[[0.25, 0.25, 0.25, 0.25]]]]

    Source: Clark et al. 2019, https://arxiv.org/abs/1906.04341, section 3 (entropy of heads, mass of tokens).
    """
    if top < 0:
        raise ConfigError(f"top must be an integer >= 0, got {top}")
    query = as_array("query", query)
    key = key if isinstance(key, PreparedKey) else as_array("key", key)
    key_array = key.array if isinstance(key, PreparedKey) else key
    value = jnp.zeros((*key_array.shape[:3], 0), key_array.dtype)
    call = make_call(query, key, value, score, mask, bias, None, reweight)
    chosen = None if rows is None else _chosen(rows, call)
    safe = guard_in_linear_memory(call)
    score = call.score
    prepared_query = score.prepare_query(safe.query)
    prepared_key = safe.key if call.key_is_prepared else score.prepare_key(safe.key)
    top = min(top, call.kv_len)
    poisoned = jnp.zeros((query.shape[0], call.num_heads, call.q_len), bool)
    if safe.poisoned is not None:
        poisoned = safe.poisoned

    def weights_of(start: int | Array, size: int) -> tuple[Array, Array, Array]:
        """Scores, weights and reweighted weights of a block of queries, ``[batch, heads, size, kv_len]``."""
        scores = _scores(call, prepared_query, prepared_key, start, size)
        weights = masked_softmax(scores)
        spoiled = lax.dynamic_slice_in_dim(poisoned, start, size, 2)[..., None]
        weights = jnp.where(spoiled, jnp.nan, weights)
        if reweight is None:
            return scores, weights, weights
        factors = reweight.for_queries(start, size).block(call.mask.key_positions_or_default(call.kv_len))
        return scores, weights, weights * factors.astype(weights.dtype)

    def block(mass: Array, start: Array, size: int) -> tuple[Array, tuple[Array, ...]]:
        scores, weights, applied = weights_of(start, size)
        entropy = -jnp.sum(jnp.where(weights > 0, weights * jnp.log(weights), weights * 0), axis=-1)
        top_weights, top_keys = lax.top_k(applied, top)
        top_keys = jnp.where(top_weights > 0, top_keys, -1)
        # Not left to NaN to come through the logarithm: on CPUs it does not always.
        spoiled = lax.dynamic_slice_in_dim(poisoned, start, size, 2)
        rows = [jnp.where(spoiled, jnp.nan, row) for row in (jax.nn.logsumexp(scores, axis=-1), entropy)]
        return mass + applied.sum(axis=2), (*rows, top_keys, top_weights)

    size = _block_size(call, prepared_query, prepared_key)
    num_blocks, rest = divmod(call.q_len, size)
    mass = jnp.zeros((query.shape[0], call.num_heads, call.kv_len), wide(query))
    mass, stacked = lax.scan(lambda mass, i: block(mass, i * size, size), mass, jnp.arange(num_blocks))
    # [blocks, batch, heads, size, ...] to [batch, heads, queries, ...]
    found = [
        jnp.moveaxis(one, 0, 2).reshape(*one.shape[1:3], num_blocks * size, *one.shape[4:]) for one in stacked
    ]
    if rest:
        mass, last = block(mass, jnp.asarray(num_blocks * size), rest)
        found = [jnp.concatenate(pair, axis=2) for pair in zip(found, last)]
    in_full = None
    if chosen is not None:
        heads, queries = chosen
        picked = [weights_of(index, 1)[2][:, jnp.asarray(heads, int), 0] for index in queries]
        empty = jnp.zeros((query.shape[0], len(heads), 0, call.kv_len), mass.dtype)
        in_full = jnp.stack(picked, axis=2) if picked else empty
    return AttentionInspection(found[0], found[1], mass, found[2], found[3], in_full)


def _scores(
    call: AttentionCall, prepared_query: Array, prepared_key: Array, start: int | Array, size: int
) -> Array:
    """Scores of a block of queries and all keys, with biases; ``-inf`` where the mask hides the key."""
    query_positions = pick(call.mask.query_positions_or_default(call.q_len), 1, start, size)
    key_positions = call.mask.key_positions_or_default(call.kv_len)
    rows = lax.dynamic_slice_in_dim(prepared_query, start, size, 1)
    scores = call.score.score(rows, prepared_key, query_positions, key_positions)
    if isinstance(call.bias, PositionBias):
        scores = scores + call.bias.block(query_positions, key_positions).astype(scores.dtype)
    elif call.bias is not None:
        scores = scores + pick(call.bias, 2, start, size).astype(scores.dtype)
    allowed = call.mask.compact(call.q_len, call.kv_len, query_slice=(start, size))
    return scores if allowed is None else jnp.where(allowed, scores, -jnp.inf)


def _block_size(call: AttentionCall, prepared_query: Array, prepared_key: Array) -> int:
    """Queries of a block, so that the largest array of a block's scores stays within ``BLOCK_ELEMENTS``."""

    def largest(query: Array, key: Array) -> Array:
        return call.score.score(query, key, None, None)

    row = jax.ShapeDtypeStruct(
        (*prepared_query.shape[:1], 1, *prepared_query.shape[2:]), prepared_query.dtype
    )
    traced = jax.make_jaxpr(largest)(row, prepared_key)
    shapes = [variable.aval.shape for equation in traced.eqns for variable in equation.outvars]
    elements = max([math.prod(shape) for shape in shapes] or [1])
    return max(1, min(call.q_len, BLOCK_ELEMENTS // max(1, elements)))


def _chosen(
    rows: tuple[Sequence[int] | None, Sequence[int] | None], call: AttentionCall
) -> tuple[list[int], list[int]]:
    chosen = []
    for name, indices, length in zip(("heads", "queries"), rows, (call.num_heads, call.q_len), strict=True):
        wanted = list(range(length)) if indices is None else [int(index) for index in indices]
        outside = [index for index in wanted if not 0 <= index < length]
        if outside:
            raise ShapeError(f"rows: {name} must be in [0, {length}), got {outside[0]}")
        chosen.append(wanted)
    return chosen[0], chosen[1]
