"""Who may attend to whom, as one structured value.

True = may attend, always. Parts combine by ``&`` and are turned into an array late and by slice, so that a
backend can take what it knows natively (causal, window, lengths) and skip blocks.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional.dtypes import as_array
from transformer_jax.pytree import pytree_dataclass, replace, static_field
from transformer_jax.typing import Array, Bool, Int

# A static slice, or (start, size) whose start may be a traced scalar.
Block = slice | tuple[int | Array, int]
_SegmentPair = tuple[Int[Array, "..."], Int[Array, "..."]]


class MaskRule:
    r"""Base of mask parts of your own, which allow or hide pairs of positions.

    A subclass is a ``pytree_dataclass`` with a method ``allows``. Numbers that shape the program are static fields;
    arrays have the batch as axis 0, ``[batch|1, ...]``, as those of all mask parts. A rule is combined with other
    parts by ``&``, written out late and block by block, and refused by the implementations that cannot do it
    (:func:`~transformer_jax.functional.explain_attention` gives their reasons).

    Example:
      >>> from transformer_jax.pytree import pytree_dataclass, static_field
      >>> @pytree_dataclass
      ... class EveryOther(MaskRule):
      ...   def allows(self, query_positions, key_positions):
      ...     return (query_positions - key_positions) % 2 == 0
      >>> (AttentionMask.causal() & EveryOther()).materialize(3, 3)[0, 0].astype(int).tolist()
      [[1, 0, 0], [0, 1, 0], [1, 0, 1]]
    """

    def allows(
        self, query_positions: Int[Array, "rows 1 q_len 1"], key_positions: Int[Array, "rows 1 1 kv_len"]
    ) -> Bool[Array, "..."]:
        """Which queries may attend to which keys.

        Args:
          query_positions: Positions of some of the queries, ``[batch|1, 1, q_len, 1]``.
          key_positions: Positions of some of the keys, ``[batch|1, 1, 1, kv_len]``.

        Returns:
          True = may attend, ``[batch|1, heads|1, q_len, kv_len]``.
        """
        raise NotImplementedError(f"{type(self).__name__} must define allows")

    def for_heads(self, start: int | Array, count: int) -> "MaskRule":
        """The rule of ``count`` heads from ``start`` on, which may be traced; to be defined if heads differ."""
        return self

    def __and__(self, other: "AttentionMask | MaskRule") -> "AttentionMask":
        """Allow what both allow."""
        return AttentionMask(rules=(self,)) & other


@pytree_dataclass
class AttentionMask:
    r"""A conjunction of mask parts; build it with the constructors and ``&``.

    Causal and window parts compare *positions*, which default to ``arange``; caches pass their own by
    :meth:`positions`, so ``q_len != kv_len`` has one meaning. A mask without parts allows all.

    .. math:: M_{ij} = [k_j \le q_i] \wedge [q_i - l \le k_j \le q_i + r] \wedge [g^q_i = g^k_j]
       \wedge V_j \wedge D_{ij} \wedge R(q_i, k_j)

    Attributes:
      is_causal: Keys after the query are hidden.
      window_left: How many positions back a query sees; ``None`` = all.
      window_right: How many positions ahead a query sees; ``None`` = all.
      query_positions: ``[batch|1, q_len]``; ``None`` = arange.
      key_positions: ``[batch|1, kv_len]``; ``None`` = arange.
      segment_pairs: Pairs ``([batch|1, q_len], [batch|1, kv_len])`` of segment numbers.
      key_valid: ``[batch|1, kv_len]``.
      key_lengths: ``[batch]``; slots from the length on are hidden.
      lengths_extent: The ``kv_len`` that ``key_lengths`` was made for.
      dense_mask: ``[batch|1, heads|1, q_len, kv_len]``.
      rules: Parts of your own, each a :class:`MaskRule`.

    Example:
      >>> mask = AttentionMask.causal() & AttentionMask.from_lengths(jnp.array([2]), 3)
      >>> mask.materialize(3, 3)[0, 0].astype(int).tolist()
      [[1, 0, 0], [1, 1, 0], [1, 1, 0]]
    """

    is_causal: bool = static_field(default=False)
    window_left: int | None = static_field(default=None)
    window_right: int | None = static_field(default=None)
    lengths_extent: int | None = static_field(default=None)
    query_positions: Int[Array, "..."] | None = None
    key_positions: Int[Array, "..."] | None = None
    segment_pairs: tuple[_SegmentPair, ...] = ()
    key_valid: Bool[Array, "..."] | None = None
    key_lengths: Int[Array, "..."] | None = None
    dense_mask: Bool[Array, "..."] | None = None
    rules: tuple[MaskRule, ...] = ()

    @classmethod
    def causal(cls) -> "AttentionMask":
        """A query sees its own position and those before."""
        return cls(is_causal=True)

    @classmethod
    def window(cls, left: int | None, right: int | None) -> "AttentionMask":
        """A query sees ``left`` positions back and ``right`` ahead, its own included; ``None`` = all.

        Raises:
          ConfigError: If a side is negative.
        """
        for name, side in (("left", left), ("right", right)):
            if side is not None and side < 0:
                raise ConfigError(f"window {name} must be None or an integer >= 0, got {side}")
        return cls(window_left=left, window_right=right)

    @classmethod
    def positions(
        cls, query_positions: Int[Array, "#batch q_len"], key_positions: Int[Array, "#batch kv_len"]
    ) -> "AttentionMask":
        """The positions that causal and window parts, position biases and score rules compare."""
        query_positions = _checked_part("query_positions", query_positions, 2, jnp.integer)
        key_positions = _checked_part("key_positions", key_positions, 2, jnp.integer)
        return cls(query_positions=query_positions, key_positions=key_positions)

    @classmethod
    def segments(
        cls, query_segments: Int[Array, "#batch q_len"], key_segments: Int[Array, "#batch kv_len"]
    ) -> "AttentionMask":
        """A query sees the keys of its own segment (several sequences packed into one row)."""
        query_segments = _checked_part("query_segments", query_segments, 2, jnp.integer)
        key_segments = _checked_part("key_segments", key_segments, 2, jnp.integer)
        return cls(segment_pairs=((query_segments, key_segments),))

    @classmethod
    def valid(cls, key_valid: Bool[Array, "#batch kv_len"]) -> "AttentionMask":
        """Every query sees the keys marked True."""
        key_valid = _checked_part("key_valid", key_valid, 2, jnp.bool_)
        return cls(key_valid=key_valid)

    @classmethod
    def from_lengths(cls, key_lengths: Int[Array, " batch"], kv_len: int) -> "AttentionMask":
        """Every query sees the first ``key_lengths[row]`` of ``kv_len`` slots."""
        key_lengths = _checked_part("key_lengths", key_lengths, 1, jnp.integer)
        return cls(key_lengths=key_lengths, lengths_extent=kv_len)

    @classmethod
    def dense(cls, mask: Bool[Array, "#batch #heads q_len kv_len"]) -> "AttentionMask":
        """Any mask, written out."""
        mask = _checked_part("mask", mask, 4, jnp.bool_)
        return cls(dense_mask=mask)

    def __and__(self, other: "AttentionMask | MaskRule") -> "AttentionMask":
        """Allow what both allow; the positions of one side rule both.

        Raises:
          ConfigError: If both sides bring positions and they are not the same arrays, or one is of a subclass.
          ShapeError: If both sides bring lengths of another ``kv_len``.
        """
        if isinstance(other, MaskRule):
            other = AttentionMask(rules=(other,))
        for side in (self, other):
            if type(side) is not AttentionMask:
                if isinstance(side, AttentionMask):
                    raise subclass_refusal(type(side))
                return NotImplemented
        if self.lengths_extent is not None and other.lengths_extent not in (None, self.lengths_extent):
            raise ShapeError(
                f"from_lengths: one mask has kv_len {self.lengths_extent}, the other {other.lengths_extent}"
            )
        return AttentionMask(
            is_causal=self.is_causal or other.is_causal,
            window_left=_either(self.window_left, other.window_left, min),
            window_right=_either(self.window_right, other.window_right, min),
            lengths_extent=_either(self.lengths_extent, other.lengths_extent, min),
            query_positions=_either(self.query_positions, other.query_positions, _same_positions),
            key_positions=_either(self.key_positions, other.key_positions, _same_positions),
            segment_pairs=self.segment_pairs + other.segment_pairs,
            key_valid=_either(self.key_valid, other.key_valid, jnp.logical_and),
            key_lengths=_either(self.key_lengths, other.key_lengths, jnp.minimum),
            dense_mask=_either(self.dense_mask, other.dense_mask, jnp.logical_and),
            rules=self.rules + other.rules,
        )

    @property
    def has_window(self) -> bool:
        """Whether some side of the window is bounded."""
        return self.window_left is not None or self.window_right is not None

    @property
    def has_default_positions(self) -> bool:
        """Whether positions are ``arange`` on both sides."""
        return self.query_positions is None and self.key_positions is None

    @property
    def is_pairwise(self) -> bool:
        """Whether two queries of one row may see different keys."""
        is_ordered = self.is_causal or self.has_window
        return is_ordered or bool(self.segment_pairs or self.rules) or self.dense_mask is not None

    @property
    def has_key_part(self) -> bool:
        """Whether some key may be hidden from every query alike."""
        return self.key_valid is not None or self.key_lengths is not None

    @property
    def allows_all(self) -> bool:
        """Whether nothing is hidden."""
        return not self.is_pairwise and not self.has_key_part

    def without_order(self) -> "AttentionMask":
        """The mask without its causal and window parts; positions stay."""
        return replace(self, is_causal=False, window_left=None, window_right=None)

    def may_have_empty_rows(self, q_len: int, kv_len: int) -> bool:
        """Whether, as far as is known without looking at arrays, some query may see no key."""
        if self.allows_all:
            return kv_len == 0
        if self.has_key_part or self.segment_pairs or self.rules or self.dense_mask is not None:
            return True
        # Key i is visible to query i; without a left bound key 0 is visible to all.
        reaches_a_key = q_len <= kv_len or self.window_left is None
        return not (self.has_default_positions and kv_len > 0 and reaches_a_key)

    def query_positions_or_default(self, q_len: int) -> Int[Array, "one_or_batch q_len"]:
        """The queries' positions, ``[batch|1, q_len]``."""
        return _arange(q_len) if self.query_positions is None else self.query_positions

    def key_positions_or_default(self, kv_len: int) -> Int[Array, "one_or_batch kv_len"]:
        """The keys' positions, ``[batch|1, kv_len]``."""
        return _arange(kv_len) if self.key_positions is None else self.key_positions

    def of_heads(self, row: int | Array, head: int | Array, num_heads: int) -> "AttentionMask":
        """The mask of one sequence of the batch and some of its heads; both starts may be traced."""

        own = jax.tree.map(lambda array: pick(array, 0, row, 1), self)  # the batch is axis 0 of every part
        if own.rules:
            own = replace(own, rules=tuple(rule.for_heads(head, num_heads) for rule in own.rules))
        if own.dense_mask is None:
            return own
        return replace(own, dense_mask=pick(own.dense_mask, 1, head, num_heads))

    def compact(
        self, q_len: int, kv_len: int, *, query_slice: Block | None = None, key_slice: Block | None = None
    ) -> Bool[Array, "..."] | None:
        """As :meth:`materialize`, but axes along which nothing varies have size 1; ``None`` = all allowed."""
        parts = []
        if self.is_causal or self.has_window:
            queries = _take(self.query_positions_or_default(q_len), query_slice)[:, None, :, None]
            keys = _take(self.key_positions_or_default(kv_len), key_slice)[:, None, None, :]
            ahead = keys - queries  # [batch|1, 1, q_len, kv_len]
            right = 0 if self.is_causal else self.window_right
            if right is not None:
                parts.append(ahead <= right)
            if self.window_left is not None:
                parts.append(ahead >= -self.window_left)
        for query_segments, key_segments in self.segment_pairs:
            queries = _take(query_segments, query_slice)[:, None, :, None]
            parts.append(queries == _take(key_segments, key_slice)[:, None, None, :])
        if self.key_valid is not None:
            parts.append(_take(self.key_valid, key_slice)[:, None, None, :])
        if self.key_lengths is not None:
            slots = _take(_arange(kv_len), key_slice)
            parts.append((slots < self.key_lengths[:, None])[:, None, None, :])
        if self.dense_mask is not None:
            parts.append(_take(_take(self.dense_mask, key_slice), query_slice, axis=-2))
        if self.rules:
            queries = _take(self.query_positions_or_default(q_len), query_slice)[:, None, :, None]
            keys = _take(self.key_positions_or_default(kv_len), key_slice)[:, None, None, :]
            parts += [rule.allows(queries, keys) for rule in self.rules]
        combined = None
        for part in parts:
            combined = part if combined is None else combined & part
        return combined

    def materialize(
        self, q_len: int, kv_len: int, *, query_slice: Block | None = None, key_slice: Block | None = None
    ) -> Bool[Array, "one_or_batch one_or_heads q kv"]:
        """Write the mask, or one block of it, out as an array.

        Args:
          q_len: Number of queries.
          kv_len: Number of keys.
          query_slice: Which queries: a ``slice`` or ``(start, size)``; the start may be traced.
          key_slice: Which keys, likewise.

        Returns:
          True = may attend, ``[batch|1, heads|1, q, kv]``.

        Example:
          >>> AttentionMask.window(1, 0).materialize(4, 4, query_slice=slice(2, 3)).astype(int).tolist()
          [[[[0, 1, 1, 0]]]]
        """
        rows, columns = _size(q_len, query_slice), _size(kv_len, key_slice)
        mask = self.compact(q_len, kv_len, query_slice=query_slice, key_slice=key_slice)
        if mask is None:
            return jnp.ones((1, 1, rows, columns), bool)
        return jnp.broadcast_to(mask, (*mask.shape[:2], rows, columns))

    def check(self, batch: int, num_heads: int, q_len: int, kv_len: int) -> None:
        """Raise ``ShapeError`` unless every part fits the given sizes."""
        pairs = {f"segments[{i}]": pair for i, pair in enumerate(self.segment_pairs)}
        for name, (queries, keys) in {
            **pairs,
            "positions": (self.query_positions, self.key_positions),
        }.items():
            _check_fits(f"mask {name} (query)", queries, (batch, q_len), "[batch|1, q_len]")
            _check_fits(f"mask {name} (key)", keys, (batch, kv_len), "[batch|1, kv_len]")
        _check_fits("mask valid", self.key_valid, (batch, kv_len), "[batch|1, kv_len]")
        _check_fits("mask lengths", self.key_lengths, (batch,), "[batch|1]")
        if self.lengths_extent not in (None, kv_len):
            raise ShapeError(
                f"mask from_lengths was made for kv_len {self.lengths_extent}, keys have {kv_len}"
            )
        wanted = (batch, num_heads, q_len, kv_len)
        _check_fits("mask dense", self.dense_mask, wanted, "[batch|1, heads|1, q_len, kv_len]")
        for rule in self.rules:
            _check_rule(
                rule, self.query_positions_or_default(q_len), self.key_positions_or_default(kv_len), wanted
            )


