"""``transformer-jax fill``: lines with hidden words in, the most probable words out."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import tyro

from transformer_jax.cli.flags import COUNT
from transformer_jax.errors import ConfigError

DESCRIPTION = """Fill hidden words in lines with a masked language model: one line out for each line in, in order.

[MASK] in a line stands for one token of the model's vocabulary. Without options each is replaced by the most
probable one, each by itself; a line without [MASK] comes back as it is.

Examples:
  echo "The [MASK] sat on the mat." | transformer-jax fill runs/bert
  echo "The [MASK] sat on the [MASK]." | transformer-jax fill runs/bert --top 5
  transformer-jax fill runs/bert --input lines.txt --json | head -1

--top N writes the N most probable tokens with their probabilities instead, separated by tabs, those of the next
[MASK] behind a |; ## begins a token that continues the word before it. --json writes an object for each line: the
text, the filled text, and the tokens of each [MASK].

A line's tokens and probabilities do not depend on the lines beside it."""

DEFAULT_TOP = 5


@dataclasses.dataclass(frozen=True)
class Command:
    run_dir: tyro.conf.Positional[Annotated[Path | None, tyro.conf.arg(metavar="RUN_DIR")]] = None
    """Folder of a trained run, or of an exported model."""

    pretrained: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Instead of a folder: a model that comes with the library."""

    input: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Lines with [MASK]; without it standard input."""

    output: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where the filled lines go; without it standard output."""

    top: Annotated[int | None, tyro.conf.arg(metavar="N"), COUNT] = None
    """Write the N most probable tokens of each [MASK] with their probabilities; with --json as many (5)."""

    json: bool = False
    """Write a JSON object for each line."""

    def run(self) -> int:
        # Loaded here, not above: they bring jax, and --help does without.
        from transformer_jax.cli.loaded import load_for
        from transformer_jax.cli.predicted_lines import predict_lines
        from transformer_jax.inference.mask_filler import MaskFiller
        from transformer_jax.runs.model_folder import chosen_folder

        filler: MaskFiller = load_for(
            "fill", MaskFiller, chosen_folder(self.run_dir, self.pretrained)
        ).predictor
        size = filler.encoding.tokenizer.vocab_size
        if self.top is not None and self.top > size:
            raise ConfigError(f"--top must be at most {size:,}, the model's vocabulary; got {self.top:,}")
        num_best = self.top or (DEFAULT_TOP if self.json else 1)

        def predict(lines: list[str]) -> list[str]:
            return [self._written(found) for found in filler.fill(lines, num_best=num_best)]

        predict_lines(predict, filler.report, input_path=self.input, output_path=self.output)
        return 0

    def _written(self, found: Any) -> str:
        from transformer_jax.data.line_breaks import escape_field, escape_line_breaks

        if self.json:
            return json.dumps(found.as_dict(), allow_nan=False)
        if self.top is None:
            return str(escape_line_breaks(found.best))
        return "\t|\t".join(
            "\t".join(f"{escape_field(one.token)}\t{one.probability:.4f}" for one in candidates)
            for candidates in found.masks
        )
