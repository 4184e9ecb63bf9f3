"""Decoding by connectionist temporal classification, alone or joined with a decoder, as a step model for any search."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from transformer_jax.errors import ConfigError, require
from transformer_jax.functional.ctc import CtcPrefixes, ctc_prefixes
from transformer_jax.pytree import pytree_dataclass, replace
from transformer_jax.typing import Array, Float, Int

__all__ = ["CtcDecoder", "CtcState"]


@pytree_dataclass
class CtcState:
    """The state of a search.

    Attributes:
      prefixes: Probabilities of each hypothesis by CTC.
      decoder: The decoder's own state; None where CTC decodes alone.
    """

    prefixes: CtcPrefixes
    decoder: Any


class CtcDecoder(nnx.Module):
    r"""A model's CTC head, or the head and its decoder, one token at a time.

    .. math:: z_c = \lambda \log p_{\mathrm{CTC}}(c \mid g, x) + (1 - \lambda) \log p_{\mathrm{decoder}}(c \mid g, x)

    The first term is the share of the prefix probability that goes on with :math:`c`, summed over all alignments. A
    search adds :math:`z` up as it is, without normalising it over the vocabulary, so that an ended text has

    .. math:: \lambda \log p_{\mathrm{CTC}}(y \mid x) + (1 - \lambda) \log p_{\mathrm{decoder}}(y \mid x)

    Alone (:math:`\lambda = 1`) the search is CTC's prefix search.

    Args:
      model: A `FeatureToText` with a CTC head.
      ctc_weight: :math:`\lambda`.
      blank_id: The blank, and what pads.
      bos_id: The start of a text, which is fed first.
      eos_id: The end of a text.
      forbidden_ids: Tokens besides start and end that no text holds.

    Raises:
      ConfigError: If the model has no CTC head, the weight is not above 0 and at most 1, or it is below 1 and the model
        has no decoder.

    Example:
      >>> from transformer_jax.decode.protocol import FeatureInputs
      >>> from transformer_jax.models.feature_encoders import RecurrentFeatureEncoder
      >>> from transformer_jax.models.feature_to_text import FeatureToText, FeatureToTextConfig
      >>> config = FeatureToTextConfig(
      ...   encoder=RecurrentFeatureEncoder(cell="gru", hidden_dim=4, num_layers=1, time_reduction=(2,)),
      ...   decoder=None, ctc=True)
      >>> decoder = CtcDecoder(FeatureToText(config, feature_dim=3, vocab_size=6, rngs=nnx.Rngs(0)))
      >>> state = decoder.start(FeatureInputs(jnp.ones((1, 6, 3)), jnp.array([6])), max_len=4)
      >>> log_probs, state = decoder.step(state, jnp.array([2]))
      >>> bool(jnp.allclose(jnp.exp(log_probs).sum(), 1.0, atol=1e-4)), log_probs[0, :3].tolist()
      (True, [-inf, -inf, -inf])

    Source: one-pass decoding of Hori, Watanabe and Hershey 2017, https://doi.org/10.18653/v1/P17-1048, and of Watanabe
    et al. 2017, https://doi.org/10.1109/JSTSP.2017.2763455.
    """

    gives_log_probs = True

    def __init__(
        self,
        model: Any,
        *,
        ctc_weight: float = 1.0,
        blank_id: int = 0,
        bos_id: int = 2,
        eos_id: int = 3,
        forbidden_ids: tuple[int, ...] = (1,),
    ) -> None:
        require(0.0 < ctc_weight <= 1.0, f"ctc_weight must be above 0 and at most 1; got {ctc_weight}")
        if not model.config.ctc:
            raise ConfigError("the model has no CTC head: set ctc=True in its config")
        require(
            ctc_weight == 1.0 or model.config.decoder is not None,
            f"ctc_weight is {ctc_weight}, but the model has no decoder to weigh against: set it to 1",
        )
        self.model = model
        self.ctc_weight = ctc_weight
        self.blank_id, self.bos_id, self.eos_id = blank_id, bos_id, eos_id
        self.forbidden_ids = (bos_id, eos_id, *forbidden_ids)

    def start(self, inputs: Any, *, max_len: int) -> CtcState:
        """Encode once; the empty prefix, and the decoder's state before the first token.

        Args:
          inputs: `FeatureInputs`, as the encoder takes them.
          max_len: Most tokens that will be fed.
        """
        memory, lengths = self.model.encode(inputs)
        prefixes = ctc_prefixes(
            self.model.ctc_logits(memory), lengths, blank_id=self.blank_id, forbidden_ids=self.forbidden_ids
        )
        decoder = None
        if self.ctc_weight < 1.0:
            decoder = self.model.decoder.start(memory, lengths, max_len=max_len)
        return CtcState(prefixes=prefixes, decoder=decoder)

    def step(
        self, state: CtcState, tokens: Int[Array, " batch"]
    ) -> tuple[Float[Array, "batch vocab"], CtcState]:
        """Feed one token a row, ``bos_id`` first; :math:`z` of the next token, in nats, and the new state."""
        before = state.prefixes
        after = before.extended(tokens, blank_id=self.blank_id)
        is_first = tokens == self.bos_id
        prefixes = replace(
            before,
            ends_in_token=jnp.where(is_first[:, None], before.ends_in_token, after.ends_in_token),
            ends_in_blank=jnp.where(is_first[:, None], before.ends_in_blank, after.ends_in_blank),
            last=jnp.where(is_first, before.last, after.last),
            score=jnp.where(is_first, before.score, after.score),
        )
        scores = prefixes.next_log_probs(blank_id=self.blank_id, eos_id=self.eos_id)
        if self.ctc_weight == 1.0:
            return scores, CtcState(prefixes=prefixes, decoder=None)
        logits, decoder = self.model.decoder.step(state.decoder, tokens)
        of_decoder = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
        joined = self.ctc_weight * scores + (1.0 - self.ctc_weight) * of_decoder
        return joined, CtcState(prefixes=prefixes, decoder=decoder)
