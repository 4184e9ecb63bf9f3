"""Softmax over the words of a vocabulary for word vectors: along a Huffman tree, or over all of them."""

import dataclasses
from typing import Any, Literal

import jax.numpy as jnp

from transformer_jax.functional.losses import LossSum
from transformer_jax.functional.word_losses import Windows, full_softmax_loss, hierarchical_softmax_loss
from transformer_jax.objectives.window_objective import Architecture, WindowObjective, centres_of
from transformer_jax.typing import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class HierarchicalSoftmax(WindowObjective):
    """Probability of a centre's word as a product along its path in a Huffman tree of the vocabulary.

    See :func:`~transformer_jax.functional.word_losses.hierarchical_softmax_loss`.

    Attributes:
      architecture: ``skip_gram`` or ``cbow``.

    Raises:
      ConfigError: If the architecture is unknown.
    """

    kind: Literal["hierarchical_softmax"] = "hierarchical_softmax"
    architecture: Architecture = "skip_gram"

    @property
    def has_paths(self) -> bool:
        """True."""
        return True

    def output_rows(self, batch: Any) -> Array:
        """Rows of the inner nodes on the path to each centre."""
        return batch.nodes.reshape(-1)

    def loss(self, words: Array, output: Array, windows: Windows, batch: Any) -> LossSum:
        """The summed loss."""
        nodes = output.reshape(*batch.nodes.shape, -1)
        signs = batch.signs.astype(jnp.float32)
        return hierarchical_softmax_loss(words, nodes, signs, windows, averages=self.averages)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FullSoftmax(WindowObjective):
    """Cross entropy over the whole vocabulary; for small ones, and as the measure of what the others approximate.

    See :func:`~transformer_jax.functional.word_losses.full_softmax_loss`.

    Attributes:
      architecture: ``skip_gram`` or ``cbow``.

    Raises:
      ConfigError: If the architecture is unknown.
    """

    kind: Literal["full_softmax"] = "full_softmax"
    architecture: Architecture = "skip_gram"

    def output_rows(self, batch: Any) -> None:
        """None: every word is compared with."""
        return

    def loss(self, words: Array, output: Array, windows: Windows, batch: Any) -> LossSum:
        """The summed loss."""
        centres = jnp.take(output, centres_of(batch), axis=0)
        return full_softmax_loss(words, centres, output, windows, averages=self.averages)
