"""Protocol of score rules, and the base of their configs."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax

from transformer_jax.typing import Array, Float, Int

__all__ = [
    "KeyPositions",
    "Keys",
    "NextKey",
    "Queries",
    "QueryPositions",
    "RuleConfig",
    "ScoreRule",
    "Scores",
]

NextKey = Callable[[], jax.Array]
"""Gives a new random key at each call, as ``nnx.Rngs.params`` does."""

Queries = Float[Array, "batch q_len heads query_dim"]
Keys = Float[Array, "batch kv_len key_heads key_dim"]
QueryPositions = Int[Array, "query_batch q_len"]  # query_batch: batch or 1
KeyPositions = Int[Array, "key_batch kv_len"]  # key_batch: batch or 1
Scores = Float[Array, "batch heads q_len kv_len"]


@runtime_checkable
class ScoreRule(Protocol):
    """Protocol of score rules."""

    def check(self, query_dim: int, key_dim: int | None, num_heads: int, kv_len: int | None) -> None:
        """Raise ``ShapeError`` unless the parameters fit.

        ``key_dim`` is ``None`` for prepared keys, ``kv_len`` unless positions are the default.
        """
        ...

    def for_heads(self, start: int | Array, count: int) -> "ScoreRule":
        """The rule of ``count`` query heads from ``start`` on, which may be traced."""
        ...

    def prepare_query(self, query: Queries) -> Float[Array, "batch q_len heads prepared"]:
        """The queries' own part of the work."""
        ...

    def prepare_key(self, key: Keys) -> Float[Array, "batch kv_len prepared_heads prepared"]:
        """The keys' own part of the work."""
        ...

    def score(
        self,
        prepared_query: Queries,
        prepared_key: Keys,
        query_positions: QueryPositions | None = None,
        key_positions: KeyPositions | None = None,
    ) -> Scores:
        """Scores of one block of prepared queries and keys; positions ``None`` = arange."""
        ...


class RuleConfig:
    """Base of the configs of score rules: frozen dataclasses, each tagged by its field ``kind``.

    Attributes:
      kind: Name of the rule, a ``Literal`` field with this text as its default.
      needs_equal_widths: Whether queries and keys must have one width.
    """

    kind: Any
    needs_equal_widths: ClassVar[bool] = False

    def initialize(self, next_key: NextKey, query_dim: int, key_dim: int) -> ScoreRule:
        """A rule to start training from, of one head, its parameters float32."""
        raise NotImplementedError(f"{type(self).__name__} must define initialize")

    @classmethod
    def has_size(cls, name: str) -> bool:
        """Whether the config has a field of this name, such as ``max_len``."""
        return any(field.name == name for field in dataclasses.fields(cls))  # type: ignore[arg-type]  # each config is a dataclass

    @classmethod
    def of_sizes(cls, **sizes: int | None) -> "RuleConfig":
        """The config with those of the sizes that it has fields for.

        Example:
          >>> from transformer_jax.functional.scores import ConcatScore, DotScore
          >>> ConcatScore.of_sizes(attention_dim=4, max_len=9).attention_dim, DotScore.of_sizes(max_len=9)
          (4, DotScore(kind='dot'))
        """
        return cls(**{name: size for name, size in sizes.items() if cls.has_size(name)})
