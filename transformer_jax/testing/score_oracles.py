"""The score rules once more, from the papers' formulas: one query, one key, NumPy in float64."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from transformer_jax import functional as F

__all__ = ["SCORE_ORACLES", "ScoreOracle", "own"]

ScoreOracle = Callable[[Any, np.ndarray, np.ndarray, int, int], Any]
"""Score of ``(rule, query, key, head, key_position)``; ``-inf`` for a position that the rule does not reach."""


def own(parameter: np.ndarray, rank: int, head: int) -> np.ndarray:
    """A head's share of a parameter: its entry, or all of one that has ``rank`` axes and so is shared."""
    return parameter if parameter.ndim == rank else parameter[head]


def _scaled_dot(rule: Any, query: np.ndarray, key: np.ndarray, head: int, position: int) -> Any:
    return query @ key * (1 / math.sqrt(len(query)) if rule.scale is None else rule.scale)


def _dot(rule: Any, query: np.ndarray, key: np.ndarray, head: int, position: int) -> Any:
    return query @ key


def _general(rule: Any, query: np.ndarray, key: np.ndarray, head: int, position: int) -> Any:
    return query @ own(rule.weight, 2, head) @ key


def _additive(rule: Any, query: np.ndarray, key: np.ndarray, head: int, position: int) -> Any:
    hidden = query @ own(rule.query_weight, 2, head) + key @ own(rule.key_weight, 2, head)
    hidden = hidden if rule.bias is None else hidden + own(rule.bias, 1, head)
    return own(rule.vector, 1, head) @ np.tanh(hidden)


def _additive_sum(rule: Any, query: np.ndarray, key: np.ndarray, head: int, position: int) -> Any:
    left = query if rule.query_weight is None else query @ own(rule.query_weight, 2, head)
    right = key if rule.key_weight is None else key @ own(rule.key_weight, 2, head)
    return np.tanh(left + right + (0 if rule.bias is None else own(rule.bias, 1, head))).sum()


def _concat(rule: Any, query: np.ndarray, key: np.ndarray, head: int, position: int) -> Any:
    return own(rule.vector, 1, head) @ np.tanh(np.concatenate([query, key]) @ own(rule.weight, 2, head))


def _linear(rule: Any, query: np.ndarray, key: np.ndarray, head: int, position: int) -> Any:
    return np.concatenate([query, key]) @ own(rule.weight, 1, head)


def _location(rule: Any, query: np.ndarray, key: np.ndarray, head: int, position: int) -> Any:
    weight = own(rule.weight, 2, head)
    if not 0 <= position < len(weight):
        return -math.inf
    return weight[position] @ query + (0 if rule.bias is None else own(rule.bias, 1, head)[position])


SCORE_ORACLES: dict[type, ScoreOracle] = {
    F.Dot: _dot,
    F.ScaledDot: _scaled_dot,
    F.General: _general,
    F.Additive: _additive,
    F.AdditiveSum: _additive_sum,
    F.Concat: _concat,
    F.LinearConcat: _linear,
    F.Location: _location,
}
"""One row a rule."""
