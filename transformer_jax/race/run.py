"""The whole race, part by part, and the document that holds what it found."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from transformer_jax.environment import environment
from transformer_jax.errors import ConfigError
from transformer_jax.race.contestants import parse
from transformer_jax.race.crossover import all_crossovers
from transformer_jax.race.generation import race_over_contexts
from transformer_jax.race.quality import LESSONS, load_lesson, race_for_seconds
from transformer_jax.race.speed import make_contestants, race_over_lengths
from transformer_jax.race.timing import matmul_peak, memory_bandwidth

Part = Literal["speed", "generation", "quality"]
PARTS: tuple[Part, ...] = ("speed", "generation", "quality")
VOCAB_SIZE = 256
FORMAT = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What races, over what.

    Attributes:
      contestants: Names, see :func:`~transformer_jax.race.contestants.parse`.
      learners: Those that race for quality.
      lengths: Of the speed part, in tokens.
      contexts: Of the generation part, in tokens.
      batches: Of the generation part.
      tokens_a_batch: Of the speed part, whatever the length.
      width: Of the Transformer.
      equal: ``"parameters"``: recurrent widths follow the Transformer's parameters; ``"width"``: one width.
      calls: Timed calls of each contestant and case.
      max_seconds: Seconds of a case at most, beyond five rounds.
      train_seconds: Of each learner and task.
    """

    contestants: tuple[str, ...]
    learners: tuple[str, ...]
    lengths: tuple[int, ...]
    contexts: tuple[int, ...]
    batches: tuple[int, ...]
    tokens_a_batch: int
    width: int
    equal: Literal["parameters", "width"]
    calls: int
    max_seconds: float
    train_seconds: float

    def __post_init__(self) -> None:
        for name in (*self.contestants, *self.learners):
            parse(name)
        for name in self.learners:
            if parse(name).is_peer:
                raise ConfigError(f"learners are models of this library; got '{name}'")
        for field in ("lengths", "contexts", "batches"):
            if not getattr(self, field) or min(getattr(self, field)) < 2 - (field == "batches"):
                raise ConfigError(
                    f"{field} must be whole numbers of at least 2 (batches: 1); got {getattr(self, field)}"
                )
        for field in ("tokens_a_batch", "calls"):
            if getattr(self, field) < 1:
                raise ConfigError(f"{field} must be at least 1; got {getattr(self, field)}")
        if self.width < 32 or self.width % 32:
            raise ConfigError(f"width must be a multiple of 32, the width of a head; got {self.width}")
        for field in ("max_seconds", "train_seconds"):
            if not getattr(self, field) > 0:
                raise ConfigError(f"{field} must be above 0; got {getattr(self, field)}")


_RECURRENT = ("rnn", "lstm", "gru", "lstm:plain", "lstm:parallel", "gru:parallel")
_LINEAR = ("min_gru", "min_gru:associative", "min_lstm", "linear_attention")
_LEARNERS = ("rnn", "lstm", "gru", "min_gru", "min_lstm", "linear_attention", "transformer")

PRESETS: dict[str, Settings] = {
    "quick": Settings(
        contestants=(
            "rnn", "lstm", "gru", "gru:parallel", "min_gru", "min_gru:associative", "linear_attention",
            "transformer", "transformer:reference",
        ),
        learners=_LEARNERS, lengths=(32, 128, 512, 2048), contexts=(64, 1024), batches=(1, 8),
        tokens_a_batch=2048, width=128, equal="parameters", calls=20, max_seconds=20, train_seconds=8,
    ),
    "full": Settings(
        contestants=(
            *_RECURRENT, "lstm:cudnn", *_LINEAR, "min_lstm:associative", "diagonal", "diagonal:associative",
            "transformer", "transformer:reference",
        ),
        learners=_LEARNERS, lengths=(32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384),
        contexts=(64, 256, 1024, 4096, 16384), batches=(1, 64),
        tokens_a_batch=16384, width=512, equal="parameters", calls=30, max_seconds=120, train_seconds=120,
    ),
}  # fmt: skip
"""By name; PyTorch's models are added where it is installed, and what a machine cannot run is left out."""


