"""Five language models of as many parameters on the plays of Shakespeare by characters: loss after the same tokens, and
after the same seconds.

The experiments `experiments/language_tinyshakespeare_*.py` of the GPT, linear attention, LSTM, GRU and minGRU. First
each is trained on ``--tokens`` characters; its own speed there says how many updates fill ``--seconds``, and it is
trained anew for so many, since a schedule that falls to its end must know where the end is. Seconds are those of the
updates alone: compiling, evaluating and saving are apart, and the seconds that a training took are kept beside those
that were meant. The models take turns seed by seed. The loss is that of the last update on the last tenth of the text,
in nats a character. With ``--json`` every training is kept when it is done, and a run that was stopped goes on there.
"""

import argparse
import dataclasses
import json
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from transformer_jax.allocator import keep_freed_memory, run_in_calling_thread
from transformer_jax.environment import environment
from transformer_jax.files import write_whole
from transformer_jax.notes import note
from transformer_jax.plot.curves import learning_curves
from transformer_jax.runs.experiment import ExperimentConfig, start_config
from transformer_jax.runs.experiment_runner import ExperimentResult, RunOptions, run_experiment

EXPERIMENTS = Path(__file__).resolve().parent.parent / "experiments"
MODELS = ("gpt", "linear_attention", "lstm", "gru", "min_gru")
PARAMETER_TOLERANCE = 0.01
POINTS = 10
"""Evaluations of a training, at most."""


