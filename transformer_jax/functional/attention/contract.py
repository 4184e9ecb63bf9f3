"""Arguments of every implementation of attention, their checks, and the support matrix."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional.biases import PositionBias
from transformer_jax.functional.dropout import check_rate, row_keys
from transformer_jax.functional.dtypes import as_array, take_arrays
from transformer_jax.functional.masks import AttentionMask, MaskRule, subclass_refusal
from transformer_jax.functional.reweights import Reweight
from transformer_jax.functional.row_shards import axes_of_rows, by_row_shards
from transformer_jax.functional.scores import Location, ScoreRule
from transformer_jax.pytree import pytree_dataclass, static_field
from transformer_jax.typing import Array, Float


@pytree_dataclass
class PreparedKey:
    """Keys that a score rule has prepared already; made by :func:`prepare_key`, held by caches and memories.

    Attributes:
      array: ``[batch, kv_len, kv_heads, prepared]``.

    Example:
      >>> PreparedKey(jnp.ones((1, 2, 1, 4))).array.shape
      (1, 2, 1, 4)
    """

    array: Float[Array, "batch kv_len kv_heads prepared"]

    def __post_init__(self) -> None:
        take_arrays(self)


@pytree_dataclass
class AttentionDropout:
    """Drop attention weights at random; to evaluate, pass ``dropout=None`` instead.

    Attributes:
      rate: Probability of dropping a weight, in [0, 1).
      rng_key: A typed key (``jax.random.key``); may be ``None`` only if the rate is 0.

    Example:
      >>> AttentionDropout(0.1, jax.random.key(0)).rate
      0.1
    """

    rate: float = static_field()
    rng_key: jax.Array | None


@dataclasses.dataclass(frozen=True)
class AttentionCall:
    """One call of ``attention``, its arguments checked."""

    query: Array
    key: Array
    value: Array
    key_is_prepared: bool
    score: ScoreRule
    mask: AttentionMask
    bias: PositionBias | Array | None
    dropout: AttentionDropout | None
    reweight: Reweight | None

    @property
    def num_heads(self) -> int:
        """Number of query heads."""
        return self.query.shape[2]

    @property
    def q_len(self) -> int:
        """Number of queries."""
        return self.query.shape[1]

    @property
    def kv_len(self) -> int:
        """Number of keys."""
        return self.key.shape[1]

    @property
    def drops(self) -> bool:
        """Whether dropout does something."""
        return self.dropout is not None and self.dropout.rate > 0.0

    def dropout_words(self) -> tuple[Array | None, float]:
        """The words that the rows' dropout is drawn from, ``[batch, heads, q_len, 2]``, and its rate, or (None, 0)."""
        if not self.drops or self.dropout is None or self.dropout.rng_key is None:
            return None, 0.0
        rows = (self.query.shape[0], self.num_heads, self.q_len)
        return row_keys(self.dropout.rng_key, rows), self.dropout.rate

    def dense_bias(self) -> Array | None:
        """The bias as ``[batch|1, heads|1, q_len|1, kv_len|1]``, or ``None``."""
        if not isinstance(self.bias, PositionBias):
            return self.bias
        return self.bias.block(
            self.mask.query_positions_or_default(self.q_len), self.mask.key_positions_or_default(self.kv_len)
        )


_OF_NO_ROW = ("score", "dropout")


def by_own_rows(attend: Callable[[AttentionCall], Any]) -> Callable[[AttentionCall], Any]:
    """The implementation, each device of a mesh attending for the rows that it holds.

    XLA cannot cut a kernel, and gathers what a loop over blocks takes one after the other.

    Args:
      attend: Its results have the batch in front; what it drops it draws by `dropout.row_keys`.
    """

    @functools.wraps(attend)
    def attend_by_rows(call: AttentionCall) -> Any:
        parts = {field.name: getattr(call, field.name) for field in dataclasses.fields(call)}
        del parts["key_is_prepared"]
        batch = call.query.shape[0]
        # Which rows share an array is told from its shape: parts of masks and dense biases are [batch|1, ...].
        in_axes = {name: axes_of_rows(part, batch) for name, part in parts.items() if name not in _OF_NO_ROW}
        in_axes |= dict.fromkeys(_OF_NO_ROW)
        if isinstance(call.bias, PositionBias):
            in_axes["bias"] = None  # its arrays have an entry for each head
        run = by_row_shards(lambda own: attend(dataclasses.replace(call, **own)), (in_axes,), 0, batch)
        return run(parts)

    return attend_by_rows


