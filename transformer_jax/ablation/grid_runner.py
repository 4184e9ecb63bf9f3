"""All members of a grid trained with all seeds, one run after the other, each in a folder of its own."""

import dataclasses
import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from transformer_jax.ablation.grid import Grid, Member, one_line
from transformer_jax.ablation.grid_report import REPORT_ENTRIES, write_grid_report
from transformer_jax.ablation.grid_summary import grid_document
from transformer_jax.ablation.grid_values import Varied
from transformer_jax.ablation.member_checks import MemberCosts, check_member
from transformer_jax.config_json import finite_json, from_document, load_document, to_json
from transformer_jax.errors import ConfigError, RunError, shortened
from transformer_jax.files import read_text, write_json
from transformer_jax.notes import note
from transformer_jax.runs.experiment import ExperimentConfig, config_leaves
from transformer_jax.runs.experiment_runner import ExperimentResult, begin_or_resume, run_experiment
from transformer_jax.runs.folder import interruptible
from transformer_jax.tasks.spoken_scores import spoken
from transformer_jax.training.folder_lock import locked_folder
from transformer_jax.training.metrics import development_column
from transformer_jax.training.run_folder import check_run_folder, remove_run

GRID_NAME = "grid.json"
MEMBERS_NAME = "members"
ROW_NAME = "grid_row.json"

_ENTRIES = (GRID_NAME, MEMBERS_NAME, *REPORT_ENTRIES)
"""What a grid leaves in its folder; the marker goes first, as a run's config does."""

_ROW_BYTES = 10_000_000


def ablate(
    grid: Grid, run_dir: Path, *, resume: bool = False, overwrite: bool = False, allow_inexact: bool = False
) -> dict[str, Any]:
    """Train every member of a grid with every seed, and write the report.

    Members that cannot be built are named before anything is trained; one whose training fails is named in the report.
    The others go on. A seed is trained for all members before the next one is begun.

    Args:
      grid: Base, values and seeds.
      run_dir: Where the members' run folders and the report go.
      resume: Go on with the folder's grid: runs that ended are kept, a started one is resumed, a failed one is tried
        again. The grid must be the same; only the number of seeds may have grown.
      overwrite: Remove the folder's grid first.
      allow_inexact: Whether a started run may go on with other versions, flags or another device; without it such a
        run counts as failed.

    Returns:
      What ``results.json`` holds.

    Raises:
      ConfigError: If the base itself cannot be built.
      RunError: If the folder does not fit ``resume`` and ``overwrite`` or holds another grid; if no member was trained.
      OSError: If the disk is full, or the folder cannot be written.
      KeyboardInterrupt: After Ctrl-C or SIGTERM, with a message that says how to go on.
    """
    jax.devices()  # without one, fail before the folder is begun
    base = dataclasses.replace(grid.base, task=grid.base.task.with_absolute_paths())
    grid = dataclasses.replace(grid, base=base)
    check_run_folder(run_dir, resume=resume, overwrite=overwrite, entries=_ENTRIES)
    if resume:
        _require_same(_read_grid(run_dir), grid, run_dir)
    with (
        interruptible(f"finished runs are kept; go on with `resume=True` ({run_dir})"),
        locked_folder(run_dir),
    ):
        session = _GridSession(grid, run_dir, allow_inexact=allow_inexact)
        session.check()
        if overwrite:  # only when the new grid is known to be possible may the old one go
            remove_run(run_dir, _ENTRIES)
        write_json(run_dir / GRID_NAME, _marker(grid))
        rows = session.train()
        document = grid_document(grid, session.members, session.costs, rows, session.failures)
        write_grid_report(run_dir, document)
    return document


def saved_grid(run_dir: Path, *, num_seeds: int | None = None) -> Grid:
    """The grid of a folder, to go on with it.

    Args:
      run_dir: The grid's folder.
      num_seeds: More seeds than it was begun with; None for as many.

    Raises:
      RunError: If the folder holds no grid.
    """
    check_run_folder(run_dir, resume=True, overwrite=False, entries=_ENTRIES)
    grid = _read_grid(run_dir)
    return grid if num_seeds is None else dataclasses.replace(grid, num_seeds=num_seeds)


