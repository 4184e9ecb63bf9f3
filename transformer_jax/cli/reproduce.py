"""``transformer-jax reproduce``: a run trained again, row by row beside its log."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from transformer_jax.cli.flags import COUNT

DESCRIPTION = """Train a run again from its config and tokenizers, and compare row by row with its log: the loss, the
scores, and a digest of all parameters. Reports that all rows were reproduced, or the first that was not. Versions,
flags, processor and device that are others than run.lock says are listed first: then other bits are to be expected.

Exit status: 0 if every row compared is the same, 1 if one is not.

Examples:
  transformer-jax reproduce runs/words
  transformer-jax reproduce runs/words --updates 200
  transformer-jax reproduce runs/words --run-dir runs/words-again"""


@dataclasses.dataclass(frozen=True)
class Command:
    original: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN_DIR")]]
    """Folder of a trained run."""

    run_dir: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Keep the new run here; without it, it is removed."""

    updates: Annotated[int | None, tyro.conf.arg(metavar="N"), COUNT] = None
    """Stop at the first row of the log at or after so many updates."""

    def run(self) -> int:
        # Loaded here, not above: they bring jax, and --help does without.
        from transformer_jax.runs.reproduction import reproduce_run

        comparison = reproduce_run(self.original, self.run_dir, updates=self.updates)
        print(comparison.verdict())
        return 0 if comparison.is_same else 1
