"""A short run for the tests of the trainer."""

from collections.abc import Callable
from typing import Any

import pytest

from transformer_jax.training import Adam, Constant, TrainConfig


@pytest.fixture
def make_config() -> Callable[..., TrainConfig]:
    """Makes a run of a few updates; any field can be set."""

    def make(**changes: Any) -> TrainConfig:
        fields = {
            "updates": 6,
            "optimizer": Adam(),
            "schedule": Constant(peak_learning_rate=0.01),
            "log_every": 2,
            "evaluate_every": 3,
            "checkpoint_every": 3,
            "metric": "score",
        }
        return TrainConfig(**(fields | changes))

    return make
