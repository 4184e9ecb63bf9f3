"""Paired bootstrap of losses: intervals that cover as often as they say, and differences that are none."""

import numpy as np
import pytest

from transformer_jax.evaluate.paired_losses import paired_difference


def test_intervals_cover_the_true_difference() -> None:
    generator, covered = np.random.default_rng(0), 0
    for _ in range(200):
        shared = generator.exponential(size=1200)
        noise = np.repeat(generator.normal(size=60), 20)  # tokens of a window depend on each other
        found = paired_difference(shared, shared + 0.1 + noise, window_len=20, num_samples=200)
        covered += found.low <= -0.1 <= found.high
    assert 0.88 <= covered / 200 <= 0.99


def test_the_last_window_may_be_short() -> None:
    found = paired_difference(np.ones(7), np.zeros(7), window_len=3)
    assert (found.nats, found.low, found.high, found.num_windows) == (1.0, 1.0, 1.0, 3)
    assert found.differs
    same = paired_difference(np.ones(7), np.ones(7), window_len=3)
    assert (same.nats, same.differs) == (0.0, False)


@pytest.mark.parametrize("losses", [[], [np.nan, 1.0]])
def test_what_is_no_number_differs_from_nothing(losses: list[float]) -> None:
    found = paired_difference(losses, losses, window_len=3)
    assert np.isnan(found.nats)
    assert not found.differs
