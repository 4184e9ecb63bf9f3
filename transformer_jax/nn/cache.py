"""Decoding state of attention: projected memories, growing key/value caches, states of constant size.

Keys are stored ``[batch, kv_heads, head_dim, length]`` and values ``[batch, kv_heads, length, head_dim]``: one token's
products with a cache in this layout need no transposition of the cache (measured on the CPU inside
``lax.while_loop``: a decoder's step takes a third of the time).
The views ``keys`` and ``values`` have the library's ``[batch, length, kv_heads, head_dim]``.
"""

import jax
import jax.numpy as jnp
from einops import rearrange
from jax.typing import DTypeLike

from transformer_jax.errors import ShapeError
from transformer_jax.functional import AttentionMask, LinearAttentionState, PreparedKey
from transformer_jax.pytree import pytree_dataclass
from transformer_jax.typing import Array, Bool, Float, Int

__all__ = ["AttentionMemory", "BeamCache", "KeyValueCache", "LinearAttentionCache"]

_StoredKeys = Float[Array, "batch kv_heads head_dim kv_len"]
_StoredValues = Float[Array, "batch kv_heads kv_len head_dim"]
_View = Float[Array, "batch kv_len kv_heads head_dim"]
TO_STORED_KEYS = "batch len heads dim -> batch heads dim len"
TO_STORED_VALUES = "batch len heads dim -> batch heads len dim"


@pytree_dataclass
class AttentionMemory:
    """Prepared keys and values of a finished sequence, projected once (cross-attention).

    A beam search does not repeat it: the hypotheses of one source are rows of queries over one memory.

    Attributes:
      stored_keys: ``[batch, kv_heads, head_dim, kv_len]``.
      stored_values: ``[batch, kv_heads, kv_len, head_dim]``.

    Example:
      >>> AttentionMemory.of(jnp.ones((2, 5, 1, 4)), jnp.ones((2, 5, 1, 4))).values.shape
      (2, 5, 1, 4)
    """

    stored_keys: _StoredKeys
    stored_values: _StoredValues

    @classmethod
    def of(cls, keys: _View, values: _View) -> "AttentionMemory":
        """Store ``[batch, kv_len, kv_heads, head_dim]`` arrays; the keys must be prepared."""
        return cls(rearrange(keys, TO_STORED_KEYS), rearrange(values, TO_STORED_VALUES))

    def repeated(self, num_copies: int) -> "AttentionMemory":
        """The memory itself, for any number of hypotheses."""
        del num_copies
        return self

    @property
    def keys(self) -> PreparedKey:
        """The prepared keys, ``[batch, kv_len, kv_heads, head_dim]``."""
        return PreparedKey(rearrange(self.stored_keys, "batch heads dim len -> batch len heads dim"))

    @property
    def values(self) -> _View:
        """The values, ``[batch, kv_len, kv_heads, head_dim]``."""
        return rearrange(self.stored_values, "batch heads len dim -> batch len heads dim")


