"""Key/value caches of one size for attention within a window: what no later token sees makes room.

The first slots hold the sinks, the first tokens of the text; the others are a ring of as many slots as the window is
long. Which token lies in which slot follows from the length of the text alone. Positions stay those of the text, so
that decoding computes what training did; Xiao et al. count positions inside of the cache instead.

Source: Xiao et al. 2024, https://arxiv.org/abs/2309.17453, section 3.2.
"""

import dataclasses

import jax.numpy as jnp
from einops import rearrange
from jax.typing import DTypeLike

from transformer_jax.functional import PreparedKey
from transformer_jax.nn.cache import (
    TO_STORED_KEYS,
    TO_STORED_VALUES,
    BeamCache,
    KeyValueCache,
    LinearAttentionCache,
    written,
)
from transformer_jax.pytree import pytree_dataclass, replace, static_field
from transformer_jax.typing import Array, Bool, Float, Int

__all__ = ["RollingBeamCache", "RollingCache", "SelfAttentionCache", "SlotRing"]

_NOWHERE = 2**30  # position of a slot without a token: after every query, so that the causal mask hides it


@dataclasses.dataclass(frozen=True)
class SlotRing:
    """Which tokens of a text lie in which slots.

    Args:
      window_len: Slots of the ring.
      num_sinks: Slots before it, which keep the first tokens.

    Example:
      >>> ring = SlotRing(window_len=3, num_sinks=1)
      >>> ring.positions(jnp.array([6])).tolist(), ring.slot_of(jnp.array([6])).tolist()
      ([[0, 4, 5, 3]], [3])
    """

    window_len: int
    num_sinks: int

    @property
    def num_slots(self) -> int:
        """Slots of the ring and of the sinks."""
        return self.window_len + self.num_sinks

    def positions(self, length: Int[Array, " batch"]) -> Int[Array, "batch slots"]:
        """Position of the token in each slot after ``length`` tokens; a huge one where there is none."""
        slots = jnp.arange(self.num_slots, dtype=jnp.int32)[None, :]
        length = length[:, None]
        last = length - 1 - self.num_sinks  # counted from the first token that is no sink
        number = last - (last - (slots - self.num_sinks)) % self.window_len
        positions = jnp.where(slots < self.num_sinks, slots, number + self.num_sinks)
        is_held = (positions >= slots) & (positions < length)
        return jnp.where(is_held, positions, _NOWHERE)

    def slot_of(self, position: Int[Array, "..."]) -> Int[Array, "..."]:
        """Slot in which the token of a position is written."""
        in_ring = self.num_sinks + (position - self.num_sinks) % self.window_len
        return jnp.where(position < self.num_sinks, position, in_ring)


