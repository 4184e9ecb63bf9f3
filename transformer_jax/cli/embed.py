"""``transformer-jax embed``: vectors of words and lines, their neighbours, and analogies."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from transformer_jax.cli.flags import COUNT
from transformer_jax.errors import ConfigError, DataError
from transformer_jax.notes import note

DESCRIPTION = """Vectors of words and lines, neighbours and analogies, by word vectors or a masked language model.

Words or lines come from --input FILE or standard input; one line is written for each, as soon as it has come. Without
options that is the vector, its numbers separated by spaces: of a line the mean of those of its words, zeros where none
of them has one. --nearest N writes the N nearest words with their cosines instead, an empty line for text without one.
--analogy takes three words a line and writes the words that are to the third as the second is to the first.

--vectors FILE writes the vectors of the whole vocabulary in word2vec's format, binary where the name ends in .bin;
--map FILE.png draws the words of the input (without any the most frequent ones) by their two main components.

Of a masked language model the vector of a line is the mean over its words as they stand there, or with
--pooling first that of the start token; --words writes an object a line with a vector for each word. Neighbours,
analogies, --vectors and --map need word vectors.

Examples:
  echo king | transformer-jax embed runs/vectors --nearest 10
  echo man king woman | transformer-jax embed runs/vectors --analogy
  transformer-jax embed runs/vectors --input words.txt --json > vectors.jsonl
  transformer-jax embed runs/vectors --vectors vectors.bin
  transformer-jax embed runs/vectors --input words.txt --map words.png
  transformer-jax embed runs/bert --input lines.txt > vectors.txt
  transformer-jax embed runs/bert --input lines.txt --words > words.jsonl"""


@dataclasses.dataclass(frozen=True)
class Command:
    run_dir: tyro.conf.Positional[Annotated[Path | None, tyro.conf.arg(metavar="RUN_DIR")]] = None
    """Folder of trained word vectors, or of exported ones."""

    pretrained: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Instead of a folder: a model that comes with the library."""

    input: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Words or lines; without it standard input."""

    output: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where the answers go; without it standard output."""

    nearest: Annotated[int | None, tyro.conf.arg(metavar="N"), COUNT] = None
    """Write the N nearest words instead of vectors."""

    analogy: bool = False
    """Take three words a line and write the words that complete the analogy, ten or as many as --nearest says."""

    pooling: Literal["mean", "first"] | None = None
    """Of a masked language model: a line's vector is the mean over its words (without the option), or that of the start
    token."""

    words: bool = False
    """Of a masked language model: write a JSON object a line with its words and a vector of each."""

    json: bool = False
    """Write a JSON object a line: text, vector, words, known; or text, neighbours (word, similarity)."""

    vectors: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write the vectors of the vocabulary to FILE and read no input."""

    map: Annotated[Path | None, tyro.conf.arg(metavar="FILE.png")] = None
    """Draw a map of the input's words, or of the most frequent ones."""

    def run(self) -> int:
        # Loaded here, not above: they bring jax, and --help does without.
        from transformer_jax.cli.line_groups import opened_output
        from transformer_jax.cli.loaded import load_for
        from transformer_jax.cli.streams import require_open
        from transformer_jax.files import require_other_file
        from transformer_jax.inference.mask_filler import MaskFiller
        from transformer_jax.inference.word_embedder import WordEmbedder
        from transformer_jax.runs.model_folder import chosen_folder

        if self.output is None and self.vectors is None and self.map is None:
            require_open(1, "--output FILE")
        for flag, path in (("--output", self.output), ("--vectors", self.vectors), ("--map", self.map)):
            require_other_file(flag, path, [self.input])
        folder = chosen_folder(self.run_dir, self.pretrained)
        embedder: Any = load_for("embed", (WordEmbedder, MaskFiller), folder).predictor
        if isinstance(embedder, MaskFiller):
            return self._embed_lines(embedder)
        if self.pooling is not None or self.words:
            raise ConfigError("--pooling and --words need a masked language model: leave them out")
        if self.vectors is not None:
            embedder.save_vectors(self.vectors)
            print(self.vectors)
            return 0
        if self.map is not None:
            return self._draw(embedder)
        num_unknown = 0
        with opened_output(self.output) as out:
            for group in self._groups():
                for line in group:
                    text, is_known = self._answer(embedder, line)
                    num_unknown += not is_known
                    out.write(f"{text}\n".encode())
                out.flush()
        if num_unknown:
            note(f"note: {num_unknown:,} lines have no word of the vocabulary")
        return 0

    def _embed_lines(self, filler: Any) -> int:
        """Vectors of lines, or of the words in them, by a masked language model."""
        from transformer_jax.cli.predicted_lines import predict_lines

        of_vectors = {
            "--nearest": self.nearest is not None,
            "--analogy": self.analogy,
            "--vectors": self.vectors is not None,
            "--map": self.map is not None,
        }
        if named := [flag for flag, is_given in of_vectors.items() if is_given]:
            raise ConfigError(f"{named[0]} needs word vectors, and {filler.name} is a masked language model")
        if self.words and self.pooling is not None:
            raise ConfigError("--words writes the vectors of words: leave --pooling out")

        def predict(lines: list[str]) -> list[str]:
            if self.words:
                return [_words_line(found) for found in filler.embed_words(lines)]
            found = filler.embed(lines, pooling=self.pooling or "mean")
            return [_vector_line(one, as_json=self.json) for one in found]

        predict_lines(predict, filler.report, input_path=self.input, output_path=self.output)
        return 0

    def _answer(self, embedder: Any, line: str) -> tuple[str, bool]:
        """What is written for a line, and whether the line has a vector."""
        if not self.analogy and self.nearest is None:
            found = embedder.embed([line])[0]
            return _vector_line(found, as_json=self.json), found.num_known > 0
        try:
            neighbours = self._neighbours(embedder, line)
        except DataError:
            neighbours = None
        if self.json:
            listed = [dataclasses.asdict(one) for one in neighbours or ()]
            return json.dumps({"text": line, "neighbours": listed}), neighbours is not None
        return "\t".join(
            f"{one.word} {one.similarity:.4f}" for one in neighbours or ()
        ), neighbours is not None

    def _neighbours(self, embedder: Any, line: str) -> list[Any]:
        if not self.analogy:
            return list(embedder.nearest(line, num_neighbours=self.nearest))
        words = line.split()
        if len(words) != 3:
            raise ConfigError(f"--analogy wants three words a line, got {len(words)} in {line!r}")
        return list(embedder.analogy(*words, num_neighbours=self.nearest or 10))

    def _groups(self) -> Iterator[list[str]]:
        from transformer_jax.cli.line_groups import line_groups

        return line_groups(self.input, "standard input" if self.input is None else str(self.input), 0)

    def _draw(self, embedder: Any) -> int:
        from transformer_jax.plot.word_map import word_map

        if self.input is None:
            words = [word for word in embedder.vocabulary.words if len(word) > 3][:150]
        else:
            lines = [line for group in self._groups() for line in group]
            words = list(dict.fromkeys(word for line in lines for word in embedder.vocabulary.split(line)))
        found = {word: vector for word in words if (vector := embedder.vector(word)) is not None}
        word_map(
            list(found), list(found.values()), title=f"{embedder.name}: {len(found):,} words", path=self.map
        )
        print(self.map)
        return 0


def _numbers(vector: Any) -> list[float]:
    """The fewest digits that name each number."""
    return [float(str(one)) for one in vector]


def _vector_line(found: Any, *, as_json: bool) -> str:
    numbers = _numbers(found.vector)
    if not as_json:
        return " ".join(map(str, numbers))
    document = {"text": found.text, "vector": numbers, "words": found.num_words, "known": found.num_known}
    return json.dumps(document)


def _words_line(found: Any) -> str:
    vectors = [_numbers(vector) for vector in found.vectors]
    return json.dumps({"text": found.text, "words": list(found.words), "vectors": vectors})
