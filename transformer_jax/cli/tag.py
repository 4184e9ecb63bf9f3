"""``transformer-jax tag``: a label for each word of each line."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import tyro

from transformer_jax.errors import ConfigError

DESCRIPTION = """Label the words of lines with a trained tagger: one line out for each line in, in order, as they come.

Words stand between blanks; a line comes out as word/LABEL word/LABEL ..., behind the class of the line and a tab where
the model gives classes (intents). An empty line gives an empty line. The last slash separates a word that holds one.

Examples:
  echo "play free jazz by sun ra" | transformer-jax tag --pretrained requests-en
  echo "Time flies like an arrow ." | transformer-jax tag runs/ewt
  transformer-jax tag runs/ewt --input sentences.txt --output tagged.txt
  transformer-jax tag runs/snips --input requests.txt --json
  transformer-jax tag runs/ewt --input sentences.txt --conll > tagged.tsv

--json writes an object a line: words, labels, probabilities, unknown (whether a word is outside of the vocabulary),
pieces (of IOB labels: label, start, stop, text), and label and label_probability of the line.
--conll writes a word and its label a line, separated by a tab, and an empty line behind each sentence, with the class
in a comment before it: a file that `train --text` and `evaluate --source` read.

The labels of a line do not depend on the lines beside it. Labels of the IOB scheme always keep it."""


@dataclasses.dataclass(frozen=True)
class Command:
    run_dir: tyro.conf.Positional[Annotated[Path | None, tyro.conf.arg(metavar="RUN_DIR")]] = None
    """Folder of a trained tagger, or of an exported one."""

    pretrained: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Instead of a folder: a model that comes with the library."""

    input: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Lines to label; without it standard input."""

    output: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where the labels go; without it standard output."""

    json: bool = False
    """Write a JSON object a line."""

    conll: bool = False
    """Write a word and its label a line."""

    def run(self) -> int:
        # Loaded here, not above: they bring jax, and --help does without.
        from transformer_jax.cli.loaded import load_for
        from transformer_jax.cli.predicted_lines import predict_lines
        from transformer_jax.inference.sentence_tagger import SentenceTagger
        from transformer_jax.runs.model_folder import chosen_folder

        if self.json and self.conll:
            raise ConfigError("--json and --conll are two forms of output: choose one")
        folder = chosen_folder(self.run_dir, self.pretrained)
        tagger: SentenceTagger = load_for("tag", SentenceTagger, folder).predictor
        write = as_json if self.json else as_conll if self.conll else as_line
        where = "standard input" if self.input is None else str(self.input)
        done = 0

        def predict(lines: list[str]) -> list[str]:
            nonlocal done
            found = tagger.label(lines, where=lambda place: f"{where}: line {done + place + 1}")
            done += len(lines)
            return [write(one) for one in found]

        predict_lines(predict, tagger.report, input_path=self.input, output_path=self.output)
        return 0


def as_line(tagged: Any) -> str:
    """``word/LABEL`` for each word."""
    from transformer_jax.data.line_breaks import escape_line_breaks

    return escape_line_breaks(tagged.text)


def as_json(tagged: Any) -> str:
    """An object on one line."""
    import json

    from transformer_jax.config_json import finite_json

    document = {
        "words": tagged.words,
        "labels": tagged.labels,
        "probabilities": tagged.probabilities,
        "unknown": tagged.unknown,
        "pieces": [dataclasses.asdict(one) for one in tagged.pieces],
        "label": tagged.label,
        "label_probability": None if tagged.label is None else tagged.label_probability,
    }
    return json.dumps(finite_json(document), allow_nan=False, ensure_ascii=False)


def as_conll(tagged: Any) -> str:
    """A word and its label a line, and an empty line behind them; a line without words is that empty line."""
    rows = [] if tagged.label is None else [f"# class = {tagged.label}"]
    rows += [f"{word}\t{label}" for word, label in zip(tagged.words, tagged.labels, strict=True)]
    return "".join(f"{row}\n" for row in rows)
