"""Cross entropy of hidden tokens, and of the order of two parts of a text."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from transformer_jax.bounds import require_field
from transformer_jax.errors import ConfigError
from transformer_jax.functional.losses import LossSum, cross_entropy, projected_loss_and_accuracy
from transformer_jax.nn.parameters import non_parameters
from transformer_jax.objectives.token_loss import token_accuracy
from transformer_jax.typing import Array, Float, Int, Key, PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedTokens:
    r"""Cross entropy of the hidden tokens of each text, in nats.

    .. math::
      \ell = -\sum_b \sum_{t \in M_b} \log p(x_{bt} \mid \tilde x_b) - \lambda \sum_b \log p(o_b \mid \tilde x_b)

    over the places :math:`M_b` that are hidden. The encoder's vectors of these places are gathered first, so the
    product with the vocabulary is computed for them alone: for an eighth of all places, say. The second term is of the
    order :math:`o_b` of a text's two parts; the mean is taken over the hidden tokens, so a :math:`\lambda` as large as
    the number of hidden tokens of a text weighs both alike, as in BERT.

    Args:
      label_smoothing: Share of the target probability spread over the vocabulary (Szegedy et al. 2016).
      order_weight: :math:`\lambda`; it needs texts of two parts and a model with a head for their order.

    Raises:
      ConfigError: If a value is out of range.

    Example:
      >>> from transformer_jax.data.text_batches import MaskedBatch
      >>> from transformer_jax.models import EncoderOnlyConfig, Sizes, TokenVectors
      >>> config = EncoderOnlyConfig(encoder=TokenVectors(embedding_dim=4))
      >>> model = config.build(Sizes(vocab_size=8), rngs=nnx.Rngs(0))
      >>> ints = lambda *rows: jnp.array(rows, jnp.int32)
      >>> batch = MaskedBatch(ints([2, 4, 6, 3]), ints(4), ints([1, -1]), ints([7, -1]), None, ints(0))
      >>> loss, metrics, state = MaskedTokens()(model, batch, None)
      >>> float(loss.count), sorted(metrics)
      (1.0, ['accuracy'])

    Source: Devlin et al. 2019, https://arxiv.org/abs/1810.04805, appendix A.2; order of parts: Lan et al. 2020,
    https://arxiv.org/abs/1909.11942, section 3.1.
    """

    kind: Literal["masked_tokens"] = "masked_tokens"
    label_smoothing: float = 0.0
    order_weight: float = 0.0

    def __post_init__(self) -> None:
        require_field(0.0 <= self.label_smoothing < 1.0, self, "label_smoothing", "at least 0 and below 1")
        require_field(0.0 <= self.order_weight < 1e6, self, "order_weight", "at least 0 and below 1e6")

    def __call__(
        self, model: Any, batch: Any, rng_key: Key[Array, ""] | None
    ) -> tuple[LossSum, dict[str, LossSum], PyTree]:
        """Score a batch.

        Args:
          model: As `EncoderOnly`: ``encoder``, ``hidden``, ``output_projection`` and ``order_logits``.
          batch: ``MaskedBatch``.
          rng_key: Of dropout; None means evaluation.

        Returns:
          The summed loss over the number of hidden tokens; the metrics ``"accuracy"`` of hidden tokens and, with
          ``order_weight``, ``"order_accuracy"``; the variables of the model that are no parameters.

        Raises:
          ConfigError: If the order counts, and texts have one part or the model no head for it.
        """
        batch = jax.tree.map(jnp.asarray, batch)
        vectors = model.encoder(batch.tokens, lengths=batch.lengths, rng_key=rng_key)
        embedding, bias = model.output_projection()
        loss, accuracy = projected_loss_and_accuracy(
            model.hidden(at_places(vectors, batch.places)),
            embedding,
            batch.targets,
            weights=(batch.targets >= 0).astype(jnp.float32),
            label_smoothing=self.label_smoothing,
            bias=bias,
        )
        metrics = {"accuracy": accuracy}
        if self.order_weight:
            if batch.classes is None:
                raise ConfigError(
                    "order_weight needs texts of two parts: set data.sentence_order, or leave it 0"
                )
            counted = (batch.classes >= 0).astype(jnp.float32)
            logits = model.order_logits(vectors)
            of_order = cross_entropy(logits, batch.classes, weights=counted)
            loss = LossSum(loss.sum + self.order_weight * of_order.sum, loss.count)
            metrics["order_accuracy"] = token_accuracy(
                jax.lax.stop_gradient(logits)[:, None], batch.classes[:, None], counted[:, None]
            )
        return loss, metrics, non_parameters(model)


def at_places(
    vectors: Float[Array, "batch len features"], places: Int[Array, "batch places"]
) -> Float[Array, "batch places features"]:
    """The vectors of some places of each row; of a place below 0 those of the first, which do not count.

    Example:
      >>> at_places(jnp.arange(6.0).reshape(1, 3, 2), jnp.array([[2, -1]])).tolist()
      [[[4.0, 5.0], [0.0, 1.0]]]
    """
    return jnp.take_along_axis(vectors, jnp.maximum(places, 0)[..., None], axis=1)
