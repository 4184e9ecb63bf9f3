"""How a stack of layers learns the order of its tokens: one tagged value each, and one module for all."""

import dataclasses
import math
import typing
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from transformer_jax.bounds import Count, Length, Width, check_bounds
from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional import Alibi, PositionBias, RelativeBuckets, alibi_slopes, sinusoidal_at
from transformer_jax.functional.dtypes import wide
from transformer_jax.functional.positions import check_buckets
from transformer_jax.nn.embeddings import rows_of_table
from transformer_jax.typing import Array, Float, Int

__all__ = [
    "AlibiPositions",
    "Learned",
    "NoPositions",
    "PositionalEncoding",
    "Positions",
    "RelativePositions",
    "Rotary",
    "Sinusoidal",
]

_WRITTEN_OUT_PAIRS = 256 * 1024
"""Queries times keys above which a learned bias is left to the attention, which takes it block by block."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sinusoidal:
    """Fixed sine and cosine waves added to the embeddings (Vaswani et al. 2017, section 3.5)."""

    kind: Literal["sinusoidal"] = "sinusoidal"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Learned:
    """A learned vector for each position, added to the embeddings (Gehring et al. 2017)."""

    kind: Literal["learned"] = "learned"
    max_len: Length

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.max_len < 1:
            raise ConfigError(f"max_len of learned positions must be at least 1, got {self.max_len}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rotary:
    """Queries and keys of self-attention are turned by their position (Su et al. 2021)."""

    kind: Literal["rotary"] = "rotary"
    base: float = 10_000.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.base) and self.base > 0):
            raise ConfigError(f"base of rotary positions must be above 0, got {self.base}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlibiPositions:
    """Scores of self-attention fall linearly with the distance (Press et al. 2022)."""

    kind: Literal["alibi"] = "alibi"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RelativePositions:
    """A learned bias for each bucket of distances, shared by a stack's layers (Raffel et al. 2020)."""

    kind: Literal["relative"] = "relative"
    num_buckets: Width = 32
    max_distance: Count = 128

    def __post_init__(self) -> None:
        check_bounds(self)
        # What no stack can use; what one direction cannot is refused where the direction is known.
        for name in ("num_buckets", "max_distance"):
            if getattr(self, name) < 2:
                raise ConfigError(
                    f"{name} of relative positions must be at least 2, got {getattr(self, name)}"
                )

    def check(self, *, bidirectional: bool) -> None:
        """Raise ``ConfigError`` if a stack that sees both sides (or only what came before) cannot use this."""
        check_buckets(
            bidirectional=bidirectional, num_buckets=self.num_buckets, max_distance=self.max_distance
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoPositions:
    """No positions: the order shows only through causal masks."""

    kind: Literal["none"] = "none"


Positions = Sinusoidal | Learned | Rotary | AlibiPositions | RelativePositions | NoPositions


class PositionalEncoding(nnx.Module):
    """Position encoding of a stack outside its attention layers; rotary positions are applied inside them.

    Args:
      config: Which encoding.
      model_dim: Width of the embeddings.
      num_heads: Query heads of the stack's self-attention.
      bidirectional: Whether a position sees those after it (encoders).
      rngs: Source of the initial parameters.

    Raises:
      ConfigError: If ``config`` is no positions value, or its buckets do not suit the direction.
      ShapeError: If a sinusoidal table would have an odd width.

    Example:
      >>> encoding = PositionalEncoding(Sinusoidal(), 4, 2, bidirectional=True, rngs=nnx.Rngs(0))
      >>> encoding.add(jnp.zeros((1, 1, 4)), jnp.zeros((1, 1), int)).tolist()
      [[[0.0, 1.0, 0.0, 1.0]]]
    """

    def __init__(
        self, config: Positions, model_dim: int, num_heads: int, *, bidirectional: bool, rngs: nnx.Rngs
    ) -> None:
        if not isinstance(config, typing.get_args(Positions)):
            names = [choice.__name__ for choice in typing.get_args(Positions)]
            raise ConfigError(f"positions must be one of {names}, got {config!r}")
        if isinstance(config, Sinusoidal) and model_dim % 2:
            raise ShapeError(f"model_dim must be even for sinusoidal positions, got {model_dim}")
        self.config = config
        self.model_dim = model_dim
        self.num_heads = num_heads
        self.bidirectional = bidirectional
        # Learned vectors start small, as usual: those of unit length would drown the embeddings' start.
        shape, scale = None, 0.02
        if isinstance(config, Learned):
            shape = (config.max_len, model_dim)
        elif isinstance(config, RelativePositions):
            config.check(bidirectional=bidirectional)
            shape = (config.num_buckets, num_heads)
        self.table = (
            None if shape is None else nnx.Param(scale * jax.random.normal(rngs.params(), shape, jnp.float32))
        )

    def check_len(self, length: int) -> None:
        """Raise ``ShapeError`` if positions up to ``length - 1`` are more than the table has."""
        if isinstance(self.config, Learned) and length > self.config.max_len:
            raise ShapeError(
                f"sequence length {length} exceeds the {self.config.max_len} learned positions; "
                "raise positions.max_len or shorten the sequences"
            )

    def add(
        self, x: Float[Array, "batch length model"], positions: Int[Array, "one_or_batch length"]
    ) -> Float[Array, "batch length model"]:
        """Add the vectors of the positions, where the encoding has such; NaN where none was learned."""
        if isinstance(self.config, Sinusoidal):
            vectors = sinusoidal_at(positions, self.model_dim, dtype=wide(x))
        elif isinstance(self.config, Learned):
            assert self.table is not None
            vectors = rows_of_table(self.table[...], positions)
        else:
            return x
        return x + jnp.broadcast_to(vectors.astype(x.dtype), x.shape)

    def bias(
        self,
        query_positions: Int[Array, "one_or_batch q_len"],
        key_positions: Int[Array, "one_or_batch2 kv_len"],
    ) -> PositionBias | Float[Array, "one_or_batch3 heads q_len kv_len"] | None:
        """Position bias of the self-attention scores, shared by all layers of the stack."""
        if isinstance(self.config, AlibiPositions):
            return Alibi(alibi_slopes(self.num_heads))
        if isinstance(self.config, RelativePositions):
            assert self.table is not None
            rule = RelativeBuckets(
                self.table[...], bidirectional=self.bidirectional, max_distance=self.config.max_distance
            )
            if query_positions.shape[-1] * key_positions.shape[-1] > _WRITTEN_OUT_PAIRS:
                return rule
            # Written out once for all layers: the table's gradient is then one scatter, not one a layer.
            return rule.block(query_positions, key_positions)
        return None
