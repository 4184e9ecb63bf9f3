"""Varied values of a config as text, ``"model.normalization=layer,rms"``."""

import dataclasses
import json
from collections.abc import Sequence

from transformer_jax.errors import ConfigError, shortened

_OPENING, _CLOSING = "[{", "]}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Varied:
    """One path of a config and the values that it takes, as texts of overrides.

    Args:
      path: Such as ``"model.normalization"``.
      values: At least one; each as in ``"path=value"``.

    Raises:
      ConfigError: If a value is empty or given twice.
    """

    path: str
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        if not all(self.path.split(".")) or not self.values or not all(self.values):
            raise ConfigError(
                f"`vary={self.path}={','.join(self.values)}`: wanted path=value,value, such as "
                "model.normalization=layer,rms"
            )
        seen: set[str] = set()
        for value in self.values:
            if _normal(value) in seen:
                raise ConfigError(f"`vary={self.path}`: value {shortened(value)} is given twice")
            seen.add(_normal(value))


def read_varied(texts: Sequence[str]) -> tuple[Varied, ...]:
    """Read ``path=value,value`` texts; a path that is given again gets further values.

    Commas inside of brackets, braces and double quotes belong to a value, so that a list, an object and a text with a
    comma (``"a,b"`` in double quotes) are values like others. What must change together with a value follows it after
    ``&``: ``"model.num_heads=2 & model.num_kv_heads=2,8 & model.num_kv_heads=8"``.

    Args:
      texts: In the order in which the values are to be set.

    Raises:
      ConfigError: If a text has no ``=``, or a value is empty or given twice; if there is no text.

    Example:
      >>> read_varied(['model.positions={"kind": "rotary", "base": 500},alibi'])[0].values
      ('{"kind": "rotary", "base": 500}', 'alibi')
      >>> [one.values for one in read_varied(["train.clip_norm=1", "train.clip_norm=null"])]
      [('1', 'null')]
    """
    found: dict[str, tuple[str, ...]] = {}
    for text in texts:
        path, equals, values = text.partition("=")
        if not equals or not path.strip():
            raise ConfigError(
                f"`vary={text}`: wanted path=value,value, such as model.normalization=layer,rms"
            )
        found[path.strip()] = found.get(path.strip(), ()) + split_outside(values, ",")
    if not found:
        raise ConfigError(
            "nothing is varied: give `vary`, a path and its values, such as model.normalization=layer,rms"
        )
    return tuple(Varied(path=path, values=values) for path, values in found.items())


def overrides_of(path: str, value: str) -> list[str]:
    """The overrides that a value stands for: its own, and those that it brings along after ``&``.

    Example:
      >>> overrides_of("model.num_heads", "2 & model.num_kv_heads=2")
      ['model.num_heads=2', 'model.num_kv_heads=2']
    """
    own, *others = split_outside(value, "&")
    return [f"{path}={own}", *others]


def split_outside(text: str, separator: str) -> tuple[str, ...]:
    """The parts between separators that stand outside of brackets, braces and double quotes.

    Example:
      >>> split_outside('[1, 2],"a,b",x', ",")
      ('[1, 2]', '"a,b"', 'x')
    """
    values, depth, is_quoted, is_escaped = [""], 0, False, False
    for letter in text:
        if letter == separator and depth == 0 and not is_quoted:
            values.append("")
            continue
        values[-1] += letter
        if letter == '"' and not is_escaped:
            is_quoted = not is_quoted
        elif not is_quoted and letter in _OPENING:
            depth += 1
        elif not is_quoted and letter in _CLOSING:
            depth = max(0, depth - 1)
        is_escaped = letter == "\\" and not is_escaped
    return tuple(value.strip() for value in values)


def _normal(value: str) -> str:
    """The same text for ``rms`` and ``"rms"``, and for objects that differ in white space."""
    try:
        return json.dumps(json.loads(value), sort_keys=True)
    except (ValueError, RecursionError):
        return json.dumps(value)
