"""The connection around a sublayer: where norms stand, and how the stream and initial matrices are scaled."""

from typing import TYPE_CHECKING, Any, Literal, get_args

import jax
import numpy as np
from flax import nnx

from transformer_jax.errors import check_choice
from transformer_jax.functional import dropout
from transformer_jax.nn.norms import TrainingTokens, make_norm, normalized
from transformer_jax.typing import Array, Float

if TYPE_CHECKING:
    from transformer_jax.nn.transformer_layers import TransformerLayerConfig

__all__ = ["FINAL_NORMS", "NormPlacement", "Residual", "scale_initial_weights"]

NormPlacement = Literal["post", "pre", "sandwich", "deep"]

FINAL_NORMS = ("pre", "sandwich")
"""Placements that leave the stream as a sum, so that a stack's output wants one norm more."""

_Inputs = Float[Array, "batch q_len model"]


class Residual(nnx.Module):
    r"""The connection around a sublayer: dropout, addition, and norms before, after, or both.

    .. math:: \text{post: } \mathrm{norm}(x + \mathrm{drop}(f(x))), \qquad
       \text{pre: } x + \mathrm{drop}(f(\mathrm{norm}(x)))

    .. math:: \text{sandwich: } x + \mathrm{drop}(\mathrm{norm}_2(f(\mathrm{norm}_1(x)))), \qquad
       \text{deep: } \mathrm{norm}(\alpha x + \mathrm{drop}(f(x)))

    Args:
      config: The layer's sizes and choices; its ``residual_scale`` is :math:`\alpha`.

    Raises:
      ConfigError: If ``norm_placement`` is unknown.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.1; pre-norm: Xiong et al. 2020,
    https://arxiv.org/abs/2002.04745; sandwich: Ding et al. 2021, CogView, https://arxiv.org/abs/2105.13290, section
    2.4; deep: Wang et al. 2022, https://arxiv.org/abs/2203.00555, section 3.
    """

    def __init__(self, config: "TransformerLayerConfig") -> None:
        placement = config.norm_placement
        check_choice("norm_placement", placement, get_args(NormPlacement))
        self.is_post = placement in ("post", "deep")
        self.residual_scale = config.residual_scale if placement == "deep" else None
        self.dropout_rate = config.dropout_rate
        self.norm = layer_norm_of(config)
        self.update_norm = layer_norm_of(config) if placement == "sandwich" else None

    def enter(self, x: _Inputs, tokens: TrainingTokens | None = None) -> _Inputs:
        """Input of the sublayer: normalised for pre-norm and sandwich; ``tokens`` where the call trains."""
        return x if self.is_post else normalized(self.norm, x, tokens)

    def leave(
        self, x: _Inputs, update: _Inputs, rng_key: jax.Array | None, tokens: TrainingTokens | None = None
    ) -> _Inputs:
        """The stream after the sublayer has answered ``update``; ``tokens`` where the call trains."""
        update = dropout(normalized(self.update_norm, update, tokens), self.dropout_rate, rng_key)
        total = (x if self.residual_scale is None else self.residual_scale * x) + update
        return normalized(self.norm, total, tokens) if self.is_post else total


def layer_norm_of(config: "TransformerLayerConfig") -> Any:
    """A norm as a config of layers wants it."""
    return make_norm(
        config.normalization,
        config.model_dim,
        epsilon=config.norm_epsilon,
        use_bias=config.norm_bias,
        momentum=config.norm_momentum,
    )


def scale_initial_weights(layer: Any, scale: float) -> None:
    """Multiply a layer's matrices of values, of attention's outputs and of the feed-forward network.

    Args:
      layer: Encoder or decoder layer, changed in place.
      scale: DeepNorm's :math:`\\beta`; queries and keys stay as they are.

    Source: Wang et al. 2022, https://arxiv.org/abs/2203.00555, figure 2.
    """
    if scale == 1.0:
        return
    for attention in (layer.self_attention, getattr(layer, "cross_attention", None)):
        if attention is None:
            continue
        fused = getattr(attention, "query_key_value", None) or attention.key_value
        num_heads = getattr(attention, "num_kv_heads", attention.num_heads)
        factors = np.ones((1, fused.kernel.shape[1]), np.float32)
        factors[:, -num_heads * attention.head_dim :] = scale  # values are the last columns
        fused.kernel[...] = fused.kernel[...] * factors
        attention.output.kernel[...] = attention.output.kernel[...] * scale
    for network in (layer.feed_forward, getattr(layer.feed_forward, "shared", None)):
        for part in () if network is None else (network.inner, network.outer):
            part.kernel[...] = part.kernel[...] * scale
