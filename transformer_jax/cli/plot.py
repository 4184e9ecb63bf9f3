"""``transformer-jax plot``: pictures of a run."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

DESCRIPTION = """Draw a run: learning curves, and the attention over a translated --line, by the
run's own search: the output is the one that translate writes.

The PNG files go into RUN_DIR/figures, or to --output.

Examples:
  transformer-jax plot runs/words
  transformer-jax plot runs/words --line attention transformer
  transformer-jax plot runs/words --line "a line with spaces" --output pictures"""


@dataclasses.dataclass(frozen=True)
class Command:
    run_dir: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN_DIR")]]
    """Folder of a run."""

    line: Annotated[
        tuple[tuple[str, ...], ...], tyro.conf.arg(metavar="TEXT ..."), tyro.conf.UseAppendAction
    ] = ()
    """Lines to draw attention maps of."""

    output: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder for the pictures; without it RUN_DIR/figures."""

    def run(self) -> int:
        # Loaded here, not above: they bring jax, and --help does without.
        from transformer_jax.runs.figures import plot_run

        lines = [text for group in self.line for text in group]
        for path in plot_run(self.run_dir, lines, self.output or self.run_dir / "figures"):
            print(path)
        return 0
