"""A run over eight devices is the run on one: all axes of the mesh, a recurrent model and a Transformer."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.testing.processes import cpu_environment
from transformer_jax.train.config import MeshShape
from transformer_jax.train.sharding import Placement, parameter_spec

HERE = Path(__file__).parent
EIGHT = cpu_environment(8, fast_compile=True)  # each program runs a few times


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, np.ndarray]]:
    path = tmp_path_factory.mktemp("sharding") / "found.npz"
    program = [sys.executable, HERE / "sharded_training.py", path]
    ran = subprocess.run(program, env=EIGHT, capture_output=True, text=True, timeout=1200)
    assert ran.returncode == 0, ran.stderr[-3000:]
    found: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    with np.load(path) as arrays:
        for name in arrays.files:
            model, mesh, key = name.split("/", 2)
            found.setdefault((model, mesh), {})[key] = arrays[name]
    return found


@pytest.mark.slow
def test_every_mesh_gives_what_one_device_gives(
    trained: dict[tuple[str, str], dict[str, np.ndarray]],
) -> None:
    assert {mesh for _, mesh in trained} >= {"data", "fsdp", "tensor", "data-fsdp-tensor", "data-sequence"}
    for (model, mesh), arrays in trained.items():
        wanted = trained[model, "one"]
        assert arrays.keys() == wanted.keys()
        for name, array in arrays.items():
            np.testing.assert_allclose(
                array, wanted[name], atol=1e-5, rtol=1e-5, err_msg=f"{model} {mesh} {name}"
            )
    moved = trained["transformer", "one"]["losses"]
    assert moved[-1] < moved[0], "the comparison would be empty if nothing were trained"


def test_every_matrix_of_every_model_is_cut() -> None:
    sys.path.insert(0, str(HERE))
    from sharded_training import MODELS, VOCAB

    from transformer_jax.models.build import build_model
    from transformer_jax.train.state import split_model

    sizes = {"data": 2, "fsdp": 2, "tensor": 2, "sequence": 1}
    for config in MODELS.values():
        model = build_model(config, source_vocab_size=VOCAB, target_vocab_size=VOCAB, seed=0)
        for name, array in split_model(model)[1].items():
            spec = parameter_spec(name, array.shape, sizes)
            assert set(spec) == ({"fsdp", "tensor"} if array.ndim == 2 else set()), name
            # The optimiser's moments lie as the parameter does.
            assert parameter_spec(f"optimizer.0.mu.{name}", array.shape, sizes) == spec


def test_what_does_not_fit_says_both_counts() -> None:
    have = jax.device_count()
    with pytest.raises(ConfigError, match=rf"wants {4 * have} devices .*data {4 * have}.* there are {have}:"):
        Placement(MeshShape(data=4 * have))
    placement = Placement(None)
    placement._sizes |= {"data": 4, "fsdp": 2, "sequence": 2}
    rows = jax.ShapeDtypeStruct((12, 8), np.int32)
    with pytest.raises(ShapeError, match="12 rows does not divide over 8 devices"):
        placement.check_batch({"tokens": rows})
    with pytest.raises(ShapeError, match="8 rows in 2 micro-batches does not divide over 8 devices"):
        placement.check_batch({"tokens": jax.ShapeDtypeStruct((8, 8), np.int32)}, accumulation=2)
    with pytest.raises(ShapeError, match="length 9 does not divide over 2 devices"):
        placement.check_batch({"tokens": jax.ShapeDtypeStruct((16, 9), np.int32)})
