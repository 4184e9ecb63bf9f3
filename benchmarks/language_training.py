"""Training of nanoGPT's CPU model on the plays of Shakespeare beside the same model in PyTorch eager, in one run.

The experiment is `experiments/language_tinyshakespeare_gpt.py`: same weights, same batches, same AdamW, clipping and
learning rates on both sides, losses fetched where the trainer logs. First the losses of the first updates must be the
same on both sides; then windows of updates take turns. PyTorch's time over ours above 1 means that ours is faster.
Compiling is timed apart. The training of 2,000 updates takes 2,000 times what an update does, on either side.
"""

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from transformer_jax.allocator import keep_freed_memory, num_cores, run_in_calling_thread
from transformer_jax.data.token_batches import TokenBatch
from transformer_jax.models.build import build_model
from transformer_jax.nn.parameters import named_parameters, parameter_count
from transformer_jax.race.timing import Record, interleave, interval_text, paired_ratio, quartiles, write_json
from transformer_jax.runs.experiment import ExperimentConfig, start_config
from transformer_jax.training.metrics import fetch_means, zero_metrics
from transformer_jax.training.optimizers import build_optimizer
from transformer_jax.training.schedules import build_schedule
from transformer_jax.training.state import create_state, split_model
from transformer_jax.training.step import CompiledSteps, build_step, metric_shapes

EXPERIMENT = Path(__file__).resolve().parent.parent / "experiments" / "language_tinyshakespeare_gpt.py"
CHECKED_UPDATES, TOLERANCE = 5, 1e-3


class OurSide:
    """The library's own steps over the batches of a training, from its first on."""

    def __init__(self, config: ExperimentConfig, model: Any, batches: Any, *, window: int) -> None:
        train, objective = config.train, config.task.objective
        self._batches, self._window, self.update = batches, window, 0
        structure, params, model_state = split_model(model)
        metrics = metric_shapes(structure, params, model_state, objective, batches.batch_at(0))
        optimizer = build_optimizer(train.optimizer, build_schedule(train.schedule, updates=train.updates))
        structure, self._state = create_state(model, optimizer, seed=train.seed, metrics=metrics)
        updates = jax.device_put(np.int32(train.updates))
        self.steps = CompiledSteps(build_step(structure, objective, train), updates=updates)
        self.steps.compile(self._state, [batches.batch_at(0)])

    def loss(self) -> float:
        """Do an update and fetch its loss."""
        self._advance()
        loss = fetch_means(self._state.metrics)["loss"]
        self._state = dataclasses.replace(self._state, metrics=zero_metrics(self._state.metrics))
        return float(loss)

    def _advance(self) -> None:
        self._state = self.steps(self._state, self._batches.batch_at(self.update))
        self.update += 1

    def __call__(self) -> None:
        """A window of updates, and its mean loss."""
        for _ in range(self._window - 1):
            self._advance()
        self.loss()


