"""Cross entropy of texts given features or images, by teacher forcing."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from transformer_jax.bounds import check_bounds, require_field
from transformer_jax.functional.losses import LossSum
from transformer_jax.nn.parameters import non_parameters
from transformer_jax.objectives.token_loss import length_weights, score_tokens
from transformer_jax.typing import Array, Key, PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureCrossEntropy:
    r"""Cross entropy of the target tokens given the features, by teacher forcing.

    .. math:: -\sum_t \log p(y_t \mid y_{<t}, x)

    Args:
      label_smoothing: Share of the target probability spread over the vocabulary (Szegedy et al. 2016).

    Raises:
      ConfigError: If a value is out of range.

    Example:
      >>> FeatureCrossEntropy(label_smoothing=0.1).kind
      'feature_cross_entropy'
    """

    kind: Literal["feature_cross_entropy"] = "feature_cross_entropy"
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_bounds(self)
        require_field(0.0 <= self.label_smoothing < 1.0, self, "label_smoothing", "at least 0 and below 1")

    def __call__(
        self, model: Any, batch: Any, rng_key: Key[Array, ""] | None
    ) -> tuple[LossSum, dict[str, LossSum], PyTree]:
        """Score a batch.

        Args:
          model: A `FeatureToText`.
          batch: A `FeatureBatch`.
          rng_key: Of dropout; None means evaluation.

        Returns:
          The summed loss; the metric ``"accuracy"``, of tokens under teacher forcing; the variables of the model that
          are no parameters.
        """
        batch = jax.tree.map(jnp.asarray, batch)
        scores = score_tokens(
            model,
            (batch.inputs, batch.target_inputs),
            {"rng_key": rng_key},
            labels=batch.targets,
            weights=length_weights(batch.target_lengths, batch.targets.shape[1]),
            label_smoothing=self.label_smoothing,
        )
        return scores.loss, {"accuracy": scores.accuracy}, non_parameters(model)
