"""Flax NNX modules: own parameters, draw dropout keys, call ``functional``."""

from transformer_jax.nn.cache import AttentionMemory, KeyValueCache, LinearAttentionCache
from transformer_jax.nn.causal_stack import CausalStack
from transformer_jax.nn.combining import CombineQueryContext, MaxoutReadout
from transformer_jax.nn.embeddings import Embedding
from transformer_jax.nn.expert_heads import AllHeads, ExpertHeadAttention, ExpertHeads
from transformer_jax.nn.experts import Dense, ExpertFeedForward, Experts
from transformer_jax.nn.feed_forward import FeedForward
from transformer_jax.nn.linear import Linear
from transformer_jax.nn.linear_self_attention import LinearSelfAttention
from transformer_jax.nn.local_attention import LocalAttention, Monotonic, Predictive
from transformer_jax.nn.multi_head import MultiHeadAttention
from transformer_jax.nn.norms import BatchNorm, LayerNorm, NoNorm, PowerNorm, RMSNorm, make_norm
from transformer_jax.nn.parameters import (
    CarriedState,
    carries_state,
    has_batch_statistics,
    load_parameters,
    named_parameters,
    non_parameters,
    parameter_count,
)
from transformer_jax.nn.pooling import (
    AttentionPooling,
    EndsPooling,
    FirstPooling,
    LastPooling,
    MaxPooling,
    MeanPooling,
)
from transformer_jax.nn.position_encodings import (
    AlibiPositions,
    Learned,
    NoPositions,
    PositionalEncoding,
    Positions,
    RelativePositions,
    Rotary,
    Sinusoidal,
)
from transformer_jax.nn.random_field import ConditionalRandomField
from transformer_jax.nn.recurrent import CarryBridge, RecurrentCell, RecurrentLayer, RecurrentStack
from transformer_jax.nn.rolling_cache import RollingCache, SlotRing
from transformer_jax.nn.score_attention import (
    AdditiveScore,
    AdditiveSumScore,
    ConcatScore,
    DotScore,
    GeneralScore,
    LinearScore,
    LocationScore,
    ScaledDotScore,
    ScoreAttention,
    ScoreConfig,
    ScoreMemory,
)
from transformer_jax.nn.stacks import DecoderStack, EncoderStack
from transformer_jax.nn.structured_pooling import StructuredPooling, redundancy
from transformer_jax.nn.transformer_layers import DecoderLayer, EncoderLayer, TransformerLayerConfig

__all__ = [
    "AdditiveScore",
    "AdditiveSumScore",
    "AlibiPositions",
    "AllHeads",
    "AttentionMemory",
    "AttentionPooling",
    "BatchNorm",
    "CarriedState",
    "CarryBridge",
    "CausalStack",
    "CombineQueryContext",
    "ConcatScore",
    "ConditionalRandomField",
    "DecoderLayer",
    "DecoderStack",
    "Dense",
    "DotScore",
    "Embedding",
    "EncoderLayer",
    "EncoderStack",
    "EndsPooling",
    "ExpertFeedForward",
    "ExpertHeadAttention",
    "ExpertHeads",
    "Experts",
    "FeedForward",
    "FirstPooling",
    "GeneralScore",
    "KeyValueCache",
    "LastPooling",
    "LayerNorm",
    "Learned",
    "Linear",
    "LinearAttentionCache",
    "LinearScore",
    "LinearSelfAttention",
    "LocalAttention",
    "LocationScore",
    "MaxPooling",
    "MaxoutReadout",
    "MeanPooling",
    "Monotonic",
    "MultiHeadAttention",
    "NoNorm",
    "NoPositions",
    "PositionalEncoding",
    "Positions",
    "PowerNorm",
    "Predictive",
    "RMSNorm",
    "RecurrentCell",
    "RecurrentLayer",
    "RecurrentStack",
    "RelativePositions",
    "RollingCache",
    "Rotary",
    "ScaledDotScore",
    "ScoreAttention",
    "ScoreConfig",
    "ScoreMemory",
    "Sinusoidal",
    "SlotRing",
    "StructuredPooling",
    "TransformerLayerConfig",
    "carries_state",
    "has_batch_statistics",
    "load_parameters",
    "make_norm",
    "named_parameters",
    "non_parameters",
    "parameter_count",
    "redundancy",
]
