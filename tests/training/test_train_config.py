"""Bad training configurations are refused with the name and the value."""

import dataclasses
from typing import Any

import pytest

from transformer_jax.errors import ConfigError
from transformer_jax.training.config import (
    Adam,
    AdamW,
    Constant,
    Cosine,
    LinearDecay,
    Noam,
    TrainConfig,
    warmup_updates,
)

GOOD = {"updates": 10, "optimizer": Adam(), "schedule": Constant(peak_learning_rate=0.1)}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("updates", 0),
        ("accumulation", 0),
        ("log_every", 0),
        ("evaluate_every", -1),
        ("checkpoint_every", 0),
        ("keep_best", -1),
        ("keep_every", 750),
        ("seed", -1),
        ("clip_norm", 0.0),
        ("clip_norm", float("nan")),
    ],
)
def test_value_out_of_range_is_named(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"TrainConfig\.{name} must be .*; got {value!r}"):
        TrainConfig(**(GOOD | {name: value}))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Adam(beta1=1.0), "Adam.beta1"),
        (lambda: Adam(epsilon=0.0), "Adam.epsilon"),
        (lambda: AdamW(beta2=-0.1), "AdamW.beta2"),
        (lambda: AdamW(weight_decay=-1.0), "AdamW.weight_decay"),
        (lambda: Noam(model_dim=0, warmup_updates=1), "Noam.model_dim"),
        (lambda: Noam(model_dim=8, warmup_updates=0), "Noam.warmup_updates"),
        (lambda: Cosine(peak_learning_rate=0.1, warmup_updates=1, final_ratio=1.1), "Cosine.final_ratio"),
        (
            lambda: LinearDecay(peak_learning_rate=float("inf"), warmup_updates=1),
            "LinearDecay.peak_learning_rate",
        ),
        (lambda: Constant(peak_learning_rate=0.1, warmup_updates=-1), "Constant.warmup_updates"),
    ],
)
def test_part_out_of_range_is_named(make: Any, name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        make()


@pytest.mark.parametrize("kind", [Cosine, LinearDecay])
def test_warmup_as_long_as_the_run_is_cut_with_a_note(kind: Any) -> None:
    config = TrainConfig(**(GOOD | {"schedule": kind(peak_learning_rate=0.1, warmup_updates=10)}))
    assert config.schedule.warmup_updates == 10  # the config stays what was asked
    assert warmup_updates(config.schedule, config.updates) == 1
    assert config.notes() == (
        "schedule.warmup_updates (10) is not below updates (10): the warm-up is cut to 1 of 10 updates, a "
        "tenth of the run",
    )
    assert dataclasses.replace(config, updates=11).notes() == ()
    assert [warmup_updates(config.schedule, updates) for updates in (1, 9, 11)] == [0, 0, 10]
    assert TrainConfig(**(GOOD | {"schedule": Noam(model_dim=8, warmup_updates=4000)})).notes() == ()


def test_configs_are_keyword_only_and_frozen() -> None:
    with pytest.raises(TypeError):
        Adam("adam")  # type: ignore[misc]
    with pytest.raises(AttributeError):
        TrainConfig(**GOOD).updates = 3  # type: ignore[misc]
