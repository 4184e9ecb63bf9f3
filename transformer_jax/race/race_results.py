"""Results of a race: measured, written to files, and as tables."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from transformer_jax.errors import ConfigError, DataError, answer
from transformer_jax.files import write_whole
from transformer_jax.race.contestants import PEERS, parse
from transformer_jax.race.race_page import render_race, write_figures
from transformer_jax.race.run import PRESETS, Race, Settings
from transformer_jax.race.side_by_side import compare, read_race, unlike
from transformer_jax.race.torch_contestants import is_installed

RESULTS, REPORT = "race.json", "report.html"


def run_race(
    running: Race,
    run_dir: Path,
    *,
    overwrite: bool,
    progress: Callable[[str], None],
    advance: Callable[[], None],
) -> tuple[dict[str, Any], bool]:
    """Run a race and write its results, as far as they were measured.

    Args:
      running: The race.
      run_dir: Folder for the results.
      overwrite: Whether the results of another race there may be replaced.
      progress: Gets a line on what is being measured.
      advance: Called after each of ``running.steps`` steps.

    Returns:
      The results, and whether Ctrl-C ended the race early.

    Raises:
      ConfigError: If the folder holds a race already.
    """
    if (run_dir / RESULTS).exists() and not overwrite:
        raise ConfigError(
            f"{run_dir} holds a race: `overwrite=True` writes over it, `run_dir` names another folder"
        )
    run_dir.mkdir(parents=True, exist_ok=True)
    stopped = False
    try:
        running.run(progress, advance)
    except KeyboardInterrupt as interrupt:
        answer(interrupt)
        stopped = True
    document = running.document()
    write_results(document, run_dir)
    return document, stopped


def settings_for(preset: str, changes: Mapping[str, Any], equal: Any) -> Settings:
    """The preset with what was asked for; without a choice of contestants PyTorch's join where it is installed.

    Raises:
      ConfigError: If the settings are impossible, or PyTorch is asked for and not there.
    """
    import jax

    chosen = dict(changes)
    torch, has_gpu = is_installed(), jax.default_backend() == "gpu"
    if "contestants" not in chosen:
        names = [name for name in PRESETS[preset].contestants if has_gpu or not _needs_gpu(name)]
        chosen["contestants"] = (*names, *(PEERS if torch else ()))
    settings = dataclasses.replace(PRESETS[preset], **chosen, equal=equal)
    wanted = [name for name in settings.contestants if name in PEERS]
    if wanted and not torch:
        raise ConfigError(f"contestant '{wanted[0]}' needs PyTorch, which is not installed: leave it out")
    if not has_gpu and any(map(_needs_gpu, settings.contestants)):
        raise ConfigError(
            f"contestant 'lstm:cudnn' needs an NVIDIA GPU; the default device is a {jax.default_backend()}"
        )
    return settings


def _needs_gpu(name: str) -> bool:
    return parse(name).implementation == "cudnn"


def write_results(document: Mapping[str, Any], run_dir: Path) -> None:
    """``race.json``, the figures and ``report.html``, each whole or not at all."""
    write_whole(run_dir / RESULTS, json.dumps(document, indent=1) + "\n")
    figures = write_figures(document, run_dir)
    write_whole(run_dir / REPORT, render_race(document, figures))


def tables(document: Mapping[str, Any]) -> list[Table]:
    """The results as tables."""

    def thousands(one: Mapping[str, Any]) -> str:
        return f"{one['tokens_per_s'] / 1e3:,.1f}"

    titles: dict[str, tuple[str, str, Any]] = {
        "forward": ("forward pass: thousand tokens a second", "length", thousands),
        "training_step": ("training step: thousand tokens a second", "length", thousands),
        "first_token": ("time to the first token: ms", "context", lambda one: f"{one['median_ms']:,.2f}"),
        "next_token": ("time for each token after it: ms", "context", lambda one: f"{one['median_ms']:,.3f}"),
    }  # fmt: skip
    found = []
    for mode, (title, column, text) in titles.items():
        records = [one for one in document["records"] if one["extra"]["mode"] == mode]
        batches = list(dict.fromkeys(one["extra"]["batch"] for one in records)) if "token" in mode else [None]
        for batch in batches:
            rows = [one for one in records if batch in (None, one["extra"]["batch"])]
            suffix = "" if batch is None else f", batch {batch}"
            if rows:
                found.append(_table(rows, title + suffix, column, "median_ms", text))
            if rows and mode == "training_step":
                peak = "training step: peak memory in megabytes"
                found.append(
                    _table(rows, peak, column, "peak_bytes", lambda one: f"{one['peak_bytes'] / 1e6:,.0f}")
                )
    for task, curves in document["curves"].items():
        table = Table(title=f"{task}: held-out loss in nats after the same seconds of training")
        for heading in ("contestant", "updates", "seconds", "loss"):
            table.add_column(heading, justify="left" if heading == "contestant" else "right")
        for name, curve in sorted(curves.items(), key=lambda item: item[1]["loss"][-1]):
            table.add_row(
                name,
                f"{curve['updates'][-1]:,.0f}",
                f"{curve['seconds'][-1]:.1f}",
                f"{curve['loss'][-1]:.3f}",
            )
        found.append(table)
    return found


def _table(records: Sequence[Mapping[str, Any]], title: str, column: str, key: str, text: Any) -> Table:
    """A row a contestant, a column a length; the least ``key`` of each column in bold."""
    lengths = list(dict.fromkeys(one["extra"]["length"] for one in records))
    table = Table(title=title)
    table.add_column(f"contestant \\ {column}")
    for length in lengths:
        table.add_column(f"{length:,}", justify="right")
    cells = {(one["implementation"], one["extra"]["length"]): one for one in records}
    best = {}
    for length in lengths:
        known = [one[key] for one in records if one["extra"]["length"] == length and one[key]]
        best[length] = min(known) if known else None
    for name in dict.fromkeys(one["implementation"] for one in records):
        row = []
        for length in lengths:
            one = cells.get((name, length))
            if one is None or one[key] is None:
                row.append("no memory" if one is not None and one["note"] else "")
            else:
                row.append(f"[bold]{text(one)}[/bold]" if one[key] == best[length] else text(one))
        table.add_row(name, *row)
    return table


def compare_races(old: Path, new: Path, *, allow_unlike: bool) -> Table:
    """The comparison of two results.

    Raises:
      DataError: If a file is no race, the machines are unlike and that is not allowed, or nothing is common.
    """
    documents = [read_race(path) for path in (old, new)]
    differences = unlike(*documents)
    if differences and not allow_unlike:
        raise DataError(
            f"the machines are unlike ({'; '.join(differences)}): times cannot be compared; "
            "`allow_unlike=True` does so nevertheless"
        )
    table = Table(title=f"time of {new} over time of {old}")
    for heading in ("case", "contestant", "ratio", "95 % interval", ""):
        table.add_column(heading, justify="right" if heading in ("ratio", "95 % interval") else "left")
    for change in compare(*documents):
        table.add_row(
            change.case, change.implementation, f"{change.ratio:.3f}", f"{change.low:.3f} to {change.high:.3f}",
            change.verdict,
        )  # fmt: skip
    return table
