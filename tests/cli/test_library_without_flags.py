"""The library speaks of Python arguments and prints nothing: flags and output belong to the command line."""

import ast
import dataclasses
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import transformer_jax
from transformer_jax.cli.flags import flag_of
from transformer_jax.cli.hints import with_flags
from transformer_jax.cli.main import COMMANDS, SUBCOMMANDS

PACKAGE = Path(transformer_jax.__file__).parent

FLAG = re.compile(r"(?<!var\()(?<![\w-])(--[a-z][a-z-]*)(?!: #)\b")
"""A word like a flag; variables of style sheets, ``var(--line)`` and ``--line: #fff``, are none."""

WRITES = {"notes.py": {"print_note"}}
"""Functions outside of the command line that may print: the one that the command line's listener calls."""


def library_sources() -> list[Path]:
    """All modules but those of the command line."""
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path.relative_to(PACKAGE).parts[0] != "cli"]


def known_flags() -> frozenset[str]:
    """The flags of all commands."""
    names = [*COMMANDS, *SUBCOMMANDS.values()]
    commands = [importlib.import_module(f"transformer_jax.cli.{name}").Command for name in names]
    return frozenset(flag_of(field.name) for one in commands for field in dataclasses.fields(one))


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of every string literal of a module, parts of f-strings and docstrings included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def flags_in(text: str, known: frozenset[str]) -> list[str]:
    """The flags of the command line in a text."""
    return [found for found in FLAG.findall(text) if found in known]


def test_flags_are_seen_where_there_are_some() -> None:
    known = known_flags()
    assert {"--resume", "--n-best", "--run-dir", "--continue", "--unlike-machines"} <= known
    assert flags_in("go on with --resume, or (--overwrite)", known) == ["--resume", "--overwrite"]
    assert flags_in("border: var(--line); --line: #fff; --xla_gpu", known) == []


def test_no_text_of_the_library_speaks_of_flags() -> None:
    known = known_flags()
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {flag}"
        for path in library_sources()
        for line, text in texts_of(path)
        for flag in flags_in(text, known)
    ]
    assert found == []


def test_the_library_does_not_print() -> None:
    found = []
    for path in library_sources():
        allowed = WRITES.get(path.name, set())
        tree = ast.parse(path.read_text())
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        excused = {id(node) for one in functions if one.name in allowed for node in ast.walk(one)}
        found += [
            f"{path.relative_to(PACKAGE)}:{node.lineno}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "print"
            and id(node) not in excused
        ]
    assert found == []


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("pass `resume=True`", "pass --resume"),
        ("`mesh='3x'`: wanted sizes", "--mesh '3x': wanted sizes"),
        (
            "`num_best=5` needs at least as many beams: add `num_beams`",
            "--n-best 5 needs at least as many beams: add --beam",
        ),
        ("`overrides=task.data.seed=3`: cannot change", "--set task.data.seed=3: cannot change"),
        ("`resume=True` and `train.on_divergence=skip`", "--resume and --set train.on_divergence=skip"),
        ("wait longer with `timeout`", "wait longer with --host-timeout"),
        ("a `Quoted` word and ``code`` stay", "a `Quoted` word and ``code`` stay"),
    ],
)
def test_arguments_become_flags(said: str, written: str) -> None:
    assert with_flags(said) == written


def message_of(call: ast.Call) -> str:
    """The literal parts of a call's texts, one letter in place of what is filled in."""
    texts, in_formats = [], set()
    for node in ast.walk(call):
        if isinstance(node, ast.FormattedValue) and node.format_spec is not None:
            in_formats |= {id(one) for one in ast.walk(node.format_spec)}
        if isinstance(node, ast.JoinedStr) and id(node) not in in_formats:
            in_formats |= {id(one) for one in node.values}
            texts.append(
                "".join(
                    getattr(one, "value", "x") if isinstance(one, ast.Constant) else "x"
                    for one in node.values
                )
            )
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in in_formats:
            texts.append(node.value)
    return " ".join(texts)


def test_every_argument_in_backticks_has_a_flag() -> None:
    """What a message of errors and notes has in backticks and no command knows would be printed as a wrong flag."""
    known = known_flags() | {"--force-reinstall", "--x"}  # of pip; an argument that is filled in
    found = []
    for path in library_sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            if not (node.func.id.endswith("Error") or node.func.id in ("note", "require")):
                continue
            flags = re.findall(r"(?<![\w-])--[a-z][a-z-]*", with_flags(message_of(node)))
            found += [
                f"{path.relative_to(PACKAGE)}:{node.lineno}: {one}" for one in flags if one not in known
            ]
    assert found == []
