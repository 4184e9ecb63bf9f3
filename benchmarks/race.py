"""The race: recurrent networks that scan over time against a Transformer that sees all of it at once.

    python benchmarks/race.py --json benchmarks/results/race-cpu.json --figure benchmarks/results/race-cpu.png

Next-token models of equal parameters (within 2 %) on the same random tokens: the scanned RNN, LSTM and GRU, two
layers each, and a two-layer pre-norm Transformer under a causal mask. At each length the batch is chosen so that
the tokens stay constant; none is padding. Timed are the forward pass to the loss and the training step (forward,
backward, Adam), compile time apart, the contestants taking turns. Before timing, each contestant must pass a
check: its prediction at a position must not change when later tokens do, and a few training steps must lower
its loss.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from benchmarks.race_models import CONTESTANTS, build_contestants, forward_flops, loss
from benchmarks.timing import Record, compile_ahead, interleave, matmul_peak, quartiles, write_json
from transformer_jax.nn.parameters import parameter_count

LENGTHS = [32, 64, 128, 256, 512, 1024, 2048]


class Contestant:
    """One model: its pure loss and its training step over (parameters, optimiser state, tokens)."""

    def __init__(self, name: str, model: nnx.Module) -> None:
        self.name, self.model = name, model
        self.parameters = parameter_count(model)
        graph, self.params = nnx.split(model)
        optimizer = optax.adam(1e-3)
        self.optimizer_state = optimizer.init(self.params)

        def forward(params: Any, tokens: jax.Array) -> jax.Array:
            return loss(nnx.merge(graph, params), tokens)

        def training_step(params: Any, optimizer_state: Any, tokens: jax.Array) -> tuple[Any, Any, jax.Array]:
            value, gradient = jax.value_and_grad(forward)(params, tokens)
            changes, optimizer_state = optimizer.update(gradient, optimizer_state)
            return optax.apply_updates(params, changes), optimizer_state, value

        self.graph, self.forward, self.training_step = graph, forward, training_step

    def check(self) -> float:
        """Causality, and a loss that falls over ten steps on one batch; returns the largest leak.

        Raises:
          SystemExit: If one of them fails.
        """
        tokens = _tokens(4, 24)
        hidden = jax.jit(lambda params, tokens: nnx.merge(self.graph, params)(tokens))
        changed = tokens.at[:, 12:].set((tokens[:, 12:] + 1) % 256)
        leak = float(jnp.abs(hidden(self.params, tokens) - hidden(self.params, changed))[:, :12].max())
        step = jax.jit(self.training_step)
        params, optimizer_state, losses = self.params, self.optimizer_state, []
        for _ in range(10):
            params, optimizer_state, value = step(params, optimizer_state, tokens)
            losses.append(float(value))
        if leak > 1e-5 or not losses[-1] < losses[0]:
            raise SystemExit(
                f"error: {self.name} fails its check: leak {leak}, losses {losses[0]} to {losses[-1]}"
            )
        return leak


def _tokens(batch: int, length: int) -> jax.Array:
    """One more token than positions: inputs and labels overlap."""
    return jax.random.randint(jax.random.key(1), (batch, length + 1), 0, 256, dtype=jnp.int32)


def _timed_calls(contestant: Contestant, mode: str, tokens: jax.Array) -> tuple[Any, float, int | None]:
    """A callable that runs one whole call, its compile seconds and its peak bytes."""
    if mode == "forward":
        executable, seconds, peak = compile_ahead(contestant.forward, contestant.params, tokens)
        return lambda: jax.block_until_ready(executable(contestant.params, tokens)), seconds, peak
    # Buffers are donated, as a trainer does; the state lives in this list from call to call.
    held = [jax.tree.map(jnp.copy, (contestant.params, contestant.optimizer_state))]
    executable, seconds, peak = compile_ahead(
        contestant.training_step, *held[0], tokens, donate_argnums=(0, 1)
    )

    def call() -> None:
        params, optimizer_state, value = executable(*held[0], tokens)
        held[0] = (params, optimizer_state)
        jax.block_until_ready(value)
        jax.block_until_ready(params)

    return call, seconds, peak


def race(contestants: list[Contestant], arguments: argparse.Namespace) -> list[Record]:
    """All lengths and both modes; Ctrl-C keeps what was measured."""
    leaks = {contestant.name: contestant.check() for contestant in contestants}
    records: list[Record] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("racing", total=len(arguments.lengths) * 2)
        try:
            for length in arguments.lengths:
                tokens = _tokens(max(1, arguments.tokens // length), length)
                real_tokens = tokens.shape[0] * length
                for mode in ("forward", "training_step"):
                    progress.update(task, description=f"length {length}, {mode}")
                    prepared = {one.name: _timed_calls(one, mode, tokens) for one in contestants}
                    calls = {name: call for name, (call, _, _) in prepared.items()}
                    times = interleave(calls, calls=arguments.calls, max_seconds=arguments.max_seconds)
                    for one in contestants:
                        lower, middle, upper = quartiles(times[one.name])
                        flops = forward_flops(one.name, one.model, length) * real_tokens
                        records.append(
                            Record(
                                case=f"{mode}-{length}", implementation=one.name, compile_s=prepared[one.name][1],
                                median_ms=middle, q25_ms=lower, q75_ms=upper, peak_bytes=prepared[one.name][2],
                                tokens_per_s=real_tokens / middle * 1e3,
                                flops=flops * (3 if mode == "training_step" else 1), max_abs_err=leaks[one.name],
                                extra={"mode": mode, "length": length, "batch": tokens.shape[0],
                                       "parameters": one.parameters, "calls": len(times[one.name])},
                            )
                        )  # fmt: skip
                    progress.advance(task)
        except KeyboardInterrupt:
            print(f"interrupted: {len(records)} records measured, the rest is missing", file=sys.stderr)
    return records


def show(records: list[Record], names: list[str]) -> None:
    """Tokens a second by length, one table a mode; the fastest of each row in bold."""
    for mode, title in (("forward", "forward pass"), ("training_step", "training step")):
        table = Table(title=f"{title}: thousand real tokens a second (compile seconds)")
        table.add_column("length", justify="right")
        for name in names:
            table.add_column(name, justify="right")
        rows: dict[int, dict[str, Record]] = {}
        for record in records:
            if record.extra["mode"] == mode:
                rows.setdefault(record.extra["length"], {})[record.implementation] = record
        for length, row in rows.items():
            best = max(record.tokens_per_s for record in row.values())
            cells = []
            for name in names:
                text = f"{row[name].tokens_per_s / 1e3:.1f} ({row[name].compile_s:.1f})"
                cells.append(f"[bold]{text}[/bold]" if row[name].tokens_per_s == best else text)
            table.add_row(str(length), *cells)
        Console().print(table)


def draw(records: list[Record], path: Path) -> None:
    """One figure: tokens a second over length with quartiles, forward and training step side by side."""
    from transformer_jax.plot.throughput import throughput_over_length

    panels: dict[str, dict[str, dict[str, list[float]]]] = {}
    for record in records:
        panel = "forward pass" if record.extra["mode"] == "forward" else "training step"
        columns = panels.setdefault(panel, {}).setdefault(
            record.implementation, {"length": [], "median": [], "low": [], "high": []}
        )
        tokens = record.tokens_per_s * record.median_ms
        columns["length"].append(record.extra["length"])
        columns["median"].append(record.tokens_per_s)
        columns["low"].append(tokens / record.q75_ms)
        columns["high"].append(tokens / record.q25_ms)
    path.parent.mkdir(parents=True, exist_ok=True)
    throughput_over_length(panels, y_label="real tokens per second", path=path)


def main() -> None:
    """Parse the command line, race, print the tables, write JSON and figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--lengths", nargs="+", type=int, default=LENGTHS, help=f"default {LENGTHS}")
    parser.add_argument(
        "--tokens", type=int, default=4096, help="tokens of a batch, whatever its length (4096)"
    )
    parser.add_argument("--model-dim", type=int, default=192, help="width of the Transformer (default 192)")
    parser.add_argument("--calls", type=int, default=20, help="timed calls of each contestant (default 20)")
    parser.add_argument(
        "--max-seconds", type=float, default=60, help="stop timing a case after this (default 60)"
    )
    parser.add_argument("--json", help="write the records here")
    parser.add_argument("--figure", type=Path, help="write the figure (PNG) here")
    arguments = parser.parse_args()
    if min(arguments.lengths) < 1 or arguments.tokens < 1 or arguments.calls < 1:
        parser.error("--lengths, --tokens and --calls must be at least 1")
    if arguments.model_dim % 32:
        parser.error(f"--model-dim must be a multiple of 32 (the heads' width), got {arguments.model_dim}")
    models = build_contestants(arguments.contestants, arguments.model_dim)
    contestants = [Contestant(name, model) for name, model in models.items()]
    for one in contestants:
        print(f"{one.name}: {one.parameters:,} parameters", file=sys.stderr)
    records = race(contestants, arguments)
    if not records:
        raise SystemExit(130)
    show(records, [one.name for one in contestants])
    if arguments.json:
        write_json(
            arguments.json, records, benchmark="race", tokens=arguments.tokens, matmul_peak=matmul_peak()
        )
    if arguments.figure:
        draw(records, arguments.figure)
        print(f"wrote {arguments.figure}", file=sys.stderr)


if __name__ == "__main__":
    main()
