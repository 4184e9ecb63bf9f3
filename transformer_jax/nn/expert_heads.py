"""Self-attention whose heads are experts: a router chooses for each token which query and output maps it uses."""

import dataclasses
from typing import Annotated, Any, Literal

import jax.numpy as jnp
from flax import nnx

from transformer_jax.bounds import AtMost, check_at_least, check_bounds
from transformer_jax.errors import ConfigError
from transformer_jax.functional import PreparedKey, ScaledDot, prepare_key
from transformer_jax.functional.dtypes import wide
from transformer_jax.functional.expert_networks import run_choices
from transformer_jax.functional.routing import Routes, route_to_top
from transformer_jax.nn.experts import ExpertMaps, check_router_weights, make_records, note_routing
from transformer_jax.nn.linear import Linear
from transformer_jax.nn.multi_head import MultiHeadAttention
from transformer_jax.nn.norms import TrainingTokens
from transformer_jax.typing import Array

__all__ = ["AllHeads", "ExpertHeadAttention", "ExpertHeads", "Heads", "check_expert_heads"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AllHeads:
    """Every token is computed by all heads."""

    kind: Literal["all"] = "all"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExpertHeads:
    """Each token is computed by ``num_heads`` of ``num_experts`` heads, which share keys and values.

    Attributes:
      num_experts: Heads to choose from, at least the model's ``num_heads``, which are as many as compute a token.
      balance_weight: Of the load-balancing loss of each layer, in units of the loss per token.
      z_weight: Of the z-loss of each layer's router.

    Raises:
      ConfigError: If a number is out of range.
    """

    kind: Literal["experts"] = "experts"
    num_experts: Annotated[int, AtMost(2**12)] = 16
    balance_weight: float = 0.01
    z_weight: float = 0.001

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(1, num_experts=self.num_experts)
        check_router_weights(self)


Heads = AllHeads | ExpertHeads


class ExpertHeadAttention(MultiHeadAttention):
    r"""Mixture of attention heads: multi-query attention whose query and output maps a router chooses token by token.

    .. math:: y_i = \sum_{e \in \mathrm{top}_k(p_i)} w_{ie} \, \mathrm{Attention}(x_i W_e^Q, X W^K, X W^V) W_e^O,
       \qquad p_i = \mathrm{softmax}(x_i W_r)

    with ``num_heads`` for :math:`k`. A cache holds one head of keys and values. In training it writes
    :attr:`record`, as :class:`~transformer_jax.nn.ExpertFeedForward` does; no token is dropped.

    Args:
      model_dim: Width of input and output.
      num_heads: Heads that compute each token; must divide ``model_dim``.
      config: How many there are to choose from.
      use_bias: Whether keys and values have a bias; queries and outputs have none.
      dropout_rate: Dropout of the attention weights.
      rotary_base: As of :class:`~transformer_jax.nn.MultiHeadAttention`.
      window_len: As there.
      num_sinks: As there.
      implementation: As there.
      rngs: Source of the initial parameters.

    Raises:
      ConfigError: If there are fewer heads to choose from than compute a token.

    Example:
      >>> layer = ExpertHeadAttention(
      ...   8, 2, ExpertHeads(num_experts=5), use_bias=False, dropout_rate=0.0, rngs=nnx.Rngs(0))
      >>> layer(jnp.ones((2, 3, 8))).shape
      (2, 3, 8)

    Source: Zhang et al. 2022, https://arxiv.org/abs/2210.05144, section 3.1.
    """

    def __init__(
        self,
        model_dim: int,
        num_heads: int,
        config: ExpertHeads,
        *,
        use_bias: bool,
        dropout_rate: float,
        rotary_base: float | None = None,
        window_len: int | None = None,
        num_sinks: int = 0,
        implementation: str | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        check_expert_heads(config, num_heads, 1)
        self.config = config
        super().__init__(
            model_dim,
            num_heads,
            1,
            use_bias=use_bias,
            dropout_rate=dropout_rate,
            rotary_base=rotary_base,
            window_len=window_len,
            num_sinks=num_sinks,
            implementation=implementation,
            rngs=rngs,
        )

    def _make_projections(
        self, model_dim: int, key_value_dim: int | None, *, use_bias: bool, rngs: nnx.Rngs
    ) -> None:
        number, width = self.config.num_experts, self.head_dim
        self.router = Linear(model_dim, (number,), use_bias=False, rngs=rngs)
        self.key_value = Linear(model_dim, (width, width), use_bias=use_bias, rngs=rngs)
        # Under the names that rules for other heads know, too.
        query: Any = ExpertMaps(number, model_dim, (width,), use_bias=False, rngs=rngs)
        output: Any = ExpertMaps(number, width, (model_dim,), use_bias=False, rngs=rngs)
        self.query, self.output = query, output
        make_records(self, number)

    def _project(
        self,
        query_input: Array,
        key_value_input: Array | None,
        positions: Array | None,
        tokens: TrainingTokens | None = None,
    ) -> tuple[Array, PreparedKey, Array, Routes | None]:
        if key_value_input is not None:
            raise ConfigError("key_value_input: experts are heads of self-attention")
        batch, length, _ = query_input.shape
        rows = query_input.reshape(batch * length, query_input.shape[-1])
        logits = self.router(rows.astype(wide(rows)))
        valid = None if tokens is None or tokens.valid is None else tokens.valid.reshape(-1)
        if valid is not None:  # what stands in padding reaches no loss
            logits = jnp.where(valid[:, None], logits, 0.0)
        routes = route_to_top(logits, self.num_heads, valid=valid)
        if tokens is not None:
            note_routing(self, logits, routes, valid=valid)
        maps: Any = self.query
        queries = run_choices(rows[:, None], routes, _mapped, maps.arrays(rows.dtype))
        query = queries.reshape(batch, length, self.num_heads, self.head_dim)
        fused = self._heads(self.key_value(query_input), 2)
        query, key = self._turned(query, fused[:, :, :1], positions)
        return query, prepare_key(ScaledDot(), key), fused[:, :, 1:], routes

    def _joined(self, context: Array, routes: Routes | None = None) -> Array:
        assert routes is not None
        rows = context.reshape(-1, *context.shape[2:])
        maps: Any = self.output
        outputs = run_choices(rows, routes, _mapped, maps.arrays(rows.dtype))
        total = (outputs * routes.weights[..., None].astype(outputs.dtype)).sum(axis=1)
        return total.reshape(*context.shape[:2], total.shape[-1])


def check_expert_heads(config: ExpertHeads, num_heads: int, num_kv_heads: int) -> None:
    """Raise ``ConfigError`` unless there are heads to choose from, and one head of keys and values."""
    if num_kv_heads != 1:
        raise ConfigError(
            f"num_kv_heads must be 1 with expert heads, which share keys and values, got {num_kv_heads}"
        )
    if config.num_experts < num_heads:
        raise ConfigError(
            f"num_experts must be at least num_heads, {num_heads}, of which that many compute a token; got "
            f"{config.num_experts}"
        )


def _mapped(rows: Array, parameters: Any) -> Array:
    return jnp.einsum("gri,gio->gro", rows, parameters[0])
