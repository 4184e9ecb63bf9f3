"""Nothing that is read can run code: no pickle, no eval, no YAML loader, no array file with objects in it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "transformer_jax").rglob("*.py"))
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
# The file that a user names on the command line is the one that is executed.
EXECUTES = {"transformer_jax/runs/experiment.py"}


def offences(source: str, name: str) -> list[str]:
    """What a module does that could run what it reads."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            found.append(str(node.module))
        elif isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name) and called.id in BUILTINS:
                found.append(called.id)
            if isinstance(called, ast.Attribute) and called.attr == "exec_module" and name not in EXECUTES:
                found.append("exec_module")
            for keyword in node.keywords:
                if keyword.arg == "allow_pickle" and not _is_false(keyword.value):
                    found.append("allow_pickle")
            if _is_numpy_load(called) and not any(one.arg == "allow_pickle" for one in node.keywords):
                found.append("numpy.load without allow_pickle=False")
    return found


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def _is_numpy_load(called: ast.expr) -> bool:
    return (
        isinstance(called, ast.Attribute)
        and called.attr == "load"
        and isinstance(called.value, ast.Name)
        and called.value.id in ("np", "numpy", "jnp")
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_runs_nothing_that_it_reads(path: Path) -> None:
    assert offences(path.read_text(), str(path.relative_to(ROOT))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from yaml import load",
        "eval(text)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "loader.exec_module(module)",
        "import joblib.externals",
    ],
)
def test_each_way_to_run_code_is_found(source: str) -> None:
    assert len(offences(source, "other.py")) == 1
