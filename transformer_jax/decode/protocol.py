"""Protocol of models for search: an explicit state, and one step that turns tokens into logits.

The state is any pytree whose leaves all have the batch as axis 0 (key/value caches, projected memories,
recurrent carries, per-row lengths). Search repeats, reorders and carries it without knowing what it holds.
A node of the tree may know better than to be copied: one with a method ``repeated(num_copies)`` says what stands
for its copies, and one with ``reordered(rows)`` what stands for their reordering. One with an attribute ``capacity``
says for how many tokens it has room.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from transformer_jax.errors import ShapeError
from transformer_jax.typing import Array, Float, Int, PyTree


class TokenInputs(NamedTuple):
    """Token sequences as the inputs of a model: a source, or a prompt.

    Attributes:
      tokens: Ids ``[batch, len]``; what stands behind a row's length is padding.
      lengths: Valid tokens of each row ``[batch]``, zero or more.

    Example:
      >>> inputs = TokenInputs(jnp.array([[5, 6], [7, 0]]), jnp.array([2, 1]))
      >>> inputs.tokens.shape
      (2, 2)
    """

    tokens: Int[Array | np.ndarray, "batch len"]
    lengths: Int[Array | np.ndarray, "batch"]

    @classmethod
    def abstract(cls, num_rows: int, length: int) -> Any:
        """Shapes and dtypes alone, to compile for.

        Example:
          >>> TokenInputs.abstract(2, 8).tokens
          ShapeDtypeStruct(shape=(2, 8), dtype=int32)
        """
        return cls._make(
            jax.ShapeDtypeStruct(shape, jnp.int32) for shape in ((num_rows, length), (num_rows,))
        )


class FeatureInputs(NamedTuple):
    """Sequences of feature vectors as the inputs of a model: frames of speech, points of pen strokes.

    Attributes:
      features: ``[batch, frames, dim]``; what stands behind a row's length is padding.
      lengths: Valid frames of each row ``[batch]``, zero or more.

    Example:
      >>> inputs = FeatureInputs(jnp.zeros((2, 5, 3)), jnp.array([5, 2]))
      >>> inputs.features.shape
      (2, 5, 3)
    """

    features: Float[Array | np.ndarray, "batch frames dim"]
    lengths: Int[Array | np.ndarray, "batch"]

    @classmethod
    def abstract(cls, num_rows: int, length: int, dim: int) -> Any:
        """Shapes and dtypes alone, to compile for.

        Example:
          >>> FeatureInputs.abstract(2, 8, 3).features
          ShapeDtypeStruct(shape=(2, 8, 3), dtype=float32)
        """
        return cls(
            jax.ShapeDtypeStruct((num_rows, length, dim), jnp.float32),  # type: ignore[arg-type]
            jax.ShapeDtypeStruct((num_rows,), jnp.int32),  # type: ignore[arg-type]
        )


class ImageInputs(NamedTuple):
    """Images as the inputs of a model.

    Attributes:
      pixels: ``[batch, height, width, channels]``; what lies outside of a row's size is padding.
      sizes: Valid height and width of each row ``[batch, 2]``.

    Example:
      >>> inputs = ImageInputs(jnp.zeros((2, 8, 9, 1)), jnp.array([[8, 9], [5, 4]]))
      >>> inputs.pixels.shape
      (2, 8, 9, 1)
    """

    pixels: Float[Array | np.ndarray, "batch height width channels"]
    sizes: Int[Array | np.ndarray, "batch 2"]

    @classmethod
    def abstract(cls, num_rows: int, height: int, width: int, channels: int) -> Any:
        """Shapes and dtypes alone, to compile for.

        Example:
          >>> ImageInputs.abstract(2, 8, 9, 1).sizes
          ShapeDtypeStruct(shape=(2, 2), dtype=int32)
        """
        return cls(
            jax.ShapeDtypeStruct((num_rows, height, width, channels), jnp.float32),  # type: ignore[arg-type]
            jax.ShapeDtypeStruct((num_rows, 2), jnp.int32),  # type: ignore[arg-type]
        )


@runtime_checkable
class StepModel(Protocol):
    """A model that can be decoded one token at a time.

    Searches make log-probabilities of its logits. Those of a model with a true attribute ``gives_log_probs`` are added
    up as they are: they must be 0 at most, and may sum to less than one over the vocabulary.

    A sequence-to-sequence model encodes its inputs, the source. A language model reads all of its inputs, the prompt;
    the first token that is fed after ``start`` follows them.
    """

    def start(self, inputs: Any, *, max_len: int) -> Any:
        """Read the inputs; return the state before the first token, with room for ``max_len`` tokens.

        Args:
          inputs: What the outputs are conditioned on: any pytree with the batch as axis 0 of each leaf. Models of
            token sequences take `TokenInputs`, others `FeatureInputs` or `ImageInputs`.
          max_len: How many tokens will be fed to ``step`` at most.
        """
        ...

    def step(self, state: Any, tokens: Int[Array, "batch"]) -> tuple[Float[Array, "batch vocab"], Any]:
        """Feed one token a row; return the logits of the next one and the new state."""
        ...


@runtime_checkable
class AttendingStepModel(StepModel, Protocol):
    """A step model that can tell where each step looked, as a coverage penalty within a search asks."""

    def step_with_attention(
        self, state: Any, tokens: Int[Array, "batch"]
    ) -> tuple[Float[Array, "batch vocab"], Float[Array, "batch kv_len"], Any]:
        """As ``step``, and between its results the attention to each source token, which sums to one."""
        ...


def state_batch_size(state: PyTree, *, name: str = "state") -> int:
    """Number of rows of a decoding state, or of a model's inputs.

    Args:
      state: A pytree whose leaves all have the batch as axis 0.
      name: What an error calls it.

    Returns:
      The common size of axis 0.

    Raises:
      ShapeError: If the state has no leaves, or leaves that disagree about axis 0.

    Example:
      >>> state_batch_size({"carry": jnp.zeros((3, 8)), "position": jnp.zeros(3)})
      3
    """
    leaves = jax.tree_util.tree_leaves_with_path(state)
    if not leaves:
        raise ShapeError(f"{name} has no arrays: search needs at least one leaf with the batch as axis 0")
    sizes: dict[Any, str] = {}
    for path, leaf in leaves:
        shape = jnp.shape(leaf)
        sizes.setdefault(shape[0] if shape else None, jax.tree_util.keystr(path) or f"the {name} itself")
    if len(sizes) > 1 or None in sizes:
        found = ", ".join(
            f"{name}: {'a scalar' if size is None else f'axis 0 of {size}'}" for size, name in sizes.items()
        )
        raise ShapeError(f"every leaf of {name} must have the batch as axis 0; got {found}")
    return next(iter(sizes))


def check_room(state: PyTree, max_len: int) -> None:
    """Raise ShapeError if a part of the state has room for fewer tokens than a search may feed.

    Args:
      state: A decoding state; nodes with an attribute ``capacity`` are checked, others have no limit.
      max_len: Tokens that the search feeds at most.

    Example:
      >>> check_room({"carry": jnp.zeros((3, 8))}, max_len=1_000_000)
    """

    def has_end(node: Any) -> bool:
        return getattr(node, "capacity", None) is not None

    for node in jax.tree.leaves(state, is_leaf=has_end):
        if has_end(node) and node.capacity < max_len:
            raise ShapeError(
                f"state has room for {node.capacity} tokens, the search may feed max_len {max_len}: start the model "
                f"with max_len={max_len}, or search for at most {node.capacity}"
            )


def repeat_state(state: PyTree, num_copies: int) -> PyTree:
    """Each row ``num_copies`` times in a row: ``[batch, ...]`` to ``[batch * num_copies, ...]``.

    Args:
      state: A pytree whose leaves all have the batch as axis 0.
      num_copies: Copies of each row; the copies of one row are neighbours.

    Returns:
      The widened state.

    Example:
      >>> repeat_state(jnp.array([1, 2]), 2).tolist()
      [1, 1, 2, 2]
    """

    def repeat(node: Any) -> Any:
        return (
            node.repeated(num_copies) if hasattr(node, "repeated") else jnp.repeat(node, num_copies, axis=0)
        )

    return jax.tree.map(repeat, state, is_leaf=lambda node: hasattr(node, "repeated"))


def reorder_state(new_state: PyTree, old_state: PyTree, rows: Int[Array, "rows"]) -> PyTree:
    """Gather rows of every leaf that the last step changed.

    A leaf that the step handed through (the very same traced value, such as a projected memory) is left
    alone: search reorders only among copies of one source, and those copies of it are still equal. For a
    Transformer this saves copying the whole cross-attention memory at each step.

    Args:
      new_state: The state after the step.
      old_state: The state before it, of the same structure.
      rows: For each row of the result, the row to take; must stay among copies of the same source.

    Returns:
      The reordered state.

    Example:
      >>> memory = jnp.array([7, 7])
      >>> old, new = (memory, jnp.array([0, 0])), (memory, jnp.array([1, 2]))
      >>> [leaf.tolist() for leaf in reorder_state(new, old, jnp.array([1, 1]))]
      [[7, 7], [2, 2]]
    """

    def reorder(new: Any, old: Any) -> Any:
        if hasattr(new, "reordered"):
            return new.reordered(rows)
        if hasattr(new, "repeated"):  # it stands for all copies, and a step leaves it as it is
            return new
        return new if new is old else jnp.take(new, rows, axis=0)

    knows = ("reordered", "repeated")
    return jax.tree.map(
        reorder, new_state, old_state, is_leaf=lambda node: any(hasattr(node, name) for name in knows)
    )
