"""Cross entropy of language models: each token from those before it."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from transformer_jax.bounds import require_field
from transformer_jax.functional.losses import LossSum
from transformer_jax.nn.parameters import carries_state, has_batch_statistics, non_parameters
from transformer_jax.objectives.token_loss import length_weights, score_tokens
from transformer_jax.typing import Array, Key, PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class NextToken:
    r"""Cross entropy of each token given those before it, in nats.

    .. math:: \ell = -\sum_{b}\sum_{t < n_b} \log p(y_{bt} \mid x_{b, \le t})

    over the first :math:`n_b` targets of each row, but for those before ``first_counted`` where a batch has it.
    Segments, where a batch has them, are handed to the model, which then attends inside of a document only;
    ``restarts`` are handed to a model that carries state from batch to batch.

    Args:
      label_smoothing: Share of the target probability spread over the vocabulary (Szegedy et al. 2016).

    Raises:
      ConfigError: If ``label_smoothing`` is out of range.

    Example:
      >>> from flax import nnx
      >>> from transformer_jax.data.token_batches import TokenBatch
      >>> class Bigram(nnx.Module):
      ...   def __init__(self):
      ...     self.table = nnx.Param(jnp.zeros((8, 8)))
      ...   def __call__(self, tokens, *, segments=None, rng_key=None):
      ...     return self.table[...][tokens]
      >>> ints = lambda *rows: jnp.array(rows, jnp.int32)
      >>> batch = TokenBatch(ints([2, 4, 5]), ints([4, 5, 3]), ints(3), None, ints(0), ints(0))
      >>> loss, metrics, state = NextToken()(Bigram(), batch, None)
      >>> f"{float(loss.mean()):.4f}", float(loss.count)
      ('2.0794', 3.0)
    """

    kind: Literal["next_token"] = "next_token"
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        require_field(0.0 <= self.label_smoothing < 1.0, self, "label_smoothing", "at least 0 and below 1")

    def __call__(
        self, model: Any, batch: Any, rng_key: Key[Array, ""] | None
    ) -> tuple[LossSum, dict[str, LossSum], PyTree]:
        """Score a batch.

        Args:
          model: ``(tokens [batch, len], *, segments=None, rng_key=None) -> logits [batch, len, vocab]``; takes
            ``lengths`` too if it has running statistics of batches.
          batch: ``TokenBatch``.
          rng_key: Of dropout; None means evaluation.

        Returns:
          The summed loss; the metric ``"accuracy"``; the variables of the model that are no parameters, as they are
          after the batch.
        """
        batch = jax.tree.map(jnp.asarray, batch)
        keywords: dict[str, Any] = {"rng_key": rng_key}
        if batch.segments is not None:
            keywords["segments"] = batch.segments
        if carries_state(model):
            keywords["restarts"] = batch.restarts
        if batch.segments is None and has_batch_statistics(model):
            keywords["lengths"] = batch.lengths
        length = batch.targets.shape[1]
        weights = length_weights(batch.lengths, length)
        if batch.first_counted is not None:
            weights = weights - length_weights(batch.first_counted, length)
        scores = score_tokens(
            model,
            (batch.inputs,),
            keywords,
            labels=batch.targets,
            weights=weights,
            label_smoothing=self.label_smoothing,
        )
        return scores.loss, {"accuracy": scores.accuracy}, non_parameters(model)