@pytree_dataclass
class RollingCache:
    """Prepared keys and values of the last tokens and of the sinks; each row has a length of its own.

    Attributes:
      ring: Which tokens lie where.
      capacity: How many tokens a text may have, where its positions have an end; ``None`` = any number.
      stored_keys: ``[batch, kv_heads, head_dim, slots]``.
      stored_values: ``[batch, kv_heads, slots, head_dim]``.
      length: Tokens of the text so far, ``[batch]``, int32.

    Example:
      >>> cache = RollingCache.empty(2, SlotRing(window_len=2, num_sinks=1), 1, 4)
      >>> tokens = jnp.ones((2, 5, 1, 4))
      >>> cache = cache.append(tokens, tokens)
      >>> cache.length.tolist(), cache.values.shape
      ([5, 5], (2, 3, 1, 4))
    """

    ring: SlotRing = static_field()
    capacity: int | None = static_field()
    stored_keys: Float[Array, "batch kv_heads head_dim slots"]
    stored_values: Float[Array, "batch kv_heads slots head_dim"]
    length: Int[Array, " batch"]

    @classmethod
    def empty(
        cls,
        batch: int,
        ring: SlotRing,
        num_kv_heads: int,
        head_dim: int,
        dtype: DTypeLike = jnp.float32,
        *,
        capacity: int | None = None,
    ) -> "RollingCache":
        """A cache before the first token."""
        whole = KeyValueCache.empty(batch, ring.num_slots, num_kv_heads, head_dim, dtype)
        return cls(ring, capacity, whole.stored_keys, whole.stored_values, whole.length)

    @property
    def keys(self) -> PreparedKey:
        """The prepared keys in the order of the slots, ``[batch, slots, kv_heads, head_dim]``."""
        return PreparedKey(rearrange(self.stored_keys, "batch heads dim len -> batch len heads dim"))

    @property
    def values(self) -> Float[Array, "batch slots kv_heads head_dim"]:
        """The values in the order of the slots, ``[batch, slots, kv_heads, head_dim]``."""
        return rearrange(self.stored_values, "batch heads len dim -> batch len heads dim")

    def append(
        self,
        keys: Float[Array, "batch new kv_heads head_dim"],
        values: Float[Array, "batch new kv_heads head_dim"],
        *,
        num_valid: Int[Array, " batch"] | None = None,
    ) -> "RollingCache":
        """Write tokens behind those held, over those that have left the window.

        Args:
          keys: Prepared keys of n new tokens a row, ``[batch, n, kv_heads, head_dim]``; n may be above the slots.
          values: Their values.
          num_valid: How many of the n count for each row; ``None`` = all. The others are not written.

        Returns:
          The cache after them, as large as before.
        """
        num_new = keys.shape[1]
        if num_new == 0:
            return self
        new_keys, new_values = rearrange(keys, TO_STORED_KEYS), rearrange(values, TO_STORED_VALUES)
        if num_new == 1 and num_valid is None:
            slot = self.ring.slot_of(self.length)
            return replace(
                self,
                stored_keys=written(self.stored_keys, new_keys, slot, 2),
                stored_values=written(self.stored_values, new_values, slot, 1),
                length=self.length + 1,
            )
        after = self.length + (num_new if num_valid is None else num_valid)
        positions = self.ring.positions(after)
        index = positions - self.length[:, None]
        is_new = (index >= 0) & (positions != _NOWHERE)
        index = jnp.clip(index, 0, num_new - 1)

        def renewed(stored: Array, new: Array, axis: int) -> Array:
            shape = [stored.shape[at] if at in (0, axis) else 1 for at in range(4)]
            taken = jnp.take_along_axis(new, index.reshape(shape), axis=axis).astype(stored.dtype)
            return jnp.where(is_new.reshape(shape), taken, stored)

        return replace(
            self,
            stored_keys=renewed(self.stored_keys, new_keys, 3),
            stored_values=renewed(self.stored_values, new_values, 2),
            length=after,
        )

    def next_positions(self, num_new: int) -> Int[Array, "batch q_len"]:
        """Positions of the next ``num_new`` tokens of each row."""
        return self.length[:, None] + jnp.arange(num_new, dtype=jnp.int32)[None, :]

    def attended_positions(
        self, num_new: int, *, num_valid: Int[Array, " batch"] | None = None
    ) -> Int[Array, "batch kv_len"]:
        """Positions of the keys that the next tokens look at, ``[batch, kv_len]``.

        One token looks at the slots after it is written; several look at the slots as they are before and at
        themselves, since the last of them may overwrite what the first still sees.
        """
        if num_new == 1 and num_valid is None:
            return self.ring.positions(self.length + 1)
        return jnp.concatenate([self.ring.positions(self.length), self.next_positions(num_new)], axis=1)

    def repeated(self, num_copies: int) -> "RollingBeamCache":
        """A cache for the hypotheses of a beam search, each beginning with the tokens held."""
        whole = KeyValueCache(self.stored_keys, self.stored_values, self.length).repeated(num_copies)
        return RollingBeamCache(
            self.ring, self.capacity, whole.stored_keys, whole.stored_values, whole.ancestors, self.length
        )


