"""``transformer-jax export``: a model folder to pass on."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

DESCRIPTION = """Make a small folder from a run: config, tokenizers, the best checkpoint's parameters in half precision
(safetensors) and a card with data, licence, training and scores. It takes the place of a run wherever a
trained model is used: translate, score, evaluate, and train --warm-start. It cannot be trained on.

The scores on the card are taken anew, with the weights as they were written: on the run's test set, or else on
its development set, or on --source and --reference. A model without either is exported without scores.

Examples:
  transformer-jax export runs/words --output models/words --about "English words to ARPAbet phonemes."
  transformer-jax average runs/mine --output runs/mine-average --last 5
  transformer-jax export runs/mine-average --output models/mine
  echo attention | transformer-jax translate models/words"""


@dataclasses.dataclass(frozen=True)
class Command:
    run_dir: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN_DIR")]]
    """Folder of a trained run."""

    output: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Model folder to make; its name is the model's."""

    about: Annotated[str, tyro.conf.arg(metavar="TEXT")] = "A model trained with transformer-jax."
    """A sentence for the card: what it does, and for whom."""

    split: Literal["development", "test"] | None = None
    """Set of the run's data on which the card's scores are taken; without it the test set, or else the development
    set, or none: the card then has no scores."""

    source: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Instead: sources of your own to take the scores on, one a line."""

    reference: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """References for them, one a line."""

    def run(self) -> int:
        # Loaded here, not above: they bring jax, and --help does without.
        from transformer_jax.runs.model_folder import export_model

        scores = export_model(
            self.run_dir,
            self.output,
            about=self.about,
            split=self.split,
            source=self.source,
            reference=self.reference,
        )
        print("\n".join(scores["text"]))
        print(f"wrote {self.output}")
        return 0
