"""Student's interval against its closed forms and SciPy."""

import math

import numpy as np
import pytest
from scipy import stats

from transformer_jax.errors import DataError
from transformer_jax.evaluate.t_interval import t_interval


def test_two_values_have_cauchys_quantile() -> None:
    found = t_interval([1.0, 3.0], confidence=0.5)
    assert found.high == pytest.approx(2.0 + math.tan(math.pi / 4))  # s / sqrt(2) is 1
    assert found.half_width == pytest.approx(1.0)


def test_agrees_with_scipy(random_generator: np.random.Generator) -> None:
    values = random_generator.normal(size=7)
    low, high = stats.t.interval(0.9, 6, loc=values.mean(), scale=stats.sem(values))
    found = t_interval(values.tolist(), confidence=0.9)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.leaves_zero_out == (low > 0 or high < 0)


def test_one_value_says_nothing_of_the_spread() -> None:
    found = t_interval([2.0])
    assert (found.mean, found.low, found.high, found.half_width) == (2.0, None, None, None)
    assert not found.leaves_zero_out


@pytest.mark.parametrize("values", [[], [math.nan], [1.0, math.inf]])
def test_what_has_no_mean_is_refused(values: list[float]) -> None:
    with pytest.raises(DataError, match="finite"):
        t_interval(values)
    with pytest.raises(DataError, match="confidence"):
        t_interval([1.0], confidence=1.0)
