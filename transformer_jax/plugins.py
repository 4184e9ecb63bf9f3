"""Members of tagged unions that other installed packages add through Python entry points."""

import functools
import importlib.metadata
import warnings
from typing import Any

__all__ = ["PluginWarning", "config_fault", "plugin_classes"]


class PluginWarning(RuntimeWarning):
    """A plug-in of an installed package was left out; one line says why."""


@functools.cache
def plugin_classes(group: str) -> tuple[type[Any], ...]:
    """The config classes that installed packages register under an entry-point group.

    A package adds a class by a line in its ``pyproject.toml``::

        [project.entry-points."transformer_jax.models"]
        my_model = "my_package.config:MyModelConfig"

    A plug-in that cannot be loaded is left out with a ``PluginWarning`` of one line that names its package, so that
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
            fault = config_fault(loaded)
        except Exception as error:  # any code may run here
            fault = f"{type(error).__name__}: {' '.join(str(error).split())}"
        if fault is None:
            found.append(loaded)
            continue
        warnings.warn(
            f"package {package}: plug-in '{point.name}' of '{group}' ({point.value}) is left out: {fault}; "
            "update or uninstall the package",
            PluginWarning,
            stacklevel=2,
        )
    return tuple(found)


def config_fault(loaded: Any) -> str | None:
    """Why an object cannot be a member of a union of configs; ``None`` if it can.

    Example:
      >>> config_fault(int)
      'wanted a config dataclass'
    """
    if not isinstance(loaded, type) or "__dataclass_fields__" not in vars(loaded):
        return "wanted a config dataclass"
    if not isinstance(getattr(loaded, "kind", None), str):
        return "its field 'kind' must have a text as its default"
    return None