@pytree_dataclass
class KeyValueCache:
    """Prepared keys and values of the tokens so far; each row has a length of its own.

    Slot ``i`` of a row holds its token ``i``, so slot numbers are positions. A row's slots from ``length`` on
    are free; :meth:`mask` hides them.

    Attributes:
      stored_keys: ``[batch, kv_heads, head_dim, capacity]``.
      stored_values: ``[batch, kv_heads, capacity, head_dim]``.
      length: Tokens held, ``[batch]``, int32.

    Example:
      >>> cache = KeyValueCache.empty(2, 8, 1, 4)
      >>> cache = cache.append(jnp.ones((2, 3, 1, 4)), jnp.ones((2, 3, 1, 4)))
      >>> cache.length.tolist()
      [3, 3]
    """

    stored_keys: _StoredKeys
    stored_values: _StoredValues
    length: Int[Array, " batch"]

    @classmethod
    def empty(
        cls, batch: int, capacity: int, num_kv_heads: int, head_dim: int, dtype: DTypeLike = jnp.float32
    ) -> "KeyValueCache":
        """A cache with room for ``capacity`` tokens a row."""
        keys = jnp.zeros((batch, num_kv_heads, head_dim, capacity), dtype)
        values = jnp.zeros((batch, num_kv_heads, capacity, head_dim), dtype)
        return cls(keys, values, jnp.zeros(batch, jnp.int32))

    @property
    def capacity(self) -> int:
        """How many tokens a row can hold."""
        return self.stored_values.shape[2]

    @property
    def keys(self) -> PreparedKey:
        """The prepared keys, ``[batch, capacity, kv_heads, head_dim]``."""
        return PreparedKey(rearrange(self.stored_keys, "batch heads dim len -> batch len heads dim"))

    @property
    def values(self) -> _View:
        """The values, ``[batch, capacity, kv_heads, head_dim]``."""
        return rearrange(self.stored_values, "batch heads len dim -> batch len heads dim")

    def append(
        self,
        keys: _View,
        values: _View,
        *,
        num_valid: Int[Array, " batch"] | None = None,
    ) -> "KeyValueCache":
        """Write tokens behind those held, each row at its own place.

        A token past the last slot is not written, and the tokens held stay as they are; the length counts it all
        the same. Attention over it gives NaN (:func:`nan_past_the_end`).

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
        stored_keys = written(self.stored_keys, rearrange(keys, TO_STORED_KEYS), self.length, 2)
        stored_values = written(self.stored_values, rearrange(values, TO_STORED_VALUES), self.length, 1)
        added = jnp.full_like(self.length, num_new) if num_valid is None else num_valid
        return KeyValueCache(stored_keys, stored_values, self.length + added)

    def next_positions(self, num_new: int) -> Int[Array, "batch q_len"]:
        """Positions of the next ``num_new`` tokens of each row."""
        return self.length[:, None] + jnp.arange(num_new, dtype=jnp.int32)[None, :]

    def attended_positions(
        self, num_new: int, *, num_valid: Int[Array, " batch"] | None = None
    ) -> Int[Array, "1 capacity"]:
        """Positions of the keys that the next tokens look at: those of all slots."""
        del num_new, num_valid
        return jnp.arange(self.capacity, dtype=jnp.int32)[None, :]

    def mask(self, query_positions: Int[Array, "batch q_len"]) -> AttentionMask:
        """Mask for queries at these positions: the cached tokens up to their own position."""
        slots = jnp.arange(self.capacity, dtype=jnp.int32)[None, :]
        return AttentionMask.causal() & AttentionMask.positions(query_positions, slots)

    def repeated(self, num_copies: int) -> "BeamCache":
        """A cache for the hypotheses of a beam search, each beginning with the tokens held."""
        batch, kv_heads, head_dim, capacity = self.stored_keys.shape

        def copies(stored: Array, axis: int, shape: tuple[int, ...]) -> Array:
            return jnp.broadcast_to(jnp.expand_dims(stored, axis), shape)

        beams = jnp.arange(num_copies, dtype=jnp.int32)[None, :, None]
        return BeamCache(
            copies(self.stored_keys, 3, (batch, kv_heads, head_dim, num_copies, capacity)),
            copies(self.stored_values, 2, (batch, kv_heads, num_copies, capacity, head_dim)),
            jnp.broadcast_to(beams, (batch, num_copies, capacity)),
            self.length,
        )


@pytree_dataclass
class BeamCache:
    """Keys and values of all hypotheses of a beam search, which stay where they were written.

    A step writes hypothesis ``k``'s token into beam ``k``. When the search continues with other hypotheses, only
    the table of ancestors is reordered: it says in which beam each hypothesis's token at each place lies. The
    queries of a source's hypotheses attend to all of its beams' slots at once, each to its own ancestors'; this
    reads no more memory than attention over copies does, and nothing is copied.

    Attributes:
      stored_keys: ``[batch, kv_heads, head_dim, beams, capacity]``.
      stored_values: ``[batch, kv_heads, beams, capacity, head_dim]``.
      ancestors: ``[batch, beams, capacity]``, int32.
      length: Tokens held by each hypothesis of a source, ``[batch]``, int32.

    Example:
      >>> cache = KeyValueCache.empty(2, 8, 1, 4).repeated(3).append(jnp.ones((6, 1, 1, 4)), jnp.ones((6, 1, 1, 4)))
      >>> cache.reordered(jnp.array([2, 0, 1, 3, 4, 5])).ancestors[0, :, 0].tolist()
      [2, 0, 1]
    """

    stored_keys: Float[Array, "batch kv_heads head_dim beams capacity"]
    stored_values: Float[Array, "batch kv_heads beams capacity head_dim"]
    ancestors: Int[Array, "batch beams capacity"]
    length: Int[Array, " batch"]

    @property
    def capacity(self) -> int:
        """How many tokens a hypothesis can hold."""
        return self.stored_values.shape[3]

    @property
    def num_beams(self) -> int:
        """Hypotheses of each source."""
        return self.stored_values.shape[2]

    def append(
        self,
        keys: Float[Array, "rows 1 kv_heads head_dim"],
        values: Float[Array, "rows 1 kv_heads head_dim"],
    ) -> "BeamCache":
        """Write one token of each hypothesis, rows of one source side by side, behind those held."""
        beams = self.num_beams
        new_keys = rearrange(
            keys, "(batch beams) len heads dim -> batch heads dim beams len", beams=beams, len=1
        )
        new_values = rearrange(
            values, "(batch beams) len heads dim -> batch heads beams len dim", beams=beams, len=1
        )
        here = jnp.arange(self.capacity, dtype=jnp.int32)[None, None, :] == self.length[:, None, None]
        own = jnp.arange(beams, dtype=jnp.int32)[None, :, None]
        return BeamCache(
            written(self.stored_keys, new_keys, self.length, 3),
            written(self.stored_values, new_values, self.length, 2),
            jnp.where(here, own, self.ancestors),
            self.length + 1,
        )

    def next_positions(self, num_new: int) -> Int[Array, "rows q_len"]:
        """Positions of the next ``num_new`` tokens of each hypothesis."""
        positions = self.length[:, None] + jnp.arange(num_new, dtype=jnp.int32)[None, :]
        return jnp.repeat(positions, self.num_beams, axis=0)

    def attended_positions(self) -> Int[Array, "1 capacity"]:
        """Positions of the tokens in the slots of each beam."""
        return jnp.arange(self.capacity, dtype=jnp.int32)[None, :]

    def flat(self) -> tuple[Array, Array]:
        """Keys ``[batch, kv_heads, head_dim, beams * capacity]`` and values with the last two axes the other way."""
        keys = rearrange(self.stored_keys, "batch heads dim beams slots -> batch heads dim (beams slots)")
        return keys, rearrange(
            self.stored_values, "batch heads beams slots dim -> batch heads (beams slots) dim"
        )

    def visible(self, window_len: int | None = None, num_sinks: int = 0) -> Bool[Array, "batch beams slots"]:
        """Which slots of :meth:`flat` each hypothesis's last token sees: its ancestors, or the last and first."""
        places = jnp.arange(self.capacity, dtype=jnp.int32)[None, None, :]
        held = places < self.length[:, None, None]
        if window_len is not None:
            is_near = places >= self.length[:, None, None] - window_len
            held &= is_near if num_sinks == 0 else is_near | (places < num_sinks)
        beams = jnp.arange(self.num_beams, dtype=jnp.int32)[None, None, :, None]
        own = (self.ancestors[:, :, None, :] == beams) & held[:, :, None, :]  # [batch, beams, in beam, place]
        return rearrange(own, "batch beams in_beam slots -> batch beams (in_beam slots)")

    def reordered(self, rows: Int[Array, " rows"]) -> "BeamCache":
        """Hypothesis ``rows[r]`` in the place of ``r``; rows count through all sources."""
        flat = self.ancestors.reshape(rows.shape[0], self.capacity)
        ancestors = jnp.take(flat, rows, axis=0).reshape(self.ancestors.shape)
        return BeamCache(self.stored_keys, self.stored_values, ancestors, self.length)


