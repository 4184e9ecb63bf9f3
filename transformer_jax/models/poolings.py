"""Poolings of a text as values of a config: how the vectors of its tokens become one."""

import dataclasses
from typing import Any, Literal, Protocol, runtime_checkable

from flax import nnx

from transformer_jax.bounds import Width, check_at_least, check_bounds
from transformer_jax.nn.pooling import (
    AttentionPooling,
    EndsPooling,
    FirstPooling,
    LastPooling,
    MaxPooling,
    MeanPooling,
)
from transformer_jax.nn.structured_pooling import StructuredPooling
from transformer_jax.typing import Array

__all__ = [
    "AttentionPool",
    "FirstTokenPool",
    "LastStatePool",
    "MaxPool",
    "MeanPool",
    "Pool",
    "PoolModule",
    "StructuredPool",
]


@runtime_checkable
class PoolModule(Protocol):
    """A module that pools: ``[batch, len, features]`` becomes one vector a row."""

    def __call__(self, inputs: Array, *, lengths: Array) -> Array:
        """The vectors ``[batch, pooled]``."""
        ...

    def with_weights(self, inputs: Array, *, lengths: Array) -> tuple[Array, Array]:
        """The vectors, and which tokens they are made of: ``[batch, len]`` or ``[batch, hops, len]``."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class FirstTokenPool:
    """The vector of the first token: a start token before the text, called [CLS] in BERT."""

    kind: Literal["first_token"] = "first_token"

    def output_dim(self, input_dim: int) -> int:
        """Width of the pooled vector."""
        return input_dim

    def build(self, encoder: Any, *, rngs: nnx.Rngs) -> PoolModule:
        """The module behind an encoder of this config."""
        return FirstPooling()


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeanPool:
    """The mean over the tokens."""

    kind: Literal["mean"] = "mean"

    def output_dim(self, input_dim: int) -> int:
        """Width of the pooled vector."""
        return input_dim

    def build(self, encoder: Any, *, rngs: nnx.Rngs) -> PoolModule:
        """The module behind an encoder of this config."""
        return MeanPooling()


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaxPool:
    """The largest value of each feature over the tokens."""

    kind: Literal["max"] = "max"

    def output_dim(self, input_dim: int) -> int:
        """Width of the pooled vector."""
        return input_dim

    def build(self, encoder: Any, *, rngs: nnx.Rngs) -> PoolModule:
        """The module behind an encoder of this config."""
        return MaxPooling()


@dataclasses.dataclass(frozen=True, kw_only=True)
class LastStatePool:
    """The last state: the last token's vector, and behind a bidirectional stack the last state of each direction."""

    kind: Literal["last_state"] = "last_state"

    def output_dim(self, input_dim: int) -> int:
        """Width of the pooled vector."""
        return input_dim

    def build(self, encoder: Any, *, rngs: nnx.Rngs) -> PoolModule:
        """The module behind an encoder of this config."""
        return EndsPooling() if getattr(encoder, "bidirectional", False) else LastPooling()


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionPool:
    """The mean under weights of a learned query (Yang et al. 2016).

    Attributes:
      attention_dim: Width of the hidden layer.
    """

    kind: Literal["attention"] = "attention"
    attention_dim: Width = 64

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(1, attention_dim=self.attention_dim)

    def output_dim(self, input_dim: int) -> int:
        """Width of the pooled vector."""
        return input_dim

    def build(self, encoder: Any, *, rngs: nnx.Rngs) -> PoolModule:
        """The module behind an encoder of this config."""
        return AttentionPooling(encoder.output_dim, self.attention_dim, rngs=rngs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StructuredPool:
    """Structured self-attention: several means, each under weights of its own (Lin et al. 2017).

    Attributes:
      attention_dim: Width of the hidden layer.
      num_hops: Means.

    Example:
      >>> StructuredPool(num_hops=4).output_dim(10)
      40
    """

    kind: Literal["structured"] = "structured"
    attention_dim: Width = 64
    num_hops: Width = 4

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(1, attention_dim=self.attention_dim, num_hops=self.num_hops)

    def output_dim(self, input_dim: int) -> int:
        """Width of the pooled vector."""
        return input_dim * self.num_hops

    def build(self, encoder: Any, *, rngs: nnx.Rngs) -> PoolModule:
        """The module behind an encoder of this config."""
        return StructuredPooling(encoder.output_dim, self.attention_dim, self.num_hops, rngs=rngs)


Pool = FirstTokenPool | MeanPool | MaxPool | LastStatePool | AttentionPool | StructuredPool
"""Union of the poolings."""
