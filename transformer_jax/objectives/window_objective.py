"""Base of the objectives of word vectors: which rows of which table a batch reads, and what is computed of them."""

import abc
from collections.abc import Mapping
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from transformer_jax.errors import check_choice
from transformer_jax.functional.losses import LossSum
from transformer_jax.functional.word_losses import Windows, mean_with_subwords
from transformer_jax.nn.parameters import named_parameters, non_parameters
from transformer_jax.typing import Array, Float, Int, Key, PyTree

Architecture = Literal["skip_gram", "cbow"]
"""Whether each context of a centre is scored by itself, or the mean of its contexts."""

INPUT, OUTPUT = "embedding.embedding", "output_embedding.embedding"
"""Dotted paths of the two tables."""


class WindowObjective(abc.ABC):
    """An objective over windows of words, which reads a model's tables at the rows of a batch alone.

    A subclass is a frozen dataclass with a field ``architecture``.
    """

    architecture: Architecture

    def __post_init__(self) -> None:
        check_choice("architecture", self.architecture, get_args(Architecture))

    @property
    def averages(self) -> bool:
        """Whether the contexts of a centre are averaged."""
        return self.architecture == "cbow"

    @property
    def num_noise(self) -> int:
        """Noise words of a row that batches must have."""
        return 0

    @property
    def noise_exponent(self) -> float:
        """Power of the counts in the noise distribution."""
        return 0.75

    @property
    def has_paths(self) -> bool:
        """Whether batches must have the paths of a Huffman tree."""
        return False

    def rows(self, batch: Any) -> dict[str, Int[Array, " uses"]]:
        """Rows of each table that a batch reads, by the table's dotted path, once for each use.

        A table that is not among them is read as a whole.
        """
        output = self.output_rows(batch)
        return {INPUT: jnp.maximum(_input_rows(batch), 0).reshape(-1)} | (
            {} if output is None else {OUTPUT: output}
        )

    def on_rows(self, tables: Mapping[str, Array], batch: Any) -> tuple[LossSum, dict[str, LossSum]]:
        """Score a batch.

        Args:
          tables: Of each table of `rows` these rows, in their order; other tables as they are.
          batch: ``WordBatch``.

        Returns:
          The summed loss, and no further metrics.
        """
        rows = _input_rows(batch)
        words = mean_with_subwords(tables[INPUT].reshape(*rows.shape, -1), rows)
        windows = Windows(batch.radius, batch.segments)
        return self.loss(words, tables[OUTPUT], windows, batch), {}

    def __call__(
        self, model: Any, batch: Any, rng_key: Key[Array, ""] | None
    ) -> tuple[LossSum, dict[str, LossSum], PyTree]:
        """Score a batch.

        Args:
          model: Has the two tables as parameters of the paths ``embedding.embedding`` and
            ``output_embedding.embedding``.
          batch: ``WordBatch``.
          rng_key: Not needed: what is drawn comes with the batch.

        Returns:
          The summed loss, no further metrics, and the variables that are no parameters.
        """
        del rng_key
        batch = jax.tree.map(jnp.asarray, batch)
        tables = named_parameters(model)
        read = {name: jnp.take(tables[name], rows, axis=0) for name, rows in self.rows(batch).items()}
        loss, metrics = self.on_rows(tables | read, batch)
        return loss, metrics, non_parameters(model)

    @abc.abstractmethod
    def output_rows(self, batch: Any) -> Int[Array, " uses"] | None:
        """Rows of the output table that a batch reads; None for the whole table."""

    @abc.abstractmethod
    def loss(
        self,
        words: Float[Array, "batch words model"],
        output: Float[Array, "uses model"],
        windows: Windows,
        batch: Any,
    ) -> LossSum:
        """The summed loss.

        Args:
          words: Input vectors of a row's words.
          output: The output table, or its rows of `output_rows`.
          windows: Contexts of each centre.
          batch: ``WordBatch``.
        """


def centres_of(batch: Any) -> Int[Array, "batch time"]:
    """Ids of the centres of a batch.

    Example:
      >>> from transformer_jax.data.word_batches import WordBatch
      >>> ids = jnp.array([[7, 8, 9, 5]])
      >>> centres_of(WordBatch(ids, ids, jnp.array([[1, 1]]), jnp.array([0]))).tolist()
      [[8, 9]]
    """
    margin = (batch.words.shape[1] - batch.radius.shape[1]) // 2
    return jax.lax.slice_in_dim(batch.words, margin, batch.words.shape[1] - margin, axis=1)


def _input_rows(batch: Any) -> Int[Array, "batch words parts"]:
    """Rows of the input table that make up each word, -1 where there is none."""
    words = batch.words[..., None]
    return words if batch.subwords is None else jnp.concatenate([words, batch.subwords], axis=-1)
