"""The coverage penalty against the formula written out, and at its ends."""

import math

import numpy as np
import pytest

from transformer_jax.decode.coverage import LEAST_COVERAGE, coverage_penalty


def test_equals_the_formula_by_a_double_loop() -> None:
    weights = np.random.default_rng(0).dirichlet(np.ones(5), size=7)
    total = 0.0
    for source in range(5):
        total += math.log(min(sum(weights[target][source] for target in range(7)), 1.0))
    assert coverage_penalty(weights, 0.3) == pytest.approx(0.3 * total, rel=1e-12)


def test_nothing_is_lost_where_all_was_seen_and_much_where_a_token_was_not() -> None:
    assert coverage_penalty(np.eye(4), 0.5) == 0.0
    assert coverage_penalty([[1.0, 0.0]], 0.5) == pytest.approx(0.5 * math.log(LEAST_COVERAGE))
    assert coverage_penalty(np.full((3, 2), 0.5), 0.0) == 0.0
