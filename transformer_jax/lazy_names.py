"""Public names of a package that are imported when they are first used, so that importing the package is light."""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["lazy_names"]


def lazy_names(
    package: str, modules: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The functions ``__getattr__`` and ``__dir__`` of a package.

    Args:
      package: Its ``__name__``.
      modules: The module of each public name, below the package; where one needs a package that is not installed, its
        name raises ``ModuleNotFoundError`` with what to install.

    Example:
      >>> find, names = lazy_names("transformer_jax.tasks", {"Translation": "translation"})
      >>> find("Translation").kind
      'translation'
      >>> "Translation" in names()
      True
    """

    def find(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            module = importlib.import_module(f"{package}.{modules[name]}")
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("transformer_jax"):
                raise
            raise ModuleNotFoundError(
                f"{package}.{name} needs the package {error.name!r}: pip install 'transformer-jax[cli]'",
                name=error.name,
            ) from None
        found = getattr(module, name)
        setattr(sys.modules[package], name, found)
        return found

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *modules})

    return find, names
