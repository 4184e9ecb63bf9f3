"""Sentences in, labels out: a trained tagger with its vocabulary and its labels."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from flax import nnx

from transformer_jax.data.buckets import PaddedLengths
from transformer_jax.data.iob import allowed_neighbours, is_iob, pieces_of
from transformer_jax.data.tag_examples import TagExamples, encode_sentences
from transformer_jax.data.tag_set import TagSet
from transformer_jax.data.word_encoding import PieceEncoder, WordEncoder
from transformer_jax.errors import DataError, shortened
from transformer_jax.functional.crf import FORBIDDEN, ChainScores
from transformer_jax.inference.line_report import LineReport
from transformer_jax.inference.row_program import MakeBatch, RowProgram

USUAL_LEN = 64
"""Sentences of up to so many tokens are padded to quarters of it; longer ones to lengths that grow by half."""

MAX_TOKENS = 2**16
"""The longest sentence for a model that has no limit of its own."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaggedPiece:
    """A piece of a sentence that IOB labels mark.

    Attributes:
      label: Its type.
      start: Its first word, from 0.
      stop: The word behind its last one.
      text: Its words with blanks between.
    """

    label: str
    start: int
    stop: int
    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tagged:
    """A sentence with a label for each word.

    Attributes:
      words: The words.
      labels: The label of each.
      probabilities: Marginal probability of each of these labels.
      unknown: Whether each word is outside of the vocabulary.
      label: Class of the sentence; None where the model gives none, or there is no word.
      label_probability: Its probability; NaN where there is none.
    """

    words: tuple[str, ...]
    labels: tuple[str, ...]
    probabilities: tuple[float, ...]
    unknown: tuple[bool, ...]
    label: str | None = None
    label_probability: float = math.nan

    @property
    def pieces(self) -> tuple[TaggedPiece, ...]:
        """Pieces of a sentence with IOB labels, such as its slots; none of other labels."""
        if not is_iob(self.labels):
            return ()
        return tuple(
            TaggedPiece(label=label, start=start, stop=stop, text=" ".join(self.words[start:stop]))
            for label, start, stop in pieces_of(self.labels)
        )

    @property
    def text(self) -> str:
        """``word/LABEL`` for each word with blanks between, behind the class and a tab where there is one."""
        line = " ".join(f"{word}/{label}" for word, label in zip(self.words, self.labels, strict=True))
        return line if self.label is None else f"{self.label}\t{line}"


@dataclasses.dataclass(frozen=True, eq=False)
class FoundLabels:
    """Labels of one sentence, as numbers.

    Attributes:
      labels: ``[words]``.
      probabilities: ``[words]``.
      label: Number of the class; None where there is none.
      label_probability: Its probability.
    """

    labels: npt.NDArray[np.int32]
    probabilities: npt.NDArray[np.float32]
    label: int | None
    label_probability: float


class TagProgram:
    """The most probable labels of many sentences; a sentence has the same bits alone and among others.

    Args:
      model: The tagger; only its structure is kept.
      tags: Its labels: of IOB labels only sequences that keep the scheme are found.
      source_limit: The longest sentence that the model can take; None for no limit.
    """

    def __init__(self, model: Any, tags: TagSet, *, source_limit: int | None = None) -> None:
        limit = MAX_TOKENS if source_limit is None else source_limit
        allowed = allowed_neighbours(tags.labels.labels)
        chain = ChainScores(
            jnp.asarray(np.where(allowed.transitions, 0.0, FORBIDDEN), jnp.float32),
            jnp.asarray(np.where(allowed.starts, 0.0, FORBIDDEN), jnp.float32),
            jnp.zeros(len(tags.labels), jnp.float32),
        )

        def predict(model: Any, tokens: Any, lengths: Any, letters: Any, first_pieces: Any) -> Any:
            return model.predict(
                tokens, lengths=lengths, letters=letters, first_pieces=first_pieces, allowed=chain
            )

        self._program = RowProgram(
            model, predict, lengths=PaddedLengths.in_steps(min(USUAL_LEN, limit), limit=limit)
        )

    @property
    def longest(self) -> int:
        """Tokens of the longest sentence that is taken."""
        return self._program.lengths.longest

    @property
    def compile_seconds(self) -> float:
        """Seconds that the first batch of each shape took so far."""
        return self._program.compile_seconds

    def check(self, state: Any, examples: TagExamples) -> None:
        """Raise what predicting would raise for such examples, by shapes alone."""
        self._program.check(state, _batches_of(examples))

    def __call__(
        self, state: Any, examples: TagExamples, *, on_progress: Callable[[int], None] | None = None
    ) -> list[FoundLabels]:
        """Labels of each sentence.

        Args:
          state: The model's state, as of ``nnx.split(model)[1]``.
          examples: The sentences, none longer than `longest`.
          on_progress: Called with the number of sentences done so far.
        """
        found = self._program.run(
            state, examples.lengths.tolist(), _batches_of(examples), on_progress=on_progress
        )
        return [
            FoundLabels(
                labels=one.labels[:length],
                probabilities=one.probabilities[:length],
                label=None if one.classes is None else int(one.classes),
                label_probability=math.nan if one.classes is None else float(one.class_probabilities),
            )
            for one, length in zip(found, examples.word_lengths.tolist(), strict=True)
        ]


def _batches_of(examples: TagExamples) -> MakeBatch:
    def make(indices: npt.NDArray[np.int64], num_rows: int, length: int) -> tuple[Any, ...]:
        batch = examples.batch(indices, num_rows, length)
        return batch.tokens, batch.lengths, batch.letters, batch.first_pieces

    return make