def pick(array: Array, axis: int, start: int | Array, size: int) -> Array:
    """``size`` entries along an axis; an axis of one entry stands for all."""
    return array if array.shape[axis] == 1 else jax.lax.dynamic_slice_in_dim(array, start, size, axis)


def _arange(length: int) -> Array:
    return jnp.arange(length, dtype=jnp.int32)[None, :]


def _either(left: Any, right: Any, join: Callable) -> Any:
    if left is None or right is None:
        return right if left is None else left
    return join(left, right)


def _same_positions(left: Array, right: Array) -> Array:
    if left is not right:
        raise ConfigError("mask & mask: both bring positions; give positions to one of them only")
    return left


def _take(array: Array, block: Block | None, axis: int = -1) -> Array:
    if block is None:
        return array
    if isinstance(block, slice):
        start, stop, step = block.indices(array.shape[axis])
        return jax.lax.slice_in_dim(array, start, max(start, stop), step, axis % array.ndim)
    return jax.lax.dynamic_slice_in_dim(array, block[0], block[1], axis % array.ndim)


def _size(length: int, block: Block | None) -> int:
    if block is None:
        return length
    return len(range(*block.indices(length))) if isinstance(block, slice) else block[1]


def subclass_refusal(kind: type) -> ConfigError:
    """Error for a subclass: implementations read the parts that they know, and would overlook its own."""
    return ConfigError(
        f"mask must be an AttentionMask itself, got its subclass {kind.__name__}, whose own rule implementations "
        "would overlook; make it a subclass of MaskRule, or write the mask out as AttentionMask.dense(array): both "
        "combine with other parts by &"
    )


