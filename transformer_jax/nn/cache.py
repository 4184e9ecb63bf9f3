"""What attention remembers while decoding: projected memories, growing key/value caches, states of one size.

Keys and values are stored ``[batch, kv_heads, length, head_dim]``: one token's product with a cache in this
layout needs no transposition of the cache (measured on the CPU inside ``lax.while_loop``: 4 to 10 times as fast
a step).
The views ``keys`` and ``values`` have the library's ``[batch, length, kv_heads, head_dim]``; XLA cancels
their transposition against that of the product.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from transformer_jax.errors import ShapeError
from transformer_jax.functional import AttentionMask, LinearAttentionState, PreparedKey
from transformer_jax.pytree import pytree_dataclass
from transformer_jax.typing import Array, Float, Int

__all__ = ["AttentionMemory", "KeyValueCache", "LinearAttentionCache", "SelfAttentionCache"]

_Stored = Float[Array, "batch kv_heads kv_len head_dim"]
_View = Float[Array, "batch kv_len kv_heads head_dim"]


@pytree_dataclass
class AttentionMemory:
    """Prepared keys and values of a finished sequence, projected once (cross-attention).

    Attributes:
      stored_keys: ``[batch, kv_heads, kv_len, head_dim]``.
      stored_values: ``[batch, kv_heads, kv_len, head_dim]``.

    Example:
      >>> AttentionMemory.of(jnp.ones((2, 5, 1, 4)), jnp.ones((2, 5, 1, 4))).values.shape
      (2, 5, 1, 4)
    """

    stored_keys: _Stored
    stored_values: _Stored

    @classmethod
    def of(cls, keys: _View, values: _View) -> "AttentionMemory":
        """Store ``[batch, kv_len, kv_heads, head_dim]`` arrays; the keys must be prepared."""
        return cls(jnp.swapaxes(keys, 1, 2), jnp.swapaxes(values, 1, 2))

    @property
    def keys(self) -> PreparedKey:
        """The prepared keys, ``[batch, kv_len, kv_heads, head_dim]``."""
        return PreparedKey(jnp.swapaxes(self.stored_keys, 1, 2))

    @property
    def values(self) -> _View:
        """The values, ``[batch, kv_len, kv_heads, head_dim]``."""
        return jnp.swapaxes(self.stored_values, 1, 2)


@pytree_dataclass
class KeyValueCache:
    """Prepared keys and values of the tokens so far; each row has a length of its own.

    Slot ``i`` of a row holds its token ``i``, so slot numbers are positions. A row's slots from ``length`` on
    are free; :meth:`mask` hides them.

    Attributes:
      stored_keys: ``[batch, kv_heads, capacity, head_dim]``.
      stored_values: ``[batch, kv_heads, capacity, head_dim]``.
      length: Tokens held, ``[batch]``, int32.

    Example:
      >>> cache = KeyValueCache.empty(2, 8, 1, 4)
      >>> cache = cache.append(jnp.ones((2, 3, 1, 4)), jnp.ones((2, 3, 1, 4)))
      >>> cache.length.tolist()
      [3, 3]
    """

    stored_keys: _Stored
    stored_values: _Stored
    length: Int[Array, " batch"]

    @classmethod
    def empty(
        cls, batch: int, capacity: int, num_kv_heads: int, head_dim: int, dtype: DTypeLike = jnp.float32
    ) -> "KeyValueCache":
        """A cache with room for ``capacity`` tokens a row."""
        zeros = jnp.zeros((batch, num_kv_heads, capacity, head_dim), dtype)
        return cls(zeros, zeros, jnp.zeros(batch, jnp.int32))

    @property
    def capacity(self) -> int:
        """How many tokens a row can hold."""
        return self.stored_keys.shape[2]

    @property
    def keys(self) -> PreparedKey:
        """The prepared keys, ``[batch, capacity, kv_heads, head_dim]``."""
        return PreparedKey(jnp.swapaxes(self.stored_keys, 1, 2))

    @property
    def values(self) -> _View:
        """The values, ``[batch, capacity, kv_heads, head_dim]``."""
        return jnp.swapaxes(self.stored_values, 1, 2)

    def append(
        self,
        keys: _View,
        values: _View,
        *,
        num_valid: Int[Array, " batch"] | None = None,
    ) -> "KeyValueCache":
        """Write tokens behind those held, each row at its own place.

        Keeping ``length + n <= capacity`` is the caller's duty: lengths are not known while tracing, and a
        write past the end would move back onto tokens held.

        Args:
          keys: Prepared keys of n new tokens a row, ``[batch, n, kv_heads, head_dim]``.
          values: Their values.
          num_valid: How many of the n count for each row (ragged prefill); ``None`` = all. The others are
            written but lie beyond the row's length, where the next write goes.

        Returns:
          The longer cache.

        Raises:
          ShapeError: If there are more new tokens than the cache has slots.
        """
        num_new = keys.shape[1]
        if num_new > self.capacity:
            raise ShapeError(f"cache has {self.capacity} slots a row, got {num_new} new tokens at once")
        # One dynamic_update_slice a row: in place inside a loop, where a select would rewrite the buffer.
        write = jax.vmap(lambda buffer, new, start: lax.dynamic_update_slice(buffer, new, (0, start, 0)))
        stored_keys = write(self.stored_keys, jnp.swapaxes(keys, 1, 2), self.length)
        stored_values = write(self.stored_values, jnp.swapaxes(values, 1, 2), self.length)
        added = jnp.full_like(self.length, num_new) if num_valid is None else num_valid
        return KeyValueCache(stored_keys, stored_values, self.length + added)

    def next_positions(self, num_new: int) -> Int[Array, "batch q_len"]:
        """Positions of the next ``num_new`` tokens of each row."""
        return self.length[:, None] + jnp.arange(num_new, dtype=jnp.int32)[None, :]

    def mask(self, query_positions: Int[Array, "batch q_len"]) -> AttentionMask:
        """What queries at these positions may see: the tokens held up to their own position."""
        slots = jnp.arange(self.capacity, dtype=jnp.int32)[None, :]
        return AttentionMask.causal() & AttentionMask.positions(query_positions, slots)


@pytree_dataclass
class LinearAttentionCache:
    """What linear attention keeps of the tokens so far, and how many they were, for the next ones' positions.

    Attributes:
      state: The sums over the tokens so far; their size does not grow.
      length: Tokens seen, ``[batch]``, int32.

    Example:
      >>> cache = LinearAttentionCache.of(LinearAttentionState.zeros(2, 1, 4, 4))
      >>> cache.advance(cache.state, 3).next_positions(2).tolist()
      [[3, 4], [3, 4]]
    """

    state: LinearAttentionState
    length: Int[Array, " batch"]

    @classmethod
    def of(cls, empty_state: LinearAttentionState) -> "LinearAttentionCache":
        """Before the first token."""
        return cls(empty_state, jnp.zeros(empty_state.features.shape[0], jnp.int32))

    def advance(
        self, state: LinearAttentionState, num_new: int, *, num_valid: Int[Array, " batch"] | None = None
    ) -> "LinearAttentionCache":
        """After ``num_new`` more tokens a row, or the ``num_valid`` of them that count, left this state behind."""
        return LinearAttentionCache(state, self.length + (num_new if num_valid is None else num_valid))

    def next_positions(self, num_new: int) -> Int[Array, "batch q_len"]:
        """Positions of the next ``num_new`` tokens of each row."""
        return self.length[:, None] + jnp.arange(num_new, dtype=jnp.int32)[None, :]


SelfAttentionCache = KeyValueCache | LinearAttentionCache