class _GridSession:
    """One session of a grid, its folder locked."""

    def __init__(self, grid: Grid, run_dir: Path, *, allow_inexact: bool) -> None:
        self._grid, self._run_dir, self._allow_inexact = grid, run_dir, allow_inexact
        self.members: tuple[Member, ...] = grid.members()
        self.costs: dict[str, MemberCosts] = {}
        self.failures: dict[tuple[str, int], str] = {}
        self._has_told = False
        self._prepared: tuple[str, Any] | None = None

    def check(self) -> None:
        """Build and trace every member; those that cannot be are named.

        Raises:
          ConfigError: If the base itself is one of them.
        """
        checked: list[Member] = []
        for member in self.members:
            if member.config is not None:
                try:
                    prepared = self._data(member.config)
                    if not prepared.has_development:
                        raise ConfigError("there is no development set to score on")
                    self.costs[member.folder] = check_member(member.config, prepared)
                except Exception as error:
                    if member.is_base or _is_of_the_system(error):
                        raise
                    member = dataclasses.replace(member, config=None, error=one_line(error))
            if member.error is not None:
                note(f"note: {member.name} is left out: {member.error}", is_warning=True)
            checked.append(member)
        self.members = tuple(checked)
        if not any(not member.is_base and member.config is not None for member in checked):
            raise ConfigError(f"no member but the base can be built: {checked[-1].error}")

    def train(self) -> dict[tuple[str, int], dict[str, Any]]:
        """The rows of all runs that ended, by the member's folder and the number of its seed."""
        runs = list(self._runs())
        rows, clock = {}, _GridClock(len(runs))
        for member, index in runs:
            title = f"{member.name}, seed {index + 1}"
            path = self._folder(member, index) / ROW_NAME
            if path.is_file():
                rows[member.folder, index] = load_document(read_text(path, limit=_ROW_BYTES), str(path))
                clock.kept(title)
                continue
            try:
                row = self._row(member, index, clock.label(title))
                rows[member.folder, index] = row
                note(f"{title}: {spoken(row['scores'], [self._grid.base.train.metric])}")
            except Exception as error:
                if _is_of_the_system(error):
                    raise
                self.failures[member.folder, index] = one_line(error)
                note(f"note: {title} failed: {one_line(error)}", is_warning=True)
            clock.done()
        if not rows:
            raise RunError(f"no run of the grid ended: {next(iter(self.failures.values()))}")
        return rows

    def _runs(self) -> Iterator[tuple[Member, int]]:
        for index in range(self._grid.num_seeds):
            yield from ((member, index) for member in self.members if member.config is not None)

    def _folder(self, member: Member, index: int) -> Path:
        return self._run_dir / MEMBERS_NAME / member.folder / f"seed-{index + 1}"

    def _row(self, member: Member, index: int, label: str) -> dict[str, Any]:
        assert member.config is not None
        config, run_dir = self._grid.seeded(member.config, index), self._folder(member, index)
        options = begin_or_resume(run_dir, label=label, allow_inexact=self._allow_inexact)
        result = run_experiment(config, run_dir, options, prepared=self._data(config))
        row = finite_json(_row_of(result))
        write_json(run_dir / ROW_NAME, row)
        return row

    def _data(self, config: ExperimentConfig) -> Any:
        """Data of the config's task; those of the last one are kept, for most members share them."""
        key = to_json(config.task)
        if self._prepared is None or self._prepared[0] != key:
            self._prepared = None  # before others are read: two of them may not fit into memory
            prepared = config.task.prepare()
            if not self._has_told:
                note("\n".join(prepared.report.lines()))
                self._has_told = True
            self._prepared = (key, prepared)
        return self._prepared[1]


