"""DeepNorm's two numbers: the weight of the residual stream and the scale of initial matrices, by the depth."""

from typing import NamedTuple

from transformer_jax.errors import ConfigError

__all__ = ["DeepScales", "deep_scales", "deep_scales_of_pair"]


class DeepScales(NamedTuple):
    r"""Numbers of one stack.

    Attributes:
      residual: :math:`\alpha` of :math:`\mathrm{norm}(\alpha x + f(x))`.
      initial: :math:`\beta`, a factor of the initial matrices of values, of attention's output and of the
        feed-forward network.
    """

    residual: float
    initial: float


def deep_scales(num_layers: int) -> DeepScales:
    r"""Scales of a stack that stands alone, an encoder or a decoder.

    .. math:: \alpha = (2 N)^{1/4}, \quad \beta = (8 N)^{-1/4}

    Args:
      num_layers: :math:`N`; a stack without layers has both numbers one.

    Returns:
      The scales.

    Raises:
      ConfigError: If the number is negative.

    Example:
      >>> deep_scales(8)
      DeepScales(residual=2.0, initial=0.3535533905932738)

    Source: Wang et al. 2022, https://arxiv.org/abs/2203.00555, figure 2.
    """
    _check(num_layers=num_layers)
    if num_layers == 0:
        return DeepScales(1.0, 1.0)
    return DeepScales((2 * num_layers) ** 0.25, (8 * num_layers) ** -0.25)


def deep_scales_of_pair(num_encoder_layers: int, num_decoder_layers: int) -> tuple[DeepScales, DeepScales]:
    r"""Scales of an encoder and of the decoder that attends to it.

    .. math:: \alpha_e = 0.81 (N^4 M)^{1/16}, \; \beta_e = 0.87 (N^4 M)^{-1/16}, \quad
       \alpha_d = (3 M)^{1/4}, \; \beta_d = (12 M)^{-1/4}

    Args:
      num_encoder_layers: :math:`N`; an encoder without layers has both numbers one.
      num_decoder_layers: :math:`M`, at least 1. The decoder's numbers depend on it alone.

    Returns:
      Those of the encoder, those of the decoder.

    Raises:
      ConfigError: If a number is out of range.

    Example:
      >>> [round(number, 3) for scales in deep_scales_of_pair(6, 6) for number in scales]
      [1.418, 0.497, 2.06, 0.343]

    Source: Wang et al. 2022, https://arxiv.org/abs/2203.00555, figure 2.
    """
    _check(num_encoder_layers=num_encoder_layers, num_decoder_layers=num_decoder_layers - 1)
    decoder = DeepScales((3 * num_decoder_layers) ** 0.25, (12 * num_decoder_layers) ** -0.25)
    if num_encoder_layers == 0:
        return DeepScales(1.0, 1.0), decoder
    depth = (num_encoder_layers**4 * num_decoder_layers) ** (1 / 16)
    return DeepScales(0.81 * depth, 0.87 / depth), decoder


def _check(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 0:
            least = 1 if name == "num_decoder_layers" else 0
            raise ConfigError(f"{name} must be at least {least}, got {number + least}")
