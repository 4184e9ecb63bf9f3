"""Members of tagged unions that other installed packages add through Python entry points."""

import functools
import importlib.metadata
import typing
import warnings
from typing import Any

__all__ = ["plugin_classes", "union_with_plugins"]


@functools.cache
def plugin_classes(group: str) -> tuple[type[Any], ...]:
    """The config classes that installed packages register under an entry-point group.

    A package adds a class by a line in its ``pyproject.toml``::

        [project.entry-points."transformer_jax.models"]
        my_model = "my_package.config:MyModelConfig"

    A plug-in that cannot be loaded is left out with a ``RuntimeWarning`` of one line that names its package, so that
    a broken package does not keep the others from working.

    Args:
      group: Name of the group, such as ``"transformer_jax.models"``.

    Returns:
      The classes, by the names of their entry points.

    Example:
      >>> plugin_classes("transformer_jax.no_such_group")
      ()

    Source: https://packaging.python.org/en/latest/specifications/entry-points/.
    """
    found = []
    for point in sorted(importlib.metadata.entry_points(group=group), key=lambda point: point.name):
        package = point.dist.name if point.dist is not None else "an unknown package"
        try:
            loaded = point.load()
            fault = _fault(loaded)
        except Exception as error:  # any code may run here
            fault = f"{type(error).__name__}: {' '.join(str(error).split())}"
        if fault is None:
            found.append(loaded)
            continue
        warnings.warn(
            f"package {package}: plug-in '{point.name}' of '{group}' ({point.value}) is left out: {fault}; "
            "update or uninstall the package",
            RuntimeWarning,
            stacklevel=2,
        )
    return tuple(found)


def union_with_plugins(union: Any, group: str) -> Any:
    """A tagged union with the plug-ins of a group as further members.

    Args:
      union: A union of config classes.
      group: The entry-point group.

    Returns:
      The larger union; the same one where nothing is registered. A plug-in whose ``kind`` is taken is left out with a
      ``RuntimeWarning``.

    Example:
      >>> union_with_plugins(int | str, "transformer_jax.no_such_group")
      int | str
    """
    members, taken = typing.get_args(union), {}
    for member in members:
        taken[_kind(member)] = member.__qualname__
    added = []
    for plugin in plugin_classes(group):
        kind = _kind(plugin)
        if kind in taken:
            warnings.warn(
                f"package {plugin.__module__.partition('.')[0]}: plug-in {plugin.__qualname__} of '{group}' is left "
                f"out: its kind '{kind}' is that of {taken[kind]}",
                RuntimeWarning,
                stacklevel=2,
            )
            continue
        taken[kind] = plugin.__qualname__
        added.append(plugin)
    return typing.Union[(*members, *added)] if added else union


def _fault(loaded: Any) -> str | None:
    """Why an object cannot be a member of a union of configs; ``None`` if it can."""
    if not isinstance(loaded, type) or not hasattr(loaded, "__dataclass_fields__"):
        return "wanted a config dataclass"
    if not isinstance(_kind(loaded), str):
        return "its field 'kind' must have a text as its default"
    return None


def _kind(config_class: Any) -> Any:
    return getattr(config_class, "kind", None)