def _sentence_number(place: int) -> str:
    return f"sentence {place + 1}"


@dataclasses.dataclass
class SentenceTagger:
    """A trained tagger that labels sentences.

    Attributes:
      name: Of the run, for messages.
      model: The model with its trained parameters.
      encoder: Turns words into numbers.
      tags: Labels by number.
      source_limit: The longest sentence that the model can take, in tokens; None where it has no limit.
      report: Counts of what was done to sentences so far.
    """

    verbs: ClassVar[tuple[str, ...]] = ("tag",)

    name: str
    model: Any
    encoder: WordEncoder | PieceEncoder
    tags: TagSet
    source_limit: int | None = None
    report: LineReport = dataclasses.field(default_factory=lambda: LineReport(unit="word"))

    @property
    def state(self) -> nnx.State:
        """The model's state, as programs take it."""
        return nnx.split(self.model)[1]

    @functools.cached_property
    def program(self) -> TagProgram:
        """What finds the labels."""
        return TagProgram(self.model, self.tags, source_limit=self.source_limit)

    def tag(
        self,
        sentences: Sequence[str | Sequence[str]],
        *,
        on_progress: Callable[[int], None] | None = None,
    ) -> list[Tagged]:
        """Label the words of sentences, and the sentences where the model gives them a class.

        The labels and probabilities of a sentence do not depend on the sentences beside it, to the last bit. Labels of
        the IOB scheme always keep it.

        Args:
          sentences: Lists of words, or texts whose words stand between white space. One without words has no labels.
          on_progress: Called with the number of sentences done so far.

        Returns:
          A result for each sentence.

        Raises:
          TypeError: If ``sentences`` is one text, or one of them is neither a text nor a list of texts.
          DataError: If a sentence is longer than the model takes, or a word is empty; names the sentence.

        """
        self.report.unknown.clear()
        results = self.label(sentences, on_progress=on_progress)
        self.report.note_all()
        return results

    def label(
        self,
        sentences: Sequence[str | Sequence[str]],
        *,
        where: Callable[[int], str] = _sentence_number,
        on_progress: Callable[[int], None] | None = None,
    ) -> list[Tagged]:
        """As `tag`, but unknown words add up in ``report`` and nothing is said of them.

        Args:
          sentences: As in `tag`.
          where: Names a sentence by its place from 0, for messages.
          on_progress: As in `tag`.
        """
        if isinstance(sentences, str):
            raise TypeError(
                f"sentences must be a list of sentences, got one text: write [{sentences[:20]!r}]"
            )
        words = [words_of(one, place) for place, one in enumerate(sentences, start=1)]
        examples = self.encoded(words, where)
        self._count_unknown(words)
        found = self.program(self.state, examples, on_progress=on_progress)
        return [self._tagged(one, labels) for one, labels in zip(words, found, strict=True)]

    def encoded(self, sentences: Sequence[Sequence[str]], where: Callable[[int], str]) -> TagExamples:
        """Sentences as arrays.

        Args:
          sentences: Their words.
          where: Names a sentence by its place from 0.

        Raises:
          DataError: If a sentence is longer than the model takes; names it.
        """
        examples = encode_sentences(sentences, self.encoder)
        limit = self.program.longest
        unit = "words" if examples.pieces is None else "tokens"
        for place in np.flatnonzero(examples.lengths > limit).tolist():
            begins = shortened(" ".join(sentences[place][:8]), 60)
            raise DataError(
                f"{where(place)} has {examples.lengths[place]:,} {unit}, the model takes at most {limit:,}: cut it (it "
                f"begins {begins!r})"
            )
        return examples

    def _count_unknown(self, sentences: Sequence[Sequence[str]]) -> None:
        """Count unknown words of a model that has nothing else to know them by."""
        if self.encoder.word_len is None:
            self.report.unknown.update(
                word for words in sentences for word in words if not self.encoder.is_known(word)
            )

    def _tagged(self, words: tuple[str, ...], found: FoundLabels) -> Tagged:
        if not words:
            return Tagged(words=(), labels=(), probabilities=(), unknown=())
        names = self.tags.labels.labels
        classes = None if self.tags.classes is None else self.tags.classes.labels
        return Tagged(
            words=words,
            labels=tuple(names[label] for label in found.labels.tolist()),
            probabilities=tuple(found.probabilities.tolist()),
            unknown=tuple(not self.encoder.is_known(word) for word in words),
            label=None if classes is None or found.label is None else classes[found.label],
            label_probability=found.label_probability,
        )


def words_of(sentence: str | Sequence[str], place: int) -> tuple[str, ...]:
    """The words of a sentence that is a text or a list of them.

    Args:
      sentence: The sentence.
      place: Its number, for messages.

    Raises:
      TypeError: If it is neither.
      DataError: If a word is empty.

    Example:
      >>> words_of(" to  be ", 1)
      ('to', 'be')
    """
    if isinstance(sentence, str):
        return tuple(sentence.split())
    if not isinstance(sentence, Sequence) or not all(isinstance(word, str) for word in sentence):
        raise TypeError(
            f"sentence {place} must be a text or a list of words, got {shortened(repr(sentence), 60)}"
        )
    for number, word in enumerate(sentence, start=1):
        if not word.strip():
            raise DataError(f"sentence {place}: word {number} is empty")
    return tuple(sentence)