def _row_of(result: ExperimentResult) -> dict[str, Any]:
    """What the report needs of a run."""
    training, metric = result.training, result.config.train.metric
    column = development_column(training.curve, metric)
    score = result.scores.get(metric)
    if score is None or not math.isfinite(score):
        raise RunError(f"the run ended with {metric} {score} on the development set")
    names = ("update", "seconds", "loss")
    return {
        "score": score,
        "scores": dict(result.scores),
        "best_score": training.best_score,
        "best_update": training.best_update,
        "updates": result.updates,
        "parameters": result.parameters,
        "train_seconds": training.train_seconds,
        "compile_seconds": result.compile_seconds,
        "tokens_per_second": training.tokens_per_second,
        "peak_bytes": result.peak_bytes,
        "curve": [
            {name: point.get(name) for name in names} | {"score": point[column]}
            for point in training.curve
            if point.get(column) is not None
        ],
    }


def _is_of_the_system(error: BaseException) -> bool:
    """Whether an error is that of a file system, such as a full disk: every other member would meet it, too."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _marker(grid: Grid) -> dict[str, Any]:
    return {
        "base": json.loads(to_json(grid.base)),
        "varied": [{"path": one.path, "values": list(one.values)} for one in grid.varied],
        "one_at_a_time": grid.one_at_a_time,
        "seeds": grid.num_seeds,
    }


def _read_grid(run_dir: Path) -> Grid:
    path = run_dir / GRID_NAME
    if not path.is_file():
        raise RunError(f"{run_dir} holds no whole grid ('{GRID_NAME}' is missing): use `overwrite=True`")
    document = load_document(read_text(path), str(path))
    try:
        return Grid(
            base=from_document(ExperimentConfig, document["base"], f"{path}: base"),
            varied=tuple(Varied(path=one["path"], values=tuple(one["values"])) for one in document["varied"]),
            one_at_a_time=document["one_at_a_time"],
            num_seeds=document["seeds"],
        )
    except (KeyError, TypeError, AttributeError):
        raise RunError(f"{path}: damaged: begin again with `overwrite=True`") from None


def _require_same(before: Grid, now: Grid, run_dir: Path) -> None:
    """Raise ``RunError``, naming what differs, if a folder's grid is not the one to go on with."""
    was, wanted = config_leaves(before.base), config_leaves(now.base)
    compared = [
        *((name, was.get(name), wanted.get(name)) for name in sorted(was.keys() | wanted.keys())),
        ("`vary`", _spoken(before.varied), _spoken(now.varied)),
        ("`one_at_a_time`", before.one_at_a_time, now.one_at_a_time),
        ("`seeds`", before.num_seeds, min(before.num_seeds, now.num_seeds)),  # more may be wanted
    ]
    for name, one, other in compared:
        if one != other:
            raise RunError(
                f"{run_dir} holds another grid: {name} was {_shown(one)}, now it is {_shown(other)}: give the same, "
                "another `run_dir`, or `overwrite=True`"
            )


def _shown(value: Any) -> str:
    return shortened(value if isinstance(value, str) else json.dumps(value))


def _spoken(varied: Sequence[Varied]) -> str:
    return " ".join(f"{one.path}={','.join(one.values)}" for one in varied)


class _GridClock:
    """How many runs are done, and the time left for the others."""

    def __init__(self, num_runs: int) -> None:
        self._num_runs, self._begun, self._trained = num_runs, 0, 0
        self._start = time.monotonic()

    def label(self, title: str) -> str:
        """Name beside the run's own progress; the run begins."""
        self._begun += 1
        return f"[{self._begun}/{self._num_runs}] {title}"

    def kept(self, title: str) -> None:
        """A run had ended before."""
        self._begun += 1
        note(f"{title}: finished before, kept")

    def done(self) -> None:
        """A run ended now."""
        self._trained += 1
        left = self._num_runs - self._begun
        if left:
            minutes = (time.monotonic() - self._start) / self._trained * left / 60
            note(f"about {max(1, round(minutes))} min left for {left} {'run' if left == 1 else 'runs'}")
