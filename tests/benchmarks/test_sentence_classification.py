"""The grid of poolings: its runs, their configs, and the means that it shows."""

import argparse
from typing import Any

import pytest

from benchmarks import sentence_classification as grid
from transformer_jax.models.poolings import StructuredPool


def options(**changes: Any) -> argparse.Namespace:
    chosen: dict[str, Any] = {
        "seeds": [0, 1],
        "sets": list(grid.FILES),
        "folds": [0, 3],
        "poolings": list(grid.POOLINGS),
    }
    return argparse.Namespace(**chosen | changes)


def test_every_run_has_a_name_and_a_config_of_its_own() -> None:
    cells = grid.grid(options())
    assert len({cell.name for cell in cells}) == len(cells) == 2 * 5 * (3 + 2)
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells), (
        "a seed is done before the next"
    )
    for cell in grid.grid(options(seeds=[1], folds=[3])):
        config = grid.config_of(cell, ["train.updates=7"])
        assert config.name == cell.name
        assert (config.train.seed, config.task.data.seed, config.train.updates) == (1, 1, 7)
        assert config.task.data.dataset.subset == cell.subset
        assert config.task.data.dataset.fold == cell.fold == (3 if cell.subset == "mr" else None)
        assert isinstance(config.model.pooling, StructuredPool) == (cell.pooling == "structured")
        config.task.check(config.model)
        config.task.check_objective(config.model)


def test_means_are_over_the_runs_of_a_set_and_pooling() -> None:
    rows = [
        {"subset": "mr", "pooling": pooling, "development": {"accuracy": accuracy}}
        for pooling, accuracy in (("mean", 0.7), ("mean", 0.8), ("max", 0.5))
    ]
    found = grid.summary(rows, "development")
    assert [one[:3] for one in found] == [("mr", "mean", 2), ("mr", "max", 1)]
    assert found[0][3:] == pytest.approx((0.75, 0.05))
    assert grid.summary(rows, "test") == []
