"""The cases of attention's contract: one builder each, tiny arrays, odd sizes."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from transformer_jax import functional as F
from transformer_jax.functional import AttentionMask
from transformer_jax.functional.masks import pick
from transformer_jax.pytree import pytree_dataclass, static_field
from transformer_jax.testing.score_oracles import ScoreOracle
from transformer_jax.typing import Array


@dataclasses.dataclass(frozen=True, eq=False)
class AttentionCase:
    """Arguments of one call.

    Attributes:
      name: The case's name.
      arrays: ``query``, ``key``, ``value``, ``score``, ``bias`` and ``reweight``: all that has a gradient.
      mask: The mask.
      cotangent: What the output is multiplied with before it is summed, for gradients.
      score_oracle: The formula of a score rule that is none of the library's; ``None`` = that of ``SCORE_ORACLES``.
    """

    name: str
    arrays: dict[str, Any]
    mask: AttentionMask
    cotangent: np.ndarray
    score_oracle: ScoreOracle | None = None


Builder = Callable[[np.random.Generator], AttentionCase]
BUILDERS: dict[str, Builder] = {}

BATCH, Q_LEN, KV_LEN, HEADS, DIM = 2, 3, 5, 2, 4


def _draw(generator: np.random.Generator, *shape: int) -> jax.Array:
    return jnp.asarray(generator.normal(size=shape), jnp.float32)


def _add(
    name: str,
    *,
    score: Callable[[Callable], Any] | None = None,
    mask: AttentionMask | None = None,
    bias: Callable[[Callable], Any] | None = None,
    reweight: Callable[[Callable], Any] | None = None,
    batch: int = BATCH,
    q_len: int = Q_LEN,
    kv_len: int = KV_LEN,
    heads: int = HEADS,
    kv_heads: int | None = None,
    query_dim: int = DIM,
    key_dim: int | None = None,
    value_dim: int | None = None,
) -> None:
    """List a case; ``score``, ``bias`` and ``reweight`` are made by a function that gets ``draw(*shape)``."""
    kv_heads = heads if kv_heads is None else kv_heads
    key_dim = query_dim if key_dim is None else key_dim
    value_dim = key_dim if value_dim is None else value_dim

    def build(generator: np.random.Generator) -> AttentionCase:
        def draw(*shape: int) -> jax.Array:
            return _draw(generator, *shape)

        arrays = {
            "query": draw(batch, q_len, heads, query_dim),
            "key": draw(batch, kv_len, kv_heads, key_dim),
            "value": draw(batch, kv_len, kv_heads, value_dim),
            "score": F.ScaledDot() if score is None else score(draw),
            "bias": None if bias is None else bias(draw),
            "reweight": None if reweight is None else reweight(draw),
        }
        cotangent = generator.normal(size=(batch, q_len, heads, value_dim))
        return AttentionCase(name, arrays, AttentionMask() if mask is None else mask, cotangent)

    BUILDERS[name] = build


def _mask(text: str) -> np.ndarray:
    """``"110 101"`` as a bool array with a row a word."""
    return np.array([[letter == "1" for letter in word] for word in text.split()])


_lengths = AttentionMask.from_lengths(jnp.array([3, 5]), KV_LEN)
_valid = AttentionMask.valid(jnp.asarray(_mask("10110 11101")))
_one_row_empty = AttentionMask.from_lengths(jnp.array([0, 2]), KV_LEN)
_cache_positions = AttentionMask.positions(jnp.array([[2, 3, 4], [0, 1, 2]]), jnp.arange(KV_LEN)[None])
_segments = AttentionMask.segments(
    jnp.array([[0, 0, 1], [1, 2, 2]]), jnp.array([[0, 0, 1, 1, 1], [1, 1, 1, 2, 3]])
)
_dense = AttentionMask.dense(jnp.asarray(_mask("11010 00111 10001")[None, None]))
_dense_empty = AttentionMask.dense(jnp.asarray(_mask("00000 00111 10001")[None, None]))
_dense_heads = AttentionMask.dense(
    jnp.asarray(np.stack([_mask("11010 00111 10001"), _mask("11111 00000 01100")])[None])
)

_seen_through_bias = jnp.asarray(
    [
        [_mask("11011 00011 11111"), _mask("10101 11111 01111")],
        [_mask("00000 11111 11111"), _mask("00001 11110 11111")],
    ]
)


@pytree_dataclass
class Strided(F.MaskRule):
    """A part from outside of `AttentionMask`: every ``step``-th position before and after the query's own."""

    step: int = static_field()

    def allows(self, query_positions: Array, key_positions: Array) -> Array:
        return (query_positions - key_positions) % self.step == 0

    def oracle(self, row: int, head: int, query_position: int, key_position: int) -> bool:
        return (query_position - key_position) % self.step == 0