class TorchSide:
    """PyTorch eager with the same weights over the same batches."""

    def __init__(self, config: ExperimentConfig, model: Any, batches: Any, *, window: int) -> None:
        import torch

        from benchmarks.peers.torch_gpt import TorchGPT, make_optimizer, training_step

        torch.set_num_threads(num_cores())
        arrays = {name: np.asarray(array) for name, array in named_parameters(model).items()}
        self.version = f"torch {torch.__version__}"
        self._torch, self._step = torch, training_step
        self._model = TorchGPT(config.model, arrays)  # type: ignore[arg-type]  # a GPT's config
        self._optimizer = make_optimizer(self._model, config.train.optimizer)  # type: ignore[arg-type]  # AdamW here
        schedule = build_schedule(config.train.schedule, updates=config.train.updates)
        self._rates = np.asarray(jax.vmap(schedule)(np.arange(config.train.updates)))
        self._clip_norm = config.train.clip_norm
        self._batches, self._window, self.update = batches, window, 0

    def _advance(self) -> Any:
        batch: TokenBatch = self._batches.batch_at(self.update)
        rate = float(self._rates[min(self.update, len(self._rates) - 1)])
        self.update += 1
        inputs, targets = (
            self._torch.from_numpy(np.asarray(one, np.int64)) for one in (batch.inputs, batch.targets)
        )
        return self._step(
            self._model, self._optimizer, inputs, targets, learning_rate=rate, clip_norm=self._clip_norm
        )

    def loss(self) -> float:
        """Do an update and fetch its loss."""
        return float(self._advance())

    def __call__(self) -> None:
        """A window of updates, and its last loss."""
        for _ in range(self._window - 1):
            self._advance()
        self.loss()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this part."""
    parser.add_argument("--window", type=int, default=20, help="updates of a timed call (default 20)")
    parser.add_argument("--calls", type=int, default=40, help="timed calls of each side (default 40)")
    parser.add_argument(
        "--max-seconds", type=float, default=300, help="stop after this, beyond five rounds (default 300)"
    )
    parser.add_argument("--json", help="write the records here")


def checked_error(ours: OurSide, theirs: Any) -> float:
    """The largest relative difference of the losses of the first updates.

    Raises:
      SystemExit: If it is more than `TOLERANCE`.
    """
    pairs = [(ours.loss(), theirs.loss()) for _ in range(CHECKED_UPDATES)]
    error = max(abs(one - other) / other for one, other in pairs)
    if error > TOLERANCE:
        raise SystemExit(f"the sides disagree: losses of the first updates {pairs}")
    return error


def run(options: Any) -> None:
    """Run, print the table, write the JSON."""
    keep_freed_memory()
    run_in_calling_thread()
    config = start_config(str(EXPERIMENT), [])
    prepared = config.task.prepare()
    sizes = config.task.sizes(prepared.artifacts, is_training=True)
    model: Any = build_model(config.model, sizes, seed=config.train.seed)
    parameters = parameter_count(model)
    sides: dict[str, Any] = {}
    error, version = None, None
    try:
        sides["torch_eager"] = TorchSide(config, model, prepared.train, window=options.window)
        version = sides["torch_eager"].version
    except ImportError:
        print("PyTorch is missing (pip install torch): only our side is timed", file=sys.stderr)
    sides = {"transformer_jax": OurSide(config, model, prepared.train, window=options.window), **sides}
    if "torch_eager" in sides:
        error = checked_error(sides["transformer_jax"], sides["torch_eager"])
    times = interleave(sides, calls=options.calls, max_seconds=options.max_seconds)
    tokens = options.window * config.task.data.batch_size * config.task.window_len
    records = []
    for name, values in times.items():
        lower, middle, upper = quartiles(values)
        seconds = middle / 1e3 / options.window * config.train.updates
        extra: dict[str, Any] = {"calls": len(values), "parameters": parameters, "training_seconds": seconds}
        if name == "torch_eager":
            ratio, low, high = paired_ratio(values, times["transformer_jax"])
            extra["time_over_ours"] = {"median": ratio, "low": low, "high": high}
        records.append(
            Record(
                case="nanogpt_cpu", implementation=name,
                compile_s=sides[name].steps.compile_seconds if isinstance(sides[name], OurSide) else None,
                median_ms=middle, q25_ms=lower, q75_ms=upper, peak_bytes=None,
                tokens_per_s=tokens / middle * 1e3, flops=None,
                max_abs_err=error if name == "torch_eager" else None, extra=extra,
            )
        )  # fmt: skip
    table = Table(title=f"{config.name}, {parameters:,} parameters, windows of {options.window} updates")
    for column in (
        "who",
        "tokens/s",
        f"{config.train.updates:,} updates, s",
        "compile, s",
        "its time / ours",
    ):
        table.add_column(column, justify="left" if column == "who" else "right")
    for one in records:
        table.add_row(
            one.implementation,
            f"{one.tokens_per_s:,.0f}",
            f"{one.extra['training_seconds']:.0f}",
            "" if one.compile_s is None else f"{one.compile_s:.1f}",
            interval_text(one.extra.get("time_over_ours")),
        )
    Console().print(table)
    if options.json:
        header = {"window": options.window, "experiment": config.name, "peer": version}
        write_json(options.json, records, benchmark="language_training", **header)
