"""Text decoders over a memory that any encoder made: recurrent with attention, and Transformer, each as a value."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from transformer_jax.bounds import Layers, TokenId, Width, check_at_least, check_bounds
from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional import AttentionMask
from transformer_jax.functional.deep_norm import deep_scales_of_pair
from transformer_jax.functional.dropout import check_rate, split_key
from transformer_jax.functional.dtypes import ComputeDtype, check_compute_dtype
from transformer_jax.functional.recurrent import cell_class
from transformer_jax.models.recurrent_config import Bahdanau, Luong
from transformer_jax.models.recurrent_state import RecurrentState
from transformer_jax.models.recurrent_target import RecurrentTarget, recurrent_decoder
from transformer_jax.models.transformer_choices import TransformerFields, check_choices, layer_config_of
from transformer_jax.models.transformer_target import EncoderDecoderState, TransformerTarget
from transformer_jax.nn.embeddings import Embedding
from transformer_jax.nn.linear import Linear
from transformer_jax.nn.position_encodings import Learned, Positions, Sinusoidal
from transformer_jax.nn.recurrent import RecurrentNormalization, RecurrentNormPlacement, check_recurrent_norm
from transformer_jax.nn.stacks import DecoderStack, check_stack
from transformer_jax.nn.transformer_layers import TransformerLayerConfig
from transformer_jax.typing import Array, Float, Int

__all__ = [
    "RecurrentMemoryDecoder",
    "RecurrentTextDecoder",
    "TextDecoder",
    "TransformerMemoryDecoder",
    "TransformerTextDecoder",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecurrentTextDecoder:
    """A recurrent decoder with attention; it starts from the mean of the memory.

    Attributes:
      kind: Tag of the union of text decoders.
      cell: The cell, one of :func:`~transformer_jax.functional.recurrent.cell_kinds`.
      embedding_dim: Width of the token embeddings.
      hidden_dim: Width of the state.
      num_layers: Number of layers.
      attention: How the memory is attended to, with coverage as `Bahdanau` has it.
      dropout_rate: On embeddings, between layers, and on the states before the output projection.
      residual: Add the input of every layer but the first to its output.
      dtype: Of matrix products and activations; parameters, gates, carries and softmax are float32.
      recurrence_implementation: See :func:`~transformer_jax.functional.recurrent.run_cells.recurrence`.
      attention_implementation: As in :func:`~transformer_jax.functional.attention`; without coverage.
      normalization: Of what goes from layer to layer, ``"layer"`` or ``"rms"``; ``"none"`` = as it is.
      norm_placement: ``"post"``: of each layer's output, after ``residual`` was added; ``"pre"``: of the input of every
        layer but the first.

    Raises:
      ConfigError: If a size, a rate or a combination is out of range.

    Example:
      >>> decoder = RecurrentTextDecoder(
      ...   embedding_dim=4, hidden_dim=6, attention=Bahdanau(attention_dim=5, coverage_width=3))
      >>> decoder.target_limit is None
      True

    Source: Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473; coverage: Zhang et al. 2017,
    https://doi.org/10.1016/j.patcog.2017.06.017, section 3.2.
    """

    kind: Literal["recurrent"] = "recurrent"
    cell: str = "gru"
    embedding_dim: Width
    hidden_dim: Width
    num_layers: Layers = 1
    attention: Bahdanau | Luong
    dropout_rate: float = 0.0
    residual: bool = False
    dtype: ComputeDtype = "float32"
    recurrence_implementation: str | None = None
    attention_implementation: str | None = None
    normalization: RecurrentNormalization = "none"
    norm_placement: RecurrentNormPlacement = "post"

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(
            1, embedding_dim=self.embedding_dim, hidden_dim=self.hidden_dim, num_layers=self.num_layers
        )
        cell_class(self.cell)
        check_compute_dtype("dtype", self.dtype)
        check_rate("dropout_rate", self.dropout_rate)
        check_recurrent_norm(self.normalization, self.norm_placement, num_layers=self.num_layers)
        if isinstance(self.attention, Bahdanau) and self.hidden_dim % 2:
            raise ConfigError(
                f"hidden_dim must be even, since the readout's maxout takes pairs; got {self.hidden_dim}"
            )

    @property
    def memory_limit(self) -> int | None:
        """The longest memory that can be attended to, limited by location scores; None = no limit."""
        return self.attention.max_len if isinstance(self.attention, Luong) else None

    @property
    def target_limit(self) -> int | None:
        """The longest target, the end token included; None = no limit."""
        return None

    def build(self, memory_dim: int, vocab_size: int, *, rngs: nnx.Rngs) -> "RecurrentMemoryDecoder":
        """The decoder of a memory of this width and a vocabulary of this size."""
        return RecurrentMemoryDecoder(self, memory_dim, vocab_size, rngs=rngs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _OverMemory:
    """The config as the recurrent decoders read it, which know the width of the memory too."""

    embedding_dim: int
    hidden_dim: int
    cell: str
    num_decoder_layers: int
    bidirectional: bool
    attention: Bahdanau | Luong
    dropout_rate: float
    residual: bool
    dtype: ComputeDtype
    recurrence_implementation: str | None
    attention_implementation: str | None
    normalization: RecurrentNormalization
    norm_placement: RecurrentNormPlacement
    encoder_dim: int
    readout_dim: int

    @classmethod
    def of(cls, config: RecurrentTextDecoder, memory_dim: int) -> "_OverMemory":
        named = {
            field.name: getattr(config, field.name)
            for field in dataclasses.fields(cls)
            if hasattr(config, field.name)
        }
        is_deep = isinstance(config.attention, Bahdanau)
        return cls(
            **named,
            num_decoder_layers=config.num_layers,
            bidirectional=False,
            encoder_dim=memory_dim,
            readout_dim=config.hidden_dim // 2 if is_deep else config.hidden_dim,
        )


class RecurrentMemoryDecoder(RecurrentTarget):
    r"""A recurrent decoder over a memory.

    .. math:: h_0 = \tanh(W \bar m + b), \quad \bar m = \frac{1}{n} \sum_{j \le n} m_j

    Each layer, and each part of a carry such as an LSTM's, has a map :math:`W, b` of its own.

    Args:
      config: Sizes and variant.
      memory_dim: Width of the memory.
      vocab_size: Number of target tokens.
      rngs: Source of the initial parameters.

    Example:
      >>> config = RecurrentTextDecoder(embedding_dim=4, hidden_dim=6, attention=Bahdanau(attention_dim=5))
      >>> decoder = config.build(3, 9, rngs=nnx.Rngs(0))
      >>> decoder.hidden(jnp.ones((2, 5, 3)), jnp.array([5, 2]), jnp.ones((2, 4), int)).shape
      (2, 4, 3)

    Source: Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473; the first state: Xu et al. 2015,
    https://arxiv.org/abs/1502.03044, section 3.1.2.
    """

    def __init__(
        self, config: RecurrentTextDecoder, memory_dim: int, vocab_size: int, *, rngs: nnx.Rngs
    ) -> None:
        self.config = config
        self.target_embedding = Embedding(
            vocab_size,
            config.embedding_dim,
            padding_id=None,
            scale="sqrt_dim",
            dtype=config.dtype,
            rngs=rngs,
        )
        parts = len(cell_class(config.cell).carry_names)
        self.first_states = nnx.List(
            [
                Linear(memory_dim, (config.hidden_dim,), use_bias=True, rngs=rngs)
                for _ in range(config.num_layers * parts)
            ]
        )
        over = _OverMemory.of(config, memory_dim)
        self.decoder = recurrent_decoder(over, rngs=rngs)
        self.output = Linear(over.readout_dim, (vocab_size,), use_bias=True, rngs=rngs)

    def hidden(
        self,
        memory: Float[Array, "batch len features"],
        lengths: Int[Array, "batch"],
        target_inputs: Int[Array, "batch q_len"],
        *,
        rng_key: jax.Array | None = None,
        scheduled_sampling_rate: float | Float[Array, ""] | None = None,
    ) -> Float[Array, "batch q_len model"]:
        """States before the output projection.

        Args:
          memory: What is attended to.
          lengths: Positions of each memory that count.
          target_inputs: Target ids, the start token first.
          rng_key: For dropout and scheduled sampling; ``None`` = evaluation.
          scheduled_sampling_rate: As in `RecurrentSeq2Seq`.

        Raises:
          ConfigError: If there is a ``scheduled_sampling_rate`` but no ``rng_key``.
          ShapeError: If the memory is longer than location attention can score.
        """
        state = self.start(memory, lengths, max_len=target_inputs.shape[1])
        return self._hidden(state, target_inputs, split_key(rng_key, 4), scheduled_sampling_rate)

    def start(
        self, memory: Float[Array, "batch len features"], lengths: Int[Array, "batch"], *, max_len: int
    ) -> RecurrentState:
        """The state before the first token (its size does not depend on ``max_len``).

        Args:
          memory: What is attended to.
          lengths: Positions of each memory that count.
          max_len: Most tokens that will be fed.

        Raises:
          ShapeError: If the memory is longer than location attention can score.
        """
        del max_len
        limit = self.config.memory_limit
        if limit is not None and memory.shape[1] > limit:
            raise ShapeError(
                f"the memory has {memory.shape[1]} positions; location attention scores {limit}: raise max_len or "
                "shorten the inputs"
            )
        valid = jnp.arange(memory.shape[1], dtype=jnp.int32)[None] < lengths[:, None]
        memory = jnp.where(valid[..., None], memory, jnp.zeros_like(memory))
        total = memory.astype(jnp.float32).sum(axis=1)
        mean = total / jnp.maximum(lengths, 1)[:, None].astype(jnp.float32)
        maps = iter(self.first_states)
        # A carry of the right structure: cells differ in its parts.
        empty = self.decoder.stack.initial_carry(memory.shape[0])
        carries = jax.tree.map(lambda _: jnp.tanh(next(maps)(mean)), empty)
        return self.decoder.initial_state(memory, (), carries, lengths)

    def attention_maps(
        self,
        memory: Float[Array, "batch len features"],
        lengths: Int[Array, "batch"],
        target_inputs: Int[Array, "batch q_len"],
    ) -> dict[str, Float[Array, "batch 1 q_len len"]]:
        """Attention weights of each target step by teacher forcing, under ``"decoder"``."""
        state = self.start(memory, lengths, max_len=target_inputs.shape[1])
        weights = self.decoder.attention_weights(state, self.target_embedding(target_inputs))
        return {} if weights is None else {"decoder": weights}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerTextDecoder(TransformerFields):
    """A Transformer decoder over a memory, which is mapped to the model's width where it has another.

    What is not named here is as in `TransformerFields`.

    Attributes:
      kind: Tag of the union of text decoders.
      num_layers: Number of layers.
      attention_bias: Whether attention's projections have a bias.
      positions: How the order of tokens is learned.
      share_embeddings: Whether embedding and output projection are one table.
      padding_id: The token of padding, whose embedding is zero.
      dtype: Of matrix products and activations; parameters, statistics of norms and softmax are float32.

    Raises:
      ConfigError: If a value is out of range.
      ShapeError: If the numbers of heads do not divide.

    Example:
      >>> TransformerTextDecoder(
      ...   model_dim=8, num_heads=2, num_kv_heads=2, feed_forward_dim=16, num_layers=1).target_limit is None
      True

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.1.
    """

    kind: Literal["transformer"] = "transformer"
    num_layers: Layers
    attention_bias: bool = False
    positions: Positions = dataclasses.field(default_factory=Sinusoidal)
    share_embeddings: bool = False
    padding_id: TokenId = 0
    dtype: ComputeDtype = "float32"

    def __post_init__(self) -> None:
        check_choices(self, counts=("num_layers",), bidirectional=(False,))
        check_stack(self.layer_config(), self.positions)

    @property
    def memory_limit(self) -> int | None:
        """The longest memory that can be attended to: there is no limit."""
        return None

    @property
    def target_limit(self) -> int | None:
        """The longest target, the end token included, limited by learned positions; None = no limit."""
        return self.positions.max_len if isinstance(self.positions, Learned) else None

    def layer_config(self) -> TransformerLayerConfig:
        """Sizes and choices of every layer; DeepNorm's scales are those of a decoder over any encoder."""
        deep = deep_scales_of_pair(0, self.num_layers)[1]
        return layer_config_of(self, deep=deep, self_attention="softmax")

    def build(self, memory_dim: int, vocab_size: int, *, rngs: nnx.Rngs) -> "TransformerMemoryDecoder":
        """The decoder of a memory of this width and a vocabulary of this size."""
        return TransformerMemoryDecoder(self, memory_dim, vocab_size, rngs=rngs)


