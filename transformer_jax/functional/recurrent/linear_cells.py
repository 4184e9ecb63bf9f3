"""Cells whose gates see the input alone, so that the step is linear in the carry: see ``recurrent.linear``."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from transformer_jax.functional.recurrent.gated_cell import GatedCell
from transformer_jax.pytree import pytree_dataclass, replace
from transformer_jax.typing import Array, Float

_SLOWEST_DECAY, _FASTEST_DECAY = 0.999, 0.9


def positive(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    r"""A positive map that is linear for positive numbers.

    .. math:: g(x) = x + 1/2 \text{ if } x \ge 0 \text{ else } \sigma(x)

    Example:
      >>> positive(jnp.array([-1e9, 0.0, 2.0])).tolist()
      [0.0, 0.5, 2.5]

    Source: Feng et al. 2024, https://arxiv.org/abs/2410.01201, appendix B.2.
    """
    return jnp.where(x >= 0, x + 0.5, jax.nn.sigmoid(x))


class _LinearStep(GatedCell):
    """Base of these cells: the step from the coefficients."""

    is_linear = True

    def coefficients(self, projected: Array) -> tuple[Array, Array]:
        """Decay and addend; each cell has its own."""
        raise NotImplementedError

    def step(
        self, carry: Float[Array, "batch hidden"], projected: Float[Array, "batch gates"]
    ) -> tuple[Float[Array, "batch hidden"], Float[Array, "batch hidden"]]:
        """The new carry, which is the output."""
        decay, addend = self.coefficients(projected)
        state = decay * carry + addend
        return state, state


@pytree_dataclass
class MinGRUCell(_LinearStep):
    r"""The GRU without what its gates see of the state.

    .. math::
      z_t = \sigma(x_t W_z + b_z), \quad \tilde h_t = g(x_t W_h + b_h), \quad
      h_t = (1 - z_t) \odot h_{t-1} + z_t \odot \tilde h_t

    with :math:`g` of :func:`positive`, which the form in logarithms needs.

    Args:
      input_weight: :math:`[W_z, W_h]`.
      bias: :math:`[b_z, b_h]`.

    Example:
      >>> cell = MinGRUCell(jnp.zeros((3, 4)), jnp.zeros(4))
      >>> cell.step(cell.initial_carry(1), cell.project(jnp.ones((1, 3))))[1].tolist()
      [[0.25, 0.25]]

    Source: Feng et al. 2024, https://arxiv.org/abs/2410.01201, section 3.1 and appendix B.2.1.
    """

    input_weight: Float[Array, "features gates"]
    bias: Float[Array, "gates"]

    kind = "min_gru"
    num_gates = 2

    def coefficients(
        self, projected: Float[Array, "*positions gates"]
    ) -> tuple[Float[Array, "*positions hidden"], Float[Array, "*positions hidden"]]:
        """``1 - z`` and ``z * candidate``."""
        update, candidate = jnp.split(projected, 2, axis=-1)
        return jax.nn.sigmoid(-update), jax.nn.sigmoid(update) * positive(candidate)

    def log_coefficients(
        self, projected: Float[Array, "*positions gates"]
    ) -> tuple[Float[Array, "*positions hidden"], Float[Array, "*positions hidden"]]:
        """The logarithms of both, for :func:`linear_recurrence_in_logs`."""
        update, candidate = jnp.split(projected, 2, axis=-1)
        return jax.nn.log_sigmoid(-update), jax.nn.log_sigmoid(update) + _log_positive(candidate)


@pytree_dataclass
class MinLSTMCell(_LinearStep):
    r"""The LSTM without what its gates see of the state, its two gates scaled to sum to one.

    .. math::
      f_t = \sigma(x_t W_f + b_f), \quad i_t = \sigma(x_t W_i + b_i), \quad \tilde h_t = g(x_t W_h + b_h), \quad
      h_t = \frac{f_t}{f_t + i_t} \odot h_{t-1} + \frac{i_t}{f_t + i_t} \odot \tilde h_t

    Args:
      input_weight: :math:`[W_f, W_i, W_h]`.
      bias: :math:`[b_f, b_i, b_h]`.

    Example:
      >>> cell = MinLSTMCell(jnp.zeros((3, 6)), jnp.zeros(6))
      >>> cell.step(cell.initial_carry(1), cell.project(jnp.ones((1, 3))))[1].tolist()
      [[0.25, 0.25]]

    Source: Feng et al. 2024, https://arxiv.org/abs/2410.01201, section 3.2 and appendix B.2.2.
    """

    input_weight: Float[Array, "features gates"]
    bias: Float[Array, "gates"]

    kind = "min_lstm"
    num_gates = 3
    open_gate = 0

    def coefficients(
        self, projected: Float[Array, "*positions gates"]
    ) -> tuple[Float[Array, "*positions hidden"], Float[Array, "*positions hidden"]]:
        """The scaled gates, the second times the candidate."""
        odds, candidate = self._odds(projected)
        return jax.nn.sigmoid(odds), jax.nn.sigmoid(-odds) * positive(candidate)

    def log_coefficients(
        self, projected: Float[Array, "*positions gates"]
    ) -> tuple[Float[Array, "*positions hidden"], Float[Array, "*positions hidden"]]:
        """The logarithms of both, for :func:`linear_recurrence_in_logs`."""
        odds, candidate = self._odds(projected)
        return jax.nn.log_sigmoid(odds), jax.nn.log_sigmoid(-odds) + _log_positive(candidate)

    def _odds(self, projected: Array) -> tuple[Array, Array]:
        """``log f - log i``, of which the scaled gates are sigmoids, and the candidate."""
        forget, write, candidate = jnp.split(projected, 3, axis=-1)
        return jax.nn.log_sigmoid(forget) - jax.nn.log_sigmoid(write), candidate


@pytree_dataclass
class DiagonalCell(_LinearStep):
    r"""A linear recurrence with one real decay a channel.

    .. math:: h_t = a \odot h_{t-1} + \sqrt{1 - a^2} \odot (x_t W + b), \quad a = \sigma(\lambda)

    The root keeps the state's variance near that of the input.

    Args:
      input_weight: :math:`W`.
      bias: :math:`b`.
      decay: :math:`\lambda`, the decays' logits.

    Example:
      >>> cell = DiagonalCell(jnp.ones((1, 2)), jnp.zeros(2), jnp.full(2, -1e9))
      >>> cell.step(jnp.full((1, 2), 7.0), cell.project(jnp.ones((1, 1))))[1].tolist()
      [[1.0, 1.0]]

    Source: Orvieto et al. 2023, https://arxiv.org/abs/2303.06349, sections 3.2 to 3.4, here with real decays.
    """

    input_weight: Float[Array, "features hidden"]
    bias: Float[Array, "hidden"]
    decay: Float[Array, "hidden"]

    kind = "diagonal"
    num_gates = 1

    @classmethod
    def parameter_shapes(cls, input_dim: int, hidden_dim: int) -> dict[str, tuple[int, ...]]:
        """Shapes of the parameters, by the names of the fields."""
        return {**super().parameter_shapes(input_dim, hidden_dim), "decay": (hidden_dim,)}

    @classmethod
    def initialize(cls, next_key: Callable[[], jax.Array], input_dim: int, hidden_dim: int) -> "DiagonalCell":
        """As every cell, with decays at even steps from 0.9 to 0.999."""
        decays = jnp.linspace(_FASTEST_DECAY, _SLOWEST_DECAY, hidden_dim, dtype=jnp.float32)
        cell = super().initialize(next_key, input_dim, hidden_dim)
        return replace(cell, decay=jnp.log(decays / (1.0 - decays)))

    def coefficients(
        self, projected: Float[Array, "*positions hidden"]
    ) -> tuple[Float[Array, "*positions hidden"], Float[Array, "*positions hidden"]]:
        """The decays, and the inputs scaled by what they leave."""
        logits = jnp.broadcast_to(self.decay.astype(projected.dtype), projected.shape)
        decay = jax.nn.sigmoid(logits)
        return decay, jnp.sqrt(jax.nn.sigmoid(-logits) * (1.0 + decay)) * projected  # (1 - a)(1 + a)


def _log_positive(x: Array) -> Array:
    """``log(positive(x))`` without underflow."""
    return jnp.where(x >= 0, jnp.log(jnp.maximum(x, 0.0) + 0.5), jax.nn.log_sigmoid(x))
