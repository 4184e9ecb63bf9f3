"""``transformer-jax score``: log-probabilities of given pairs, or of the tokens of a text."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from transformer_jax.cli.flags import COUNT
from transformer_jax.errors import ConfigError

DESCRIPTION = """How probable a trained model finds given outputs: one line for each pair, its log-probability
(natural, the sum over the target's tokens and its end) and the number of those tokens, separated by a tab.

Of a language model's text (--input): one line for each token, its log-probability and the token as a JSON text.

Use it to rank translations, to find bad pairs in a corpus, or for the perplexity of a text: the last line on
standard error. A pair's numbers do not depend on the pairs beside it.

Examples:
  transformer-jax score runs/mine --source test.en --target test.de > scores.tsv
  transformer-jax score runs/shakespeare --input play.txt --stride 32 > tokens.tsv
  transformer-jax score runs/mine --source test.en --target test.de | paste - test.en test.de | sort -n | head"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command:
    run_dir: tyro.conf.Positional[Annotated[Path | None, tyro.conf.arg(metavar="RUN_DIR")]] = None
    """Folder of a trained run, or of an exported model."""

    pretrained: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Instead of a folder: a model that comes with the library."""

    source: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Sources, one a line."""

    target: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Targets that are scored, one a line."""

    input: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """For a language model: a text of any length."""

    stride: Annotated[int | None, tyro.conf.arg(metavar="N"), COUNT] = None
    """With --input: tokens between two windows of the model's context; fewer give each token more context and take
    longer. Without it half of the context."""

    output: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where the numbers go; without it standard output."""

    too_long: Literal["whole", "skip", "truncate", "fail"] = "whole"
    """Lines longer than data.max_source_len or data.max_target_len: `whole` takes them as they are (those over the
    model's own limit are left out), `skip` leaves them out, `truncate` cuts them, `fail` stops. One that is left out
    has the score "nan"."""

    def run(self) -> int:
        # Loaded here, not above: they bring jax, and --help does without.
        from transformer_jax.cli.score_files import score_files, score_text
        from transformer_jax.runs.model_folder import chosen_folder

        folder = chosen_folder(self.run_dir, self.pretrained)
        if self.input is not None and self.source is None and self.target is None:
            if self.too_long != "whole":
                raise ConfigError("--too-long is for pairs: a text may have any length; leave it out")
            score_text(folder, self.input, output_path=self.output, stride=self.stride)
            return 0
        if self.stride is not None:
            raise ConfigError("--stride goes with --input: leave it out")
        if self.source is None or self.target is None or self.input is not None:
            raise ConfigError("score needs --source and --target, or --input for a language model")
        score_files(folder, self.source, self.target, output_path=self.output, too_long=self.too_long)
        return 0
