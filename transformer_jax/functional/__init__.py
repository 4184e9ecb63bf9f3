"""The mathematics: arrays in, arrays out. No modules, no random state, no globals."""

from transformer_jax.functional.attention import (
    AttentionDropout,
    PreparedKey,
    attention,
    attention_with_weights,
    prepare_key,
)
from transformer_jax.functional.biases import Alibi, PositionBias, RelativeBuckets
from transformer_jax.functional.dropout import dropout, split_key
from transformer_jax.functional.losses import (
    LossSum,
    cross_entropy,
    projected_cross_entropy,
    projected_loss_and_accuracy,
)
from transformer_jax.functional.masks import AttentionMask
from transformer_jax.functional.normalization import (
    batch_norm,
    batch_statistics,
    layer_norm,
    rms_norm,
    running_statistics,
)
from transformer_jax.functional.positions import (
    alibi_slopes,
    relative_bucket,
    rotary,
    sinusoidal_at,
    sinusoidal_table,
)
from transformer_jax.functional.recurrent import (
    Carry,
    Cell,
    GRUCell,
    LSTMCell,
    RNNCell,
    cell_from_torch,
    cells_from_torch,
    recurrence,
    step_once,
)
from transformer_jax.functional.scores import (
    Additive,
    AdditiveSum,
    Concat,
    Dot,
    General,
    Linear,
    Location,
    ScaledDot,
    ScoreRule,
)
from transformer_jax.functional.softmax import (
    OnlineSoftmax,
    masked_softmax,
    online_softmax_finish,
    online_softmax_merge,
    online_softmax_start,
    online_softmax_update,
)

__all__ = [
    "Additive",
    "AdditiveSum",
    "Alibi",
    "AttentionDropout",
    "AttentionMask",
    "Carry",
    "Cell",
    "Concat",
    "Dot",
    "GRUCell",
    "General",
    "LSTMCell",
    "Linear",
    "Location",
    "LossSum",
    "OnlineSoftmax",
    "PositionBias",
    "PreparedKey",
    "RNNCell",
    "RelativeBuckets",
    "ScaledDot",
    "ScoreRule",
    "alibi_slopes",
    "attention",
    "attention_with_weights",
    "batch_norm",
    "batch_statistics",
    "cell_from_torch",
    "cells_from_torch",
    "cross_entropy",
    "dropout",
    "layer_norm",
    "masked_softmax",
    "online_softmax_finish",
    "online_softmax_merge",
    "online_softmax_start",
    "online_softmax_update",
    "prepare_key",
    "projected_cross_entropy",
    "projected_loss_and_accuracy",
    "recurrence",
    "relative_bucket",
    "rms_norm",
    "rotary",
    "running_statistics",
    "sinusoidal_at",
    "sinusoidal_table",
    "split_key",
    "step_once",
]
