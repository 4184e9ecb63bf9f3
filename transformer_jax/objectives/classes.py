"""Cross entropy of a text's class."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from transformer_jax.bounds import require_field
from transformer_jax.errors import ConfigError
from transformer_jax.functional.losses import LossSum, cross_entropy
from transformer_jax.nn.parameters import non_parameters
from transformer_jax.nn.structured_pooling import redundancy
from transformer_jax.objectives.token_loss import token_accuracy
from transformer_jax.typing import Array, Key, PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassCrossEntropy:
    r"""Cross entropy of the class of each text, in nats.

    .. math:: \ell = -\sum_b \log p(y_b \mid x_b) + \lambda \sum_b \lVert A_b A_b^\top - I \rVert_F^2

    over the rows whose class counts. The second term, of structured self-attention with the weights :math:`A`, keeps
    its hops from looking at the same words.

    Args:
      label_smoothing: Share of the target probability spread over the classes (Szegedy et al. 2016).
      penalty_weight: :math:`\lambda`; it needs a model with several hops.

    Raises:
      ConfigError: If a value is out of range.

    Example:
      >>> from flax import nnx
      >>> from transformer_jax.data.text_batches import ClassBatch
      >>> class Constant(nnx.Module):
      ...   def __call__(self, tokens, *, lengths, rng_key=None):
      ...     return jnp.zeros((tokens.shape[0], 4))
      >>> ints = lambda *values: jnp.array(values, jnp.int32)
      >>> batch = ClassBatch(ints([5, 6], [0, 0]), ints(2, 0), ints(3, -1), ints(0, -1))
      >>> loss, metrics, state = ClassCrossEntropy()(Constant(), batch, None)
      >>> f"{float(loss.mean()):.4f}", float(loss.count)
      ('1.3863', 1.0)

    Source: the penalty is Lin et al. 2017, https://arxiv.org/abs/1703.03130, equation 8.
    """

    kind: Literal["class_cross_entropy"] = "class_cross_entropy"
    label_smoothing: float = 0.0
    penalty_weight: float = 0.0

    def __post_init__(self) -> None:
        require_field(0.0 <= self.label_smoothing < 1.0, self, "label_smoothing", "at least 0 and below 1")
        require_field(0.0 <= self.penalty_weight < float("inf"), self, "penalty_weight", "at least 0")

    def __call__(
        self, model: Any, batch: Any, rng_key: Key[Array, ""] | None
    ) -> tuple[LossSum, dict[str, LossSum], PyTree]:
        """Score a batch.

        Args:
          model: ``(tokens [batch, len], *, lengths [batch], rng_key=None) -> logits [batch, classes]``; with a penalty
            it also has ``outputs`` as `Classifier` has, which gives the weights of its hops.
          batch: ``ClassBatch``.
          rng_key: Of dropout; None means evaluation.

        Returns:
          The summed loss; the metrics ``"accuracy"`` and, with a penalty, ``"penalty"``; the variables of the model
          that are no parameters.

        Raises:
          ConfigError: If there is a penalty and the model has no hops.
        """
        batch = jax.tree.map(jnp.asarray, batch)
        counted = (batch.classes >= 0).astype(jnp.float32)
        weights = None
        if self.penalty_weight:
            if not hasattr(model, "outputs"):
                raise ConfigError("penalty_weight needs a model with the weights of its hops; leave it 0")
            found = model.outputs(batch.tokens, lengths=batch.lengths, rng_key=rng_key)
            logits, weights = found.logits, found.weights
        else:
            logits = model(batch.tokens, lengths=batch.lengths, rng_key=rng_key)
        loss = cross_entropy(logits, batch.classes, weights=counted, label_smoothing=self.label_smoothing)
        metrics = {
            "accuracy": token_accuracy(
                jax.lax.stop_gradient(logits)[:, None], batch.classes[:, None], counted[:, None]
            )
        }
        if weights is not None:
            penalty = LossSum(jnp.sum(redundancy(weights) * counted), jnp.sum(counted))
            metrics["penalty"] = jax.lax.stop_gradient(penalty)
            loss = LossSum(loss.sum + self.penalty_weight * penalty.sum, loss.count)
        return loss, metrics, non_parameters(model)