class Race:
    """What has been measured so far; whole at any time, so that nothing is lost when the race is broken off.

    Args:
      settings: What races, over what.
      parts: Which parts are to be run.
      preset: Its name, for the report.
    """

    def __init__(self, settings: Settings, parts: Sequence[Part], preset: str) -> None:
        self.settings, self.parts, self.preset = settings, tuple(parts), preset
        self.records: list[dict[str, Any]] = []
        self.curves: dict[str, dict[str, Any]] = {}
        self.notes: list[str] = []
        self.done: set[str] = set()
        self.rulers: dict[str, float] = {}

    @property
    def steps(self) -> int:
        """How many steps :meth:`run` reports."""
        of = {
            "speed": 2 * len(self.settings.lengths),
            "generation": len(self.settings.contexts) * len(self.settings.batches),
            "quality": len(LESSONS),
        }
        return sum(of[part] for part in self.parts)

    def run(self, progress: Callable[[str], None], advance: Callable[[], None]) -> None:
        """Run the parts one after the other.

        Args:
          progress: Told what is being measured.
          advance: Called after each step.
        """
        chosen = self.settings
        progress("measuring the matmul peak and the memory's bandwidth")
        self.rulers = {"matmul_peak": matmul_peak(), "memory_bandwidth": memory_bandwidth()}
        timed: dict[str, Any] = {
            "calls": chosen.calls, "max_seconds": chosen.max_seconds, "progress": progress,
        }  # fmt: skip
        if {"speed", "generation"} & set(self.parts):
            progress("checking the contestants")
            contestants = make_contestants(
                chosen.contestants, width=chosen.width, vocab_size=VOCAB_SIZE,
                equal_parameters=chosen.equal == "parameters", longest=max(chosen.lengths),
            )  # fmt: skip
        if "speed" in self.parts:
            for records in race_over_lengths(
                contestants, chosen.lengths, tokens_a_batch=chosen.tokens_a_batch, **timed
            ):
                self.records += map(asdict, records)
                advance()
            self.done.add("speed")
        if "generation" in self.parts:
            for records in race_over_contexts(contestants, chosen.contexts, chosen.batches, **timed):
                self.records += map(asdict, records)
                advance()
            self.done.add("generation")
        if "quality" in self.parts:
            for name in LESSONS:
                self._learn(name, progress)
                advance()
            self.done.add("quality")

    def _learn(self, name: str, progress: Callable[[str], None]) -> None:
        lesson = load_lesson(name)
        if isinstance(lesson, str):
            self.notes.append(f"{name}: left out, {lesson}".replace(str(Path.home()), "~"))
            return
        race_for_seconds(
            self.settings.learners, lesson, width=self.settings.width,
            equal_parameters=self.settings.equal == "parameters", seconds=self.settings.train_seconds,
            progress=progress, curves=self.curves.setdefault(name, {}),
        )  # fmt: skip

    def missing(self) -> list[str]:
        """Parts that were asked for and not ended."""
        return [part for part in self.parts if part not in self.done]

    def document(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "format": FORMAT, "benchmark": "race", "preset": self.preset, "environment": environment(),
            "settings": dataclasses.asdict(self.settings), "parts": list(self.parts), "missing": self.missing(),
            "notes": self.notes, **self.rulers, "records": self.records, "curves": self.curves,
            "crossovers": crossovers(self.records),
        }  # fmt: skip


def crossovers(records: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Of each mode the crossovers of all pairs, with the sentence that says each."""
    times: dict[str, dict[str, dict[int, list[float]]]] = {}
    for record in records:
        extra = record["extra"]
        if record["median_ms"] is None:
            continue
        mode = extra["mode"]
        if mode in ("first_token", "next_token"):
            mode = f"{mode}, batch {extra['batch']}"
        lines = times.setdefault(mode, {}).setdefault(record["implementation"], {})
        lines[extra["length"]] = extra["milliseconds"]
    return {
        mode: [{**dataclasses.asdict(one), "text": str(one)} for one in all_crossovers(lines)]
        for mode, lines in times.items()
    }