def written(buffer: Array, new: Array, length: Array, axis: int) -> Array:
    """``new`` in ``buffer`` from each row's length on, along ``axis`` of a row; what lies past the end is left out.

    A scatter: in place inside a loop, where a select would rewrite the buffer, and where the CPU's single write for
    all rows copies it.
    """

    def write(into: Array, part: Array, start: Array) -> Array:
        places = start + jnp.arange(part.shape[axis], dtype=start.dtype)
        index = (slice(None),) * axis + (places,)
        return into.at[index].set(
            part.astype(into.dtype), mode="drop", indices_are_sorted=True, unique_indices=True
        )

    return jax.vmap(write)(buffer, new, length)


def nan_past_the_end(
    output: Float[Array, "batch q_len model"], positions: Int[Array, "batch q_len"], capacity: int
) -> Float[Array, "batch q_len model"]:
    """Attention's output, NaN for tokens whose position is not below a cache's ``capacity``.

    Positions are not known while tracing, so that a step too many cannot be an error; its numbers would be wrong.

    Example:
      >>> nan_past_the_end(jnp.ones((1, 3, 1)), jnp.arange(1, 4)[None], 3)[0, :, 0].tolist()
      [1.0, 1.0, nan]
    """
    return jnp.where((positions < capacity)[:, :, None], output, jnp.asarray(jnp.nan, output.dtype))


@pytree_dataclass
class LinearAttentionCache:
    """Linear attention's summary of the tokens so far, and their number, for the positions of the next ones.

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
