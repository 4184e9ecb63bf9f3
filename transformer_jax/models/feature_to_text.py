"""Text from what is no text: an encoder of feature frames or images, and a text decoder, a CTC head, or both."""

import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from transformer_jax.bounds import check_bounds
from transformer_jax.errors import ConfigError
from transformer_jax.functional.dropout import split_key
from transformer_jax.models.feature_encoders import FeatureEncoder
from transformer_jax.models.image_encoders import ImageEncoder
from transformer_jax.models.sizes import Sizes
from transformer_jax.models.text_decoders import TextDecoder
from transformer_jax.nn.linear import Linear
from transformer_jax.typing import Array, Float, Int

__all__ = ["FeatureToText", "FeatureToTextConfig"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureToTextConfig:
    """Text from features.

    Attributes:
      kind: Tag of the union of model configs.
      encoder: What turns features into vectors.
      decoder: What writes text by attending to them; ``None`` = CTC alone.
      ctc: Whether a linear map of the vectors gives the logits of connectionist temporal classification.

    Raises:
      ConfigError: If there is neither a decoder nor CTC.

    Example:
      >>> from transformer_jax.models.feature_encoders import RecurrentFeatureEncoder
      >>> encoder = RecurrentFeatureEncoder(cell="lstm", hidden_dim=6, num_layers=2)
      >>> FeatureToTextConfig(encoder=encoder, decoder=None, ctc=True).target_limit is None
      True

    Source: with a decoder: Chan et al. 2016, https://arxiv.org/abs/1508.01211; by CTC: Graves et al. 2006,
    https://doi.org/10.1145/1143844.1143891; with both: Kim et al. 2017, https://arxiv.org/abs/1609.06773.
    """

    sizes_needed: ClassVar[tuple[str, ...]] = ("feature_dim", "vocab_size")

    kind: Literal["feature_to_text"] = "feature_to_text"
    encoder: FeatureEncoder | ImageEncoder
    decoder: TextDecoder | None
    ctc: bool = False

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.decoder is None and not self.ctc:
            raise ConfigError("nothing writes text: give a decoder, or set ctc=True")

    @property
    def source_limit(self) -> int | None:
        """The longest input, in frames, that the encoder can take; None = no limit."""
        return self.encoder.source_limit

    @property
    def target_limit(self) -> int | None:
        """The longest text, the end token included; None = no limit."""
        return None if self.decoder is None else self.decoder.target_limit

    def build(self, sizes: Sizes, *, rngs: nnx.Rngs) -> "FeatureToText":
        """The model for these sizes."""
        return FeatureToText(
            self, feature_dim=sizes.need("feature_dim"), vocab_size=sizes.need("vocab_size"), rngs=rngs
        )


class FeatureToText(nnx.Module):
    r"""Text from features.

    .. math:: m = \mathrm{encode}(x), \quad p(y \mid x) = \prod_t p(y_t \mid y_{<t}, m)

    Padding changes nothing, even where it holds NaN. A row of length 0 has an empty memory.

    Args:
      config: Encoder and decoder.
      feature_dim: Width of a frame of features, or channels of an image.
      vocab_size: Number of target tokens.
      rngs: Source of the initial parameters.

    Example:
      >>> from transformer_jax.decode.protocol import FeatureInputs
      >>> from transformer_jax.models.feature_encoders import RecurrentFeatureEncoder
      >>> from transformer_jax.models.recurrent_config import Bahdanau
      >>> from transformer_jax.models.text_decoders import RecurrentTextDecoder
      >>> config = FeatureToTextConfig(
      ...   encoder=RecurrentFeatureEncoder(cell="gru", hidden_dim=4, num_layers=1, time_reduction=(2,)),
      ...   decoder=RecurrentTextDecoder(embedding_dim=4, hidden_dim=6, attention=Bahdanau(attention_dim=5)))
      >>> model = FeatureToText(config, feature_dim=3, vocab_size=9, rngs=nnx.Rngs(0))
      >>> inputs = FeatureInputs(jnp.ones((2, 5, 3)), jnp.array([5, 3]))
      >>> model(inputs, jnp.ones((2, 4), int)).shape
      (2, 4, 9)
    """

    def __init__(
        self, config: FeatureToTextConfig, *, feature_dim: int, vocab_size: int, rngs: nnx.Rngs
    ) -> None:
        self.config = config
        memory_dim = config.encoder.output_dim
        self.encoder = config.encoder.build(feature_dim, rngs=rngs)
        self.decoder = (
            None if config.decoder is None else config.decoder.build(memory_dim, vocab_size, rngs=rngs)
        )
        self.ctc_output = Linear(memory_dim, (vocab_size,), use_bias=True, rngs=rngs) if config.ctc else None

    def __call__(
        self, inputs: Any, target_inputs: Int[Array, "batch q_len"], *, rng_key: jax.Array | None = None
    ) -> Float[Array, "batch q_len vocab"]:
        """Logits of the token after each target input, float32.

        Args:
          inputs: `FeatureInputs` or `ImageInputs`, as the encoder takes them.
          target_inputs: Target ids, the start token first.
          rng_key: Draws dropout; ``None`` = evaluation.

        Raises:
          ConfigError: If there is no decoder.
        """
        return self._decoder()._logits(self.hidden(inputs, target_inputs, rng_key=rng_key))

    def encode(
        self, inputs: Any, *, rng_key: jax.Array | None = None
    ) -> tuple[Float[Array, "batch len features"], Int[Array, "batch"]]:
        """The memory, zeros behind the length of each row, and the lengths.

        Args:
          inputs: As in the call.
          rng_key: Draws dropout; ``None`` = evaluation.
        """
        memory, lengths = self.encoder(jax.tree.map(jnp.asarray, inputs), rng_key=rng_key)
        valid = jnp.arange(memory.shape[1], dtype=jnp.int32)[None] < lengths[:, None]
        return jnp.where(valid[..., None], memory, jnp.zeros_like(memory)), lengths

    def hidden(
        self,
        inputs: Any,
        target_inputs: Int[Array, "batch q_len"],
        *,
        rng_key: jax.Array | None = None,
        scheduled_sampling_rate: float | Float[Array, ""] | None = None,
    ) -> Float[Array, "batch q_len model"]:
        """States before the output projection; arguments as in the call, and those of the decoder's ``hidden``."""
        encoder_key, decoder_key = split_key(rng_key, 2)
        memory, lengths = self.encode(inputs, rng_key=encoder_key)
        return self.hidden_of(
            memory,
            lengths,
            target_inputs,
            rng_key=decoder_key,
            scheduled_sampling_rate=scheduled_sampling_rate,
        )

    def hidden_of(
        self,
        memory: Float[Array, "batch len features"],
        lengths: Int[Array, "batch"],
        target_inputs: Int[Array, "batch q_len"],
        *,
        rng_key: jax.Array | None = None,
        scheduled_sampling_rate: float | Float[Array, ""] | None = None,
    ) -> Float[Array, "batch q_len model"]:
        """As :meth:`hidden`, of features that are encoded already.

        Args:
          memory: As :meth:`encode` gives it.
          lengths: Valid positions of each row.
          target_inputs: Target ids, the start token first.
          rng_key: Draws dropout; ``None`` = evaluation.
          scheduled_sampling_rate: As in the decoder's ``hidden``.
        """
        return self._decoder().hidden(
            memory, lengths, target_inputs, rng_key=rng_key, scheduled_sampling_rate=scheduled_sampling_rate
        )

    def output_projection(self) -> tuple[Float[Array, "vocab model"], Float[Array, "vocab"] | None]:
        """``(E, b)`` with ``logits = hidden @ E.T + b``; the decoder's."""
        return self._decoder().output_projection()

    def ctc_logits(self, memory: Float[Array, "batch len features"]) -> Float[Array, "batch len vocab"]:
        """Logits of connectionist temporal classification at each position of a memory, float32.

        Raises:
          ConfigError: If the model has no CTC head.
        """
        if self.ctc_output is None:
            raise ConfigError("the model has no CTC head: set ctc=True in its config")
        return self.ctc_output(memory).astype(jnp.float32)

    def start(self, inputs: Any, *, max_len: int) -> Any:
        """Encode; the decoder's state before the first token.

        Args:
          inputs: As in the call.
          max_len: Most tokens that will be fed.
        """
        memory, lengths = self.encode(inputs)
        return self._decoder().start(memory, lengths, max_len=max_len)

    def step(self, state: Any, tokens: Int[Array, "batch"]) -> tuple[Float[Array, "batch vocab"], Any]:
        """Feed one token a row; logits of the next one, float32, and the new state."""
        return self._decoder().step(state, tokens)

    def step_with_attention(
        self, state: Any, tokens: Int[Array, "batch"]
    ) -> tuple[Float[Array, "batch vocab"], Float[Array, "batch len"], Any]:
        """As :meth:`step`, and between its results the step's attention weights over the memory."""
        return self._decoder().step_with_attention(state, tokens)

    def attention_maps(
        self, inputs: Any, target_inputs: Int[Array, "batch q_len"]
    ) -> dict[str, Float[Array, "batch heads q_len len"]]:
        """Attention weights of each target step over the memory, by name of the attention, the last layer's last."""
        if self.decoder is None:
            return {}
        memory, lengths = self.encode(inputs)
        return self.decoder.attention_maps(memory, lengths, target_inputs)

    def _decoder(self) -> Any:
        if self.decoder is None:
            raise ConfigError("the model has a CTC head and no decoder: give it one")
        return self.decoder
