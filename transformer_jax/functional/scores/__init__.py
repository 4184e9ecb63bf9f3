"""Score rules: how well a key answers a query, each a small pytree of its own parameters.

A rule works in three steps. ``prepare_query`` and ``prepare_key`` do, once, what depends on one side alone;
``score`` joins one block of each. Memories and caches hold prepared keys. Arrays are
``[batch, length, heads, dim]``, keys may have fewer heads than queries (grouped heads: query heads
``g * i ... g * i + g - 1`` share key head ``i``). A parameter is shared by all heads, or has a leading
``heads`` axis. Scores are float32 (float64 for float64 queries).

A rule's config is a frozen dataclass beside it, which makes the rule with its initial parameters.

Example:
  >>> keys = iter(jax.random.split(jax.random.key(0), 3))
  >>> rule = AdditiveScore(attention_dim=6).initialize(lambda: next(keys), query_dim=3, key_dim=5)
  >>> rule.key_weight.shape
  (5, 6)
"""

import typing

from transformer_jax.errors import ConfigError
from transformer_jax.functional.scores.additive_rules import (
    Additive,
    AdditiveScore,
    AdditiveSum,
    AdditiveSumScore,
    Concat,
    ConcatScore,
    LinearConcat,
    LinearScore,
)
from transformer_jax.functional.scores.location import Location, LocationScore
from transformer_jax.functional.scores.product_rules import (
    Dot,
    DotScore,
    General,
    GeneralScore,
    ScaledDot,
    ScaledDotScore,
)
from transformer_jax.functional.scores.score_rule import NextKey, RuleConfig, ScoreRule
from transformer_jax.kinds import Kinds

__all__ = [
    "Additive",
    "AdditiveScore",
    "AdditiveSum",
    "AdditiveSumScore",
    "Concat",
    "ConcatScore",
    "Dot",
    "DotScore",
    "General",
    "GeneralScore",
    "LinearConcat",
    "LinearScore",
    "Location",
    "LocationScore",
    "NextKey",
    "RuleConfig",
    "ScaledDot",
    "ScaledDotScore",
    "ScoreConfig",
    "ScoreRule",
    "register_score",
    "score_class",
    "score_kinds",
]

ScoreConfig = (
    DotScore
    | ScaledDotScore
    | GeneralScore
    | AdditiveScore
    | AdditiveSumScore
    | ConcatScore
    | LinearScore
    | LocationScore
)

_KINDS: Kinds[type[RuleConfig]] = Kinds("score", typing.get_args(ScoreConfig), "transformer_jax.scores")


def score_class(kind: str) -> type[RuleConfig]:
    """The config class of a score rule.

    Args:
      kind: Its name, one of :func:`score_kinds`.

    Raises:
      ConfigError: If there is none.

    Example:
      >>> score_class("general").__name__
      'GeneralScore'
    """
    return _KINDS.find(kind)


def score_kinds() -> tuple[str, ...]:
    """Names of all score rules that configs may give.

    Example:
      >>> score_kinds()[:3]
      ('dot', 'scaled_dot', 'general')
    """
    return _KINDS.names()


def register_score(config: type[RuleConfig]) -> type[RuleConfig]:
    """Make the config class of a score rule of the running program known by its ``kind``; works as a decorator.

    Installed packages do the same by an entry point of the group ``transformer_jax.scores``, which commands see too.

    Args:
      config: A frozen dataclass derived from ``RuleConfig``.

    Returns:
      The class itself.

    Raises:
      ConfigError: If its ``kind`` is no text or taken, or it is not derived from ``RuleConfig``.
    """
    if not (isinstance(config, type) and issubclass(config, RuleConfig)):
        raise ConfigError(f"a score's config must be a subclass of RuleConfig; got {config!r}")
    return _KINDS.register(config)