def make_call(
    query: Array,
    key: Array | PreparedKey,
    value: Array,
    score: ScoreRule,
    mask: AttentionMask | MaskRule | None,
    bias: PositionBias | Array | None,
    dropout: AttentionDropout | None,
    reweight: Reweight | None = None,
) -> AttentionCall:
    """Check the arguments of ``attention`` against each other and put them together.

    Raises:
      ShapeError: If a shape does not fit; the message names the argument.
      ConfigError: If a dtype or a kind of argument is wrong.
    """
    is_prepared = isinstance(key, PreparedKey)
    key_array = key.array if isinstance(key, PreparedKey) else as_array("key", key)
    query, value = as_array("query", query), as_array("value", value)
    if mask is None or isinstance(mask, MaskRule):
        mask = AttentionMask() if mask is None else AttentionMask(rules=(mask,))
    _check_arrays(query, key_array, value, is_prepared)
    batch, q_len, num_heads, query_dim = query.shape
    kv_len, _, key_dim = key_array.shape[1:]
    check_rule("score", score)
    if not isinstance(mask, AttentionMask):
        raise ConfigError(
            "mask must be an AttentionMask (AttentionMask.dense(array) wraps an array), "
            f"got {type(mask).__name__}"
        )
    if type(mask) is not AttentionMask:
        raise subclass_refusal(type(mask))
    default_len = kv_len if mask.key_positions is None else None
    score.check(query_dim, None if is_prepared else key_dim, num_heads, default_len)
    mask.check(batch, num_heads, q_len, kv_len)
    if isinstance(score, Location) and mask.key_positions is not None:
        # Keys out of the rule's reach are masked like any other, so nothing in them leaks.
        mask &= AttentionMask.valid((mask.key_positions >= 0) & (mask.key_positions < score.max_len))
    bias = _checked_bias(bias, (batch, num_heads, q_len, kv_len))
    if reweight is not None:
        if isinstance(reweight, type) or not isinstance(reweight, Reweight):
            raise ConfigError(
                f"reweight must be a rule such as GaussianReweight(center, deviation), got {reweight!r}"
            )
        reweight.check(batch, num_heads, q_len)
    if dropout is not None:
        if not isinstance(dropout, AttentionDropout):
            raise ConfigError(f"dropout must be AttentionDropout(rate, rng_key), got {dropout!r}")
        check_rate("dropout rate", dropout.rate)
        if dropout.rate > 0.0 and dropout.rng_key is None:
            raise ConfigError(
                f"dropout of rate {dropout.rate} needs an rng_key, got None; to evaluate pass dropout=None"
            )
    return AttentionCall(query, key_array, value, is_prepared, score, mask, bias, dropout, reweight)


def check_rule(name: str, score: Any) -> None:
    """Raise ``ConfigError`` unless it is a score rule; a rule's class is none."""
    if isinstance(score, type) and issubclass(score, ScoreRule):
        raise ConfigError(f"{name} must be a score rule, not its class: write {score.__name__}(...)")
    if isinstance(score, type) or not isinstance(score, ScoreRule):
        raise ConfigError(f"{name} must be a score rule such as ScaledDot(), got {score!r}")


def _check_arrays(query: Array, key: Array, value: Array, is_prepared: bool) -> None:
    layouts = {
        "query": (query, "[batch, q_len, heads, head_dim]"),
        "key": (key, "[batch, kv_len, kv_heads, head_dim]"),
        "value": (value, "[batch, kv_len, kv_heads, value_dim]"),
    }
    for name, (array, layout) in layouts.items():
        shape, dtype = array.shape, array.dtype
        if len(shape) != 4:
            raise ShapeError(f"{name} must be {layout}, got {shape}")
        if not jnp.issubdtype(dtype, jnp.floating):
            raise ConfigError(f"{name} must be floating point, got {dtype}")
        if dtype != query.dtype:
            raise ConfigError(
                f"{name} must have the dtype of query, {query.dtype}, got {dtype}; cast one of them"
            )
        if shape[0] != query.shape[0]:
            raise ShapeError(f"{name} must have the batch size of query, {query.shape[0]}, got {shape[0]}")
    if key.shape[1] != value.shape[1]:
        raise ShapeError(f"value must have the kv_len of key, {key.shape[1]}, got {value.shape[1]}")
    num_heads, key_heads, value_heads = query.shape[2], key.shape[2], value.shape[2]
    # A rule with one weight a head prepares its own key for every query head.
    if key_heads != value_heads and not (is_prepared and key_heads == num_heads):
        raise ShapeError(f"value must have the heads of key, {key_heads}, got {value_heads}")
    for name, heads in (("key", key_heads), ("value", value_heads)):
        if heads == 0 or num_heads % heads:
            raise ShapeError(f"{name} heads must divide the query's {num_heads} heads, got {heads}")


