"""Forecasters: a network from context to horizon, with a normalisation of each window that is undone behind it."""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx

from transformer_jax.errors import check_choice
from transformer_jax.models.forecast_configs import ForecastNetwork
from transformer_jax.models.forecast_networks import WindowShape
from transformer_jax.models.sizes import Sizes
from transformer_jax.typing import Array, Float

__all__ = ["Forecaster", "ForecasterConfig"]

WindowNormalization = Literal["none", "last", "standard"]
"""Whether each window is shifted by its last value, or brought to mean 0 and variance 1, and the forecast back."""

Channels = Literal["apart", "together"]
"""Whether each channel goes through the network by itself, with the same parameters, or all at once."""

_EPSILON = 1e-5
"""Added to the variance of a window, which may be constant, in units of the scaled values."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForecasterConfig:
    """A forecaster.

    Attributes:
      kind: Tag of the union of model configs.
      network: From context to horizon.
      normalization: Of each window and channel: ``"none"``, ``"last"`` (shifted by the last value of the context, as
        NLinear) or ``"standard"`` (by its mean and its standard deviation, reversible instance normalisation).
      has_affine: With ``"standard"``: whether each channel has a learned scale and shift behind it.
      channels: ``"apart"`` or ``"together"``.

    Raises:
      ConfigError: If a name is unknown.

    Example:
      >>> from transformer_jax.models.forecast_configs import LinearForecast
      >>> ForecasterConfig(network=LinearForecast(), normalization="last").sizes_needed[0]
      'num_channels'
    """

    sizes_needed: ClassVar[tuple[str, ...]] = ("num_channels", "context_len", "horizon_len", "num_outputs")

    kind: Literal["forecaster"] = "forecaster"
    network: ForecastNetwork
    normalization: WindowNormalization = "standard"
    has_affine: bool = False
    channels: Channels = "apart"

    def __post_init__(self) -> None:
        check_choice("normalization", self.normalization, ("none", "last", "standard"))
        check_choice("channels", self.channels, ("apart", "together"))

    def build(self, sizes: Sizes, *, rngs: nnx.Rngs) -> "Forecaster":
        """The model for these sizes."""
        return Forecaster(
            self,
            WindowShape(
                context_len=sizes.need("context_len"),
                horizon_len=sizes.need("horizon_len"),
                num_channels=sizes.need("num_channels"),
                num_outputs=sizes.need("num_outputs"),
            ),
            rngs=rngs,
        )


class Forecaster(nnx.Module):
    r"""Values of a horizon from those of a context.

    .. math:: \hat y = \sigma\, f\!\left(\frac{x - \mu}{\sigma}\right) + \mu

    with mean and standard deviation of each channel's context, or the last value and 1, or 0 and 1.

    Args:
      config: Network and normalisation.
      shape: Of the windows.
      rngs: Source of the initial parameters.

    Raises:
      ConfigError: If the network cannot read a context, or write a horizon, of this length.

    Example:
      >>> from transformer_jax.models.forecast_configs import LinearForecast
      >>> shape = WindowShape(context_len=8, horizon_len=4, num_channels=3, num_outputs=1)
      >>> model = Forecaster(ForecasterConfig(network=LinearForecast()), shape, rngs=nnx.Rngs(0))
      >>> model(jnp.ones((2, 8, 3))).shape
      (2, 4, 3, 1)

    Source: Kim et al. 2022, https://openreview.net/forum?id=cGDAkQo1C0p, for the normalisation; Nie et al. 2023,
    https://arxiv.org/abs/2211.14730, for channels apart.
    """

    def __init__(self, config: ForecasterConfig, shape: WindowShape, *, rngs: nnx.Rngs) -> None:
        config.network.check(shape.context_len, shape.horizon_len)
        self.config, self.shape = config, shape
        own = shape if config.channels == "together" else dataclasses.replace(shape, num_channels=1)
        self.network = config.network.build(own, rngs=rngs)
        has_affine = config.has_affine and config.normalization == "standard"
        self.scale = nnx.Param(jnp.ones(shape.num_channels)) if has_affine else None
        self.shift = nnx.Param(jnp.zeros(shape.num_channels)) if has_affine else None

    def __call__(
        self, context: Float[Array, "batch time channels"], *, rng_key: jax.Array | None = None
    ) -> Float[Array, "batch horizon channels outputs"]:
        """Forecast.

        Args:
          context: Scaled values; a row that holds something non-finite gives it in that row alone.
          rng_key: Draws dropout; ``None`` = evaluation.

        Returns:
          Scaled forecasts, float32: one number for each value, or one a quantile.
        """
        context = jnp.asarray(context, jnp.float32)
        location, scale = self.window_statistics(context)
        values = (context - location) / scale
        if self.scale is not None and self.shift is not None:
            values = values * self.scale[...][None, None] + self.shift[...][None, None]
        found = self._through_network(values, rng_key)
        if self.scale is not None and self.shift is not None:
            found = (found - self.shift[...][None, None, :, None]) / (
                self.scale[...][None, None, :, None] + _EPSILON
            )
        return found * scale[..., None] + location[..., None]

    def window_statistics(
        self, context: Float[Array, "batch time channels"]
    ) -> tuple[Float[Array, "batch one channels"], Float[Array, "batch one channels"]]:
        """The shift and the scale of each row and channel, which no gradient flows through."""
        context = jax.lax.stop_gradient(context)
        zeros = jnp.zeros_like(context[:, -1:])
        if self.config.normalization == "none":
            return zeros, zeros + 1.0
        if self.config.normalization == "last":
            return context[:, -1:], zeros + 1.0
        mean = context.mean(axis=1, keepdims=True)
        variance = jnp.square(context - mean).mean(axis=1, keepdims=True)
        return mean, jnp.sqrt(variance + _EPSILON)

    def _through_network(self, values: Array, rng_key: jax.Array | None) -> Array:
        outputs = self.shape.num_outputs
        if self.config.channels == "together":
            found = self.network(values, rng_key=rng_key)
            found = rearrange(
                found, "batch horizon (channels outputs) -> batch horizon channels outputs", outputs=outputs
            )
        else:
            rows = rearrange(values, "batch time channels -> (batch channels) time 1")
            found = self.network(rows, rng_key=rng_key)
            found = rearrange(
                found,
                "(batch channels) horizon outputs -> batch horizon channels outputs",
                batch=values.shape[0],
            )
        return found.astype(jnp.float32)
