"""Checks that hold for the flags of every command: ranges of numbers, names that are not empty."""

import dataclasses
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from transformer_jax import bounds
from transformer_jax.errors import ConfigError

INT_MAX = 2**31 - 1
"""Largest count: sizes and counters on a device are 32-bit integers."""

SEED_MAX = bounds.bound_of(bounds.Seed) or 2**32 - 1
"""Largest seed: `jax.random.key` reads 32 bits."""

MAY_BE_EMPTY = ("--about", "--line", "--prompt", "--set")
"""Flags whose values are texts, not names."""


@dataclasses.dataclass(frozen=True)
class Between:
    """Range of a numeric flag, both ends included: metadata of its `typing.Annotated`.

    Example:
      >>> Between(1, 10).fault("--beam", 0)
      '--beam must be at least 1, got 0'
      >>> Between(1, 10).fault("--beam", 10) is None
      True
    """

    low: float
    high: float

    def fault(self, flag: str, value: float) -> str | None:
        """Fault of a value of ``flag``, in one line; None if it lies in the range."""
        number = "" if isinstance(value, int) else "a number of "
        if value < self.low:
            return f"{flag} must be {number}at least {self.low:,.12g}, got {value}"
        if value > self.high:
            return f"{flag} must be {number}at most {self.high:,.12g}, got {value}"
        if value != value:
            return (
                f"{flag} must be {number}at least {self.low:,.12g} and at most {self.high:,.12g}, got {value}"
            )
        return None


COUNT = Between(1, INT_MAX)
"""Of a count of which there must be one."""

BEAMS, LENGTH, ROWS, TOKENS, VOCABULARY, WIDTH = (
    Between(1, bounds.bound_of(one) or INT_MAX)
    for one in (bounds.Beams, bounds.Length, bounds.Rows, bounds.Tokens, bounds.Vocabulary, bounds.Width)
)
"""Of sizes that configs have too."""

SEED = Between(0, SEED_MAX)
"""Of a seed."""


def number_ranges(cls: type[Any]) -> Iterator[tuple[str, Between | None]]:
    """The numeric fields of a command's dataclass, with their ranges; None where there is none."""
    for name, hint in typing.get_type_hints(cls, include_extras=True).items():
        inside = typing.get_args(hint) if typing.get_origin(hint) is typing.Annotated else (hint,)
        if {int, float} & set(_leaves(inside[0])):
            yield name, next((one for one in inside[1:] if isinstance(one, Between)), None)


def check_numbers(command: Any) -> None:
    """Check the numeric fields of a parsed command against their ranges.

    Raises:
      ConfigError: If one is out of its range; names the flag.
    """
    for name, allowed in number_ranges(type(command)):
        given = getattr(command, name)
        for value in given if isinstance(given, tuple) else (given,):
            fault = None if allowed is None or value is None else allowed.fault(flag_of(name), value)
            if fault is not None:
                raise ConfigError(fault)


def check_names(words: Sequence[str]) -> None:
    """Check that no file, folder or other name among a command's words is the empty text.

    ``pathlib`` takes it for the current folder: ``--run-dir "$UNSET"`` would fill that.

    Raises:
      ConfigError: If one is; says behind which flag.
    """
    flag = ""
    for word in words:
        if word.startswith("--"):
            flag, equals, value = word.partition("=")
            is_empty = bool(equals) and not value
        else:
            is_empty = not word
        if is_empty and flag not in MAY_BE_EMPTY:
            raise ConfigError(
                f"{flag or 'an argument'} is empty: give a name (is a variable of the shell unset?)"
            )


def flag_of(name: str) -> str:
    """The flag of a field: ``"--n-best"`` of ``"n_best"``."""
    return f"--{name.strip('_').replace('_', '-')}"


def _leaves(hint: Any) -> Iterator[Any]:
    """The classes of a union or a tuple."""
    inner = typing.get_args(hint)
    if not inner:
        yield hint
    for one in inner:
        yield from _leaves(one)
