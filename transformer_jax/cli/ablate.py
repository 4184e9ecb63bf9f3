"""``transformer-jax ablate``: a grid of values of one config, several seeds each, one table."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from transformer_jax.cli.flags import Between
from transformer_jax.errors import ConfigError

DESCRIPTION = """Measure ideas: train a grid of values of one config with several seeds, and compare them with CONFIG.

CONFIG is what `train` takes. Each --vary names a path of the config, as --set does, and its values, separated by
commas; commas inside of [], {} and "" belong to a value, and what must change together with it follows after &.
Several --vary make the product of their values, or with --one-at-a-time each value alone. CONFIG as it is is always
a member; a path with one value is varied against CONFIG's own. Seeds of parameters and batches count up from
CONFIG's.

Members that cannot be built are named before anything is trained, and the others go on. After Ctrl-C or a crash
--resume goes on: runs that ended are kept, a started one is resumed, a failed one is tried again.

Prints a table with 95 % intervals over the seeds; writes ablation.html (open it in a browser), table.md, results.json
and figures into the run folder, where each member's runs stand as `train` leaves them.

Examples:
  transformer-jax ablate experiments/language_tinyshakespeare_gpt.py --vary model.normalization=layer,rms
  transformer-jax ablate CONFIG --vary model.normalization=rms --vary model.norm_placement=post --seeds 5
  transformer-jax ablate CONFIG --vary "model.num_heads=2 & model.num_kv_heads=2,8 & model.num_kv_heads=8"
  transformer-jax ablate CONFIG --vary model.positions=none,rotary,alibi --vary model.dropout_rate=0.1 --one-at-a-time
  transformer-jax ablate CONFIG --vary 'model.positions={"kind": "rotary", "base": 500},alibi' --set train.updates=300
  transformer-jax ablate --run-dir runs/ablation --resume              after Ctrl-C; more --seeds may be given"""


@dataclasses.dataclass(frozen=True)
class Command:
    config: tyro.conf.Positional[Annotated[str | None, tyro.conf.arg(metavar="CONFIG")]] = None
    """Experiment file (*.py) or saved config (*.json); may be left out with --resume."""

    vary: Annotated[
        tuple[tuple[str, ...], ...], tyro.conf.arg(metavar="KEY=VALUE,VALUE ..."), tyro.conf.UseAppendAction
    ] = ()
    """A path of the config and its values, such as model.normalization=layer,rms; may be given several times."""

    set: Annotated[
        tuple[tuple[str, ...], ...], tyro.conf.arg(metavar="KEY=VALUE ..."), tyro.conf.UseAppendAction
    ] = ()
    """Change values of CONFIG, for all members, such as train.updates=200."""

    seeds: Annotated[int | None, tyro.conf.arg(metavar="N"), Between(1, 1000)] = None
    """Runs of each member, with seeds that count up; without it 3."""

    one_at_a_time: bool = False
    """Each value alone against CONFIG, in the place of the product of all."""

    run_dir: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs/ablation")
    """Folder of the grid; made if it is not there."""

    resume: bool = False
    """Go on with the grid in the folder."""

    overwrite: bool = False
    """Remove the grid in the folder first."""

    allow_inexact: bool = False
    """Go on with a started run although versions, flags, processor or device differ from its own (see run.lock)."""

    def run(self) -> int:
        # Loaded here, not above: they bring jax, and --help does without.
        from transformer_jax.ablation import Grid, ablate, read_varied, saved_grid
        from transformer_jax.ablation.grid_report import PAGE_NAME
        from transformer_jax.ablation.grid_table import grid_table
        from transformer_jax.cli.tables import print_table
        from transformer_jax.runs.experiment import start_config

        varied = [text for group in self.vary for text in group]
        overrides = [text for group in self.set for text in group]
        if self.config is not None:
            read = read_varied(varied)  # before the config is executed
            grid = Grid(
                base=start_config(self.config, overrides),
                varied=read,
                num_seeds=3 if self.seeds is None else self.seeds,
                one_at_a_time=self.one_at_a_time,
            )
        elif not self.resume or self.overwrite:
            raise ConfigError(
                "CONFIG is missing: name an experiment (*.py) or a config.json, or add --resume"
            )
        elif varied or overrides or self.one_at_a_time:
            raise ConfigError(
                "--vary, --set and --one-at-a-time go with CONFIG: without it the folder's are taken"
            )
        else:
            grid = saved_grid(self.run_dir, num_seeds=self.seeds)
        document = ablate(
            grid,
            self.run_dir,
            resume=self.resume,
            overwrite=self.overwrite,
            allow_inexact=self.allow_inexact,
        )
        print_table(grid_table(document))
        print(f"report: {self.run_dir / PAGE_NAME}")
        return 0
