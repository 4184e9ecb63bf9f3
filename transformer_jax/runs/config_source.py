"""A config as Python source: every field with what it means, ready to be changed."""

import dataclasses
import inspect
import re
import textwrap
from typing import Any

from transformer_jax.errors import ConfigError

__all__ = ["config_source"]

_WIDTH = 96
_ENTRY = re.compile(r"^  (\*{0,2}\w+): (.*)$")
_SECTION = re.compile(r"^(Attributes|Args):$")


def config_source(config: Any, *, title: str) -> str:
    """A Python file whose ``config()`` returns a config.

    Args:
      config: A frozen dataclass of dataclasses, tuples, texts and numbers.
      title: Text at the head of the file.

    Returns:
      The source. Above each field stands the first sentence that its class says of it.

    Raises:
      ConfigError: If a class cannot be imported by its name.

    Example:
      >>> from transformer_jax.training.config import Adam
      >>> print(config_source(Adam(), title="An optimizer.").split("Adam:")[1])
      <BLANKLINE>
          return Adam(
              # Decay of the running mean of the gradient.
              beta1=0.9,
              # Decay of the running mean of its square.
              beta2=0.98,
              # Added to the root of that mean.
              epsilon=1e-09,
          )
      <BLANKLINE>
    """
    classes: set[type] = set()
    body = "\n".join(_lines(config, "    return ", "", 4, classes))
    for one in classes:
        if "<locals>" in one.__qualname__ or one.__module__ == "__main__":
            raise ConfigError(f"class {one.__qualname__} of {one.__module__} cannot be imported by a file")
    head = [f'"""{title.strip()}', '"""', "", *_imports(classes), "", ""]
    return "\n".join([*head, f"def config() -> {type(config).__name__}:", body, ""])


def _imports(classes: set[type]) -> list[str]:
    names: dict[str, list[str]] = {}
    for one in sorted(classes, key=lambda one: one.__qualname__):
        names.setdefault(one.__module__, []).append(one.__qualname__)
    return [f"from {module} import {', '.join(found)}" for module, found in sorted(names.items())]


def _lines(value: Any, before: str, after: str, indent: int, classes: set[type]) -> list[str]:
    """A value between two texts, its parts deeper by four; a short value on one line."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        if isinstance(value, tuple) and any(map(dataclasses.is_dataclass, value)):
            inner = [
                line for one in value for line in _lines(one, " " * (indent + 4), ",", indent + 4, classes)
            ]
            return [f"{before}(", *inner, f"{' ' * indent}){after}"]
        return [f"{before}{_literal(value)}{after}"]
    kind = type(value)
    classes.add(kind)
    fields = [field for field in dataclasses.fields(value) if field.init and field.name != "kind"]
    if not fields:
        return [f"{before}{kind.__name__}(){after}"]
    meanings = _meanings(kind)
    found = [f"{before}{kind.__name__}("]
    for field in fields:
        found += _comment(meanings.get(field.name, ""), indent + 4)
        start = f"{' ' * (indent + 4)}{field.name}="
        found += _lines(getattr(value, field.name), start, ",", indent + 4, classes)
    return [*found, f"{' ' * indent}){after}"]


def _literal(value: Any) -> str:
    text = repr(value)
    if isinstance(value, str) and "'" in text[:1]:
        return '"' + text[1:-1].replace('"', '\\"') + '"' if '"' not in value else text
    return text


def _comment(meaning: str, indent: int) -> list[str]:
    return textwrap.wrap(
        meaning,
        _WIDTH,
        initial_indent=" " * indent + "# ",
        subsequent_indent=" " * indent + "# ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _meanings(kind: type) -> dict[str, str]:
    """First sentence on each field, of the class itself or else of the class it inherits the field from."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        name, is_listed = "", False
        entries: dict[str, str] = {}
        for line in inspect.cleandoc(one.__doc__ or "").splitlines():
            if _SECTION.match(line):
                is_listed = True
            elif line and not line.startswith(" "):
                is_listed = False
            elif is_listed and (entry := _ENTRY.match(line)):
                name = entry[1]
                entries[name] = entry[2]
            elif is_listed and name and line.strip():
                entries[name] += f" {line.strip()}"
        found |= {name: _first_sentence(text) for name, text in entries.items()}
    return found


def _first_sentence(text: str) -> str:
    plain = re.sub(r":\w+:`~?(?:[\w.]+\.)?([^`]*)`", r"\1", text)
    plain = re.sub(r"`{1,2}([^`]*)`{1,2}", r"\1", plain)
    return re.split(r"(?<=\.)\s+(?=[A-Z])", plain)[0].strip()
