"""Frozen dataclasses that are JAX pytrees.

``flax.struct`` and ``jax.tree_util.register_dataclass`` may call ``__init__`` while unflattening; under the
runtime shape checks of the tests that breaks ``vmap``, ``eval_shape`` and sharding, whose leaves are not
arrays of the declared shape. Here unflattening fills the fields directly.
"""

import dataclasses
from typing import Any, TypeVar, cast, dataclass_transform

import jax

_Class = TypeVar("_Class", bound=type)


def static_field(**kwargs: Any) -> Any:
    """A dataclass field that is part of the tree's structure (hashable; a change recompiles), not a leaf."""
    return dataclasses.field(metadata={"static": True}, **kwargs)


@dataclass_transform(
    frozen_default=True, kw_only_default=False, field_specifiers=(static_field, dataclasses.field)
)
def pytree_dataclass(cls: _Class) -> _Class:
    """Make ``cls`` a frozen dataclass whose non-static fields are pytree children.

    Example:
      >>> @pytree_dataclass
      ... class Point:
      ...   x: float
      ...   name: str = static_field(default="p")
      >>> jax.tree.map(lambda leaf: leaf + 1, Point(1.0)).x
      2.0
    """
    cls = cast(_Class, dataclasses.dataclass(frozen=True)(cls))
    fields = dataclasses.fields(cls)
    child_names = tuple(field.name for field in fields if not field.metadata.get("static", False))
    static_names = tuple(field.name for field in fields if field.metadata.get("static", False))

    def flatten_with_keys(node: Any) -> tuple[list[tuple[Any, Any]], tuple[Any, ...]]:
        children = [(jax.tree_util.GetAttrKey(name), getattr(node, name)) for name in child_names]
        return children, tuple(getattr(node, name) for name in static_names)

    def flatten(node: Any) -> tuple[list[Any], tuple[Any, ...]]:
        return [getattr(node, name) for name in child_names], tuple(
            getattr(node, name) for name in static_names
        )

    def unflatten(static: tuple[Any, ...], children: Any) -> Any:
        node: Any = object.__new__(cls)
        for name, value in zip(child_names, children, strict=True):
            object.__setattr__(node, name, value)
        for name, value in zip(static_names, static, strict=True):
            object.__setattr__(node, name, value)
        return node

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls


def replace(node: Any, **changes: Any) -> Any:
    """Copy of a pytree dataclass with some fields changed (``dataclasses.replace``)."""
    return dataclasses.replace(node, **changes)
