"""Errors that a user can act on: each says what was wanted, what came, and what to do."""

import difflib
from collections.abc import Iterable


class TransformerJaxError(Exception):
    """Base of every error this library raises on purpose; the command line shows it in one line.

    Args:
      message: What was wanted and what came.
      hint: What to do, with arguments of the library in backticks: ``"pass `resume=True`"``; the command line writes
        them as flags.

    Example:
      >>> str(TransformerJaxError("the folder holds a run", hint="continue it with `resume=True`"))
      'the folder holds a run: continue it with `resume=True`'
    """

    def __init__(self, message: str = "", *, hint: str | None = None) -> None:
        super().__init__(message if hint is None else f"{message}: {hint}")
        self.hint = hint


class ShapeError(TransformerJaxError, ValueError):
    """An array (or a size in a config) does not have the shape that the function needs."""


class ConfigError(TransformerJaxError, ValueError):
    """A configuration value is unknown, of the wrong type, or out of range."""


class DataError(TransformerJaxError, ValueError):
    """A data file is missing, damaged, or does not hold what the reader expects."""


class RunError(TransformerJaxError, RuntimeError):
    """A run folder or checkpoint cannot be used in the requested way."""


def answer(interrupt: KeyboardInterrupt) -> None:
    """Say of a caught interrupt that the program goes on knowing of it.

    The command line raises an interrupt again that was dropped (`transformer_jax.cli.interrupts`); not so this one.

    Example:
      >>> try:
      ...   raise KeyboardInterrupt
      ... except KeyboardInterrupt as interrupt:
      ...   answer(interrupt)
    """
    vars(interrupt)["answered"] = True


def require(holds: bool, message: str) -> None:
    """Raise ``ConfigError`` with a message unless a condition holds.

    Example:
      >>> require(1 + 1 == 3, "the sum must be 3, got 2")
      Traceback (most recent call last):
      transformer_jax.errors.ConfigError: the sum must be 3, got 2
    """
    if not holds:
        raise ConfigError(message)


def nearest_hint(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest known name, or an empty string.

    Example:
      >>> nearest_hint("hiden_dim", ["hidden_dim", "num_layers"])
      "; did you mean 'hidden_dim'?"
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def check_choice(name: str, value: object, known: Iterable[str]) -> None:
    """Raise ``ConfigError`` unless a value is one of the known ones.

    Example:
      >>> check_choice("split", "test", ("development", "test"))
    """
    known = tuple(known)
    if value not in known:
        hint = nearest_hint(value, known) if isinstance(value, str) else ""
        raise ConfigError(f"{name} must be one of {', '.join(map(repr, known))}; got {value!r}{hint}")


def shortened(text: str, limit: int = 100) -> str:
    """The text, its middle left out where a damaged file made it longer than a line can show.

    Example:
      >>> shortened("abcdefghij", limit=7)
      'ab...ij'
    """
    if len(text) <= limit:
        return text
    half = (limit - 3) // 2
    return f"{text[:half]}...{text[-half:]}"
