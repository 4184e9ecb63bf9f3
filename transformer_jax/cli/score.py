"""``transformer-jax score``: log-probabilities of given pairs."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

DESCRIPTION = """How probable a trained model finds given outputs: one line for each pair, its log-probability
(natural, the sum over the target's tokens and its end) and the number of those tokens, separated by a tab.

Use it to rank translations, to find bad pairs in a corpus, or for the perplexity of a text: the last line on
standard error. A pair's numbers do not depend on the pairs beside it.

Examples:
  transformer-jax score runs/mine --source test.en --target test.de > scores.tsv
  transformer-jax score runs/mine --source test.en --target test.de | paste - test.en test.de | sort -n | head"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command:
    run_dir: tyro.conf.Positional[Annotated[Path | None, tyro.conf.arg(metavar="RUN_DIR")]] = None
    """Folder of a trained run, or of an exported model."""

    pretrained: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Instead of a folder: a model that comes with the library."""

    source: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """Sources, one a line."""

    target: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """What the model is asked about, one a line."""

    output: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where the numbers go; without it standard output."""

    too_long: Literal["whole", "skip", "truncate", "fail"] = "whole"
    """Lines longer than data.max_source_len or data.max_target_len: `whole` takes them as they are (those over the
    model's own limit are left out), `skip` leaves them out, `truncate` cuts them, `fail` stops. One that is left out
    has the score "nan"."""

    def run(self) -> int:
        # Loaded here, not above: they bring jax, and --help does without.
        from transformer_jax.cli.score_files import score_files
        from transformer_jax.runs.model_folder import chosen_folder

        folder = chosen_folder(self.run_dir, self.pretrained)
        score_files(folder, self.source, self.target, output_path=self.output, too_long=self.too_long)
        return 0
