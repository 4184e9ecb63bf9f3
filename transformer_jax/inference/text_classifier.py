"""Texts in, classes out: a trained classifier with its tokenizer and its classes."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import numpy as np
import numpy.typing as npt
from flax import nnx

from transformer_jax.config_json import finite_json
from transformer_jax.data.batches import UNK_ID
from transformer_jax.data.buckets import PaddedLengths
from transformer_jax.data.label_set import LabelSet
from transformer_jax.data.text_encoding import TextEncoding
from transformer_jax.inference.line_report import LineReport
from transformer_jax.inference.row_program import RowProgram

MAX_TEXT_LEN = 1 << 24
"""Most tokens of a text where the model has no limit."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classified:
    """What a classifier makes of a text.

    Attributes:
      text: The text.
      label: The most probable class; of equal ones the first in the order of the classes.
      probabilities: Of every class, in the order of the classes.
      words: The words of the text as the model reads it.
      weights: ``[hops, words]``: how much of what the class was told by is of each word, a row for each hop of
        structured self-attention and one row for other poolings. What fell on start and end tokens is not in it.
      num_tokens: Tokens that the model read.
      num_unknown: Those of them that training never saw.
      is_cut: Whether the text was longer than the model can take, and its end was not read.
    """

    text: str
    label: str
    probabilities: Mapping[str, float]
    words: tuple[str, ...]
    weights: npt.NDArray[np.float32]
    num_tokens: int
    num_unknown: int
    is_cut: bool

    @property
    def probability(self) -> float:
        """Of the label."""
        return self.probabilities[self.label]

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON; what is not finite is None."""
        return {
            "text": self.text,
            "label": self.label,
            "probabilities": finite_json(dict(self.probabilities)),
            "words": list(self.words),
            "weights": finite_json([[round(one, 6) for one in hop] for hop in self.weights.tolist()]),
            "tokens": self.num_tokens,
            "unknown": self.num_unknown,
            "is_cut": self.is_cut,
        }

    def word_weights(self) -> dict[str, float]:
        """The weight of each word, the mean over the hops; of a word that comes twice, the sum.

        Example:
          >>> found = Classified(
          ...   text="a b a", label="x", probabilities={"x": 1.0}, words=("a", "b", "a"),
          ...   weights=np.array([[0.25, 0.5, 0.25]], np.float32), num_tokens=3, num_unknown=0, is_cut=False)
          >>> found.word_weights()
          {'a': 0.5, 'b': 0.5}
        """
        means = self.weights.mean(axis=0)
        found: dict[str, float] = {}
        for word, weight in zip(self.words, means.tolist(), strict=True):
            found[word] = found.get(word, 0.0) + weight
        return found


@dataclasses.dataclass
class TextClassifier:
    """A trained classifier.

    Attributes:
      name: Of the run, for messages.
      model: The model with its trained parameters.
      encoding: Turns text into ids.
      class_set: The classes in the order of the model's logits.
      usual_len: Most tokens of a text in training; longer ones are read whole where the model can.
      source_limit: Most tokens that the model can take; None for no end.
      report: Counts of what was done to texts so far.
    """

    verbs: ClassVar[tuple[str, ...]] = ("classify",)

    name: str
    model: Any
    encoding: TextEncoding
    class_set: LabelSet
    usual_len: int
    source_limit: int | None = None
    report: LineReport = dataclasses.field(default_factory=LineReport)
    _program: RowProgram | None = dataclasses.field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.report.unit = self.encoding.tokenizer.unit.removesuffix("s")

    @property
    def state(self) -> nnx.State:
        """The model's state."""
        return nnx.split(self.model)[1]

    def classify(self, texts: Sequence[str]) -> list[Classified]:
        """The class of each text; a text's numbers do not depend on the texts beside it.

        A text without words is classified like any other, by what the model makes of no tokens. A text longer than the
        model's learned positions is cut, and the report says so.

        Args:
          texts: Texts of any number and length.

        Raises:
          TypeError: If ``texts`` is one text, or holds something else than texts.
        """
        if isinstance(texts, str):
            raise TypeError(f"texts must be a list of texts, got one text: write [{texts[:20]!r}]")
        for place, text in enumerate(texts):
            if not isinstance(text, str):
                raise TypeError(f"texts[{place}] must be a text, got {type(text).__name__}")
        encoded = self.encoding.encode(texts)
        cut = [self._cut(ids) for ids in encoded]
        found = []
        for text, whole, ids, (log_probs, weights) in zip(
            texts, encoded, cut, self._computed(cut), strict=True
        ):
            self._count(text, whole, ids)
            probabilities = np.exp(log_probs).tolist()
            words = self.encoding.words(text)
            found.append(
                Classified(
                    text=text,
                    label=self.class_set.labels[int(np.argmax(log_probs))],
                    probabilities=dict(zip(self.class_set.labels, probabilities, strict=True)),
                    words=words,
                    weights=self._word_weights(text, len(words), weights[:, : len(ids)]),
                    num_tokens=len(ids),
                    num_unknown=ids.count(UNK_ID),
                    is_cut=len(ids) < len(whole),
                )
            )
        return found

    def log_probs(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Log-probabilities ``[texts, classes]`` of the classes, in nats; the same that `classify` tells them by."""
        found = self._computed([self._cut(ids) for ids in self.encoding.encode(texts)])
        shape = (len(texts), len(self.class_set))
        return np.stack([log_probs for log_probs, _ in found]) if found else np.zeros(shape, np.float32)

    def _cut(self, ids: list[int]) -> list[int]:
        return ids if self.source_limit is None else self.encoding.cut(ids, self.source_limit)

    def _computed(self, sequences: Sequence[Sequence[int]]) -> list[tuple[Any, Any]]:
        if self._program is None:
            self._program = class_program(
                self.model, usual_len=self.usual_len, source_limit=self.source_limit
            )
        return self._program(self.state, sequences)

    def _word_weights(
        self, text: str, num_words: int, weights: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        found = np.zeros((weights.shape[0], num_words), np.float32)
        for token, word in enumerate(self.encoding.word_of_token(text)[: weights.shape[1]]):
            if word is not None:
                found[:, word] += weights[:, token]
        return found

    def _count(self, text: str, whole: Sequence[int], ids: Sequence[int]) -> None:
        if UNK_ID in whole:
            self.report.unknown.update(self.encoding.tokenizer.unknown_pieces(self.encoding.clean(text)))
        if len(ids) < len(whole):
            self.report.num_too_long += 1
            if self.report.num_too_long == 1:
                self.report.remark(
                    f"a text of {len(whole)} tokens was cut to {len(ids)}, the model's positions: {text[:40]!r}"
                )


def class_program(model: Any, *, usual_len: int, source_limit: int | None) -> RowProgram:
    """The program that computes log-probabilities ``[classes]`` and weights ``[hops, len]`` of sequences of ids.

    Args:
      model: A classifier, see `transformer_jax.models.classifier`.
      usual_len: Most tokens of a text in training.
      source_limit: Most tokens that the model can take; None for no end.
    """
    usual = usual_len if source_limit is None else min(usual_len, source_limit)
    longest = MAX_TEXT_LEN if source_limit is None else source_limit

    def compute(model: Any, tokens: Any, lengths: Any) -> tuple[Any, Any]:
        found = model.outputs(tokens, lengths=lengths)
        return jax.nn.log_softmax(found.logits, axis=-1), found.weights

    return RowProgram(model, compute, lengths=PaddedLengths.in_steps(usual, limit=longest))
