"""Frozen dataclasses to JSON and back, strictly: nothing is coerced, nothing unknown is passed over.

A document comes from a file that anyone may have written, so its size and depth are bounded, no name is given
twice, and numbers are finite. Tagged unions are told apart by their ``kind`` field alone. Values are checked
by pydantic in strict mode; the walk in this file finds the unknown keys and tags first, so that each message
names the path, what was wanted and the nearest known name.
"""

import dataclasses
import functools
import json
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import pydantic

from transformer_jax.errors import ConfigError, TransformerJaxError, nearest_hint, shortened
from transformer_jax.kinds import Kinds, revision

MAX_DOCUMENT_BYTES = 1_000_000
MAX_NESTING = 32
_MAX_MESSAGE = 600
TAG = "kind"

_Config = TypeVar("_Config")


def _adapter(cls: Any) -> Any:
    return _adapter_of_revision(cls, revision())


@functools.cache
def _adapter_of_revision(cls: Any, _: int) -> Any:
    # Unions that programs add members to are read when the adapter is made.
    return pydantic.TypeAdapter(cls)


def to_json(config: Any) -> str:
    """JSON text of a config dataclass: every field, tuples as lists, two spaces of indentation.

    Example:
      >>> import dataclasses
      >>> @dataclasses.dataclass(frozen=True, kw_only=True)
      ... class Small:
      ...   size: int
      >>> print(to_json(Small(size=3)), end="")
      {
        "size": 3
      }
    """
    try:
        document = dataclasses.asdict(config)
        _check_text(document, type(config).__name__, ())
        return json.dumps(document, indent=2, allow_nan=False) + "\n"
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{type(config).__name__} holds a value that JSON has no form for: {error}"
        ) from None


