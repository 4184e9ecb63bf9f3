"""What a step minimises: ``(model, batch, rng_key) -> (LossSum, metrics, new model state)``.

Losses and metrics are sums with their counts, divided once over the whole batch, so that micro-batches and
devices add up to the same gradient. An objective that changes during training also has ``at(update)``, which
gives the objective of that update.
"""

import dataclasses
import inspect
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from transformer_jax.data.batches import PackedBatch, Seq2SeqBatch
from transformer_jax.errors import ConfigError
from transformer_jax.functional.losses import (
    LossSum,
    cross_entropy,
    projected_divergence,
    projected_loss_and_accuracy,
    symmetric_divergence,
)
from transformer_jax.train.config import TrainConfig
from transformer_jax.train.state import non_parameters
from transformer_jax.typing import Array, Float, Int, Key, PyTree


@runtime_checkable
class Objective(Protocol):
    """The loss of a model on a batch; ``rng_key`` None means evaluation, without dropout."""

    def __call__(
        self, model: Any, batch: Any, rng_key: Key[Array, ""] | None
    ) -> tuple[LossSum, dict[str, LossSum], PyTree]:
        """Loss, metrics by name (``"loss"`` is the trainer's), and the variables that are no parameters."""
        ...


@runtime_checkable
class ScheduledObjective(Protocol):
    """An objective that depends on how far training has come."""

    def at(self, update: Int[Array, ""]) -> Objective:
        """The objective of the update that follows ``update`` updates."""
        ...


@runtime_checkable
class ProjectsHidden(Protocol):
    """A model that gives its last hidden states and the matrix that makes logits of them."""

    def hidden(self, *args: Any, **kwargs: Any) -> Any:
        """Same arguments as the call; ``[batch, target_len, model]``."""
        ...

    def output_projection(self) -> tuple[Any, Any]:
        """``(embedding [vocab, model], bias [vocab] or None)``."""
        ...


@dataclasses.dataclass(frozen=True)
class SequenceToSequenceLoss:
    """Cross entropy of target given source, by teacher forcing; see ``sequence_to_sequence_loss``."""

    label_smoothing: float
    scheduled_sampling_rate: float
    scheduled_sampling_updates: int
    r_drop_weight: float = 0.0
    updates_done: Any = None

    def at(self, update: Int[Array, ""]) -> "SequenceToSequenceLoss":
        """This objective after ``update`` updates, which sets the rate of scheduled sampling."""
        return dataclasses.replace(self, updates_done=update)

    def __call__(
        self, model: Any, batch: Any, rng_key: Key[Array, ""] | None
    ) -> tuple[LossSum, dict[str, LossSum], PyTree]:
        """See the module's docstring.

        Metrics: ``"accuracy"``, of tokens under teacher forcing, and ``"r_drop"``, the mean divergence of the two
        passes in training by R-Drop.
        """
        batch = jax.tree.map(jnp.asarray, batch)
        in_pairs = self.r_drop_weight > 0.0 and rng_key is not None
        if in_pairs:  # each row beside its copy, on the same device, under another dropout mask
            batch = jax.tree.map(lambda array: jnp.repeat(array, 2, axis=0), batch)
        arguments = (batch.source_tokens, batch.source_lengths, batch.target_inputs)
        keywords: dict[str, Any] = {"rng_key": rng_key}
        if isinstance(batch, PackedBatch):
            _check_reads_segments(model)
            keywords |= {"source_segments": batch.source_segments, "target_segments": batch.target_segments}
        if self.scheduled_sampling_rate > 0.0 and rng_key is not None:
            keywords["scheduled_sampling_rate"] = self._sampling_rate()
        labels = batch.target_outputs
        positions = jnp.arange(labels.shape[1])[None, :]
        weights = (positions < batch.target_lengths[:, None]).astype(jnp.float32)  # [batch, target_len]
        try:
            if isinstance(model, ProjectsHidden):
                hidden = model.hidden(*arguments, **keywords)
                embedding, bias = model.output_projection()
                loss, accuracy = projected_loss_and_accuracy(
                    hidden,
                    embedding,
                    labels,
                    weights=weights,
                    label_smoothing=self.label_smoothing,
                    bias=bias,
                )
                if in_pairs:
                    divergence = projected_divergence(
                        *_halves(hidden), embedding, weights=_halves(weights)[0], bias=bias
                    )
            else:
                logits = model(*arguments, **keywords)
                loss = cross_entropy(logits, labels, weights=weights, label_smoothing=self.label_smoothing)
                accuracy = token_accuracy(jax.lax.stop_gradient(logits), labels, weights)
                if in_pairs:
                    divergence = symmetric_divergence(*_halves(logits), weights=_halves(weights)[0])
        except NotImplementedError as error:
            if "scheduled_sampling_rate" not in keywords:
                raise
            raise ConfigError(
                f"scheduled_sampling_rate is {self.scheduled_sampling_rate}, but {type(model).__name__} "
                f"cannot read its own tokens while it trains: set it to 0 ({error})"
            ) from error
        metrics = {"accuracy": accuracy}
        if in_pairs:
            loss = dataclasses.replace(loss, sum=loss.sum + self.r_drop_weight * divergence.sum)
            metrics["r_drop"] = divergence
        return loss, metrics, non_parameters(model)

    def _sampling_rate(self) -> Float[Array, ""]:
        rate = jnp.float32(self.scheduled_sampling_rate)
        if self.updates_done is None or self.scheduled_sampling_updates == 0:
            return rate
        return rate * jnp.minimum(
            1.0, self.updates_done.astype(jnp.float32) / self.scheduled_sampling_updates
        )


