"""A run over eight devices is the run on one: all axes of the mesh, a recurrent model and a Transformer."""

import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import jax
import numpy as np
import pytest
import sharded_training

from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.models.build import build_model
from transformer_jax.models.sizes import Sizes
from transformer_jax.testing.processes import cpu_environment
from transformer_jax.training.config import MeshShape
from transformer_jax.training.sharding import Placement, parameter_spec
from transformer_jax.training.state import split_model

HERE = Path(__file__).parent
# Unoptimised, but with the emitters that users have: Adam divides tiny gradients by their own size, so that other
# rounding within a fusion can move a parameter by more than the tolerance here.
EIGHT = cpu_environment(8)
EIGHT["XLA_FLAGS"] += " --xla_backend_optimization_level=0"


# Every axis, every model and the blocks once; the rest of the product in the second tier.
FIRST = {
    "transformer/one", "transformer/data-fsdp-tensor", "transformer/data-sequence", "two layers/one",
    "two layers/data-fsdp-tensor", "undeclared/one", "undeclared/tensor", "transformer, in blocks/one",
    "transformer, in blocks/data-fsdp-tensor",
}  # fmt: skip


def train(path: Path, cases: Collection[str]) -> dict[tuple[str, str], dict[str, np.ndarray]]:
    """What came of every model over every mesh, ``MODEL/MESH``, in a process of its own with eight devices."""
    program = [sys.executable, HERE / "sharded_training.py", path, *cases]
    ran = subprocess.run(program, env=EIGHT, capture_output=True, text=True, timeout=1200)
    assert ran.returncode == 0, ran.stderr[-3000:]
    found: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    with np.load(path) as arrays:
        for name in arrays.files:
            model, mesh, key = name.split("/", 2)
            found.setdefault((model, mesh), {})[key] = arrays[name]
    return found


@pytest.mark.parametrize("product", ["first", pytest.param("whole", marks=pytest.mark.full)])
def test_every_mesh_gives_what_one_device_gives(product: str, tmp_path: Path) -> None:
    cases = FIRST if product == "first" else sharded_training.cases()
    trained = train(tmp_path / "found.npz", cases)
    assert {f"{model}/{mesh}" for model, mesh in trained} == set(cases)
    assert set(cases) >= FIRST
    for (model, mesh), arrays in trained.items():
        wanted = trained[model, "one"]
        assert arrays.keys() == wanted.keys()
        for name, array in arrays.items():
            # Adam divides by the gradient's own size: where that is little more than rounding, an entry may move by any
            # part of the learning rate of 1e-3. One in a thousand may, by a tenth of it.
            off = ~np.isclose(array, wanted[name], atol=1e-5, rtol=1e-5)
            assert off.mean() <= 1e-3, f"{model} {mesh} {name}: {off.sum()} of {off.size} entries differ"
            np.testing.assert_allclose(array, wanted[name], atol=1e-4, err_msg=f"{model} {mesh} {name}")
    moved = trained["transformer", "one"]["losses"]
    assert moved[-1] < moved[0], "the comparison would be empty if nothing were trained"


def test_every_matrix_of_every_model_is_cut() -> None:
    sizes = {"data": 2, "fsdp": 2, "tensor": 2, "sequence": 1}
    for config in sharded_training.MODELS.values():
        vocab = sharded_training.VOCAB
        model = build_model(config, Sizes.of_pairs(vocab), seed=0)
        for name, array in split_model(model)[1].items():
            spec = parameter_spec(name, array.shape, sizes)
            is_matrix = array.ndim >= 2 and not name.endswith(".bias")
            assert set(spec) - {None} == ({"fsdp", "tensor"} if is_matrix else set()), name
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
