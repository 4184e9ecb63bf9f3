"""``transformer-jax evaluate``: scores of a trained model."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from transformer_jax.cli.flags import BEAMS, COUNT
from transformer_jax.notes import note

DESCRIPTION = """Score a trained model: its outputs for the lines of --source against those of --reference, or for a
split of the run's own data.

Pronunciation runs give PER (phonemes) and WER (whole outputs with any error), translation runs
BLEU, chrF, TER, WER and CER. Line n of one file belongs to line n of the other. A run on Moses-style text
takes plain files and is scored on tokens, as published scores on such text are. Classifiers take one file of labels
and texts, separated by tabs, and give accuracy, F1 of each class and the calibration error. Taggers take one file of
words and labels, and give accuracy, F1 of labels or of IOB pieces, and accuracy of words never seen and of classes.
Masked language models give the loss and the accuracy of hidden tokens of a text, and with --pseudo-texts N the
pseudo-perplexity of the first N texts of the model's length, each token hidden by itself.
Forecasters give MSE and MAE of scaled values, sMAPE, MASE and OWA beside naive forecasts, of a split or of --source
FILE.csv; --figures draws forecasts and the error by step.

--against OTHER_RUN scores another run on the same lines and says by the paired bootstrap (1,000 resampled
corpora) whether BLEU and chrF differ by more than the choice of lines explains; of language models it gives the
difference of their losses on the same tokens, with an interval by the bootstrap over windows of the text, of
classifiers McNemar's test, of taggers the differences of their scores with intervals by the bootstrap over sentences.
Word vectors give their loss, Spearman's rho on WordSim-353 and SimLex-999 and the accuracy on analogies, or rho on
--source FILE: two words and a number on each line, separated by tabs.
--by-length scores translations by the number of words in their sources.
--page FILE.html shows the twenty worst and the twenty best sentences and what the attention looked at.

Examples:
  transformer-jax evaluate runs/words --source words.txt --reference phonemes.txt
  transformer-jax evaluate runs/words --source words.txt --reference phonemes.txt --beam 4 --json
  transformer-jax evaluate runs/multi30k --split test --against runs/multi30k-bahdanau --by-length
  transformer-jax evaluate runs/shakespeare --split development --stride 16
  transformer-jax evaluate runs/shakespeare --source play.txt
  transformer-jax evaluate runs/questions --split test --figures pictures
  transformer-jax evaluate runs/vectors --source pairs.tsv
  transformer-jax evaluate runs/etth1 --split test --figures pictures
  transformer-jax evaluate runs/bert --split test --pseudo-texts 50
  transformer-jax evaluate --pretrained g2p-en --split test --page words.html"""


@dataclasses.dataclass(frozen=True)
class Command:
    run_dir: tyro.conf.Positional[Annotated[Path | None, tyro.conf.arg(metavar="RUN_DIR")]] = None
    """Folder of a trained run, or of an exported model."""

    pretrained: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Instead of a folder: a model that comes with the library."""

    source: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Sources, one example a line; for a classifier a file of labels and texts, separated by tabs."""

    reference: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """References, one example a line."""

    split: Literal["development", "test"] | None = None
    """Instead of two files: a split of the run's own data as its config limits it, with all references."""

    against: Annotated[Path | None, tyro.conf.arg(metavar="OTHER_RUN")] = None
    """Another run of the same task, to compare with on the same lines."""

    ensemble: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="RUN_DIR")] = ()
    """Further runs on pairs of lines with the same tokenizers: the mean of all their probabilities is scored."""

    figures: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Of a classifier or tagger: draw its confusion matrix, and the classifier's calibration, there; of a forecaster,
    forecasts and the error by step."""

    by_length: bool = False
    """Scores of translations by the number of words in the source."""

    page: Annotated[Path | None, tyro.conf.arg(metavar="FILE.html")] = None
    """Write a page of the worst and best sentences with their attention."""

    json: bool = False
    """Print one JSON object instead of a table."""

    beam: Annotated[int | None, tyro.conf.arg(metavar="N"), BEAMS] = None
    """Beams of the search; without it the run's own search."""

    stride: Annotated[int | None, tyro.conf.arg(metavar="N"), COUNT] = None
    """Of a language model: tokens between two windows of the model's context; without it windows side by side, or the
    whole text where the model carries its state."""

    pseudo_texts: Annotated[int | None, tyro.conf.arg(metavar="N"), COUNT] = None
    """Of a masked language model: the pseudo-perplexity of the first N texts too; a pass of the model a token."""

    devices: Annotated[int, tyro.conf.arg(metavar="N"), COUNT] = 1
    """Devices (GPUs) of this machine that share the lines, each with the whole model; scores are the same."""

    bleu_tokenizer: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Tokenizer of BLEU, by sacreBLEU's name (13a, zh, ja-mecab, char, flores200, ...); without it what the
    run's config says, else that of the target language, else that of the references' script; the signature says it."""

    too_long: Literal["whole", "skip", "truncate", "fail"] = "whole"
    """Sources longer than data.max_source_len: `whole` takes them as they are (those over the model's own limit are
    left out), `skip` leaves them out, `truncate` cuts them, `fail` stops. One that is left out counts as an empty
    output."""

    def run(self) -> int:
        # Loaded here, not above: they bring jax, and --help does without.
        from transformer_jax.cli.streams import require_open
        from transformer_jax.config_json import finite_json
        from transformer_jax.runs.evaluation import evaluate_run
        from transformer_jax.runs.model_folder import chosen_folder

        if self.page is None:
            require_open(1, "--page FILE.html")
        given = {
            "split": self.split,
            "source": self.source,
            "reference": self.reference,
            "beam": self.beam,
            "too_long": self.too_long,
            "by_length": self.by_length,
            "page": self.page,
            "figures": self.figures,
            "num_devices": self.devices,
            "bleu_tokenizer": self.bleu_tokenizer,
            "stride": self.stride,
            "pseudo_texts": self.pseudo_texts,
        }
        scores = evaluate_run(
            chosen_folder(self.run_dir, self.pretrained),
            self._changed(given),
            against=self.against,
            ensemble=self.ensemble,
        )
        for remark in scores.pop("remarks"):
            note(f"note: {remark}")
        text = scores.pop("text")
        heading = scores.pop("heading", f"{scores['lines']:,} lines")
        if self.json:
            print(json.dumps(finite_json(scores), allow_nan=False))
            return 0
        print(f"{heading}, task {scores['task']}")
        print("\n".join(text))
        return 0

    def _changed(self, given: dict[str, Any]) -> dict[str, Any]:
        """Options that differ from their defaults: whichever task the run has, it refuses those that it lacks."""
        defaults = {"too_long": "whole", "by_length": False, "num_devices": 1}
        return {name: value for name, value in given.items() if value != defaults.get(name)}
