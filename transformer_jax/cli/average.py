"""``transformer-jax average``: the mean of a run's last checkpoints, as a run of its own."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from transformer_jax.cli.flags import COUNT

DESCRIPTION = """Average the parameters of a run's last checkpoints: often a little better than the last one alone
where the learning rate has not fallen to zero. The result is a run folder to translate and evaluate with;
it cannot be trained on.

Checkpoints are kept for it by train.keep_last.

Examples:
  transformer-jax train CONFIG --run-dir runs/mine --set train.keep_last=5 train.checkpoint_every=500
  transformer-jax average runs/mine --output runs/mine-average --last 5"""


@dataclasses.dataclass(frozen=True)
class Command:
    run_dir: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN_DIR")]]
    """Folder of a trained run."""

    output: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Run folder to make."""

    last: Annotated[int, tyro.conf.arg(metavar="N"), COUNT] = 5
    """How many checkpoints."""

    def run(self) -> int:
        # Loaded here, not above: they bring jax, and --help does without.
        from transformer_jax.runs.averaging import average_run

        updates = average_run(self.run_dir, self.output, num_last=self.last)
        print(f"{self.output}: mean of updates {', '.join(f'{update:,}' for update in updates)}")
        return 0
