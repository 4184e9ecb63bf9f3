"""Loss of taggers: each label given the sentence, and the sentence's class."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from transformer_jax.bounds import require_field
from transformer_jax.functional.crf import crf_log_likelihood
from transformer_jax.functional.losses import LossSum, cross_entropy
from transformer_jax.nn.parameters import non_parameters
from transformer_jax.objectives.token_loss import token_accuracy
from transformer_jax.typing import Key, PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class TagLikelihood:
    r"""Negative log-likelihood of the labels, and of the class, in nats a word.

    .. math:: \ell = -\sum_b \left[\log p(y_b \mid x_b) + \lambda \log p(c_b \mid x_b)\right]

    over the number of words. Of a model whose labels form a chain :math:`p(y \mid x)` is that of the conditional random
    field, else the product over words.

    Args:
      class_weight: :math:`\lambda`, weight of the sentence's class where there is one.
      label_smoothing: Share of the target probability spread over the labels (Szegedy et al. 2016); not of a chain.

    Raises:
      ConfigError: If a number is out of range.

    Example:
      >>> from flax import nnx
      >>> from transformer_jax.data.text_batches import TagBatch
      >>> class Table(nnx.Module):
      ...   chain = None
      ...   def __call__(self, tokens, *, lengths, letters=None, first_pieces=None, rng_key=None):
      ...     from types import SimpleNamespace
      ...     return SimpleNamespace(labels=jnp.zeros((*tokens.shape, 4)), classes=None)
      >>> ints = lambda *rows: jnp.array(rows, jnp.int32)
      >>> batch = TagBatch(ints([5, 6, 0]), ints(2), ints([1, 3, -1]), None, ints(0))
      >>> loss, metrics, state = TagLikelihood()(Table(), batch, None)
      >>> f"{float(loss.mean()):.4f}", float(loss.count)
      ('1.3863', 2.0)
    """

    kind: Literal["tags"] = "tags"
    class_weight: float = 1.0
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        require_field(0.0 <= self.class_weight < 1e6, self, "class_weight", "at least 0 and below 1e6")
        require_field(0.0 <= self.label_smoothing < 1.0, self, "label_smoothing", "at least 0 and below 1")

    def __call__(
        self, model: Any, batch: Any, rng_key: Key[jax.Array, ""] | None
    ) -> tuple[LossSum, dict[str, LossSum], PyTree]:
        """Score a batch.

        Args:
          model: ``(tokens [batch, len], *, lengths, letters, first_pieces, rng_key) -> TaggerOutput``, with its layer
            ``chain`` or None.
          batch: ``TagBatch``.
          rng_key: Of dropout; None means evaluation.

        Returns:
          The summed loss over the number of words; the metrics ``"accuracy"`` (of a chain: of each label by its own
          score) and, where sentences have a class, ``"class_accuracy"``; the model's variables that are no parameters.
        """
        batch = jax.tree.map(jnp.asarray, batch)
        output = model(
            batch.tokens,
            lengths=batch.lengths,
            letters=batch.letters,
            first_pieces=batch.first_pieces,
            rng_key=rng_key,
        )
        weights = (batch.labels >= 0).astype(jnp.float32)
        if model.chain is None:
            loss = cross_entropy(
                output.labels, batch.labels, weights=weights, label_smoothing=self.label_smoothing
            )
        else:
            likelihoods = crf_log_likelihood(
                output.labels, batch.labels, model.chain.chain, batch.word_lengths()
            )
            loss = LossSum.of(-likelihoods.sum(), weights.sum())
        scores = jax.lax.stop_gradient(output.labels)
        metrics = {"accuracy": token_accuracy(scores, batch.labels, weights)}
        if output.classes is not None and batch.classes is not None:
            counted = (batch.classes >= 0).astype(jnp.float32)
            of_class = cross_entropy(output.classes, batch.classes, weights=counted)
            loss = LossSum(loss.sum + self.class_weight * of_class.sum, loss.count)
            right = token_accuracy(
                jax.lax.stop_gradient(output.classes)[:, None], batch.classes[:, None], counted[:, None]
            )
            metrics["class_accuracy"] = right
        return loss, metrics, non_parameters(model)
