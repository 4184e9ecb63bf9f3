r"""Attention whose weights factor, so that it is a recurrence: a state of one size whatever the length.

.. math::
   o_t = \frac{\phi(q_t)^\top S_t}{\phi(q_t)^\top z_t}, \quad
   S_t = S_{t-1} + \phi(k_t) v_t^\top, \quad z_t = z_{t-1} + \phi(k_t), \quad \phi(x) = \mathrm{elu}(x) + 1

Three forms of one function: *parallel*, all pairs under a causal mask, quadratic; *recurrent*, one step after the
other; *chunked*, pairs inside a chunk and the state between chunks, linear and made of matrix products.

Source: Katharopoulos et al. 2020, https://arxiv.org/abs/2006.16236, section 3.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from transformer_jax.errors import ConfigError, ShapeError, nearest_hint
from transformer_jax.functional.dtypes import as_array, wide
from transformer_jax.pytree import pytree_dataclass
from transformer_jax.typing import Array, Bool, Float, Int

Form = Literal["parallel", "chunked", "recurrent"]
FORMS: tuple[Form, ...] = ("parallel", "chunked", "recurrent")


@pytree_dataclass
class LinearAttentionState:
    """Summary of all earlier keys and values, float32 (float64 for float64 arrays).

    Attributes:
      values: :math:`S`, the sum of outer products of features and values.
      features: :math:`z`, the sum of the keys' features.
    """

    values: Float[Array, "batch heads head_dim value_dim"]
    features: Float[Array, "batch heads head_dim"]

    @classmethod
    def zeros(
        cls, batch: int, num_heads: int, head_dim: int, value_dim: int, dtype: DTypeLike = jnp.float32
    ) -> "LinearAttentionState":
        """Before the first step."""
        return cls(
            jnp.zeros((batch, num_heads, head_dim, value_dim), dtype),
            jnp.zeros((batch, num_heads, head_dim), dtype),
        )


def elu_features(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    r"""The feature map, positive everywhere, in float32 (float64 for float64).

    .. math:: \phi(x) = \mathrm{elu}(x) + 1

    Example:
      >>> elu_features(jnp.array([0.0, 2.0])).tolist()
      [1.0, 3.0]

    Source: Katharopoulos et al. 2020, https://arxiv.org/abs/2006.16236, equation 7.
    """
    x = as_array("x", x)
    return jax.nn.elu(x.astype(wide(x))) + 1.0


def linear_attention(
    query: Float[Array, "batch length heads head_dim"],
    key: Float[Array, "batch length heads head_dim"],
    value: Float[Array, "batch length heads value_dim"],
    *,
    valid: Bool[Array, "batch length"] | None = None,
    segments: Int[Array, "batch length"] | None = None,
    state: LinearAttentionState | None = None,
    form: Form = "chunked",
    chunk: int = 64,
) -> tuple[Float[Array, "batch length heads value_dim"], LinearAttentionState]:
    r"""Causal linear attention over a sequence, and the state after it.

    .. math:: o_t = \frac{\sum_{s \le t} (\phi(q_t) \cdot \phi(k_s)) v_s}{\sum_{s \le t} \phi(q_t) \cdot \phi(k_s)}

    Args:
      query: Queries.
      key: Keys.
      value: Values.
      valid: False = the step leaves no trace, whatever it holds, and its output is zero.
      segments: Where a row holds several sequences, a number for each token; the tokens of a sequence lie next to
        each other and share theirs. The state starts again from nothing where the number changes; ``None`` = one.
      state: What came before, which belongs to the first sequence of a row; ``None`` = nothing.
      form: ``"chunked"``, ``"parallel"`` or ``"recurrent"``: equal up to rounding.
      chunk: Steps of a chunk of the chunked form, in tokens.

    Returns:
      The outputs in the dtype of the values, and the state after the last step, which is that of the last
      sequence. A step with nothing to look at, as its own key is not valid, gives zeros.

    Raises:
      ConfigError: If the form is unknown or the chunk is not positive.
      ShapeError: If the shapes do not fit.

    Example:
      >>> ones = jnp.ones((1, 3, 1, 2))
      >>> values = jnp.arange(3.0).reshape(1, 3, 1, 1)
      >>> linear_attention(ones, ones, values)[0][0, :, 0, 0].tolist()
      [0.0, 0.5, 1.0]

    Source: Katharopoulos et al. 2020, https://arxiv.org/abs/2006.16236, equations 9 to 12; the chunked form: Hua et
    al. 2022, https://arxiv.org/abs/2202.10447, section 3.2.
    """
    if form not in FORMS:
        raise ConfigError(f"form must be one of {FORMS}; got '{form}'{nearest_hint(form, FORMS)}")
    if chunk < 1:
        raise ConfigError(f"chunk must be at least 1; got {chunk}")
    query, key, value = as_array("query", query), as_array("key", key), as_array("value", value)
    if query.ndim != 4:
        raise ShapeError(f"query must be [batch, length, heads, head_dim]; got {query.shape}")
    batch, length, num_heads, head_dim = query.shape
    if key.shape != query.shape or value.shape[:3] != query.shape[:3]:
        raise ShapeError(
            "query and key must have one shape and value the same but for its width; "
            f"got {query.shape}, {key.shape} and {value.shape}"
        )
    dtype, value_dim = value.dtype, value.shape[-1]
    sums_dtype = wide(query, key, value, *jax.tree.leaves(state))
    if state is None:
        state = LinearAttentionState.zeros(batch, num_heads, head_dim, value_dim, sums_dtype)
    state = jax.tree.map(lambda leaf: as_array("state", leaf).astype(sums_dtype), state)
    if valid is not None:  # before the feature map, whose zero is not zero
        keep = as_array("valid", valid)[:, :, None, None]
        query, key, value = (jnp.where(keep, array, 0) for array in (query, key, value))
    query, key, value = (array.astype(sums_dtype) for array in (query, key, value))
    queries, keys = elu_features(query), elu_features(key)
    if valid is not None:
        keys = jnp.where(keep, keys, 0.0)
    arrays = (queries, keys, value)
    if segments is not None:
        segments = as_array("segments", segments)
        if segments.shape != (batch, length):
            raise ShapeError(f"segments must be [batch, length] = {[batch, length]}; got {segments.shape}")
    if form == "recurrent":
        sums, totals, state = _recurrent(*arrays, state, segments)
    else:
        size = max(1, length if form == "parallel" else chunk)
        sums, totals, state = _chunked(*arrays, state, size, segments)
    output = _weighted_mean(sums, totals)
    if valid is not None:
        output = jnp.where(keep, output, 0.0)
    return output.astype(dtype), state


def linear_attention_step(
    state: LinearAttentionState,
    query: Float[Array, "batch heads head_dim"],
    key: Float[Array, "batch heads head_dim"],
    value: Float[Array, "batch heads value_dim"],
) -> tuple[LinearAttentionState, Float[Array, "batch heads value_dim"]]:
    """One step in time, at a cost that does not grow.

    Args:
      state: What came before.
      query: The step's query.
      key: The step's key.
      value: The step's value.

    Returns:
      The new state, and the output in the dtype of the value.

    Example:
      >>> state = LinearAttentionState.zeros(1, 1, 2, 1)
      >>> ones = jnp.ones((1, 1, 2))
      >>> linear_attention_step(state, ones, ones, jnp.full((1, 1, 1), 5.0))[1].tolist()
      [[[5.0]]]

    Source: Katharopoulos et al. 2020, https://arxiv.org/abs/2006.16236, equations 16 to 20.
    """
    query, key, value = as_array("query", query), as_array("key", key), as_array("value", value)
    features = elu_features(key)
    values = state.values + features[..., None] * value.astype(wide(value))[..., None, :]
    state = LinearAttentionState(values, state.features + features)
    queries = elu_features(query)
    sums = jnp.einsum("bhd,bhdv->bhv", queries, state.values)
    totals = jnp.einsum("bhd,bhd->bh", queries, state.features)
    return state, _weighted_mean(sums, totals).astype(value.dtype)


def _weighted_mean(sums: Array, totals: Array) -> Array:
    """Sums over their total weights; zero where there is no weight."""
    return sums / jnp.where(totals == 0, 1.0, totals)[..., None]


def _recurrent(
    query: Array, key: Array, value: Array, state: LinearAttentionState, segments: Array | None
) -> tuple[Array, Array, LinearAttentionState]:
    """Weighted sums and their totals, one step after the other."""

    def step(
        state: LinearAttentionState, at_time: tuple[Array, ...]
    ) -> tuple[LinearAttentionState, tuple[Array, Array]]:
        query, key, value, *goes_on = at_time
        if goes_on:
            state = _kept(state, goes_on[0])
        state = LinearAttentionState(
            state.values + key[..., None] * value[..., None, :], state.features + key
        )
        sums = jnp.einsum("bhd,bhdv->bhv", query, state.values)
        return state, (sums, jnp.einsum("bhd,bhd->bh", query, state.features))

    arrays = [query, key, value]
    if segments is not None:
        arrays.append(segments == jnp.concatenate([segments[:, :1], segments[:, :-1]], axis=1))
    time_major = tuple(jnp.moveaxis(array, 1, 0) for array in arrays)
    state, (sums, totals) = lax.scan(step, state, time_major)
    return jnp.moveaxis(sums, 0, 1), jnp.moveaxis(totals, 0, 1), state


def _chunked(
    query: Array,
    key: Array,
    value: Array,
    state: LinearAttentionState,
    chunk: int,
    segments: Array | None,
) -> tuple[Array, Array, LinearAttentionState]:
    """The same by chunks: pairs inside, the state in between; zeros fill the last chunk and leave no trace."""
    batch, length = query.shape[:2]
    num_chunks = -(-length // chunk)
    fill = num_chunks * chunk - length

    def chunks(
        array: Array,
    ) -> Array:  # [batch, length, heads, width] -> [chunks, batch, heads, chunk, width]
        padded = jnp.pad(array, ((0, 0), (0, fill), (0, 0), (0, 0)))
        split = padded.reshape(batch, num_chunks, chunk, *array.shape[2:])
        return jnp.transpose(split, (1, 0, 3, 2, 4))

    seen = jnp.tril(jnp.ones((chunk, chunk), bool))[None, None]

    def step(
        state: LinearAttentionState, at_chunk: tuple[Array, ...]
    ) -> tuple[LinearAttentionState, tuple[Array, Array]]:
        query, key, value, *numbers = at_chunk
        sees, from_state = seen, query
        if numbers:  # sequences of the chunk, and the one that the state belongs to
            own, before = numbers
            sees = seen & (own[:, None, :, None] == own[:, None, None, :])
            from_state = jnp.where((own == before)[:, None, :, None], query, 0.0)
        weights = jnp.where(sees, jnp.einsum("bhqd,bhkd->bhqk", query, key), 0.0)
        sums = weights @ value + from_state @ state.values
        totals = weights.sum(axis=-1) + jnp.einsum("bhqd,bhd->bhq", from_state, state.features)
        if numbers:
            last = own[:, -1:]
            key = jnp.where((own == last)[:, None, :, None], key, 0.0)
            state = _kept(state, (last == before)[:, 0])
        state = LinearAttentionState(
            state.values + jnp.einsum("bhkd,bhkv->bhdv", key, value), state.features + key.sum(axis=2)
        )
        return state, (sums, totals)

    arrays = tuple(map(chunks, (query, key, value)))
    if segments is not None and length > 0:
        padded = jnp.pad(segments, ((0, 0), (0, fill)), mode="edge")
        own = jnp.moveaxis(padded.reshape(batch, num_chunks, chunk), 1, 0)
        arrays += (own, jnp.concatenate([own[:1, :, :1], own[:-1, :, -1:]], axis=0))
    state, (sums, totals) = lax.scan(step, state, arrays)
    heads, value_dim = value.shape[2:]
    sums = jnp.transpose(sums, (1, 0, 3, 2, 4)).reshape(batch, num_chunks * chunk, heads, value_dim)
    totals = jnp.transpose(totals, (1, 0, 3, 2)).reshape(batch, num_chunks * chunk, heads)
    return sums[:, :length], totals[:, :length], state


def _kept(state: LinearAttentionState, goes_on: Array) -> LinearAttentionState:
    """The state of rows whose sequence goes on; nothing for the others."""
    return LinearAttentionState(
        jnp.where(goes_on[:, None, None, None], state.values, 0.0),
        jnp.where(goes_on[:, None, None], state.features, 0.0),
    )
