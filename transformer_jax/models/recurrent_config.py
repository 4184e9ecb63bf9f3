"""Configuration of the recurrent encoder-decoders: every variant is a value."""

import dataclasses
from typing import ClassVar, Literal, Protocol, runtime_checkable

from flax import nnx

from transformer_jax.bounds import Layers, Length, Width, check_at_least, check_bounds
from transformer_jax.errors import ConfigError
from transformer_jax.functional.attention import check_attention_implementation
from transformer_jax.functional.dropout import check_rate
from transformer_jax.functional.dtypes import ComputeDtype, check_compute_dtype
from transformer_jax.functional.recurrent import cell_class, check_recurrence_implementation
from transformer_jax.functional.scores import RuleConfig, score_class
from transformer_jax.models.pointer import Pointer
from transformer_jax.models.sizes import Sizes
from transformer_jax.nn.local_attention import Monotonic, Predictive
from transformer_jax.nn.recurrent import RecurrentNormalization, RecurrentNormPlacement, check_recurrent_norm


@dataclasses.dataclass(frozen=True, kw_only=True)
class LastState:
    """The encoder's last state is all that the decoder knows of the source.

    Attributes:
      feed_each_step: Feed it to every step and to the readout (Cho et al. 2014) instead of only starting
        the decoder from it (Sutskever et al. 2014).
    """

    kind: Literal["last_state"] = "last_state"
    feed_each_step: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bahdanau:
    """Additive attention queried by the previous decoder state, before the step (Bahdanau et al. 2015).

    Attributes:
      attention_dim: Hidden units of the alignment model.
      score: The score rule, the paper's or another of :func:`~transformer_jax.functional.scores.score_kinds` that
        needs no ``max_len``.
      coverage_width: Positions around each source position whose attention of all former steps its score sees, see
        `transformer_jax.nn.coverage_attention`; 1 sees the position itself, ``None`` = no coverage.

    Raises:
      ConfigError: If the score needs ``max_len``, or coverage meets another score than ``"additive"``.
    """

    kind: Literal["bahdanau"] = "bahdanau"
    attention_dim: Width
    score: str = "additive"
    coverage_width: Width | None = None

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(1, coverage_width=self.coverage_width)
        if self.coverage_width is not None and self.score != "additive":
            raise ConfigError(
                f"coverage_width is for score 'additive'; got {self.coverage_width} with '{self.score}': set it to None"
            )
        if score_class(self.score).has_size("max_len"):
            raise ConfigError(
                f"score '{self.score}' needs max_len, which attention 'bahdanau' has not; use 'luong'"
            )

    def rule(self) -> RuleConfig:
        """The score rule with its sizes."""
        return score_class(self.score).of_sizes(attention_dim=self.attention_dim)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Luong:
    """Attention queried by the new decoder state, after the step (Luong et al. 2015).

    Attributes:
      score: The score rule: the paper's ``"dot"``, ``"general"``, ``"concat"`` and ``"location"``, or another of
        :func:`~transformer_jax.functional.scores.score_kinds`.
      input_feeding: Feed the attentional vector to the next step.
      max_len: For ``"location"``: the longest source, in tokens; ``None`` for the other rules.
      local: See a window of the source instead of all of it; ``None`` = global attention.
    """

    kind: Literal["luong"] = "luong"
    score: str
    input_feeding: bool
    max_len: Length | None = None
    local: Monotonic | Predictive | None = None

    def __post_init__(self) -> None:
        check_bounds(self)
        has_max_len = score_class(self.score).has_size("max_len")
        if has_max_len and (self.max_len is None or self.max_len < 1):
            raise ConfigError(f"max_len must be at least 1 for score '{self.score}'; got {self.max_len}")
        if not has_max_len and self.max_len is not None:
            raise ConfigError(f"max_len is for score 'location' only; got {self.max_len} with '{self.score}'")

    def rule(self, hidden_dim: int) -> RuleConfig:
        """The score rule; ``concat`` has ``hidden_dim`` hidden units, as in the paper."""
        return score_class(self.score).of_sizes(attention_dim=hidden_dim, max_len=self.max_len)


