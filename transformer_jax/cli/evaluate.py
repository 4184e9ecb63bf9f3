"""``transformer-jax evaluate``: scores of a trained model on two files."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

DESCRIPTION = """Score a trained model: its outputs for the lines of --source against those of --reference.

Pronunciation runs give PER (phonemes) and WER (whole outputs with any error), translation runs
BLEU, chrF, WER and CER. Line n of one file belongs to line n of the other.

Examples:
  transformer-jax evaluate runs/words --source words.txt --reference phonemes.txt
  transformer-jax evaluate runs/words --source words.txt --reference phonemes.txt --beam 4 --json"""


@dataclasses.dataclass(frozen=True)
class Command:
    run_dir: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN_DIR")]]
    """Folder of a trained run."""

    source: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """What to translate, one example a line."""

    reference: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """What should come out, one example a line."""

    json: bool = False
    """Print one JSON object instead of a table."""

    beam: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Beams of the search; without it the run's own search."""

    too_long: Literal["skip", "truncate", "fail"] = "fail"
    """What to do with sources longer than the model's capacity; a skipped line counts as an empty output."""

    def run(self) -> int:
        # Loaded here, not above: they bring jax, and --help does without.
        from transformer_jax.cli.evaluating import evaluate_files, print_scores

        scores = evaluate_files(
            self.run_dir, self.source, self.reference, beam=self.beam, too_long=self.too_long
        )
        print_scores(scores, as_json=self.json)
        return 0
