"""Scores of a tagger: during training, and of a trained one."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from transformer_jax.data.iob import OUTSIDE, is_iob
from transformer_jax.data.prepare_tags import load_tags, strict_sentences
from transformer_jax.data.sources.tag_files import TagFiles
from transformer_jax.data.sources.tag_lines import read_tag_file
from transformer_jax.data.tag_set import TagSet
from transformer_jax.data.tagged_text import TaggedSentence
from transformer_jax.environment import environment_table
from transformer_jax.errors import ConfigError, DataError, shortened
from transformer_jax.evaluate.classification import confusion_matrix
from transformer_jax.evaluate.paired_sums import PairedScores, paired_bootstrap
from transformer_jax.evaluate.tag_scores import (
    MEASURES,
    LabelCounts,
    label_counts,
    mean_f1,
    piece_counts,
    sentence_sums,
)
from transformer_jax.inference.sentence_tagger import FoundLabels, SentenceTagger
from transformer_jax.tasks.evaluation_source import EvaluationSource

SHOWN_LABELS = 40
"""Labels whose scores are printed, the most frequent first."""

_NAMES = {
    "accuracy": "accuracy of words",
    "f1": "F1",
    "exact_match": "whole sentences right",
    "class_accuracy": "accuracy of classes",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TagEvaluation(EvaluationSource):
    """Options of a tagger's evaluation; another run is compared with by paired bootstrap over sentences.

    Attributes:
      figures: Folder for a figure of which labels, and which classes, are taken for which.
    """

    file_form: ClassVar[str] = "a file of words and labels"
    path_fields: ClassVar[tuple[str, ...]] = ("source", "figures")

    figures: Path | None = None


class Confusion(NamedTuple):
    """How often each label was put out in the place of each.

    Attributes:
      names: The labels.
      counts: ``[labels, labels]``, rows are what was wanted.
    """

    names: tuple[str, ...]
    counts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, pairs: Sequence[tuple[str, str]]) -> "Confusion":
        """Count pairs of what was wanted and what was put out.

        Example:
          >>> found = Confusion.of([("A", "A"), ("A", "B")])
          >>> found.names, found.counts.tolist()
          (('A', 'B'), [[1, 1], [0, 0]])
        """
        names = tuple(sorted({label for pair in pairs for label in pair}))
        numbers = {label: place for place, label in enumerate(names)}
        wanted, found = (np.array([numbers[pair[side]] for pair in pairs], np.int64) for side in (0, 1))
        return cls(names, confusion_matrix(wanted, found, len(names)))


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ScoredTags:
    """Labels that were put out beside those that were wanted.

    Attributes:
      labels: Labels of each sentence.
      wanted: The wanted ones.
      sums: ``[sentences, 8]``, see :class:`~transformer_jax.evaluate.tag_scores.TagSums`.
      in_pieces: Whether labels are IOB, so that F1 is of pieces.
      classes: Class of each sentence that was put out and that was wanted; None where they have none.
      is_finite: Whether all probabilities are numbers; the scores are NaN otherwise.
    """

    labels: Sequence[Sequence[str]]
    wanted: Sequence[Sequence[str]]
    sums: npt.NDArray[np.int64]
    in_pieces: bool
    classes: tuple[Sequence[str | None], Sequence[str | None]] | None
    is_finite: bool = True

    @property
    def has_classes(self) -> bool:
        """Whether sentences have a class."""
        return self.classes is not None

    @classmethod
    def of(
        cls,
        tags: TagSet,
        found: Sequence[FoundLabels],
        sentences: Sequence[TaggedSentence],
    ) -> "ScoredTags":
        """Score sentences.

        Args:
          tags: Labels that the model knows.
          found: What the model put out.
          sentences: The sentences with what is wanted.
        """
        named = labels_by_name(tags, found)
        labels, wanted = [one for one, _ in named], [one.labels for one in sentences]
        classes = None
        if tags.classes is not None:
            classes = ([one for _, one in named], [one.label for one in sentences])
        in_pieces = is_iob(tags.labels.labels)
        sums = sentence_sums(labels, wanted, classes=classes, in_pieces=in_pieces)
        is_finite = all(bool(np.isfinite(one.probabilities).all()) for one in found)
        return cls(
            labels=labels, wanted=wanted, sums=sums, in_pieces=in_pieces, classes=classes, is_finite=is_finite
        )

    @functools.cached_property
    def counts(self) -> dict[str, LabelCounts]:
        """Counts of each type of piece, or of each label where labels are not IOB."""
        return (piece_counts if self.in_pieces else label_counts)(self.labels, self.wanted)

    def confusions(self) -> dict[str, Confusion]:
        """Which labels of words are taken for which (of IOB labels, which types), and which classes."""

        def kind(label: str) -> str:
            return label[2:] if self.in_pieces and label != OUTSIDE else label

        words = [
            (kind(gold), kind(one))
            for labels, wanted in zip(self.labels, self.wanted, strict=True)
            for one, gold in zip(labels, wanted, strict=True)
        ]
        found = {"labels": Confusion.of(words)}
        if self.classes is not None:
            pairs = zip(self.classes[1], self.classes[0], strict=True)
            found["classes"] = Confusion.of([(gold or "", one or "") for gold, one in pairs])
        return found

    def score(self, name: str) -> float:
        """A metric by its name."""
        if not self.is_finite:
            return math.nan
        if name == "f1" and not self.in_pieces:
            return mean_f1(self.counts)
        return float(MEASURES[name](self.sums.sum(axis=0)))

    def scores(self) -> dict[str, float]:
        """All metrics; of classes only where sentences have one."""
        return {name: self.score(name) for name in MEASURES if name != "class_accuracy" or self.has_classes}


def labels_by_name(tags: TagSet, found: Sequence[FoundLabels]) -> list[tuple[tuple[str, ...], str | None]]:
    """Labels and class of each sentence as texts."""
    names, classes = tags.labels.labels, tags.classes
    return [
        (
            tuple(names[label] for label in one.labels.tolist()),
            None if classes is None or one.label is None else classes.labels[one.label],
        )
        for one in found
    ]


def evaluate_tags(task: Any, tagger: SentenceTagger, options: TagEvaluation) -> dict[str, Any]:
    """Score a tagger.

    Args:
      task: The task that it was trained for.
      tagger: The trained model with its vocabulary and labels.
      options: What to score it on, and how.

    Returns:
      The scores by name, as shares: ``"accuracy"``, ``"f1"``, ``"exact_match"``, ``"class_accuracy"`` where sentences
      have a class, and ``"unknown_accuracy"`` of words outside of the vocabulary; ``"labels"`` with precision,
      recall, F1 and support of each; ``"confusions"`` with rows for what was wanted; ``"against"`` where it was asked
      for; ``"text"`` and ``"remarks"`` for people; ``"environment"`` names machine and versions.

    Raises:
      DataError: If a file is missing or bad, or the data have no such part.
      ConfigError: If the other run is no tagger.
    """
    sentences, remarks = _sentences(task, tagger, options)
    scored = _scored(tagger, sentences)
    scores = scored.scores()
    known = np.array([tagger.encoder.is_known(word) for one in sentences for word in one.words])
    right = np.array(
        [
            one == two
            for labels, wanted in zip(scored.labels, scored.wanted, strict=True)
            for one, two in zip(labels, wanted, strict=True)
        ]
    )
    num_unknown = int((~known).sum())
    unknown_accuracy = float(right[~known].mean()) if num_unknown else None
    text = [
        f"{options.where}: {len(sentences):,} sentences, {len(known):,} words",
        *_score_lines(scores, scored),
    ]
    if unknown_accuracy is not None:
        text.append(f"{num_unknown:,} words outside of the vocabulary: accuracy {unknown_accuracy:.2%}")
    strange = sorted({label for one in sentences for label in one.labels if label not in tagger.tags.labels})
    if strange:
        shown = shortened(", ".join(strange))
        remarks.append(f"{len(strange)} labels that training never saw count as errors: {shown}")
    if not scored.is_finite:
        remarks.append("the model gives non-finite probabilities: its labels mean nothing")
    compared: dict[str, Any] = {}
    if options.against is not None:
        name, other = options.against
        if not isinstance(other, SentenceTagger):
            raise ConfigError(f"{name} is no tagger; {tagger.name} is one")
        found = _compared(scored, _scored(other, sentences))
        compared = {"against": {"run": name, **{measure: _fields(one) for measure, one in found.items()}}}
        text += [_comparison_line(name, measure, one) for measure, one in found.items()]
    text += _label_lines(scored.counts, "type" if scored.in_pieces else "label")
    confusions = scored.confusions()
    if options.figures is not None:
        text.append(f"figures: {', '.join(_draw(options.figures, confusions))}")
    return {
        "task": task.kind,
        "heading": f"{len(sentences):,} sentences",
        "lines": len(sentences),
        "words": len(known),
        **scores,
        "unknown": num_unknown,
        "unknown_accuracy": unknown_accuracy,
        "labels": {
            label: {
                "precision": one.precision,
                "recall": one.recall,
                "f1": one.f1,
                "support": one.wanted,
            }
            for label, one in scored.counts.items()
        },
        "confusions": {
            name: {"names": list(one.names), "counts": one.counts.tolist()}
            for name, one in confusions.items()
        },
        **compared,
        "environment": environment_table(),
        "text": text,
        "remarks": remarks,
    }


def _sentences(
    task: Any, tagger: SentenceTagger, options: TagEvaluation
) -> tuple[list[TaggedSentence], list[str]]:
    """The sentences to score, and remarks on them."""
    if options.source is None:
        splits, num_repaired = load_tags(task.data)
        found, repairs = getattr(splits, str(options.split)), num_repaired[str(options.split)]
        if not found:
            raise DataError(f"the data of {tagger.name} have no {options.split} set: name `source`")
    else:
        dataset = task.data.dataset
        path = str(options.source)
        found = dataset.read(path) if isinstance(dataset, TagFiles) else read_tag_file(path)
        repairs = 0
        if is_iob(tagger.tags.labels.labels):
            found, repairs = strict_sentences(found, task.data, path)
        if tagger.tags.classes is not None and found[0].label is None:
            raise DataError(
                f"{path}: sentences have no class, which {tagger.name} gives: write '# class = NAME' before each"
            )
    return found, [f"{repairs:,} labels broke the IOB scheme and were repaired"] if repairs else []


def _scored(tagger: SentenceTagger, sentences: Sequence[TaggedSentence]) -> ScoredTags:
    examples = tagger.encoded(
        [one.words for one in sentences], lambda place: f"the sentence of line {sentences[place].line}"
    )
    found = tagger.program(tagger.state, examples)
    return ScoredTags.of(tagger.tags, found, sentences)


def _compared(scored: ScoredTags, other: ScoredTags) -> dict[str, PairedScores]:
    """Paired bootstraps of what both have: of labels that are no IOB, F1 of pieces says nothing new."""
    names = [
        name
        for name in MEASURES
        if (name != "f1" or scored.in_pieces)
        and (name != "class_accuracy" or (scored.has_classes and other.has_classes))
    ]
    return {name: paired_bootstrap(scored.sums, other.sums, MEASURES[name]) for name in names}


def _fields(found: PairedScores) -> dict[str, Any]:
    return {
        "score": found.other,
        "difference": found.difference,
        "interval": [found.low, found.high],
        "differs": found.differs,
    }


def _score_lines(scores: Mapping[str, float], scored: ScoredTags) -> list[str]:
    f1 = "F1 of pieces" if scored.in_pieces else "mean F1 of labels"
    shown = [f"{f1 if name == 'f1' else _NAMES[name]} {value:.2%}" for name, value in scores.items()]
    return [", ".join(shown)]


def _comparison_line(run: str, name: str, found: PairedScores) -> str:
    verdict = "differs" if found.differs else "not shown to differ"
    return (
        f"against {run}: {_NAMES[name]} {found.other:.2%}, difference {found.difference:+.2%}, 95 % interval "
        f"{found.low:+.2%} to {found.high:+.2%} over {found.num_examples:,} sentences: {verdict}"
    )


def _label_lines(counts: Mapping[str, LabelCounts], unit: str) -> list[str]:
    """A table of the labels, the most frequent first."""
    order = sorted(counts, key=lambda label: (-counts[label].wanted, label))
    width = max(len(unit), *(len(shortened(label, 30)) for label in order)) if order else len(unit)
    lines = [f"{unit:<{width}}  precision  recall      F1   wanted"]
    lines += [
        f"{shortened(label, 30):<{width}}  {one.precision:>9.2%}  {one.recall:>6.1%}  {one.f1:>6.2%}  {one.wanted:>7,}"
        for label in order[:SHOWN_LABELS]
        for one in [counts[label]]
    ]
    return lines if len(order) <= SHOWN_LABELS else [*lines, f"and {len(order) - SHOWN_LABELS} more"]


def _draw(folder: Path, confusions: Mapping[str, Confusion]) -> list[str]:
    """Write a figure of each confusion matrix; returns the files."""
    from transformer_jax.plot.class_figures import confusion_figure

    files = {name: folder / f"confusion_of_{name}.png" for name in confusions}
    for name, one in confusions.items():
        confusion_figure(one.counts, one.names, path=files[name])
    return [str(file) for file in files.values()]