@runtime_checkable
class RecurrentDecoderConfig(Protocol):
    """What the recurrent decoders read of a model's config; attributes as in `RecurrentSeq2SeqConfig`."""

    @property
    def embedding_dim(self) -> int: ...
    @property
    def hidden_dim(self) -> int: ...
    @property
    def cell(self) -> str: ...
    @property
    def num_decoder_layers(self) -> int: ...
    @property
    def bidirectional(self) -> bool: ...
    @property
    def attention(self) -> LastState | Bahdanau | Luong: ...
    @property
    def dropout_rate(self) -> float: ...
    @property
    def residual(self) -> bool: ...
    @property
    def dtype(self) -> ComputeDtype: ...
    @property
    def recurrence_implementation(self) -> str | None: ...
    @property
    def attention_implementation(self) -> str | None: ...
    @property
    def normalization(self) -> RecurrentNormalization: ...
    @property
    def norm_placement(self) -> RecurrentNormPlacement: ...
    @property
    def encoder_dim(self) -> int: ...
    @property
    def readout_dim(self) -> int: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecurrentSeq2SeqConfig:
    """A recurrent encoder-decoder.

    Attributes:
      embedding_dim: Width of the token embeddings, source and target.
      hidden_dim: Width of a cell's state, encoder (each direction) and decoder.
      cell: The cell of all layers, one of :func:`~transformer_jax.functional.recurrent.cell_kinds`.
      num_encoder_layers: Layers of the encoder.
      num_decoder_layers: Layers of the decoder.
      bidirectional: Whether the encoder reads in both directions.
      attention: What the decoder sees of the source.
      dropout_rate: On embeddings, between layers, and on the states before the output projection.
      residual: Add the input of every layer but the first to its output.
      dtype: Of matrix products and activations; parameters, gates, carries and softmax are float32.
      recurrence_implementation: Of layers that run over whole sequences, see
        :func:`~transformer_jax.functional.recurrent.run_cells.recurrence`; ``None`` = the first that can.
      attention_implementation: As in :func:`~transformer_jax.functional.attention`; ``None`` = the fastest that can.
      pointer: A gate that may copy what the attention points at (See et al. 2017); ``None`` = no copying.
      normalization: Of what goes from layer to layer, ``"layer"`` or ``"rms"``; ``"none"`` = as it is.
      norm_placement: ``"post"``: of each layer's output, after ``residual`` was added; ``"pre"``: of the input of every
        layer but the first.

    Raises:
      ConfigError: If a size, a rate or a combination is out of range.
    """

    sizes_needed: ClassVar[tuple[str, ...]] = ("source_vocab_size", "target_vocab_size")

    kind: Literal["recurrent_seq2seq"] = "recurrent_seq2seq"
    embedding_dim: Width
    hidden_dim: Width
    cell: str = "lstm"
    num_encoder_layers: Layers = 1
    num_decoder_layers: Layers = 1
    bidirectional: bool = True
    attention: LastState | Bahdanau | Luong
    dropout_rate: float = 0.1
    residual: bool = False
    dtype: ComputeDtype = "float32"
    recurrence_implementation: str | None = None
    attention_implementation: str | None = None
    pointer: Pointer | None = None
    normalization: RecurrentNormalization = "none"
    norm_placement: RecurrentNormPlacement = "post"

    def __post_init__(self) -> None:
        check_bounds(self)
        for name in ("embedding_dim", "hidden_dim", "num_encoder_layers", "num_decoder_layers"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1; got {getattr(self, name)}")
        cell_class(self.cell)
        check_compute_dtype("dtype", self.dtype)
        check_recurrence_implementation("recurrence_implementation", self.recurrence_implementation)
        check_attention_implementation("attention_implementation", self.attention_implementation)
        if self.attention_implementation is not None and not self._attends_globally:
            raise ConfigError(
                "attention_implementation must be None without attention to the whole source; got "
                f"'{self.attention_implementation}'"
            )
        check_rate("dropout_rate", self.dropout_rate)
        deepest = max(self.num_encoder_layers, self.num_decoder_layers)
        check_recurrent_norm(self.normalization, self.norm_placement, num_layers=deepest)
        if self.pointer is not None and isinstance(self.attention, LastState):
            raise ConfigError(
                "pointer copies what the decoder attends to, and attention 'last_state' attends to nothing: use "
                "'bahdanau' or 'luong', or set pointer to None"
            )
        attention = self.attention
        if isinstance(attention, Bahdanau) and attention.attention_dim < 1:
            raise ConfigError(f"attention_dim must be at least 1; got {attention.attention_dim}")
        if self.has_deep_output and self.hidden_dim % 2:
            raise ConfigError(
                f"hidden_dim must be even, since the readout's maxout takes pairs; got {self.hidden_dim}"
            )
        if (
            self.bidirectional
            and not isinstance(attention, LastState)
            and score_class(attention.score).needs_equal_widths
        ):
            raise ConfigError(
                f"score '{attention.score}' needs equal widths; a bidirectional encoder gives {self.encoder_dim} "
                f"and the decoder {self.hidden_dim}: use score 'general' or bidirectional=False"
            )

    def build(self, sizes: Sizes, *, rngs: nnx.Rngs) -> nnx.Module:
        """The model for these sizes."""
        from transformer_jax.models.recurrent_seq2seq import RecurrentSeq2Seq  # which imports this file

        return RecurrentSeq2Seq(
            self,
            source_vocab_size=sizes.need("source_vocab_size"),
            target_vocab_size=sizes.need("target_vocab_size"),
            rngs=rngs,
        )

    @property
    def source_limit(self) -> int | None:
        """The longest source that the model can take, in tokens, limited by location scores; None = no limit."""
        return self.attention.max_len if isinstance(self.attention, Luong) else None

    @property
    def target_limit(self) -> int | None:
        """The same of targets, the end token included: a recurrent decoder has no end."""
        return None

    @property
    def _attends_globally(self) -> bool:
        attention = self.attention
        return isinstance(attention, Bahdanau) or (isinstance(attention, Luong) and attention.local is None)

    @property
    def encoder_dim(self) -> int:
        """Width of the encoder's outputs."""
        return self.hidden_dim * (2 if self.bidirectional else 1)

    @property
    def has_deep_output(self) -> bool:
        """Whether the readout sees state, token and context, as in Cho et al. and Bahdanau et al."""
        return isinstance(self.attention, Bahdanau) or (
            isinstance(self.attention, LastState) and self.attention.feed_each_step
        )

    @property
    def readout_dim(self) -> int:
        """Width of the states before the output projection."""
        return self.hidden_dim // 2 if self.has_deep_output else self.hidden_dim
