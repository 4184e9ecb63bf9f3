"""All tasks, one line each, and those that installed packages add."""

import dataclasses
import typing
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, Union

from transformer_jax.kinds import Kinds
from transformer_jax.plugins import config_fault
from transformer_jax.tasks.captioning import Captioning
from transformer_jax.tasks.classification import Classification
from transformer_jax.tasks.forecasting import Forecasting
from transformer_jax.tasks.language_modelling import LanguageModelling
from transformer_jax.tasks.masked_language_modelling import MaskedLanguageModelling
from transformer_jax.tasks.pronunciation import Pronunciation
from transformer_jax.tasks.rewriting import Rewriting
from transformer_jax.tasks.tagging import Tagging
from transformer_jax.tasks.task import Task
from transformer_jax.tasks.transcription import Transcription
from transformer_jax.tasks.translation import Translation
from transformer_jax.tasks.word_embedding import WordEmbedding

__all__ = ["PLUGIN_GROUP", "TaskConfig", "artifact_names", "register_task", "task_fields", "task_kinds"]

_Task = TypeVar("_Task", bound=type)

PLUGIN_GROUP = "transformer_jax.tasks"
"""Entry points of this group add members to ``TaskConfig``."""

BuiltInTaskConfig = Union[  # noqa: UP007 (the trailing comma keeps one line a member)
    Translation,
    Pronunciation,
    Rewriting,
    LanguageModelling,
    Classification,
    WordEmbedding,
    Tagging,
    MaskedLanguageModelling,
    Captioning,
    Forecasting,
    Transcription,
]


def _fault(task: Any) -> str | None:
    if fault := config_fault(task):
        return fault
    wanted = [name for name in (*vars(Task), *Task.__annotations__) if not name.startswith("_")]
    missing = [name for name in wanted if name not in task.__dataclass_fields__ and not hasattr(task, name)]
    return f"the task protocol wants {', '.join(missing)} too" if missing else None


_KINDS: Kinds[Any] = Kinds("task", typing.get_args(BuiltInTaskConfig), PLUGIN_GROUP, fault=_fault)

if TYPE_CHECKING:
    TaskConfig = BuiltInTaskConfig
else:
    TaskConfig = Annotated[Any, _KINDS]


def task_kinds() -> tuple[str, ...]:
    """Kinds of all tasks.

    Example:
      >>> task_kinds()[:2]
      ('translation', 'pronunciation')
    """
    return _KINDS.names()


def register_task(task: _Task) -> _Task:
    """Make a task of the running program known by its ``kind``; works as a decorator.

    Installed packages do the same by an entry point of the group ``transformer_jax.tasks``, which commands see too.

    Args:
      task: A frozen dataclass that fulfils the protocol `Task`.

    Returns:
      The class itself.

    Raises:
      ConfigError: If its ``kind`` is no text or taken, or a part of the protocol is missing; the message names it.
    """
    return _KINDS.register(task)


def artifact_names() -> tuple[str, ...]:
    """Names of the artifacts of all tasks.

    Example:
      >>> "source_tokenizer" in artifact_names()
      True
    """
    return tuple(sorted({name for one in _KINDS.members() for name in one.artifact_types}))


def task_fields() -> frozenset[str]:
    """Names of the fields of all tasks.

    Example:
      >>> {"data", "objective", "search"} <= task_fields()
      True
    """
    members = _KINDS.members()
    return frozenset(field.name for one in members for field in dataclasses.fields(one))