def sequence_to_sequence_loss(
    label_smoothing: float = 0.0,
    scheduled_sampling_rate: float = 0.0,
    scheduled_sampling_updates: int = 0,
    r_drop_weight: float = 0.0,
) -> SequenceToSequenceLoss:
    r"""The objective of encoder-decoders: cross entropy over the real target tokens.

    With ``r_drop_weight`` :math:`\alpha` each row is read twice, under two dropout masks, and the two distributions
    :math:`p, q` of each token are pulled together (Liang et al. 2021, https://arxiv.org/abs/2106.14448, equation 4,
    halved so that :math:`\alpha = 0` is the plain loss):

    .. math:: \tfrac12 \left[\ell(p) + \ell(q) + \tfrac{\alpha}{2} (\mathrm{KL}(p \Vert q)
      + \mathrm{KL}(q \Vert p))\right]

    Batches are ``Seq2SeqBatch``, or ``PackedBatch`` for models that take ``source_segments`` and ``target_segments``.

    A model that offers ``hidden`` and ``output_projection`` is scored without storing its log-probabilities.

    Args:
      label_smoothing: Share of the target probability spread over the vocabulary (Szegedy et al. 2016).
      scheduled_sampling_rate: Chance of feeding the decoder its own last token (Bengio et al. 2015).
      scheduled_sampling_updates: Updates over which that chance rises linearly from 0; 0 has it at once.
      r_drop_weight: :math:`\alpha`; an update costs twice as much where it is above 0. Evaluation reads each row once.

    Returns:
      The objective.

    Raises:
      ConfigError: When called, if the model cannot do scheduled sampling, or cannot read packed rows.
    """
    return SequenceToSequenceLoss(
        label_smoothing, scheduled_sampling_rate, scheduled_sampling_updates, r_drop_weight
    )


def training_objective(config: TrainConfig) -> SequenceToSequenceLoss:
    """The objective that a config's smoothing, scheduled sampling and R-Drop say."""
    return sequence_to_sequence_loss(
        config.label_smoothing,
        config.scheduled_sampling_rate,
        config.scheduled_sampling_updates,
        config.r_drop_weight,
    )


def _halves(array: Array) -> tuple[Array, Array]:
    """Rows and their copies apart, where each row stands beside its copy."""
    pairs = array.reshape(-1, 2, *array.shape[1:])
    return pairs[:, 0], pairs[:, 1]


def _check_reads_segments(model: Any) -> None:
    if "source_segments" not in inspect.signature(type(model).__call__).parameters:
        raise ConfigError(
            f"packed rows hold several pairs each, which {type(model).__name__} cannot keep apart: set data.packing to "
            "null, or take a Transformer"
        )


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
    labels = jnp.where(labels < 0, logits.shape[-1], labels)  # not counted from the end: no label is that one
    label_logits = jnp.take_along_axis(logits, labels[..., None], axis=-1, mode="fill")[..., 0]
    # The loss computes this maximum too: cheaper than an argmax.
    correct = label_logits >= logits.max(axis=-1)
    return LossSum(jnp.sum(jnp.where(correct, weights, 0.0)), jnp.sum(weights))


def count_tokens(batch: Any) -> int:
    """Real tokens of a ``Seq2SeqBatch`` or ``PackedBatch``, source and target, padding apart; read on the host."""
    return int(np.sum(batch.source_lengths) + np.sum(batch.target_lengths))


def abstract_batch(batch_size: int, source_len: int, target_len: int) -> Any:
    """A ``Seq2SeqBatch`` of shapes without data, to compile for."""

    def ints(*shape: int) -> Any:
        return jax.ShapeDtypeStruct(shape, jnp.int32)

    return Seq2SeqBatch(
        source_tokens=ints(batch_size, source_len),
        source_lengths=ints(batch_size),
        target_inputs=ints(batch_size, target_len),
        target_outputs=ints(batch_size, target_len),
        target_lengths=ints(batch_size),
        example_ids=ints(batch_size),
    )
