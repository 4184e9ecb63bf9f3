"""``transformer-jax race``: what scans over time against what sees all of it at once."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal

import tyro

from transformer_jax.cli.flags import COUNT, LENGTH, TOKENS, WIDTH, Between
from transformer_jax.notes import note

DESCRIPTION = """Race recurrent networks against Transformers: speed over length, generation, quality over seconds.

Contestants are next-token models of one number of parameters that differ in nothing but what
carries time. By name, and where there are several ways to compute one, name:way --
  rnn lstm gru                  a scan over time (also :plain, :parallel; lstm:cudnn on NVIDIA GPUs)
  min_gru min_lstm diagonal     linear in the state: a scan, or :associative, all steps in a tree
  linear_attention              a Transformer whose attention is a recurrence
  transformer                   blockwise attention (also :reference)
  torch_lstm torch_gru torch_transformer    PyTorch's, with our weights, where it is installed

First each is checked (no prediction sees the future, one loss from the same weights), then all take
turns. Prints tables; writes race.json, report.html (open it in a browser) and figures.

Examples:
  transformer-jax race                                          about 9 minutes on two cores
  transformer-jax race --parts speed --lengths 64 1024 --contestants gru transformer
  transformer-jax race --preset full --run-dir runs/gpu         for a GPU
  transformer-jax race compare old/race.json new/race.json      two runs on one machine, case by case

Ctrl-C keeps what was measured and says what is missing."""


@dataclasses.dataclass(frozen=True)
class Command:
    preset: Literal["quick", "full"] = "quick"
    """How many contestants, how long and how large."""

    parts: tuple[Literal["speed", "generation", "quality"], ...] = ()
    """Only these parts; without it all three."""

    contestants: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ()
    """Who races, in place of the preset's."""

    lengths: Annotated[tuple[int, ...], tyro.conf.arg(metavar="N ..."), LENGTH] = ()
    """Sequence lengths in tokens, in place of the preset's; also the contexts of generation."""

    tokens: Annotated[int | None, tyro.conf.arg(metavar="N"), TOKENS] = None
    """Tokens of a batch, whatever its length."""

    width: Annotated[int | None, tyro.conf.arg(metavar="N"), WIDTH] = None
    """Width of the Transformer, a multiple of 32."""

    equal: Literal["parameters", "width"] = "parameters"
    """What the contestants have in common."""

    calls: Annotated[int | None, tyro.conf.arg(metavar="N"), COUNT] = None
    """Timed calls of each contestant and case."""

    seconds: Annotated[float | None, tyro.conf.arg(metavar="S"), Between(0, 1e7)] = None
    """Seconds of training of each learner and task, for quality."""

    run_dir: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/race")
    """Folder for the results; made if it is not there."""

    overwrite: bool = False
    """Write over the results in the folder."""

    def run(self) -> int:
        # Loaded here, not above: they bring jax, and --help does without.
        from transformer_jax.cli.tables import print_table
        from transformer_jax.race.race_results import REPORT, RESULTS, run_race, settings_for, tables
        from transformer_jax.race.run import PARTS, Race

        changes = {
            "contestants": self.contestants, "lengths": self.lengths, "contexts": self.lengths,
            "tokens_a_batch": self.tokens, "width": self.width, "calls": self.calls,
            "train_seconds": self.seconds,
        }  # fmt: skip
        given = {name: value for name, value in changes.items() if value not in (None, ())}
        running = Race(settings_for(self.preset, given, self.equal), self.parts or PARTS, self.preset)
        with race_progress(running.steps) as (progress, advance):
            document, stopped = run_race(
                running, self.run_dir, overwrite=self.overwrite, progress=progress, advance=advance
            )
        for table in tables(document):
            print_table(table)
        for text in document["notes"]:
            note(f"note: {text}")
        note(f"wrote {self.run_dir / REPORT}, {self.run_dir / RESULTS}")
        if stopped:
            note(f"interrupted: what was measured is kept; missing: {', '.join(document['missing'])}")
            return 130
        return 0


@contextlib.contextmanager
def race_progress(steps: int) -> Iterator[tuple[Callable[[str], None], Callable[[], None]]]:
    """A bar of a race on standard error, or a line for each step where no person watches.

    Yields:
      What takes a line on the present step, and what is called after each.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    console = Console(stderr=True)
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("racing", total=steps)

        def advance() -> None:
            bar.advance(task)
            if not console.is_terminal:
                one = bar.tasks[0]
                note(f"{one.completed:.0f} of {one.total:.0f}, {one.elapsed or 0:.0f} s: {one.description}")

        yield lambda text: bar.update(task, description=text), advance
