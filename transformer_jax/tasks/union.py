"""All tasks, one line each, and those that installed packages add."""

import dataclasses
import functools
import typing
from typing import TYPE_CHECKING, Any, Union

from transformer_jax.plugins import union_with_plugins
from transformer_jax.tasks.language_modelling import LanguageModelling
from transformer_jax.tasks.pronunciation import Pronunciation
from transformer_jax.tasks.translation import Translation

__all__ = ["PLUGIN_GROUP", "TaskConfig", "artifact_names", "task_fields"]

PLUGIN_GROUP = "transformer_jax.tasks"
"""Entry points of this group add members to ``TaskConfig``."""

BuiltInTaskConfig = Union[  # noqa: UP007 (the trailing comma keeps one line a member)
    Translation,
    Pronunciation,
    LanguageModelling,
]

if TYPE_CHECKING:
    TaskConfig = BuiltInTaskConfig


@functools.cache
def _task_config() -> Any:
    return union_with_plugins(BuiltInTaskConfig, PLUGIN_GROUP)


def __getattr__(name: str) -> Any:
    # Not while this module is imported: a plug-in may import it itself.
    if name == "TaskConfig":
        return _task_config()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def artifact_names() -> tuple[str, ...]:
    """Names of the artifacts of all tasks.

    Example:
      >>> "source_tokenizer" in artifact_names()
      True
    """
    return tuple(sorted({name for one in typing.get_args(_task_config()) for name in one.artifact_types}))


def task_fields() -> frozenset[str]:
    """Names of the fields of all tasks.

    Example:
      >>> {"data", "objective", "search"} <= task_fields()
      True
    """
    members = typing.get_args(_task_config())
    return frozenset(field.name for one in members for field in dataclasses.fields(one))