@pytree_dataclass
class Reach(F.MaskRule):
    """A part whose heads and rows differ: so many positions to both sides, ``reach [batch|1, heads|1]``."""

    reach: Array

    def allows(self, query_positions: Array, key_positions: Array) -> Array:
        return abs(query_positions - key_positions) <= self.reach[:, :, None, None]

    def for_heads(self, start: int | Array, count: int) -> "Reach":
        return Reach(pick(self.reach, 1, start, count))

    def oracle(self, row: int, head: int, query_position: int, key_position: int) -> bool:
        reach = np.broadcast_to(self.reach, (BATCH, HEADS))[row, head]
        return abs(query_position - key_position) <= reach


# Shapes.
_add("plain")
_add("single", batch=1, q_len=1, kv_len=1, heads=1)
_add("one_query", q_len=1)
_add("odd_lengths", batch=1, q_len=7, kv_len=11, mask=AttentionMask.from_lengths(jnp.array([9]), 11))
_add("grouped_heads", heads=4, kv_heads=2, mask=_lengths)
_add("multi_query", heads=3, kv_heads=1, mask=AttentionMask.causal())
_add("value_dim", value_dim=6)

# Score rules.
_add("scale", score=lambda draw: F.ScaledDot(0.3))
_add("dot", score=lambda draw: F.Dot())
_add("general", score=lambda draw: F.General(draw(4, 6)), key_dim=6, mask=_lengths)
_add("general_per_head", score=lambda draw: F.General(draw(4, 4, 4)), heads=4, kv_heads=2, mask=_valid)
_add(
    "additive",
    score=lambda draw: F.Additive(draw(4, 5), draw(3, 5), draw(5), draw(5)),
    key_dim=3,
    mask=_lengths,
)
_add(
    "additive_grouped",
    score=lambda draw: F.Additive(draw(2, 4, 5), draw(4, 5), draw(2, 5)),
    kv_heads=1,
    mask=AttentionMask.causal(),
)
_add("additive_sum", score=lambda draw: F.AdditiveSum(), mask=_lengths)
_add("additive_sum_projected", score=lambda draw: F.AdditiveSum(draw(4, 5), draw(3, 5), draw(5)), key_dim=3)
_add(
    "additive_empty_rows", score=lambda draw: F.Additive(draw(4, 5), draw(4, 5), draw(5)), mask=_one_row_empty
)
_add("concat", score=lambda draw: F.Concat(draw(7, 5), draw(5)), key_dim=3, mask=_lengths)
_add("linear", score=lambda draw: F.LinearConcat(draw(7)), key_dim=3, mask=_lengths)
_add("location", score=lambda draw: F.Location(draw(6, 4), draw(6)), mask=_lengths)
_add(
    "location_positions",
    score=lambda draw: F.Location(draw(2, 6, 4)),
    mask=AttentionMask.positions(jnp.arange(3)[None], jnp.array([[4, 5, 6, 7, 8], [6, 7, 8, 9, 9]])),
)

