"""Cross entropy of a decoder and CTC of the encoder it reads, together."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from transformer_jax.bounds import check_bounds, require_field
from transformer_jax.functional.dropout import split_key
from transformer_jax.functional.losses import LossSum
from transformer_jax.nn.parameters import non_parameters
from transformer_jax.objectives.ctc_texts import batch_ctc_loss
from transformer_jax.objectives.token_loss import length_weights, score_tokens
from transformer_jax.typing import Array, Key, PyTree

__all__ = ["JointCtc"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class JointCtc:
    r"""Both losses of a model that has a decoder and a CTC head, in nats a token.

    .. math:: \ell = \lambda\, \ell_{\mathrm{CTC}} + (1 - \lambda)\, \ell_{\mathrm{decoder}}

    CTC makes the encoder keep the order of time, which attention alone is slow to find. A text without an alignment
    counts in the decoder's part alone.

    Args:
      ctc_weight: :math:`\lambda`, between 0 and 1, both left out.
      label_smoothing: Of the decoder's part: share of the target probability spread over the vocabulary.

    Raises:
      ConfigError: If a value is out of range.

    Example:
      >>> JointCtc(ctc_weight=0.3).ctc_weight
      0.3

    Source: Kim et al. 2017, https://arxiv.org/abs/1609.06773, equation 9.
    """

    kind: Literal["joint_ctc"] = "joint_ctc"
    ctc_weight: float = 0.3
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_bounds(self)
        require_field(0.0 < self.ctc_weight < 1.0, self, "ctc_weight", "above 0 and below 1")
        require_field(0.0 <= self.label_smoothing < 1.0, self, "label_smoothing", "at least 0 and below 1")

    def __call__(
        self, model: Any, batch: Any, rng_key: Key[Array, ""] | None
    ) -> tuple[LossSum, dict[str, LossSum], PyTree]:
        """Score a batch; the features are encoded once.

        Args:
          model: A `FeatureToText` with a decoder and a CTC head.
          batch: A ``FeatureBatch``.
          rng_key: Of dropout; None means evaluation.

        Returns:
          The summed loss, counted in target tokens; the metrics ``"accuracy"``, of tokens under teacher forcing,
          ``"ctc"``, the CTC loss of a token, and ``"no_alignment"``; the variables of the model that are no parameters.
        """
        batch = jax.tree.map(jnp.asarray, batch)
        encoder_key, decoder_key = split_key(rng_key, 2)
        memory, lengths = model.encode(batch.inputs, rng_key=encoder_key)
        ctc, excluded = batch_ctc_loss(model.ctc_logits(memory), lengths, batch)
        scores = score_tokens(
            _OverMemory(model),
            (memory, lengths, batch.target_inputs),
            {"rng_key": decoder_key},
            labels=batch.targets,
            weights=length_weights(batch.target_lengths, batch.targets.shape[1]),
            label_smoothing=self.label_smoothing,
        )
        loss = LossSum(
            self.ctc_weight * ctc.sum + (1.0 - self.ctc_weight) * scores.loss.sum, scores.loss.count
        )
        metrics = {
            "accuracy": scores.accuracy,
            "ctc": jax.lax.stop_gradient(ctc),
            "no_alignment": excluded,
        }
        return loss, metrics, non_parameters(model)


class _OverMemory:
    """A model's decoder over features that are encoded already, as `score_tokens` calls it."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.output_projection = model.output_projection

    def hidden(self, memory: Array, lengths: Array, target_inputs: Array, **options: Any) -> Array:
        """States before the output projection."""
        found: Array = self._model.hidden_of(memory, lengths, target_inputs, **options)
        return found