def _checked_part(name: str, array: Any, rank: int, kind: type) -> Array:
    array = as_array(name, array)
    if array.ndim != rank:
        raise ShapeError(f"{name} must have {rank} axes, got shape {array.shape}")
    if not jnp.issubdtype(array.dtype, kind):
        wanted = "bool" if kind is jnp.bool_ else "integers"
        raise ConfigError(f"{name} must hold {wanted}, got {array.dtype}")
    return array


def _check_fits(name: str, array: Array | None, sizes: tuple[int, ...], wanted: str) -> None:
    if array is None:
        return
    exact = {1: 0, 2: 1, 4: 2}[len(sizes)]  # axes from here on may not be broadcast
    fits = array.ndim == len(sizes) and all(
        have == want or (have == 1 and axis < max(exact, 1))
        for axis, (have, want) in enumerate(zip(array.shape, sizes))
    )
    if not fits:
        raise ShapeError(f"{name} must be {wanted} = {list(sizes)}, got {list(array.shape)}")


def _check_rule(rule: Any, query_positions: Array, key_positions: Array, sizes: tuple[int, ...]) -> None:
    """Raise unless a rule's arrays and its answer fit the sizes ``[batch, heads, q_len, kv_len]``."""
    name = f"mask rule {type(rule).__name__}"
    if jax.tree_util.all_leaves([rule]):
        raise ConfigError(f"{name} must be a pytree: write @pytree_dataclass above its class")
    batch = sizes[0]
    for path, leaf in jax.tree_util.tree_leaves_with_path(rule):
        if not getattr(leaf, "ndim", 0) or leaf.shape[0] not in (1, batch):
            raise ShapeError(
                f"{name}: {jax.tree_util.keystr(path)} must be [batch|1, ...] with batch {batch}, got shape "
                f"{list(getattr(leaf, 'shape', ()))}; a number belongs into a static_field"
            )
    answer = jax.eval_shape(rule.allows, query_positions[:, None, :, None], key_positions[:, None, None, :])
    if getattr(answer, "dtype", None) != jnp.bool_:
        got = getattr(answer, "dtype", type(answer).__name__)
        raise ConfigError(f"{name}: allows must return a bool array, got {got}")
    shape = tuple(answer.shape)
    if shape[2:] != sizes[2:] or any(have not in (1, want) for have, want in zip(shape, sizes)):
        raise ShapeError(
            f"{name}: allows must return [batch|1, heads|1, q_len, kv_len] = {list(sizes)}, got {list(shape)}"
        )
    if shape[1] > 1 and type(rule).for_heads is MaskRule.for_heads:
        raise ConfigError(f"{name} treats heads unlike: define for_heads(start, count)")
