"""``transformer-jax compare``: six models, the same words, one table."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from transformer_jax.cli.flags import SEED

DESCRIPTION = """Train six models, from a vanilla RNN to a Transformer, on the same words and compare them.

The data set is the CMU pronouncing dictionary: letters in, phonemes out. The rungs: rnn, lstm and
gru (an encoder whose last state is all that the decoder sees), gru+bahdanau, lstm+luong and
transformer. All have about the same number of parameters and see the same batches of 256 words in
the same order; each rung's learning rate was chosen on development words from the same grid, and
each is scored after its last update. Prints a table; writes report.html (open it in a browser),
report.json and figures into the run folder.

Examples:
  transformer-jax compare                                          about 11 minutes on two cores
  transformer-jax compare --models gru gru+bahdanau transformer    only these rungs
  transformer-jax compare --preset standard --run-dir runs/long    to convergence, some hours
  transformer-jax compare --resume                                 after Ctrl-C: finished rungs are kept"""


@dataclasses.dataclass(frozen=True)
class Command:
    preset: Literal["quick", "standard"] = "quick"
    """How large the models are and how long they train."""

    models: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ()
    """Only these rungs; without it all six."""

    run_dir: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/compare")
    """Run folder; made if it is not there."""

    seed: Annotated[int, tyro.conf.arg(metavar="N"), SEED] = 0
    """Seed of the initial parameters, the order of the batches and dropout."""

    resume: bool = False
    """Resume the comparison in the folder."""

    overwrite: bool = False
    """Remove the comparison in the folder first."""

    set: Annotated[
        tuple[tuple[str, ...], ...], tyro.conf.arg(metavar="KEY=VALUE ..."), tyro.conf.UseAppendAction
    ] = ()
    """Change values of every rung's config, such as train.updates=20."""

    def run(self) -> int:
        # Loaded here, not above: they bring jax, and --help does without.
        from transformer_jax.cli.tables import print_table
        from transformer_jax.ladder.comparison import compare
        from transformer_jax.ladder.comparison_report import PAGE_NAME, result_table

        document = compare(
            self.preset,
            models=self.models,
            run_dir=self.run_dir,
            seed=self.seed,
            resume=self.resume,
            overwrite=self.overwrite,
            overrides=[text for group in self.set for text in group],
        )
        print_table(result_table(document))
        print(f"report: {self.run_dir / PAGE_NAME}")
        return 0
