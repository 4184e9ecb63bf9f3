"""What holds for the flags of every command: ranges of numbers, and names that are not empty."""

import dataclasses
import importlib
import math
import typing
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from transformer_jax.cli.flags import INT_MAX, SEED_MAX, flag_of, number_ranges
from transformer_jax.cli.main import COMMANDS, SUBCOMMANDS, parse
from transformer_jax.errors import ConfigError

MODULES = [*((name,) for name in COMMANDS), *SUBCOMMANDS]
BAD = ("99999999999999999999", "-99999999999999999999", "nan", "inf", "-inf", "1e400", "-1", "", "x")


def command_of(words: tuple[str, ...]) -> type[Any]:
    name = SUBCOMMANDS.get(words, words[0])
    return importlib.import_module(f"transformer_jax.cli.{name}").Command


def required_words(cls: type[Any]) -> Iterator[str]:
    """What a command needs beside the flag that is tried."""
    positional = {"action": "train", "files": "a.txt"}
    for field in dataclasses.fields(cls):
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            is_positional = "Positional" in repr(typing.get_type_hints(cls, include_extras=True)[field.name])
            yield from (
                (positional.get(field.name, "x"),) if is_positional else (flag_of(field.name), "x.json")
            )


@pytest.mark.parametrize("words", MODULES, ids="_".join)
def test_every_number_has_a_range(words: tuple[str, ...], fails: Callable[..., str]) -> None:
    cls = command_of(words)
    needed = list(required_words(cls))
    for name, allowed in number_ranges(cls):
        assert allowed is not None, f"{flag_of(name)} of {words}: annotate it with a Between"
        for value in BAD:
            line = fails(*words, *needed, f"{flag_of(name)}={value}")
            assert flag_of(name) in line
            assert len(line) < 300
        for value in (allowed.low, allowed.high):
            is_counted = isinstance(allowed.low, int) and isinstance(allowed.high, int)
            command = parse(cls, [*needed, flag_of(name), f"{value:.0f}"], prog="x", description="")
            found = getattr(command, name)
            assert found == (value,) or found == value or not is_counted


def test_seeds_and_counts_are_those_of_the_devices() -> None:
    found = dict(number_ranges(command_of(("translate",))))
    assert found["seed"] is not None
    assert found["top_k"] is not None
    assert (found["seed"].high, found["top_k"].high) == (SEED_MAX, INT_MAX) == (2**32 - 1, 2**31 - 1)
    assert found["seed"].fault("--seed", 2**32) == "--seed must be at most 4,294,967,295, got 4294967296"
    assert "at least 0 and at most 1" in str(found["top_p"] and found["top_p"].fault("--top-p", math.nan))


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("train.seed=99999999999999999999", "seed must be at most 4,294,967,295"),
        ("train.seed=4294967296", "seed must be at most 4,294,967,295"),
        ("train.updates=9999999999", "updates must be at most"),
        ("train.keep_every=-99999999999999999999", "keep_every must be"),
        ("train.clip_norm=1e999", "too large to be finite"),
        ("train.clip_norm=NaN", "wanted a number"),
        ("data.batch_size=99999999999999999999", "batch_size must be at most"),
    ],
)
def test_numbers_of_a_config_have_a_range(
    value: str, part: str, tiny_experiment: Any, tmp_path: Any, fails: Callable[..., str]
) -> None:
    assert part in fails("train", tiny_experiment, "--run-dir", tmp_path / "run", "--set", value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("train", "x.py", "--run-dir", ""), "--run-dir is empty"),
        (("train", "x.py", "--run-dir="), "--run-dir is empty"),
        (("train", "x.py", "--run-dir", "r", "--source", "", "--target", "t"), "--source is empty"),
        (("train", "", "--run-dir", "r"), "an argument is empty"),
        (("translate", ""), "an argument is empty"),
        (("translate", "r", "--output", ""), "--output is empty"),
    ],
)
def test_an_empty_name_is_not_the_current_folder(
    words: tuple[str, ...], part: str, fails: Callable[..., str]
) -> None:
    assert part in fails(*words)


def test_an_empty_text_is_a_text() -> None:
    command = parse(command_of(("plot",)), ["run", "--line", "", "cat"], prog="x", description="")
    assert command.line == (("", "cat"),)
    words = ["run", "--output", "model", "--about", ""]
    assert parse(command_of(("export",)), words, prog="x", description="").about == ""


def test_an_empty_run_folder_of_the_library() -> None:
    from transformer_jax.errors import RunError
    from transformer_jax.training.checkpoint import CheckpointStore
    from transformer_jax.training.run_folder import check_run_folder

    with pytest.raises(RunError, match="is empty"):
        check_run_folder("", resume=False, overwrite=False)
    with pytest.raises(RunError, match="is empty"):
        CheckpointStore("")


def test_ranges_are_errors_of_the_library_too() -> None:
    with pytest.raises(ConfigError, match="--beam must be at least 1, got 0"):
        parse(command_of(("translate",)), ["run", "--beam", "0"], prog="x", description="")