# Masks.
_add("causal", mask=AttentionMask.causal())
_add("causal_square", q_len=5, mask=AttentionMask.causal())
_add("causal_long_query", q_len=6, kv_len=3, mask=AttentionMask.causal())
_add("window", q_len=5, mask=AttentionMask.window(1, 2))
_add("window_one_side", mask=AttentionMask.window(None, 1))
_add("window_past_the_keys", q_len=5, kv_len=3, mask=AttentionMask.window(1, 0))
_add("window_causal_lengths", q_len=5, mask=AttentionMask.window(2, 3) & AttentionMask.causal() & _lengths)
_add("positions", mask=_cache_positions & AttentionMask.causal())
_add("positions_window", mask=_cache_positions & AttentionMask.window(1, 0))
_add(
    "positions_before_all_keys",
    mask=AttentionMask.causal()
    & AttentionMask.positions(jnp.array([[0, 1, 5]]), jnp.array([[1, 2, 3, 4, 5]])),
)
_add("segments", mask=_segments)
_add("segments_causal", mask=_segments & AttentionMask.causal())
_add("valid", mask=_valid)
_add("lengths", mask=_lengths)
_add("dense", mask=_dense)
_add("dense_heads", mask=_dense_heads)
_add("mask_rule", q_len=5, mask=AttentionMask.causal() & Strided(2) & _lengths)
_add("mask_rule_sinks", q_len=5, mask=AttentionMask.causal() & F.SinkWindow(2, 1) & _lengths)
_add(
    "mask_rule_dilated", q_len=5, kv_len=3, mask=AttentionMask() & F.DilatedWindow(1, 0)
)  # rows without keys
_add("mask_rule_global", mask=_cache_positions & F.GlobalTokens(1, 0))
_add("mask_rule_heads", mask=Reach(jnp.array([[0, 2], [1, 3]])) & _cache_positions)
_add(
    "all_parts",
    mask=_dense & _segments & _lengths & _valid & AttentionMask.causal() & AttentionMask.window(3, 2),
)

# Rows that may attend to nothing.
_add("empty_rows", mask=_one_row_empty)
_add("empty_rows_dense", mask=_dense_empty)
_add("empty_rows_causal", mask=_one_row_empty & AttentionMask.causal())
_add("empty_rows_grouped", heads=4, kv_heads=2, mask=_one_row_empty, bias=lambda draw: draw(1, 4, 3, 5))

# Biases.
_add("bias", bias=lambda draw: draw(2, 2, 3, 5))
_add("bias_broadcast", bias=lambda draw: draw(1, 2, 1, 5), mask=_lengths)
_add(
    "bias_hides_rows",  # as a float mask does: two rows see nothing, others a part
    bias=lambda draw: jnp.where(_seen_through_bias, draw(2, 2, 3, 5), -jnp.inf),
    mask=_lengths,
)
_add("alibi", bias=lambda draw: F.Alibi(F.alibi_slopes(2)), mask=AttentionMask.causal())
_add("alibi_positions", bias=lambda draw: F.Alibi(F.alibi_slopes(2)), mask=_cache_positions)
_add(
    "relative_buckets",
    bias=lambda draw: F.RelativeBuckets(draw(8, 2), bidirectional=True, max_distance=7),
    q_len=5,
)
_add(
    "relative_buckets_causal",
    bias=lambda draw: F.RelativeBuckets(draw(4, 2), bidirectional=False, max_distance=5),
    mask=_cache_positions & AttentionMask.causal(),
)

# Factors after the softmax.
_add("reweight", reweight=lambda draw: F.GaussianReweight(2 + draw(2, 2, 3), 1.5), mask=_lengths)
_add(
    "reweight_window",
    score=lambda draw: F.General(draw(4, 4)),
    reweight=lambda draw: F.GaussianReweight(3 + draw(1, 1, 3), 0.7),
    mask=_cache_positions & AttentionMask.window(2, 2),
)
