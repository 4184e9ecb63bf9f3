"""Options that evaluations of several tasks have: a part of the task's own data, or a file."""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar, Literal

from transformer_jax.bounds import check_bounds
from transformer_jax.errors import ConfigError, check_choice


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationSource:
    """What a trained model is scored on, and beside which other one; a task's own options are a subclass.

    Attributes:
      split: Part of the task's own data; None where a file is named.
      source: A file, read as the task reads its own.
      against: Name and predictor of another run to compare with on the same examples.
    """

    file_form: ClassVar[str]
    """What the file is, for messages."""

    path_fields: ClassVar[tuple[str, ...]] = ("source",)
    """Fields that are paths; texts become paths."""

    split: Literal["development", "test"] | None = None
    source: Path | None = None
    against: tuple[str, Any] | None = None

    def __post_init__(self) -> None:
        check_bounds(self)
        for name in self.path_fields:
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, Path(value))
        if self.split is not None:
            check_choice("split", self.split, ("development", "test"))
        if (self.split is None) == (self.source is None):
            raise ConfigError(
                f"wanted one of `split` of the run's data (development or test) and `source`, {self.file_form}"
            )

    @property
    def where(self) -> str:
        """The part or the file, for people."""
        return f"{self.split} set" if self.source is None else str(self.source)
