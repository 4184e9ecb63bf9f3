"""A feed-forward network of experts in the place of the dense one: each token is computed by a few of many."""

import dataclasses
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from transformer_jax.bounds import AtMost, Width, check_at_least, check_bounds
from transformer_jax.errors import ConfigError
from transformer_jax.functional.dropout import dropout, split_key
from transformer_jax.functional.dtypes import wide
from transformer_jax.functional.expert_networks import run_experts
from transformer_jax.functional.initializers import fused_xavier_uniform
from transformer_jax.functional.routing import (
    Routes,
    balance_loss,
    expert_capacity,
    expert_load,
    places_in_experts,
    route_to_top,
    router_z_loss,
)
from transformer_jax.nn.feed_forward import ACTIVATIONS, GATES, Activation, FeedForward
from transformer_jax.nn.linear import Linear
from transformer_jax.nn.norms import TrainingTokens
from transformer_jax.typing import Array, Float
from transformer_jax.variables import RoutingState

__all__ = ["Dense", "ExpertFeedForward", "Experts", "FeedForwardKind"]

NumExperts = Annotated[int, AtMost(2**12)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dense:
    """One feed-forward network computes all tokens."""

    kind: Literal["dense"] = "dense"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experts:
    """Each token is computed by the ``top_k`` of ``num_experts`` networks that a router finds most probable.

    Attributes:
      num_experts: Networks in each layer.
      top_k: How many compute a token.
      hidden_dim: Width inside of each; ``None`` = the model's ``feed_forward_dim``.
      num_shared: Networks beside them that compute every token (Dai et al. 2024).
      capacity_factor: In training an expert takes so many times its even share of a batch's tokens, and the others
        pass it by; ``None`` = no token is dropped. Evaluation and decoding drop none.
      balance_weight: Of the load-balancing loss of each layer, in units of the loss per token.
      z_weight: Of the z-loss of each layer's router.

    Raises:
      ConfigError: If a number is out of range, ``top_k`` above ``num_experts`` say.
    """

    kind: Literal["experts"] = "experts"
    num_experts: NumExperts = 8
    top_k: NumExperts = 2
    hidden_dim: Width | None = None
    num_shared: NumExperts = 0
    capacity_factor: float | None = None
    balance_weight: float = 0.01
    z_weight: float = 0.001

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(1, num_experts=self.num_experts, top_k=self.top_k)
        check_at_least(0, num_shared=self.num_shared)
        if self.top_k > self.num_experts:
            raise ConfigError(f"top_k must be at most num_experts, {self.num_experts}; got {self.top_k}")
        if self.hidden_dim is not None:
            check_at_least(1, hidden_dim=self.hidden_dim)
        if self.capacity_factor is not None:
            expert_capacity(1, 1, 1, self.capacity_factor)
        check_router_weights(self)


FeedForwardKind = Dense | Experts


class ExpertMaps(nnx.Module):
    """A linear map for each expert, each Glorot-uniform as if it stood alone."""

    def __init__(
        self,
        num_experts: int,
        input_dim: int,
        output_dims: tuple[int, ...],
        *,
        use_bias: bool,
        rngs: nnx.Rngs,
    ) -> None:
        keys = jax.random.split(rngs.params(), num_experts)
        self.kernel = nnx.Param(
            jnp.stack([fused_xavier_uniform(key, input_dim, output_dims) for key in keys])
        )
        self.bias = nnx.Param(jnp.zeros((num_experts, sum(output_dims)), jnp.float32)) if use_bias else None

    def arrays(self, dtype: Any) -> tuple[Array, ...]:
        """Matrices and, where there are any, shifts of all experts, in a dtype."""
        parts = (self.kernel,) if self.bias is None else (self.kernel, self.bias)
        return tuple(part[...].astype(dtype) for part in parts)


class ExpertFeedForward(nnx.Module):
    r"""A router and its experts, each a position-wise feed-forward network, and networks that all tokens share.

    .. math:: y = \sum_{e \in \mathrm{top}_k(p)} w_e \, \mathrm{FFN}_e(x) + \mathrm{FFN}_s(x),
       \qquad p = \mathrm{softmax}(x W_r)

    In training it writes :attr:`auxiliary_loss` (the weighted losses of the router), :attr:`load` and :attr:`dropped`.

    Args:
      model_dim: Width of input and output.
      hidden_dim: Width inside each expert where ``config`` does not say.
      config: How many experts there are, and how tokens are sent to them.
      activation: As of :class:`~transformer_jax.nn.FeedForward`.
      dropout_rate: Dropout after the activation.
      use_bias: Whether the maps have a bias; the router has none.
      rngs: Source of the initial parameters.

    Attributes:
      auxiliary_loss: Scalar.
      load: Share of the choices that fell on each expert, times the number of experts, ``[experts]``.
      dropped: Share of the choices that found their expert full.

    Raises:
      ConfigError: If the activation is unknown.

    Example:
      >>> layer = ExpertFeedForward(
      ...   4, 8, Experts(num_experts=3), activation="relu", dropout_rate=0.0, use_bias=True, rngs=nnx.Rngs(0))
      >>> layer(jnp.ones((2, 3, 4))).shape, layer.inner.kernel.shape
      ((2, 3, 4), (3, 4, 8))

    Source: Shazeer et al. 2017, https://arxiv.org/abs/1701.06538, section 2; Fedus et al. 2022,
    https://arxiv.org/abs/2101.03961, section 2; shared networks: Dai et al. 2024, https://arxiv.org/abs/2401.06066,
    section 3.2.
    """

    def __init__(
        self,
        model_dim: int,
        hidden_dim: int,
        config: Experts,
        *,
        activation: Activation,
        dropout_rate: float,
        use_bias: bool,
        rngs: nnx.Rngs,
    ) -> None:
        if activation not in ACTIVATIONS and activation not in GATES:
            raise ConfigError(f"activation must be one of {sorted(ACTIVATIONS | GATES)}, got {activation!r}")
        self.config = config
        self.activation = activation
        self.dropout_rate = dropout_rate
        width, number = config.hidden_dim or hidden_dim, config.num_experts
        inner_dims = (width, width) if activation in GATES else (width,)
        self.router = Linear(model_dim, (number,), use_bias=False, rngs=rngs)
        self.inner = ExpertMaps(number, model_dim, inner_dims, use_bias=use_bias, rngs=rngs)
        self.outer = ExpertMaps(number, width, (model_dim,), use_bias=use_bias, rngs=rngs)
        self.shared = None
        if config.num_shared:
            self.shared = nnx.data(
                FeedForward(
                    model_dim, width * config.num_shared, activation=activation, dropout_rate=dropout_rate,
                    use_bias=use_bias, rngs=rngs,
                )
            )  # fmt: skip
        make_records(self, number)

    def __call__(
        self,
        x: Float[Array, "*batch model"],
        *,
        tokens: TrainingTokens | None = None,
        rng_key: jax.Array | None = None,
    ) -> Float[Array, "*batch model"]:
        """Apply the network to the last axis.

        Args:
          x: Tokens.
          tokens: Marks a call that trains, with the tokens that count: only these are routed, counted and limited.
          rng_key: Draws dropout; ``None`` drops nothing.

        Returns:
          The outputs; from the experts zero for tokens that do not count.
        """
        keys, rows = split_key(rng_key, 2), x.reshape(-1, x.shape[-1])
        valid = None if tokens is None or tokens.valid is None else tokens.valid.reshape(-1)
        logits = self.router(rows.astype(wide(x)))
        if valid is not None:  # what stands in padding reaches no loss
            logits = jnp.where(valid[:, None], logits, 0.0)
        routes = route_to_top(logits, self.config.top_k, valid=valid)
        capacity = None
        if tokens is not None:
            if self.config.capacity_factor is not None:
                numbers = (rows.shape[0], self.config.num_experts, self.config.top_k)
                capacity = expert_capacity(*numbers, self.config.capacity_factor)
            note_routing(self, logits, routes, valid=valid, capacity=capacity)

        def apply(rows: Array, parameters: Any) -> Array:
            inner = _mapped(rows, parameters[0])
            if self.activation in GATES:
                gate, inner = jnp.split(inner, 2, axis=-1)
                inner = GATES[self.activation](gate) * inner
            else:
                inner = ACTIVATIONS[self.activation](inner)
            return _mapped(dropout(inner, self.dropout_rate, keys[0]), parameters[1])

        parameters = (self.inner.arrays(x.dtype), self.outer.arrays(x.dtype))
        total = run_experts(rows, routes, apply, parameters, capacity=capacity)
        if self.shared is not None:
            total = total + self.shared(rows, rng_key=keys[1])
        return total.reshape(x.shape).astype(x.dtype)


def make_records(module: Any, num_experts: int) -> None:
    """Give a module the variables that `note_routing` writes: ``auxiliary_loss``, ``load`` and ``dropped``."""
    module.auxiliary_loss = RoutingState(jnp.zeros((), jnp.float32))
    module.load = RoutingState(jnp.zeros(num_experts, jnp.float32))
    module.dropped = RoutingState(jnp.zeros((), jnp.float32))


def note_routing(
    module: Any, logits: Array, routes: Routes, *, valid: Array | None, capacity: int | None = None
) -> None:
    """Write what a router did with the tokens of a training batch.

    Args:
      module: With the variables of `make_records`, and a ``config`` with ``balance_weight`` and ``z_weight``.
      logits: Of the router, ``[tokens, experts]``.
      routes: What came of them.
      valid: Which tokens count; ``None`` = all.
      capacity: Tokens that each expert takes; ``None`` = any number.
    """
    number = logits.shape[-1]
    load = expert_load(routes.experts, number)
    count = jnp.maximum(load.sum(), 1)
    dropped = jnp.zeros((), jnp.float32)
    if capacity is not None:
        is_chosen = routes.experts < number
        dropped = (is_chosen & (places_in_experts(routes.experts, number) >= capacity)).sum() / count
    loss = module.config.balance_weight * balance_loss(routes, valid=valid)
    loss = loss + module.config.z_weight * router_z_loss(logits, valid=valid)
    module.auxiliary_loss[...] = loss.astype(jnp.float32)
    module.load[...] = (load * number / count).astype(jnp.float32)
    module.dropped[...] = dropped.astype(jnp.float32)


def check_router_weights(config: Any) -> None:
    """Raise ``ConfigError`` unless the weights of a router's losses are finite numbers of at least zero."""
    for name in ("balance_weight", "z_weight"):
        value = getattr(config, name)
        if not 0.0 <= value < float("inf"):
            raise ConfigError(f"{name} must be a number of at least 0, got {value}")


def _mapped(rows: Array, parameters: tuple[Array, ...]) -> Array:
    product = jnp.einsum("gri,gio->gro", rows, parameters[0])
    return product if len(parameters) == 1 else product + parameters[1][:, None, :]
