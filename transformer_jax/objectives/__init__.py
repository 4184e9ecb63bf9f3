"""Training objectives: frozen config values, called as ``(model, batch, rng_key) -> (LossSum, metrics, model state)``.

A loss and its metrics are sums with their counts, divided once over the whole batch, so that micro-batches and devices
add up to the same gradient. ``rng_key`` None means evaluation, without dropout. An objective that changes during
training also has ``at(update)``, which returns the objective of that update.
"""

from transformer_jax.objectives.classes import ClassCrossEntropy
from transformer_jax.objectives.ctc_texts import CtcLoss
from transformer_jax.objectives.families import register_objective
from transformer_jax.objectives.feature_cross_entropy import FeatureCrossEntropy
from transformer_jax.objectives.forecast_loss import PinballLoss, SquaredError
from transformer_jax.objectives.joint_ctc import JointCtc
from transformer_jax.objectives.masked_tokens import MaskedTokens
from transformer_jax.objectives.negative_sampling import NegativeSampling
from transformer_jax.objectives.next_token import NextToken
from transformer_jax.objectives.pair_cross_entropy import PairCrossEntropy
from transformer_jax.objectives.tags import TagLikelihood
from transformer_jax.objectives.token_loss import token_accuracy
from transformer_jax.objectives.word_softmax import FullSoftmax, HierarchicalSoftmax

__all__ = [
    "ClassCrossEntropy",
    "CtcLoss",
    "FeatureCrossEntropy",
    "FullSoftmax",
    "HierarchicalSoftmax",
    "JointCtc",
    "MaskedTokens",
    "NegativeSampling",
    "NextToken",
    "PairCrossEntropy",
    "PinballLoss",
    "SquaredError",
    "TagLikelihood",
    "register_objective",
    "token_accuracy",
]
