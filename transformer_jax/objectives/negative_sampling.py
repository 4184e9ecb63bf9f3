"""Negative sampling of word vectors, the noise words of a row shared by its pairs."""

import dataclasses
from typing import Any, Literal

import jax.numpy as jnp

from transformer_jax.bounds import Count, Rows, check_at_least, check_bounds, require_field
from transformer_jax.functional.losses import LossSum
from transformer_jax.functional.word_losses import Windows, negative_sampling_loss
from transformer_jax.objectives.window_objective import Architecture, WindowObjective, centres_of
from transformer_jax.typing import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class NegativeSampling(WindowObjective):
    """Tell a centre's word from noise words.

    See :func:`~transformer_jax.functional.word_losses.negative_sampling_loss`.

    Attributes:
      architecture: ``skip_gram`` or ``cbow``.
      num_negatives: Noise words that each pair is weighed against.
      shared_noise: Noise words that are drawn for a row, and stand for those of all its pairs.
      exponent: Power of the counts in the noise distribution.

    Raises:
      ConfigError: If a value is out of range.

    Example:
      >>> from transformer_jax.data.word_batches import WordBatch
      >>> from transformer_jax.models import Sizes, WordVectorsConfig
      >>> model = WordVectorsConfig(embedding_dim=4).build(Sizes(vocab_size=9), rngs=nnx.Rngs(0))
      >>> ids = lambda *row: jnp.array([row], jnp.int32)
      >>> batch = WordBatch(ids(4, 5, 6), ids(1, 1, 1), ids(1), jnp.array([0]), noise=ids(7, 8))
      >>> loss, _, _ = NegativeSampling(num_negatives=5)(model, batch, None)
      >>> print(f"{float(loss.mean()):.4f}", float(loss.count))  # output vectors start at zero: 6 log 2
      4.1589 2.0
    """

    kind: Literal["negative_sampling"] = "negative_sampling"
    architecture: Architecture = "skip_gram"
    num_negatives: Count = 5
    shared_noise: Rows = 32
    exponent: float = 0.75

    def __post_init__(self) -> None:
        check_bounds(self)
        super().__post_init__()
        check_at_least(1, num_negatives=self.num_negatives, shared_noise=self.shared_noise)
        require_field(-10.0 <= self.exponent <= 10.0, self, "exponent", "between -10 and 10")

    @property
    def num_noise(self) -> int:
        """Noise words of a row."""
        return self.shared_noise

    @property
    def noise_exponent(self) -> float:
        """Power of the counts in the noise distribution."""
        return self.exponent

    def output_rows(self, batch: Any) -> Array:
        """Rows of the centres and of the noise words."""
        return jnp.concatenate([centres_of(batch).reshape(-1), batch.noise.reshape(-1)])

    def loss(self, words: Array, output: Array, windows: Windows, batch: Any) -> LossSum:
        """The summed loss."""
        rows, time = batch.radius.shape
        centres, noise = output[: rows * time], output[rows * time :]
        return negative_sampling_loss(
            words,
            centres.reshape(rows, time, -1),
            noise.reshape(rows, batch.noise.shape[1], -1),
            windows,
            num_negatives=self.num_negatives,
            averages=self.averages,
        )
