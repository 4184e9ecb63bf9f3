"""Configuration of the recurrent encoder-decoders: every variant is a value."""

import dataclasses
from typing import Literal, get_args

from flax import nnx

from transformer_jax.bounds import Layers, Length, Width, check_bounds
from transformer_jax.errors import ConfigError, nearest_hint
from transformer_jax.functional.dropout import check_rate
from transformer_jax.models.sizes import Sizes
from transformer_jax.nn.local_attention import Monotonic, Predictive
from transformer_jax.nn.recurrent import CellKind
from transformer_jax.nn.score_attention import (
    ConcatScore,
    DotScore,
    GeneralScore,
    LocationScore,
    ScoreConfig,
)

LuongScore = Literal["dot", "general", "concat", "location"]


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
    """Additive attention asked by the previous decoder state, before the step (Bahdanau et al. 2015).

    Attributes:
      attention_dim: Hidden units of the alignment model.
    """

    kind: Literal["bahdanau"] = "bahdanau"
    attention_dim: Width

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Luong:
    """Attention asked by the new decoder state, after the step (Luong et al. 2015).

    Attributes:
      score: The score rule.
      input_feeding: Feed the attentional vector to the next step.
      max_len: For ``"location"``: the longest source, in tokens; ``None`` for the other rules.
      local: See a window of the source instead of all of it; ``None`` = global attention.
    """

    kind: Literal["luong"] = "luong"
    score: LuongScore
    input_feeding: bool
    max_len: Length | None = None
    local: Monotonic | Predictive | None = None

    def __post_init__(self) -> None:
        check_bounds(self)
        known = ("dot", "general", "concat", "location")
        if self.score not in known:
            raise ConfigError(
                f"score must be one of {known}; got '{self.score}'{nearest_hint(self.score, known)}"
            )
        if self.score == "location" and (self.max_len is None or self.max_len < 1):
            raise ConfigError(f"max_len must be at least 1 for score 'location'; got {self.max_len}")
        if self.score != "location" and self.max_len is not None:
            raise ConfigError(f"max_len is for score 'location' only; got {self.max_len} with '{self.score}'")

    def rule(self, hidden_dim: int) -> ScoreConfig:
        """The score rule; ``concat`` has ``hidden_dim`` hidden units, as in the paper."""
        if self.score == "location":
            return LocationScore(max_len=self.max_len or 1)
        if self.score == "concat":
            return ConcatScore(attention_dim=hidden_dim)
        return DotScore() if self.score == "dot" else GeneralScore()


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecurrentSeq2SeqConfig:
    """A recurrent encoder-decoder.

    Attributes:
      embedding_dim: Width of the token embeddings, source and target.
      hidden_dim: Width of a cell's state, encoder (each direction) and decoder.
      cell: The cell of all layers.
      num_encoder_layers: Layers of the encoder.
      num_decoder_layers: Layers of the decoder.
      bidirectional: Whether the encoder reads in both directions.
      attention: What the decoder sees of the source.
      dropout_rate: On embeddings, between layers, and on the states before the output projection.
      residual: Add the input of every layer but the first to its output.

    Raises:
      ConfigError: If a size, a rate or a combination is out of range.
    """

    kind: Literal["recurrent_seq2seq"] = "recurrent_seq2seq"
    embedding_dim: Width
    hidden_dim: Width
    cell: CellKind
    num_encoder_layers: Layers
    num_decoder_layers: Layers
    bidirectional: bool
    attention: LastState | Bahdanau | Luong
    dropout_rate: float
    residual: bool

    def __post_init__(self) -> None:
        check_bounds(self)
        for name in ("embedding_dim", "hidden_dim", "num_encoder_layers", "num_decoder_layers"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1; got {getattr(self, name)}")
        known = get_args(CellKind)
        if self.cell not in known:
            raise ConfigError(
                f"cell must be one of {known}; got '{self.cell}'{nearest_hint(self.cell, known)}"
            )
        check_rate("dropout_rate", self.dropout_rate)
        attention = self.attention
        if isinstance(attention, Bahdanau) and attention.attention_dim < 1:
            raise ConfigError(f"attention_dim must be at least 1; got {attention.attention_dim}")
        if self.has_deep_output and self.hidden_dim % 2:
            raise ConfigError(
                f"hidden_dim must be even, since the readout's maxout takes pairs; got {self.hidden_dim}"
            )
        if self.bidirectional and isinstance(attention, Luong) and attention.score == "dot":
            raise ConfigError(
                f"score 'dot' needs equal widths; a bidirectional encoder gives {self.encoder_dim} and the "
                f"decoder {self.hidden_dim}: use score 'general' or bidirectional=False"
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
