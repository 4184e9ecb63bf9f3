"""Cross entropy of encoder-decoders by teacher forcing, with label smoothing, scheduled sampling and R-Drop."""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from transformer_jax.bounds import Count, check_bounds, require_field
from transformer_jax.data.batches import PackedBatch
from transformer_jax.errors import ConfigError
from transformer_jax.functional.losses import LossSum, projected_divergence, symmetric_divergence
from transformer_jax.nn.parameters import non_parameters
from transformer_jax.objectives.token_loss import length_weights, score_tokens
from transformer_jax.typing import Array, Float, Int, Key, PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairCrossEntropy:
    r"""Cross entropy of the target tokens given the source, by teacher forcing.

    With ``r_drop_weight`` :math:`\alpha` each row is read twice, under two dropout masks, and the two distributions
    :math:`p, q` of each token are pulled together (Liang et al. 2021, https://arxiv.org/abs/2106.14448, equation 4,
    halved so that :math:`\alpha = 0` is the plain loss):

    .. math:: \tfrac12 \left[\ell(p) + \ell(q) + \tfrac{\alpha}{2} (\mathrm{KL}(p \Vert q)
      + \mathrm{KL}(q \Vert p))\right]

    Batches are ``Seq2SeqBatch``, or ``PackedBatch`` for models that take ``source_segments`` and ``target_segments``.
    A model that offers ``hidden`` and ``output_projection`` is scored without storing its log-probabilities.

    Args:
      label_smoothing: Share of the target probability spread over the vocabulary (Szegedy et al. 2016).
      scheduled_sampling_rate: Probability that a recurrent decoder reads its own last token, not the right one
        (Bengio et al. 2015).
      scheduled_sampling_updates: Updates over which that probability rises linearly from 0; 0 applies it at once.
      r_drop_weight: :math:`\alpha`, 5 in the paper's translations; above 0 an update costs twice as much. Evaluation
        reads each row once.
      coverage_weight: Weight of the coverage loss, of attention to what was attended to before (See et al. 2017,
        https://arxiv.org/abs/1704.04368, equation 13; 1 in the paper).

    Raises:
      ConfigError: If a value is out of range; when called, if the model cannot do scheduled sampling, or cannot read
        packed rows.

    Example:
      >>> from flax import nnx
      >>> from transformer_jax.testing.tiny_training import SequenceTask, TinySeq2Seq
      >>> task = SequenceTask(task="copy", vocab_size=9, min_len=1, max_lens=(4,), batch_size=3)
      >>> model = TinySeq2Seq(vocab_size=9, model_dim=4, dropout_rate=0.0, rngs=nnx.Rngs(0))
      >>> loss, metrics, state = PairCrossEntropy(label_smoothing=0.1)(model, task.batch(0), None)
      >>> int(loss.count) == task.batch(0).num_target_tokens(), list(metrics)
      (True, ['accuracy'])
    """

    kind: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: float = 0.0
    scheduled_sampling_rate: float = 0.0
    scheduled_sampling_updates: Count = 0
    r_drop_weight: float = 0.0
    coverage_weight: float = 0.0

    def __post_init__(self) -> None:
        check_bounds(self)
        require_field(0.0 <= self.label_smoothing < 1.0, self, "label_smoothing", "at least 0 and below 1")
        require_field(
            0.0 <= self.scheduled_sampling_rate <= 1.0, self, "scheduled_sampling_rate", "between 0 and 1"
        )
        require_field(self.scheduled_sampling_updates >= 0, self, "scheduled_sampling_updates", "at least 0")
        is_weight = math.isfinite(self.r_drop_weight) and self.r_drop_weight >= 0.0
        require_field(is_weight, self, "r_drop_weight", "at least 0")
        is_weight = math.isfinite(self.coverage_weight) and self.coverage_weight >= 0.0
        require_field(is_weight, self, "coverage_weight", "at least 0")
        if self.coverage_weight and self.scheduled_sampling_rate:
            raise ConfigError(
                "coverage_weight and scheduled_sampling_rate cannot both be above 0: sampled tokens keep no "
                "attention; set one of them to 0"
            )
        if self.r_drop_weight and self.scheduled_sampling_rate:
            raise ConfigError(
                "r_drop_weight and scheduled_sampling_rate cannot both be above 0: the two passes of R-Drop must read "
                "the same tokens; set one of them to 0"
            )

    def check_attending(self, *, has_pointer: bool) -> None:
        """Raise ``ConfigError`` if the values do not go with a model that copies its source."""
        for name in ("label_smoothing", "scheduled_sampling_rate", "r_drop_weight"):
            if has_pointer and getattr(self, name):
                raise ConfigError(
                    f"{name} is for models without a pointer, whose tokens all have some probability; got "
                    f"{getattr(self, name):g}: set it to 0"
                )

    def at(self, update: Int[Array, ""]) -> Callable[..., tuple[LossSum, dict[str, LossSum], PyTree]]:
        """The objective after ``update`` updates, which set the rate of scheduled sampling."""
        return functools.partial(self._scored, updates_done=update)

    def __call__(
        self, model: Any, batch: Any, rng_key: Key[Array, ""] | None
    ) -> tuple[LossSum, dict[str, LossSum], PyTree]:
        """Score a batch.

        Args:
          model: An encoder-decoder.
          batch: ``Seq2SeqBatch`` or ``PackedBatch``.
          rng_key: Of dropout and sampling; None means evaluation.

        Returns:
          The summed loss; the metrics ``"accuracy"``, of tokens under teacher forcing, ``"coverage"``, the mean
          coverage loss where it has a weight, and ``"r_drop"``, the mean divergence of the two passes in training by
          R-Drop; the variables of the model that are no parameters.
        """
        return self._scored(model, batch, rng_key)

    def _scored(
        self,
        model: Any,
        batch: Any,
        rng_key: Key[Array, ""] | None,
        *,
        updates_done: Int[Array, ""] | None = None,
    ) -> tuple[LossSum, dict[str, LossSum], PyTree]:
        batch = jax.tree.map(jnp.asarray, batch)
        in_pairs = self.r_drop_weight > 0.0 and rng_key is not None
        if in_pairs:  # each row beside its copy, on the same device, under another dropout mask
            batch = jax.tree.map(lambda array: jnp.repeat(array, 2, axis=0), batch)
        keywords: dict[str, Any] = {"rng_key": rng_key}
        if getattr(model, "pointer", None) is not None or self.coverage_weight:
            self.check_attending(has_pointer=getattr(model, "pointer", None) is not None)
            if isinstance(batch, PackedBatch):
                raise ConfigError(
                    "packed rows go with neither a pointer nor coverage: set data.packing to null"
                )
        if isinstance(batch, PackedBatch):
            _check_reads_segments(model)
            keywords |= {"source_segments": batch.source_segments, "target_segments": batch.target_segments}
        if self.scheduled_sampling_rate > 0.0 and rng_key is not None:
            keywords["scheduled_sampling_rate"] = self._sampling_rate(updates_done)
        labels = batch.target_outputs
        weights = length_weights(batch.target_lengths, labels.shape[1])
        try:
            scores = score_tokens(
                model,
                (batch.source_tokens, batch.source_lengths, batch.target_inputs),
                keywords,
                labels=labels,
                weights=weights,
                label_smoothing=self.label_smoothing,
                with_coverage=self.coverage_weight > 0.0,
            )
        except NotImplementedError as error:
            if "scheduled_sampling_rate" not in keywords:
                raise
            raise ConfigError(
                f"scheduled_sampling_rate is {self.scheduled_sampling_rate}, but {type(model).__name__} "
                f"cannot read its own tokens while it trains: set it to 0 ({error})"
            ) from error
        loss, metrics = scores.loss, {"accuracy": scores.accuracy}
        if scores.coverage is not None:
            loss = dataclasses.replace(loss, sum=loss.sum + self.coverage_weight * scores.coverage.sum)
            metrics["coverage"] = scores.coverage
        if in_pairs:
            passes, weights = _halves(scores.outputs), _halves(weights)[0]
            if scores.projection is None:
                divergence = symmetric_divergence(*passes, weights=weights)
            else:
                embedding, bias = scores.projection
                divergence = projected_divergence(*passes, embedding, weights=weights, bias=bias)
            loss = dataclasses.replace(loss, sum=loss.sum + self.r_drop_weight * divergence.sum)
            metrics["r_drop"] = divergence
        return loss, metrics, non_parameters(model)

    def _sampling_rate(self, updates_done: Int[Array, ""] | None) -> Float[Array, ""]:
        rate = jnp.float32(self.scheduled_sampling_rate)
        if updates_done is None or self.scheduled_sampling_updates == 0:
            return rate
        return rate * jnp.minimum(1.0, updates_done.astype(jnp.float32) / self.scheduled_sampling_updates)


def _halves(array: Array) -> tuple[Array, Array]:
    """Rows and their copies, separated, where each row is followed by its copy."""
    pairs = array.reshape(-1, 2, *array.shape[1:])
    return pairs[:, 0], pairs[:, 1]


def _check_reads_segments(model: Any) -> None:
    if "source_segments" not in inspect.signature(type(model).__call__).parameters:
        raise ConfigError(
            f"packed rows hold several pairs each, which {type(model).__name__} cannot keep apart: set data.packing to "
            "null, or take a Transformer"
        )
