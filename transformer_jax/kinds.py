"""Classes found by their ``kind``: the library's own, those of installed packages, those of the running program."""

import itertools
import typing
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, cast

from transformer_jax.errors import ConfigError, nearest_hint
from transformer_jax.plugins import PluginWarning, plugin_classes

__all__ = ["Kinds", "revision"]

_Class = TypeVar("_Class", bound=type)
_changes = itertools.count(1)
_revision = 0


def revision() -> int:
    """A number that grows when a class joins any family: what was derived from the members is out of date then.

    Example:
      >>> before = revision()
      >>> class Plain:
      ...   kind = "plain"
      >>> _ = Kinds("shape", [], "transformer_jax.no_such_group").register(Plain)
      >>> revision() > before
      True
    """
    return _revision


class Kinds(Generic[_Class]):
    """A family of classes, each under its class attribute ``kind``.

    Installed packages add members by entry points (see :mod:`transformer_jax.plugins`), which are read when the
    members are first listed or a name is not among the others; the running program adds them by :meth:`register`.

    In ``Annotated[Any, kinds]`` it stands for the union of its present members, as the type of a config's field.

    Args:
      noun: Name of the family in messages, such as ``"cell"``.
      own: The library's members.
      group: Group of the entry points.
      fault: Why a class cannot be a member, ``None`` if it can; asked before one is added.

    Example:
      >>> class Plain:
      ...   kind = "plain"
      >>> kinds = Kinds("shape", [Plain], "transformer_jax.no_such_group")
      >>> kinds.names(), kinds.find("plain").__name__
      (('plain',), 'Plain')
    """

    def __init__(
        self,
        noun: str,
        own: Sequence[_Class],
        group: str,
        *,
        fault: Callable[[Any], str | None] | None = None,
    ) -> None:
        self.noun = noun
        self.group = group
        self._fault = fault
        self._members: dict[str, _Class] = {_kind(member): member for member in own}
        self._left_out: set[type] = set()

    def find(self, kind: str) -> _Class:
        """The class of a kind.

        Raises:
          ConfigError: If there is none; the message lists the known ones.
        """
        if kind not in self._members:
            self._read_plugins()
        if kind not in self._members:
            known = self.names()
            raise ConfigError(f"{self.noun} must be one of {known}; got {kind!r}{nearest_hint(kind, known)}")
        return self._members[kind]

    def names(self) -> tuple[str, ...]:
        """All kinds, the library's own first."""
        self._read_plugins()
        return tuple(self._members)

    def members(self) -> tuple[_Class, ...]:
        """All classes, the library's own first."""
        self._read_plugins()
        return tuple(self._members.values())

    def register(self, member: _Class) -> _Class:
        """Add a class of the running program; works as a decorator.

        Args:
          member: The class, its ``kind`` a text.

        Returns:
          The class itself.

        Raises:
          ConfigError: If the class has no ``kind``, or another class has the same, or it cannot be a member.
        """
        kind = _kind(member)
        if not isinstance(kind, str) or not kind:
            raise ConfigError(
                f"{self.noun} class {member.__name__} must have a text as its 'kind'; got {kind!r}"
            )
        fault = self._fault(member) if self._fault is not None else None
        if fault is not None:
            raise ConfigError(f"{self.noun} class {member.__name__} cannot be registered: {fault}")
        taken = self._members.get(kind, member)
        # A notebook that runs a cell again defines the same class anew.
        if taken is not member and (taken.__module__, taken.__qualname__) != (
            member.__module__,
            member.__qualname__,
        ):
            raise ConfigError(
                f"{self.noun} kind '{kind}' of {member.__name__} is taken by {taken.__module__}.{taken.__qualname__}: "
                "choose another"
            )
        self._add(kind, member)
        return member

    def _add(self, kind: str, member: _Class) -> None:
        global _revision
        self._members[kind] = member
        _revision = next(_changes)

    def _read_plugins(self) -> None:
        for plugin in plugin_classes(self.group):
            kind = _kind(plugin)
            if self._members.get(kind) is plugin or plugin in self._left_out:
                continue
            fault = self._fault(plugin) if self._fault is not None else None
            if kind in self._members:
                fault = f"its kind '{kind}' is that of {self._members[kind].__qualname__}"
            if fault is None:
                self._add(kind, cast(_Class, plugin))
                continue
            self._left_out.add(plugin)
            warnings.warn(
                f"package {plugin.__module__.partition('.')[0]}: plug-in {plugin.__qualname__} of '{self.group}' is "
                f"left out: {fault}",
                PluginWarning,
                stacklevel=2,
            )

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Schema by which pydantic checks a field of this family."""
        return handler.generate_schema(typing.Union[self.members()])  # noqa: UP007 (of a tuple)


def _kind(member: Any) -> Any:
    return getattr(member, "kind", None)
