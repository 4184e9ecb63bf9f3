"""``transformer-jax classify``: lines in, classes out."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import tyro

from transformer_jax.cli.flags import COUNT
from transformer_jax.errors import ConfigError

DESCRIPTION = """Classify lines with a trained model: one line out for each line in, in order, as they come.

An empty line is classified, too, by what the model makes of no words. Words that training never saw are read as <unk>;
how many there were is said on standard error at the end.

Examples:
  echo "Who wrote Hamlet ?" | transformer-jax classify runs/questions
  transformer-jax classify runs/questions --input questions.txt --output classes.txt
  transformer-jax classify runs/questions --input questions.txt --top 2
  transformer-jax classify runs/questions --input questions.txt --json | head -1

--top N writes the N most probable classes of a line, each with its probability, separated by tabs.
--json writes an object for each line: the class, the probabilities of all classes, the words as the model
reads them, and the weight of each word in what the class was told by (a row for each hop of structured
self-attention).

A line's class and probabilities do not depend on the lines beside it."""


@dataclasses.dataclass(frozen=True)
class Command:
    run_dir: tyro.conf.Positional[Annotated[Path | None, tyro.conf.arg(metavar="RUN_DIR")]] = None
    """Folder of a trained run, or of an exported model."""

    pretrained: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Instead of a folder: a model that comes with the library."""

    input: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Lines to classify; without it standard input."""

    output: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where the classes go; without it standard output."""

    top: Annotated[int | None, tyro.conf.arg(metavar="N"), COUNT] = None
    """Write the N most probable classes of each line with their probabilities."""

    json: bool = False
    """Write a JSON object for each line."""

    def run(self) -> int:
        # Loaded here, not above: they bring jax, and --help does without.
        from transformer_jax.cli.loaded import load_for
        from transformer_jax.cli.predicted_lines import predict_lines
        from transformer_jax.inference.text_classifier import TextClassifier
        from transformer_jax.runs.model_folder import chosen_folder

        if self.json and self.top is not None:
            raise ConfigError("--json has all classes: leave --top out")
        folder = chosen_folder(self.run_dir, self.pretrained)
        classifier: TextClassifier = load_for("classify", TextClassifier, folder).predictor

        def predict(lines: list[str]) -> list[str]:
            return [self._written(found) for found in classifier.classify(lines)]

        predict_lines(predict, classifier.report, input_path=self.input, output_path=self.output)
        return 0

    def _written(self, found: Any) -> str:
        from transformer_jax.data.line_breaks import escape_field

        if self.json:
            return json.dumps(found.as_dict(), allow_nan=False)
        if self.top is None:
            return escape_field(found.label)
        ranked = sorted(found.probabilities.items(), key=lambda one: -one[1])[: self.top]
        return "\t".join(f"{escape_field(label)}\t{probability:.4f}" for label, probability in ranked)
