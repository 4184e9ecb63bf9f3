"""``transformer-jax race compare``: two races side by side."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

DESCRIPTION = """Compare two results of `transformer-jax race` case by case: new time over old, with its interval.

Times of unlike machines say nothing of the code, so they are refused, unless told otherwise.

Examples:
  transformer-jax race compare before/race.json after/race.json
  transformer-jax race compare cpu/race.json gpu/race.json --unlike-machines"""


@dataclasses.dataclass(frozen=True)
class Command:
    old: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OLD.json")]
    """The race to compare with."""

    new: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="NEW.json")]
    """The race in question."""

    unlike_machines: bool = False
    """Compare although device, processor, cores or flags differ."""

    def run(self) -> int:
        from transformer_jax.cli.tables import print_table
        from transformer_jax.race.race_results import compare_races

        print_table(compare_races(self.old, self.new, allow_unlike=self.unlike_machines))
        return 0
