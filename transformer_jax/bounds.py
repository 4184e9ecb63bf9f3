"""Upper bounds of the integers in configs: what is above them is refused before anything is built or compiled.

A config may come from a file that anyone has written, and one number in it can ask for more memory or time than any
machine has. Each integer field of a config is therefore annotated with a range, for example ``hidden_dim: Width``, and
its ``__post_init__`` calls `check_bounds`. The bounds lie far above what is in use, and below what overflows an int32.
"""

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Iterator
from typing import Annotated, Any

from transformer_jax.errors import ConfigError

__all__ = [
    "AtMost",
    "Beams",
    "Count",
    "Layers",
    "Length",
    "Rows",
    "Seed",
    "TokenId",
    "Tokens",
    "Vocabulary",
    "Width",
    "bound_of",
    "bounds_of",
    "check_at_least",
    "check_bounds",
    "require_field",
]


@dataclasses.dataclass(frozen=True)
class AtMost:
    """Annotation of an integer field, or of a tuple of integers: the largest value allowed.

    Args:
      most: That value.
    """

    most: int


Width = Annotated[int, AtMost(2**16)]
"""Numbers of a vector, or heads: at most 65,536."""
Layers = Annotated[int, AtMost(1_000)]
"""Layers of a stack: at most 1,000."""
Length = Annotated[int, AtMost(2**16)]
"""Tokens of a sequence: at most 65,536."""
Beams = Annotated[int, AtMost(1_000)]
"""Hypotheses of a beam search: at most 1,000."""
Rows = Annotated[int, AtMost(2**20)]
"""Rows of a batch, or devices: at most 1,048,576."""
Vocabulary = Annotated[int, AtMost(2**24)]
"""Tokens of a vocabulary: at most 16,777,216."""
Tokens = Annotated[int, AtMost(2**24)]
"""Tokens of a batch: at most 16,777,216."""
Count = Annotated[int, AtMost(10**9)]
"""Updates, examples and intervals: at most 1,000,000,000."""
TokenId = Annotated[int, AtMost(2**31 - 1)]
"""Number of a token: an int32."""
Seed = Annotated[int, AtMost(2**32 - 1)]
"""Seed of random numbers: an unsigned int32."""


def require_field(holds: bool, owner: Any, name: str, wanted: str) -> None:
    """Raise ``ConfigError`` naming a field of ``owner``, what it must be and what it is, unless ``holds``.

    Example:
      >>> @dataclasses.dataclass(frozen=True)
      ... class Small:
      ...   rate: float
      >>> require_field(False, Small(2.0), "rate", "below 1")
      Traceback (most recent call last):
      transformer_jax.errors.ConfigError: Small.rate must be below 1; got 2.0
    """
    if not holds:
        raise ConfigError(f"{type(owner).__name__}.{name} must be {wanted}; got {getattr(owner, name)!r}")


def check_bounds(config: Any) -> None:
    """Raise ``ConfigError`` if an integer field of a dataclass is above the bound in its annotation.

    Args:
      config: The dataclass; fields without a bound, and values that are no integers, are passed over.

    Raises:
      ConfigError: Naming the field, its bound and its value.

    Example:
      >>> @dataclasses.dataclass(frozen=True)
      ... class Small:
      ...   model_dim: Width
      >>> check_bounds(Small(70_000))
      Traceback (most recent call last):
      transformer_jax.errors.ConfigError: model_dim must be at most 65,536, got 70,000
    """
    for name, most in bounds_of(type(config)).items():
        for value in _integers(getattr(config, name)):
            if value > most:
                raise ConfigError(f"{name} must be at most {most:,}, got {_shown(value)}")


def check_at_least(minimum: int, **values: int | None) -> None:
    """Raise ``ConfigError`` if one of the values, given by the names of their fields, is below ``minimum``.

    Args:
      minimum: The smallest value allowed.
      **values: Values by name; None is passed over.

    Raises:
      ConfigError: Naming the field, the minimum and its value.

    Example:
      >>> check_at_least(1, batch_size=0)
      Traceback (most recent call last):
      transformer_jax.errors.ConfigError: batch_size must be at least 1, got 0
    """
    for name, value in values.items():
        if value is not None and value < minimum:
            raise ConfigError(f"{name} must be at least {minimum}, got {value}")


def _read_bounds(cls: type[Any]) -> dict[str, int]:
    hints = typing.get_type_hints(cls, include_extras=True)
    found = {field.name: bound_of(hints[field.name]) for field in dataclasses.fields(cls)}
    return {name: most for name, most in found.items() if most is not None}


bounds_of: Callable[[Any], dict[str, int]] = functools.cache(_read_bounds)
"""The largest value of each bounded field of a dataclass, by name."""


def bound_of(annotation: Any) -> int | None:
    """The bound in an annotation, also inside of a union or a tuple.

    Example:
      >>> bound_of(Annotated[int, AtMost(7)] | None)
      7
    """
    for extra in getattr(annotation, "__metadata__", ()):
        if isinstance(extra, AtMost):
            return extra.most
    if typing.get_origin(annotation) not in (typing.Union, types.UnionType, tuple):
        return None
    found = [bound_of(inner) for inner in typing.get_args(annotation)]
    return next((most for most in found if most is not None), None)


def _integers(value: Any) -> Iterator[int]:
    if isinstance(value, tuple):
        for one in value:
            yield from _integers(one)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield value


def _shown(value: int) -> str:
    return f"{value:,}" if value.bit_length() < 100 else f"a number of {value.bit_length():,} bits"
