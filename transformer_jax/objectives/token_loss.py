"""Cross entropy and accuracy of a model's next tokens, without storing log-probabilities where the model allows it."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from transformer_jax.errors import ConfigError
from transformer_jax.functional.losses import LossSum, cross_entropy, projected_loss_and_accuracy
from transformer_jax.functional.pointer import CopySource, coverage_loss, pointer_label_log_probs
from transformer_jax.typing import Array, Float, Int


@runtime_checkable
class ProjectsHidden(Protocol):
    """A model that offers its last hidden states and the matrix that turns them into logits."""

    def hidden(self, *args: Any, **kwargs: Any) -> Any:
        """Same arguments as the call; ``[batch, target_len, model]``."""
        ...

    def output_projection(self) -> tuple[Any, Any]:
        """``(embedding [vocab, model], bias [vocab] or None)``."""
        ...


class TokenScores(NamedTuple):
    """Loss and accuracy of a batch, with what they were computed from.

    Attributes:
      loss: Cross entropy over the weighted labels.
      accuracy: Share of the labels that have the highest logit.
      outputs: Hidden states ``[batch, target_len, model]``, or logits ``[batch, target_len, vocab]``.
      projection: ``(embedding, bias)`` where the outputs are hidden states; None where they are logits.
      coverage: Attention to what was attended to before, see `coverage_loss`; None where it is not asked for.
    """

    loss: LossSum
    accuracy: LossSum
    outputs: Array
    projection: tuple[Array, Array | None] | None
    coverage: LossSum | None = None


def score_tokens(
    model: Any,
    arguments: tuple[Any, ...],
    keywords: dict[str, Any],
    *,
    labels: Int[Array, "batch time"],
    weights: Float[Array, "batch time"],
    label_smoothing: float,
    with_coverage: bool = False,
) -> TokenScores:
    """Score a model's predictions of labels.

    Args:
      model: Called with the arguments; through ``hidden`` and ``output_projection`` where it offers them.
      arguments: Positional arguments of the model.
      keywords: Its keyword arguments.
      labels: The tokens to predict.
      weights: Of each label, see `length_weights`; a label of weight 0 may be anything.
      label_smoothing: Share of the target probability spread over the vocabulary.
      with_coverage: Whether the coverage loss of the model's attention is wanted, too.

    Raises:
      ConfigError: If the model has no attention that a coverage loss can be taken of.
    """
    pointer = getattr(model, "pointer", None)
    if pointer is not None or with_coverage:
        if not hasattr(model, "hidden_with_attention"):
            raise ConfigError(
                f"coverage_weight is for models that attend to a source, not {type(model).__name__}: set it to 0"
            )
        hidden, attention = model.hidden_with_attention(*arguments, **keywords)
        coverage = coverage_loss(attention, weights) if with_coverage else None
        embedding, bias = model.output_projection()
        if pointer is None:
            loss, accuracy = projected_loss_and_accuracy(
                hidden, embedding, labels, weights=weights, label_smoothing=label_smoothing, bias=bias
            )
            return TokenScores(loss, accuracy, hidden, (embedding, bias), coverage)
        logits = jnp.einsum("btd,vd->btv", hidden, embedding, preferred_element_type=jnp.float32)
        if bias is not None:
            logits = logits + jnp.broadcast_to(bias, logits.shape)
        found, first = pointer_label_log_probs(
            logits, pointer.gates(hidden), attention, CopySource(*arguments[:2]), labels
        )
        # A weight of zero must hide what is not finite, from the gradient, too.
        counted = jnp.where(weights > 0, found, 0.0)
        loss = LossSum.of(-jnp.sum(counted * weights), weights.sum())
        accuracy = LossSum.of(jnp.sum(jnp.where(first, weights, 0.0)), weights.sum())
        return TokenScores(loss, accuracy, logits, None, coverage)
    if isinstance(model, ProjectsHidden):
        hidden = model.hidden(*arguments, **keywords)
        embedding, bias = model.output_projection()
        loss, accuracy = projected_loss_and_accuracy(
            hidden, embedding, labels, weights=weights, label_smoothing=label_smoothing, bias=bias
        )
        return TokenScores(loss, accuracy, hidden, (embedding, bias))
    logits = model(*arguments, **keywords)
    loss = cross_entropy(logits, labels, weights=weights, label_smoothing=label_smoothing)
    accuracy = token_accuracy(jax.lax.stop_gradient(logits), labels, weights)
    return TokenScores(loss, accuracy, logits, None)


def length_weights(lengths: Int[Array, "batch"], length: int) -> Float[Array, "batch time"]:
    """1 at the first ``lengths`` positions of each row, 0 behind them.

    Example:
      >>> length_weights(jnp.array([2, 0]), 3).tolist()
      [[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    return (jnp.arange(length)[None, :] < lengths[:, None]).astype(jnp.float32)


def token_accuracy(
    logits: Float[Array, "batch time vocab"],
    labels: Int[Array, "batch time"],
    weights: Float[Array, "batch time"],
) -> LossSum:
    """How many labels have the highest logit, over the sum of the weights; a label outside of the vocabulary has none.

    Example:
      >>> logits = jnp.array([[[2.0, 0.0], [2.0, 0.0]]])
      >>> accuracy = token_accuracy(logits, jnp.array([[0, 1]]), jnp.ones((1, 2)))
      >>> float(accuracy.sum), float(accuracy.count)
      (1.0, 2.0)
    """
    labels = jnp.where(labels < 0, logits.shape[-1], labels)  # a negative index would count from the end
    label_logits = jnp.take_along_axis(logits, labels[..., None], axis=-1, mode="fill")[..., 0]
    # The loss computes this maximum too: cheaper than an argmax.
    correct = label_logits >= logits.max(axis=-1)
    return LossSum(jnp.sum(jnp.where(correct, weights, 0.0)), jnp.sum(weights))