@pytree_dataclass
class RollingBeamCache:
    """As :class:`~transformer_jax.nn.cache.BeamCache`, for the last tokens and the sinks.

    All hypotheses of a source are equally long, so that a token leaves the window in all of them at once, and what
    beams have in a slot is of one position.

    Attributes:
      ring: Which tokens lie where.
      capacity: As in :class:`RollingCache`.
      stored_keys: ``[batch, kv_heads, head_dim, beams, slots]``.
      stored_values: ``[batch, kv_heads, beams, slots, head_dim]``.
      ancestors: In which beam each hypothesis's token of a slot lies, ``[batch, beams, slots]``, int32.
      length: Tokens of each hypothesis of a source, ``[batch]``, int32.

    Example:
      >>> cache = RollingCache.empty(1, SlotRing(window_len=2, num_sinks=0), 1, 4).repeated(3)
      >>> for _ in range(4):
      ...   cache = cache.append(jnp.ones((3, 1, 1, 4)), jnp.ones((3, 1, 1, 4)))
      >>> cache.length.tolist(), cache.visible()[0].astype(int).tolist()[0]
      ([4], [1, 1, 0, 0, 0, 0])
    """

    ring: SlotRing = static_field()
    capacity: int | None = static_field()
    stored_keys: Float[Array, "batch kv_heads head_dim beams slots"]
    stored_values: Float[Array, "batch kv_heads beams slots head_dim"]
    ancestors: Int[Array, "batch beams slots"]
    length: Int[Array, " batch"]

    @property
    def num_beams(self) -> int:
        """Hypotheses of each source."""
        return self.stored_values.shape[2]

    def append(
        self,
        keys: Float[Array, "rows 1 kv_heads head_dim"],
        values: Float[Array, "rows 1 kv_heads head_dim"],
    ) -> "RollingBeamCache":
        """Write one token of each hypothesis, rows of one source side by side, over the one that leaves the window."""
        written = self._as_beams(self.ring.slot_of(self.length)).append(keys, values)
        return replace(
            self,
            stored_keys=written.stored_keys,
            stored_values=written.stored_values,
            ancestors=written.ancestors,
            length=self.length + 1,
        )

    def next_positions(self, num_new: int) -> Int[Array, "rows q_len"]:
        """Positions of the next ``num_new`` tokens of each hypothesis."""
        return self._as_beams(self.length).next_positions(num_new)

    def attended_positions(self) -> Int[Array, "batch slots"]:
        """Positions of the tokens in the slots after the next one of each hypothesis is written."""
        return self.ring.positions(self.length + 1)

    def flat(self) -> tuple[Array, Array]:
        """Keys ``[batch, kv_heads, head_dim, beams * slots]`` and values with the last two axes the other way."""
        return self._as_beams(self.length).flat()

    def visible(self, window_len: int | None = None, num_sinks: int = 0) -> Bool[Array, "batch beams slots"]:
        """Which of the slots of :meth:`flat` each hypothesis's last token sees: those of its ancestors."""
        del window_len, num_sinks  # the ring holds no more
        is_held = self.ring.positions(self.length) != _NOWHERE
        own = self._as_beams(jnp.full_like(self.length, self.ring.num_slots)).visible()
        own = own.reshape(*own.shape[:2], self.num_beams, self.ring.num_slots) & is_held[:, None, None, :]
        return own.reshape(*own.shape[:2], -1)

    def reordered(self, rows: Int[Array, " rows"]) -> "RollingBeamCache":
        """Hypothesis ``rows[r]`` in the place of ``r``; rows count through all sources."""
        return replace(self, ancestors=self._as_beams(self.length).reordered(rows).ancestors)

    def _as_beams(self, length: Array) -> BeamCache:
        return BeamCache(self.stored_keys, self.stored_values, self.ancestors, length)


SelfAttentionCache = KeyValueCache | BeamCache | RollingCache | RollingBeamCache | LinearAttentionCache