def finite_json(value: Any) -> Any:
    """A value of JSON's kinds with None for NaN and infinities, which JSON has no numbers for.

    Example:
      >>> finite_json({"nats": math.nan, "rows": [1.5, -math.inf]})
      {'nats': None, 'rows': [1.5, None]}
    """
    if isinstance(value, Mapping):
        return {name: finite_json(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite_json(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def from_json(cls: type[_Config], text: str, where: str = "config") -> _Config:
    """Read and check a config.

    Args:
      cls: The dataclass that the document describes.
      text: The JSON text.
      where: What to call the document in messages, usually its file name.

    Raises:
      ConfigError: If the text is not JSON, too large or too deep, or does not describe a ``cls``.
    """
    return from_document(cls, load_document(text, where), where)


def load_document(text: str, where: str = "config") -> dict[str, Any]:
    """Parse JSON text to plain values, refusing what no config of ours holds.

    Raises:
      ConfigError: If the text is not a JSON object, is larger than `MAX_DOCUMENT_BYTES`, nests deeper than
        `MAX_NESTING`, repeats a key or holds a number that is not finite.
    """
    if len(text) > MAX_DOCUMENT_BYTES:
        raise ConfigError(
            f"{where}: {len(text):,} characters; a config may have at most {MAX_DOCUMENT_BYTES:,}"
        )
    try:
        document = json.loads(text, object_pairs_hook=_no_repeats, parse_constant=_no_constant)
    except RecursionError:
        raise ConfigError(f"{where}: nested deeper than {MAX_NESTING} levels") from None
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{where}: not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from None
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{where}: wanted an object {{...}}, got {_shown(document)}")
    _check_values(document, where, depth=1)
    return document


def from_document(cls: type[_Config], document: dict[str, Any], where: str = "config") -> _Config:
    """Build ``cls`` from plain values (as `load_document` returns them), checking every one.

    Raises:
      ConfigError: On an unknown or missing key, an unknown tag, or a value of the wrong type or range.
    """
    _check_keys(cls, document, where, ())
    _check_text(document, where, ())
    try:
        # Through text, because pydantic's strict mode takes lists for tuples and objects for dataclasses
        # from JSON only.
        return _adapter(cls).validate_json(json.dumps(document), strict=True)
    except pydantic.ValidationError as error:
        raise ConfigError(_first_message(cls, document, error, where)) from None


def apply_overrides(
    cls: type[Any], document: dict[str, Any], overrides: Sequence[str], where: str = "`overrides`"
) -> dict[str, Any]:
    """Copy of a config document with some values replaced, such as ``"train.updates=200"``.

    The value is read as JSON, and as a plain string where it is not JSON or where the field holds text.
    Giving another ``kind`` drops the fields that the new kind does not have and leaves the others. In the place of an
    object a text is its ``kind``, or else the field that one of the kinds names in ``TEXT_FIELD``, such as the path of
    a saved tokenizer in ``"data.source_tokenizer=joint.json"``.

    The result is not yet checked: hand it to `from_document`.

    Args:
      cls: The dataclass that the document describes.
      document: Plain values, not changed.
      overrides: ``path=value`` texts, applied in order.
      where: What to call the overrides in messages.

    Raises:
      ConfigError: If a text has no ``=``, or its path names no field.

    Example:
      >>> import dataclasses
      >>> @dataclasses.dataclass(frozen=True, kw_only=True)
      ... class Small:
      ...   size: int
      >>> apply_overrides(Small, {"size": 3}, ["size=4"])
      {'size': 4}
    """
    patched = json.loads(json.dumps(document))
    for override in overrides:
        path, equals, value = override.partition("=")
        names = path.strip().split(".")
        if not equals or not all(names):
            raise ConfigError(f"{where} {override}: wanted path=value, such as train.updates=200")
        _set_value(cls, patched, names, value.strip(), f"{where} {override}")
    return patched


def _set_value(cls: type[Any], document: dict[str, Any], names: list[str], text: str, where: str) -> None:
    annotation: Any = cls
    holder: Any = document
    for depth, name in enumerate(names):
        path = ".".join(names[: depth + 1])
        if not isinstance(holder, dict):
            raise ConfigError(f"{where}: '{'.'.join(names[:depth])}' has no fields of its own")
        member = _pick_member(annotation, holder, lambda message: ConfigError(f"{where}: {message}"))
        if member is None:
            raise ConfigError(f"{where}: '{'.'.join(names[:depth])}' has no fields of its own")
        hints = _field_types(member)
        if name not in hints:
            hint = nearest_hint(name, hints) or f"; known here: {', '.join(hints)}"
            raise ConfigError(f"{where}: unknown key '{path}'{hint}")
        annotation = hints[name]
        if depth == len(names) - 1:
            if name == TAG:
                _change_tag(holder, text, names, cls, document)
            else:
                value = _parse_value(text, annotation, where)
                holder[name] = _from_text(value, annotation, holder.get(name))
        else:
            holder = holder.setdefault(name, {})


def _from_text(value: Any, annotation: Any, before: Any) -> Any:
    """The object that a text abbreviates in a tagged union: a kind by its name, or one by its only field of text."""
    members = {
        tag: member for tag, member in _tagged_members(annotation).items() if TAG in _field_types(member)
    }
    if not isinstance(value, str) or str in _union_members(annotation):
        return value
    if value in members:
        kept = before if isinstance(before, dict) else {}
        return {name: kept[name] for name in kept if name in _field_types(members[value])} | {TAG: value}
    for tag, member in members.items():
        if hasattr(member, "TEXT_FIELD"):
            return {TAG: tag, member.TEXT_FIELD: value}
    return value


def _change_tag(
    holder: dict[str, Any], text: str, names: list[str], cls: type[Any], document: dict[str, Any]
) -> None:
    """Set ``kind``; fields that the new member of the union does not have are dropped."""
    tag = _parse_value(text, str, "")
    annotation: Any = cls
    below: Any = document
    for name in names[:-1]:
        member = _pick_member(annotation, below, ConfigError)
        annotation, below = _field_types(member)[name], below[name]
    new = _tagged_members(annotation).get(tag)
    holder[TAG] = tag
    if new is not None:
        for name in [name for name in holder if name not in _field_types(new)]:
            del holder[name]


def _parse_value(text: str, annotation: Any, where: str) -> Any:
    try:
        value = json.loads(text, object_pairs_hook=_no_repeats, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text
    members = _union_members(annotation)
    holds_text = str in members or (
        bool(members) and all(typing.get_origin(one) is typing.Literal for one in members)
    )
    if holds_text and not isinstance(value, str) and not (value is None and type(None) in members):
        return text
    _check_values(value, where, depth=1)
    return value


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for name, value in pairs:
        if name in seen:
            raise ValueError(f"key '{name}' is given twice")
        seen[name] = value
    return seen


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a number that a config may hold")


def _check_text(value: Any, where: str, path: tuple[str, ...]) -> None:
    """Refuse text that UTF-8 has no form for: Python's for a file name of other bytes, say."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ConfigError(
                f"{where}: {'.'.join(path)}: {value!a} is not UTF-8, so config.json cannot hold it: rename the file"
            ) from None
    elif isinstance(value, dict):
        for name, child in value.items():
            _check_text(child, where, (*path, name))
    elif isinstance(value, list | tuple):
        for index, child in enumerate(value):
            _check_text(child, where, (*path, str(index)))


def _check_values(value: Any, where: str, depth: int) -> None:
    if depth > MAX_NESTING:
        raise ConfigError(f"{where}: nested deeper than {MAX_NESTING} levels")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{where}: a number is too large to be finite")
    if isinstance(value, dict):
        for child in value.values():
            _check_values(child, where, depth + 1)
    elif isinstance(value, list):
        for child in value:
            _check_values(child, where, depth + 1)


def _read_field_types(cls: type[Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


_field_types: Callable[[Any], dict[str, Any]] = functools.cache(_read_field_types)


def _union_members(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return tuple(inner for member in typing.get_args(annotation) for inner in _union_members(member))
    if typing.get_origin(annotation) is typing.Annotated:
        kinds = _kinds_of(annotation)
        return _union_members(typing.get_args(annotation)[0]) if kinds is None else kinds.members()
    return (annotation,)


def _kinds_of(annotation: Any) -> Kinds | None:
    """The family of classes that a field is annotated with, if programs may add to it."""
    return next((one for one in getattr(annotation, "__metadata__", ()) if isinstance(one, Kinds)), None)


def _tagged_members(annotation: Any) -> dict[str, type[Any]]:
    """The dataclasses of a union by their tag; a dataclass without one is listed under its own name."""
    members: dict[str, type[Any]] = {}
    for member in _union_members(annotation):
        if dataclasses.is_dataclass(member) and isinstance(member, type):
            tags = typing.get_args(_field_types(member).get(TAG)) or (member.__name__,)
            members.update(dict.fromkeys(tags, member))
    return members


def _pick_member(
    annotation: Any, value: dict[str, Any], fail: Callable[[str], Exception]
) -> type[Any] | None:
    """The dataclass that ``value`` describes, by its tag; None where the annotation holds no dataclass."""
    members = _tagged_members(annotation)
    if len(set(members.values())) <= 1:
        return next(iter(members.values()), None)
    if TAG not in value:
        raise fail(f"key '{TAG}' is missing; one of {_listed(members)}")
    tag = value[TAG]
    if not isinstance(tag, str) or tag not in members:
        advice = (
            "" if _kinds_of(annotation) is None else "; import the module that registers it, if it is yours"
        )
        hint = nearest_hint(str(tag), members)
        raise fail(f"unknown {TAG} {_shown(tag)}{hint}; known: {_listed(members)}{advice}")
    return members[tag]


def _check_keys(annotation: Any, value: Any, where: str, path: tuple[str, ...]) -> None:
    """Walk types and values side by side: unknown keys and tags are found here, values by pydantic."""
    prefix = f"{where}: {'.'.join(path)}: " if path else f"{where}: "
    if isinstance(value, list):
        inner = [argument for member in _union_members(annotation) for argument in typing.get_args(member)]
        inner = [argument for argument in inner if _tagged_members(argument)]
        for index, child in enumerate(value if inner else ()):
            _check_keys(inner[0], child, where, (*path, str(index)))
    if not isinstance(value, dict):
        return
    member = _pick_member(annotation, value, lambda message: ConfigError(prefix + message))
    if member is None:
        return
    hints = _field_types(member)
    for name, child in value.items():
        if name not in hints:
            hint = nearest_hint(name, hints) or f"; known here: {', '.join(hints)}"
            raise ConfigError(
                f"{where}: unknown key '{'.'.join((*path, shortened(json.dumps(name)[1:-1])))}'{hint}"
            )
        _check_keys(hints[name], child, where, (*path, name))


_WANTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "a string",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "an object",
    "dataclass_type": "an object",
    "none_required": "null",
    "model_type": "an object",
}


def _first_message(
    cls: type[Any], document: dict[str, Any], error: pydantic.ValidationError, where: str
) -> str:
    """One line for the first fault, leaving out what the unpicked members of a union complained about."""
    faults: dict[tuple[str, ...], list[Any]] = {}
    for detail in error.errors(include_url=False):
        located = _path_of(cls, document, detail["loc"])
        if located is not None:
            faults.setdefault(located, []).append(detail)
    if not faults:  # pragma: no cover - every union member was left out; show what pydantic says
        return f"{where}: {error.errors(include_url=False)[0]['msg']}"
    path, details = next(iter(faults.items()))
    name = ".".join(path)
    detail = details[0]
    raised = detail.get("ctx", {}).get("error")
    if isinstance(raised, TransformerJaxError | ValueError):
        # It can quote a value that a damaged file made as long as the file.
        return f"{where}: {name + ': ' if name else ''}{shortened(str(raised), _MAX_MESSAGE)}"
    if detail["type"] == "missing":
        return f"{where}: key '{name}' is missing"
    wanted = list(dict.fromkeys(_WANTED.get(one["type"]) or _wanted_otherwise(one) for one in details))
    return f"{where}: {name}: wanted {' or '.join(wanted)}, got {_shown(detail['input'])}"


def _wanted_otherwise(detail: Any) -> str:
    if detail["type"] == "literal_error":
        return f"one of {detail['ctx']['expected']}"
    return str(detail["msg"]).removeprefix("Input should be ")


def _path_of(cls: type[Any], document: Any, location: tuple[int | str, ...]) -> tuple[str, ...] | None:
    """Key path of a fault; None if it lies in a union's member that the tag did not pick."""
    annotation: Any = cls
    value: Any = document
    path: list[str] = []
    for step in location:
        members = [one for one in _union_members(annotation) if one is not type(None)]
        if len(members) > 1 and isinstance(step, str) and not (isinstance(value, dict) and step in value):
            if isinstance(value, dict):
                picked = _pick_member(annotation, value, ConfigError)
                if picked is not None and step != picked.__name__:
                    return None
                annotation = picked
            continue
        path.append(str(step))
        picked = _pick_member(annotation, value, ConfigError) if isinstance(value, dict) else None
        annotation = _field_types(picked).get(str(step)) if picked is not None else None
        value = value.get(step) if isinstance(value, dict) else None
    return tuple(path)


def _listed(names: typing.Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else text[:77] + "..."
