"""Connectionist temporal classification of features, alone."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from transformer_jax.data.batches import PAD_ID
from transformer_jax.functional.ctc import ctc_loss
from transformer_jax.functional.losses import LossSum
from transformer_jax.nn.parameters import non_parameters
from transformer_jax.typing import Array, Key, PyTree

__all__ = ["CtcLoss", "batch_ctc_loss"]


def batch_ctc_loss(logits: Array, lengths: Array, batch: Any) -> tuple[LossSum, LossSum]:
    """CTC loss of a batch's texts, and how many of its rows have no alignment.

    Args:
      logits: Of each frame of the memory ``[batch, frames, vocab]``.
      lengths: Valid frames of each row.
      batch: A ``FeatureBatch``.

    Returns:
      The summed loss in nats of the rows that have an alignment, with the number of their target tokens, ends included;
      and the number of rows without an alignment, with the number of rows that hold an example.

    Example:
      >>> from transformer_jax.data.feature_batches import abstract_feature_batch
      >>> batch = jax.tree.map(lambda one: jnp.zeros(one.shape, one.dtype), abstract_feature_batch(2, 2, 3, 2))
      >>> batch = batch._replace(targets=jnp.array([[1, 3], [1, 1]]), target_lengths=jnp.array([2, 0]))
      >>> loss, excluded = batch_ctc_loss(jnp.zeros((2, 2, 4)), jnp.array([2, 2]), batch)
      >>> f"{float(jnp.exp(-loss.sum)):.4f}", float(loss.count), float(excluded.sum)  # 3 of 16 paths
      ('0.1875', 2.0, 0.0)
    """
    is_example = batch.target_lengths > 0
    label_lengths = jnp.maximum(batch.target_lengths - 1, 0)
    losses, possible = ctc_loss(logits, lengths, batch.targets, label_lengths, blank_id=PAD_ID)
    counted = possible & is_example
    loss = LossSum(
        jnp.sum(jnp.where(counted, losses, 0.0)),
        jnp.sum(jnp.where(counted, batch.target_lengths, 0)).astype(jnp.float32),
    )
    excluded = LossSum(
        jnp.sum(is_example & ~possible).astype(jnp.float32), jnp.sum(is_example).astype(jnp.float32)
    )
    return loss, jax.lax.stop_gradient(excluded)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CtcLoss:
    r"""Negative log-probability of texts by connectionist temporal classification, in nats a token.

    .. math:: \ell = -\sum_b \log \sum_{\pi \in B^{-1}(y_b)} \prod_t p_t(\pi_t)

    over the rows that have an alignment; a text that needs more frames than the encoder gives is left out of loss and
    gradient, and counted. The blank is the padding token.

    Example:
      >>> CtcLoss().kind
      'ctc'

    Source: Graves et al. 2006, https://doi.org/10.1145/1143844.1143891.
    """

    kind: Literal["ctc"] = "ctc"

    def __call__(
        self, model: Any, batch: Any, rng_key: Key[Array, ""] | None
    ) -> tuple[LossSum, dict[str, LossSum], PyTree]:
        """Score a batch.

        Args:
          model: With ``encode(inputs, *, rng_key) -> (memory, lengths)`` and ``ctc_logits(memory)``.
          batch: A ``FeatureBatch``.
          rng_key: Of dropout; None means evaluation.

        Returns:
          The summed loss, counted in target tokens with the end; the metric ``"no_alignment"``, the share of rows that
          were left out; the variables of the model that are no parameters.
        """
        batch = jax.tree.map(jnp.asarray, batch)
        memory, lengths = model.encode(batch.inputs, rng_key=rng_key)
        loss, excluded = batch_ctc_loss(model.ctc_logits(memory), lengths, batch)
        return loss, {"no_alignment": excluded}, non_parameters(model)