def _checked_bias(bias: Any, sizes: tuple[int, int, int, int]) -> PositionBias | Array | None:
    if bias is None:
        return None
    if isinstance(bias, type | bool | int | float):
        got = f"the class {bias.__name__}" if isinstance(bias, type) else type(bias).__name__
        raise ConfigError(f"bias must be an array, Alibi(...) or RelativeBuckets(...), got {got}")
    if isinstance(bias, PositionBias):
        if bias.num_heads != sizes[1]:
            raise ShapeError(f"bias must have the query's {sizes[1]} heads, got {bias.num_heads}")
        return bias
    bias = as_array("bias", bias)
    shape = bias.shape
    if len(shape) != 4 or any(have not in (1, want) for have, want in zip(shape, sizes)):
        raise ShapeError(
            f"bias must broadcast to [batch, heads, q_len, kv_len] = {list(sizes)}, got {list(shape)}"
        )
    if not jnp.issubdtype(bias.dtype, jnp.floating):
        raise ConfigError(f"bias must be floating point (a bool array is a mask), got {bias.dtype}")
    return bias


_BEYOND_PRODUCTS = {
    "additive": "Additive",
    "additive_grouped": "Additive",
    "additive_sum": "AdditiveSum",
    "additive_sum_projected": "AdditiveSum",
    "concat": "Concat",
    "linear": "LinearConcat",
    "location": "Location",
    "location_positions": "Location",
    "additive_empty_rows": "Additive",
}
_RULES = {"general": "General", "general_per_head": "General", **_BEYOND_PRODUCTS}
_BEYOND_DOT_PRODUCTS = {
    **_RULES,
    "reweight": "reweight",
    "reweight_window": "reweight",
    "dropout": "dropout",
}

# The support matrix: for each implementation, the cases of the contract suite that it refuses, with a word
# of the reason. Every case not listed must agree with the oracle; the suite holds this table to the code.
REFUSALS: dict[str, dict[str, str]] = {
    "reference": {},
    "batched": _BEYOND_PRODUCTS,
    "blockwise": {},
    "xla": {**_BEYOND_DOT_PRODUCTS, "value_dim": "value_dim"},
    "native_cpu": {
        **_RULES,
        "reweight": "reweight",
        "reweight_window": "reweight",
        "empty_rows_grouped": "dense bias",
        "bias": "dense bias",
        "bias_broadcast": "dense bias",
        "bias_hides_rows": "dense bias",
        "relative_buckets": "RelativeBuckets",
        "relative_buckets_causal": "RelativeBuckets",
    },
    "cudnn": {
        **_BEYOND_DOT_PRODUCTS,
        "value_dim": "value_dim",
        "empty_rows_grouped": "bias",
        "bias": "bias",
        "bias_broadcast": "bias",
        "bias_hides_rows": "bias",
        "alibi": "bias",
        "alibi_positions": "bias",
        "relative_buckets": "bias",
        "relative_buckets_causal": "bias",
    },
    "tokamax": _BEYOND_DOT_PRODUCTS,
    "mosaic_tpu": {
        **_BEYOND_DOT_PRODUCTS,
        "dense": "dense mask",
        "dense_heads": "dense mask",
        "mask_rule": "mask rule",
        "mask_rule_sinks": "mask rule",
        "mask_rule_dilated": "mask rule",
        "mask_rule_global": "mask rule",
        "mask_rule_heads": "mask rule",
        "all_parts": "dense mask",
        "empty_rows_dense": "dense mask",
        "empty_rows_grouped": "dense bias",
        "bias": "dense bias",
        "bias_broadcast": "dense bias",
        "bias_hides_rows": "dense bias",
        "relative_buckets": "RelativeBuckets",
        "relative_buckets_causal": "RelativeBuckets",
    },
    "mosaic_gpu": {
        **_BEYOND_DOT_PRODUCTS,
        "positions": "positions",
        "positions_window": "positions",
        "positions_before_all_keys": "positions",
        "segments": "segments",
        "segments_causal": "segments",
        "dense": "dense",
        "dense_heads": "dense",
        "mask_rule": "mask rule",
        "mask_rule_sinks": "mask rule",
        "mask_rule_dilated": "mask rule",
        "mask_rule_global": "mask rule",
        "mask_rule_heads": "mask rule",
        "empty_rows_dense": "dense",
        "all_parts": "dense",
        "empty_rows_grouped": "bias",
        "bias": "bias",
        "bias_broadcast": "bias",
        "bias_hides_rows": "bias",
        "alibi": "bias",
        "alibi_positions": "bias",
        "relative_buckets": "bias",
        "relative_buckets_causal": "bias",
    },
}
