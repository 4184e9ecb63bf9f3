"""``transformer-jax reproduce``: a run trained again, row by row beside its log."""

import contextlib
import dataclasses
import tempfile
from pathlib import Path
from typing import Annotated

import tyro

from transformer_jax.cli.flags import COUNT
from transformer_jax.errors import ConfigError

DESCRIPTION = """Train a run again from its config and tokenizers, and compare row by row with its log: the loss, the
scores, and a digest of all parameters. Says that all rows came again, or which is the first that did not. Versions,
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
        from transformer_jax.runs.experiment import saved_config
        from transformer_jax.runs.folder import require_run
        from transformer_jax.runs.loading import start_from
        from transformer_jax.runs.lock import warm_start_of
        from transformer_jax.runs.reproduction import Comparison, Decided
        from transformer_jax.runs.training import run_experiment, saved_tokenizers

        if self.updates is not None and self.updates < 1:
            raise ConfigError(f"--updates must be at least 1, got {self.updates}")
        require_run(self.original)
        if self.run_dir is not None and self.run_dir.resolve() == self.original.resolve():
            raise ConfigError(f"--run-dir {self.run_dir} is the run itself: name another folder")
        config, warm_start = saved_config(self.original), warm_start_of(self.original)
        start = start_from(Path(warm_start), allow_partial=True) if warm_start is not None else None
        with contextlib.ExitStack() as stack:
            run_dir = self.run_dir or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "run"
            comparison = Comparison(self.original, run_dir, up_to=self.updates)
            with contextlib.suppress(Decided):
                run_experiment(
                    config,
                    run_dir,
                    tokenizers=saved_tokenizers(self.original),
                    start=start,
                    tracker=comparison,
                    label=f"{config.name} again",
                )
                comparison.compare_whole()
        print(comparison.verdict())
        return 0 if comparison.is_same else 1
