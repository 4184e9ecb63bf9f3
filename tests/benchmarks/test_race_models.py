"""The race is fair: every contestant has the Transformer's parameters, counted exactly."""

import sys
from pathlib import Path

import pytest
from flax import nnx

from transformer_jax.nn.parameters import parameter_count

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks import race_models


@pytest.mark.parametrize("transformer_dim", [32, 192, 256])
def test_contestants_have_equal_parameters_within_two_percent(transformer_dim: int) -> None:
    models = race_models.build_contestants(list(race_models.CONTESTANTS), transformer_dim)
    counts = {name: parameter_count(model) for name, model in models.items()}
    for name, count in counts.items():
        assert abs(count / counts["transformer"] - 1) <= 0.02, (name, counts)


@pytest.mark.parametrize("cell", race_models.CELLS)
def test_parameters_are_counted_exactly(cell: race_models.CellKind) -> None:
    model = nnx.eval_shape(lambda: race_models.RecurrentContestant(cell, 10, rngs=nnx.Rngs(0)))
    assert race_models.recurrent_parameters(cell, 10) == parameter_count(model)


def test_a_width_that_does_not_exist_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"no width of 'lstm' .* 100 parameters within 2%.* --model-dim"):
        race_models._hidden_dim_for("lstm", 100)