class TransformerMemoryDecoder(TransformerTarget):
    """A Transformer decoder over a memory.

    Args:
      config: Sizes and choices.
      memory_dim: Width of the memory.
      vocab_size: Number of target tokens.
      rngs: Source of the initial parameters.

    Example:
      >>> config = TransformerTextDecoder(
      ...   model_dim=8, num_heads=2, num_kv_heads=2, feed_forward_dim=16, num_layers=1)
      >>> decoder = config.build(3, 9, rngs=nnx.Rngs(0))
      >>> decoder.hidden(jnp.ones((2, 5, 3)), jnp.array([5, 2]), jnp.ones((2, 4), int)).shape
      (2, 4, 8)

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.1.
    """

    def __init__(
        self, config: TransformerTextDecoder, memory_dim: int, vocab_size: int, *, rngs: nnx.Rngs
    ) -> None:
        self.config = config
        self.target_embedding = Embedding(
            vocab_size,
            config.model_dim,
            padding_id=config.padding_id,
            scale="sqrt_dim",
            dtype=config.dtype,
            rngs=rngs,
        )
        self.output_embedding = (
            None
            if config.share_embeddings
            else Embedding(vocab_size, config.model_dim, padding_id=None, scale="none", rngs=rngs)
        )
        self.memory_map = (
            None
            if memory_dim == config.model_dim
            else Linear(memory_dim, (config.model_dim,), use_bias=True, rngs=rngs)
        )
        self.decoder = DecoderStack(
            config.layer_config(),
            config.num_layers,
            positions=config.positions,
            final_norm=config.has_final_norm,
            rngs=rngs,
        )

    def hidden(
        self,
        memory: Float[Array, "batch len features"],
        lengths: Int[Array, "batch"],
        target_inputs: Int[Array, "batch q_len"],
        *,
        rng_key: jax.Array | None = None,
        scheduled_sampling_rate: Any = None,
    ) -> Float[Array, "batch q_len model"]:
        """States before the output projection.

        Args:
          memory: What is attended to.
          lengths: Positions of each memory that count.
          target_inputs: Target ids, the start token first.
          rng_key: Draws dropout; ``None`` = evaluation.
          scheduled_sampling_rate: Must be ``None``.

        Raises:
          NotImplementedError: If ``scheduled_sampling_rate`` is given.
          ShapeError: If there are more tokens than learned positions.
        """
        if scheduled_sampling_rate is not None:
            raise NotImplementedError(
                "scheduled_sampling_rate: all target positions are computed at once, so none can feed the next; "
                "leave it None for a Transformer decoder"
            )
        memories, mask = self._projected(memory), AttentionMask.from_lengths(lengths, memory.shape[1])
        embedded, valid = self.target_embedding(target_inputs), self._real_targets(target_inputs)
        return self.decoder(embedded, memories, memory_mask=mask, valid=valid, rng_key=rng_key)

    def start(
        self, memory: Float[Array, "batch len features"], lengths: Int[Array, "batch"], *, max_len: int
    ) -> EncoderDecoderState:
        """The state before the first token.

        Args:
          memory: What is attended to.
          lengths: Positions of each memory that count.
          max_len: Tokens that the caches of keys and values have room for.
        """
        return self._start(self._projected(memory), lengths, max_len)

    def attention_maps(
        self,
        memory: Float[Array, "batch len features"],
        lengths: Int[Array, "batch"],
        target_inputs: Int[Array, "batch q_len"],
    ) -> dict[str, Float[Array, "batch heads q_len len"]]:
        """Cross-attention weights by teacher forcing, ``decoder_layer_0`` first."""
        mask = AttentionMask.from_lengths(lengths, memory.shape[1])
        return self._maps(self._projected(memory), mask, target_inputs)

    def _projected(self, memory: Array) -> Any:
        return self.decoder.project_memory(memory if self.memory_map is None else self.memory_map(memory))


TextDecoder = RecurrentTextDecoder | TransformerTextDecoder
"""All text decoders over a memory, as values of a config."""
