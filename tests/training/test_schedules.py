"""Schedules against their formulas, written out in NumPy."""

import math

import jax
import numpy as np
import pytest

from transformer_jax.training.config import Constant, Cosine, LinearDecay, Noam
from transformer_jax.training.schedules import build_schedule

UPDATES = 40


def rates(config: Noam | Cosine | LinearDecay | Constant) -> np.ndarray:
    schedule = jax.jit(build_schedule(config, updates=UPDATES))
    return np.array([float(schedule(update)) for update in range(UPDATES)])


def test_noam_is_the_papers_equation_3() -> None:
    steps = np.arange(1, UPDATES + 1)
    expected = 2.0 * 64**-0.5 * np.minimum(steps**-0.5, steps * 8**-1.5)
    np.testing.assert_allclose(rates(Noam(model_dim=64, warmup_updates=8, factor=2.0)), expected, rtol=1e-6)
    assert int(np.argmax(expected)) == 7


def test_cosine_rises_to_the_peak_and_ends_at_its_final_ratio() -> None:
    got = rates(Cosine(peak_learning_rate=0.5, warmup_updates=10, final_ratio=0.1))
    np.testing.assert_allclose(got[:10], 0.5 * np.arange(1, 11) / 10, rtol=1e-6)
    shares = (np.arange(11, UPDATES + 1) - 10) / (UPDATES - 10)
    expected = 0.5 * (0.1 + 0.9 * 0.5 * (1 + np.cos(math.pi * shares)))
    np.testing.assert_allclose(got[10:], expected, rtol=1e-5, atol=1e-8)
    assert got[-1] == pytest.approx(0.05, rel=1e-5)


def test_linear_falls_in_equal_steps_and_the_last_update_still_moves() -> None:
    got = rates(LinearDecay(peak_learning_rate=0.5, warmup_updates=10))
    assert got[9] == pytest.approx(0.5)
    np.testing.assert_allclose(np.diff(got[9:]), -0.5 / (UPDATES + 1 - 10), rtol=1e-4)
    assert got[-1] == pytest.approx(0.5 / (UPDATES + 1 - 10), rel=1e-4)


@pytest.mark.parametrize("kind", [Cosine, LinearDecay])
def test_a_shortened_run_rises_and_falls(kind: type[Cosine] | type[LinearDecay]) -> None:
    got = rates(kind(peak_learning_rate=0.5, warmup_updates=100))
    np.testing.assert_allclose(got, rates(kind(peak_learning_rate=0.5, warmup_updates=4)), rtol=1e-6)
    assert int(np.argmax(got)) == 3
    assert got[-1] < 0.02


def test_constant_stays_and_warmup_zero_starts_at_the_peak() -> None:
    np.testing.assert_allclose(rates(Constant(peak_learning_rate=0.3)), 0.3, rtol=1e-6)
    assert rates(Cosine(peak_learning_rate=0.3, warmup_updates=0))[0] > 0.29
    np.testing.assert_allclose(
        rates(Constant(peak_learning_rate=0.3, warmup_updates=3))[:4], [0.1, 0.2, 0.3, 0.3]
    )


def test_the_length_may_be_an_argument_of_the_program() -> None:
    """One program then serves a run and the longer run that it goes on to."""
    for config in (
        Cosine(peak_learning_rate=0.3, warmup_updates=3),
        LinearDecay(peak_learning_rate=0.3, warmup_updates=3),
        LinearDecay(peak_learning_rate=0.3, warmup_updates=UPDATES),  # cut to a tenth of the length
        Noam(model_dim=16, warmup_updates=3),
    ):
        traced = jax.jit(lambda done, length, config=config: build_schedule(config, updates=length)(done))
        got = [float(traced(update, UPDATES)) for update in range(UPDATES)]
        np.testing.assert_allclose(got, rates(config), rtol=1e-5)  # a constant divisor rounds otherwise