def config_of(name: str, *, updates: int, seed: int, held_out: int | None = None) -> ExperimentConfig:
    """The experiment of a model, of another length and seed, judged on the first so many held-out characters."""
    path = EXPERIMENTS / f"language_tinyshakespeare_{name}.py"
    config = start_config(str(path), [])
    every = max(1, updates // POINTS)
    train = dataclasses.replace(
        config.train,
        updates=updates,
        seed=seed,
        log_every=min(config.train.log_every, every),
        evaluate_every=every,
        checkpoint_every=updates,
    )
    task: Any = config.task
    data = dataclasses.replace(task.data, seed=seed, max_development_characters=held_out)
    return dataclasses.replace(config, task=dataclasses.replace(task, data=data), train=train)


def trained(name: str, *, updates: int, seed: int, held_out: int | None) -> ExperimentResult:
    """Train a model in a folder of its own, which is not kept."""
    config = config_of(name, updates=updates, seed=seed, held_out=held_out)
    with tempfile.TemporaryDirectory() as folder:
        return run_experiment(config, Path(folder) / "run", RunOptions(label=f"{name}, seed {seed}"))


def row_of(result: ExperimentResult, *, seed: int) -> dict[str, Any]:
    """What is kept of a training."""
    points = [point for point in result.training.curve if point.get("nats") is not None]
    return {
        "seed": seed,
        "parameters": result.parameters,
        "updates": result.updates,
        "tokens": result.training.tokens,
        "train_seconds": result.training.train_seconds,
        "compile_seconds": result.compile_seconds,
        "nats": result.scores["nats"],
        "curve": {
            "updates": [point["update"] for point in points],
            "seconds": [point["seconds"] for point in points],
            "nats": [point["nats"] for point in points],
        },
    }


def spread(rows: Sequence[Mapping[str, Any]]) -> str:
    """Mean loss over seeds, and half of its range."""
    losses = [row["nats"] for row in rows]
    half = f" ± {(max(losses) - min(losses)) / 2:.3f}" if len(losses) > 1 else ""
    return f"{statistics.mean(losses):.3f}{half}"


def check_parameters(models: Mapping[str, Any]) -> None:
    """Raise ``SystemExit`` if the models differ in size by more than `PARAMETER_TOLERANCE`."""
    counts = {name: one["equal_tokens"][0]["parameters"] for name, one in models.items()}
    if max(counts.values()) > (1 + PARAMETER_TOLERANCE) * min(counts.values()):
        raise SystemExit(f"the models are not of one size: {counts}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this part."""
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="default all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default 0 1 2")
    parser.add_argument(
        "--tokens",
        type=int,
        default=1_536_000,
        help="characters of a training (default 1,536,000: 2,000 updates)",
    )
    parser.add_argument(
        "--seconds", type=float, default=120, help="of updates of the second training (default 120)"
    )
    parser.add_argument(
        "--held-out", type=int, help="judge by the first so many held-out characters (default all, 111,540)"
    )
    parser.add_argument("--json", help="write the results here")
    parser.add_argument("--figure", help="draw the losses over updates and over seconds here (PNG)")


def updates_for(name: str, tokens: int) -> int:
    """Updates of a training on so many tokens."""
    task: Any = config_of(name, updates=1, seed=0).task
    return max(1, tokens // (task.data.batch_size * task.window_len))


class Trainings:
    """The trainings done so far, kept in the JSON after each one, so that a run that was stopped goes on."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._path = Path(options.json) if options.json else None
        self._header = {
            "environment": environment(), "benchmark": "language_table", "tokens": options.tokens,
            "seconds": options.seconds, "held_out": options.held_out, "seeds": options.seeds,
        }  # fmt: skip
        self.models: dict[str, dict[str, list[dict[str, Any]]]] = {
            name: {"equal_tokens": [], "equal_seconds": []} for name in options.models
        }
        if self._path is not None and self._path.exists():
            self._take_up(json.loads(self._path.read_text()))

    def _take_up(self, document: Mapping[str, Any]) -> None:
        header = {name: document.get(name) for name in self._header}
        if header != self._header or set(document["models"]) != set(self.models):
            raise SystemExit(
                f"{self._path} is of other models, settings or another machine: name another file, or remove it"
            )
        self.models = document["models"]

    def row(
        self, kind: str, name: str, seed: int, train: Callable[[], ExperimentResult]
    ) -> Mapping[str, Any]:
        """The row of a training, which is done unless it is there."""
        rows = self.models[name][kind]
        found = next((row for row in rows if row["seed"] == seed), None)
        if found is None:
            found = row_of(train(), seed=seed)
            rows.append(found)
            if self._path is not None:
                write_whole(self._path, json.dumps({**self._header, "models": self.models}, indent=1) + "\n")
        return found


def run(options: argparse.Namespace) -> None:
    """Train all, print the table, write the JSON and the figure."""
    keep_freed_memory()
    run_in_calling_thread()
    trainings = Trainings(options)
    for seed in options.seeds:
        for name in options.models:
            updates = updates_for(name, options.tokens)
            train = partial(trained, name, updates=updates, seed=seed, held_out=options.held_out)
            trainings.row("equal_tokens", name, seed, train)
        for name in options.models:
            rate = next(row for row in trainings.models[name]["equal_tokens"] if row["seed"] == seed)
            updates = max(1, round(options.seconds * rate["updates"] / rate["train_seconds"]))
            train = partial(trained, name, updates=updates, seed=seed, held_out=options.held_out)
            trainings.row("equal_seconds", name, seed, train)
    check_parameters(trainings.models)
    title = (
        f"nats a character, {options.tokens:,} tokens or {options.seconds:g} s, {len(options.seeds)} seed(s)"
    )
    table = Table(title=title)
    for column in ("model", "parameters", "tokens/s", "equal tokens", "equal seconds", "updates", "took, s"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for name, found in trainings.models.items():
        by_tokens, by_seconds = found["equal_tokens"], found["equal_seconds"]
        speed = statistics.median(row["tokens"] / row["train_seconds"] for row in by_tokens)
        table.add_row(
            name, f"{by_tokens[0]['parameters']:,}", f"{speed:,.0f}", spread(by_tokens), spread(by_seconds),
            f"{statistics.mean(row['updates'] for row in by_seconds):,.0f}",
            f"{statistics.mean(row['train_seconds'] for row in by_seconds):.0f}",
        )  # fmt: skip
    Console().print(table)
    if options.json:
        note(f"wrote {options.json}")
    if options.figure:
        draw(trainings.models, options.figure)


def draw(models: Mapping[str, Any], path: str) -> None:
    """Losses of the trainings of equal seconds, of the first seed."""
    learning_curves(
        {name: found["equal_seconds"][0]["curve"] for name, found in models.items()},
        metric="nats",
        y_label="nats a character, last tenth of the text",
        order=MODELS,
        title="Shakespeare by characters, models of as many parameters",
        path=path,
    )
    note(f"wrote {path}")
