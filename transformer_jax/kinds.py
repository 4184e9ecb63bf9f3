"""Classes found by their ``kind``: the library's own, those of installed packages, those of the running program."""

from collections.abc import Sequence
from typing import Any, Generic, TypeVar, cast

from transformer_jax.errors import ConfigError, nearest_hint
from transformer_jax.plugins import plugin_classes

__all__ = ["Kinds"]

_Class = TypeVar("_Class", bound=type)


class Kinds(Generic[_Class]):
    """A family of classes, each under its class attribute ``kind``.

    Installed packages add members by entry points (see :mod:`transformer_jax.plugins`), which are read when a name is
    not among the others; the running program adds them by :meth:`register`.

    Args:
      noun: Name of the family in messages, such as ``"cell"``.
      own: The library's members.
      group: Group of the entry points.

    Example:
      >>> class Plain:
      ...   kind = "plain"
      >>> kinds = Kinds("shape", [Plain], "transformer_jax.no_such_group")
      >>> kinds.names(), kinds.find("plain").__name__
      (('plain',), 'Plain')
    """

    def __init__(self, noun: str, own: Sequence[_Class], group: str) -> None:
        self.noun = noun
        self.group = group
        self._members: dict[str, _Class] = {_kind(member): member for member in own}

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

    def register(self, member: _Class) -> _Class:
        """Add a class of the running program; works as a decorator.

        Args:
          member: The class, its ``kind`` a text.

        Returns:
          The class itself.

        Raises:
          ConfigError: If the class has no ``kind``, or another class has the same.
        """
        kind = _kind(member)
        if not isinstance(kind, str) or not kind:
            raise ConfigError(
                f"{self.noun} class {member.__name__} must have a text as its 'kind'; got {kind!r}"
            )
        taken = self._members.setdefault(kind, member)
        # A notebook that runs a cell again defines the same class anew.
        if taken is not member and (taken.__module__, taken.__qualname__) != (
            member.__module__,
            member.__qualname__,
        ):
            raise ConfigError(
                f"{self.noun} kind '{kind}' of {member.__name__} is taken by {taken.__module__}.{taken.__qualname__}: "
                "choose another"
            )
        self._members[kind] = member
        return member

    def _read_plugins(self) -> None:
        for plugin in plugin_classes(self.group):
            self._members.setdefault(_kind(plugin), cast(_Class, plugin))


def _kind(member: Any) -> Any:
    return getattr(member, "kind", None)
