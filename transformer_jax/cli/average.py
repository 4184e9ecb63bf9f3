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
        import shutil

        from transformer_jax.errors import ConfigError, RunError
        from transformer_jax.files import write_json

        # Loaded here, not above: they bring jax, and --help does without.
        from transformer_jax.runs.experiment import saved_config
        from transformer_jax.runs.folder import (
            CONFIG_NAME,
            RESULT_NAME,
            RUN_ENTRIES,
            SOURCE_TOKENIZER_NAME,
            TARGET_TOKENIZER_NAME,
            require_run,
        )
        from transformer_jax.runs.loading import load_run
        from transformer_jax.runs.record import training_record
        from transformer_jax.train.checkpoint import average_checkpoints
        from transformer_jax.train.run_folder import holds_any, remove_run

        if self.last < 1:
            raise ConfigError(f"--last must be at least 1, got {self.last}")
        require_run(self.run_dir)
        kept = saved_config(self.run_dir).train.keep_last
        if self.last > kept:  # what else is there was kept for its score
            raise ConfigError(
                f"--last {self.last}: the run keeps {kept} of its last checkpoints (train.keep_last); train "
                f"again with --set train.keep_last={self.last}"
            )
        if self.output.exists() and not self.output.is_dir():
            raise RunError(f"{self.output} is a file: name a folder for the run")
        if holds_any(self.output, RUN_ENTRIES):
            raise RunError(f"{self.output} already holds a run: name another folder")
        try:
            updates = average_checkpoints(self.run_dir, self.output, num_last=self.last)
            for name in (SOURCE_TOKENIZER_NAME, TARGET_TOKENIZER_NAME):
                shutil.copyfile(self.run_dir / name, self.output / name)
            record = training_record(self.run_dir, load_run(self.run_dir))
            assert record is not None  # of a run with checkpoints
            scores = ("development", "best_update", "best_score")  # of the run, not of the mean
            record = {key: value for key, value in record.items() if key not in scores}
            write_json(self.output / RESULT_NAME, record | {"averaged": updates})
            shutil.copyfile(self.run_dir / CONFIG_NAME, self.output / CONFIG_NAME)  # last: it makes a run
        except BaseException:
            remove_run(self.output, RUN_ENTRIES)
            raise
        print(f"{self.output}: mean of updates {', '.join(f'{update:,}' for update in updates)}")
        return 0
