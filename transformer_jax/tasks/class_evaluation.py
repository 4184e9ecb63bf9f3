"""Scores of a classifier: on the development texts during training, and of a trained one."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from transformer_jax.data.label_set import LabelSet
from transformer_jax.data.labelled_texts import LabelledText
from transformer_jax.data.prepare_classes import ClassPart, limited_classes
from transformer_jax.data.sources.class_files import read_labelled_file
from transformer_jax.environment import environment_table
from transformer_jax.errors import ConfigError, DataError, shortened
from transformer_jax.evaluate.classification import (
    Calibration,
    ClassScores,
    McNemar,
    calibration,
    confusion_matrix,
    mcnemar,
)
from transformer_jax.inference.text_classifier import TextClassifier, class_program
from transformer_jax.tasks.evaluation_source import EvaluationSource

SHOWN_CLASSES = 12
"""Classes that the text for people has a line for; the result has all."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassEvaluation(EvaluationSource):
    """Options of a classifier's evaluation; another run is compared with by McNemar's test.

    Attributes:
      figures: Folder for a figure of the confusion matrix and one of the calibration.
    """

    file_form: ClassVar[str] = "a file of labels and texts"
    path_fields: ClassVar[tuple[str, ...]] = ("source", "figures")

    figures: Path | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predicted:
    """Predictions beside the truth.

    Attributes:
      truth: ``[texts]``, numbers of the true classes.
      log_probs: ``[texts, classes]``.
    """

    truth: npt.NDArray[np.int32]
    log_probs: npt.NDArray[np.float32]

    @property
    def predicted(self) -> npt.NDArray[np.int64]:
        """Number of the most probable class of each text."""
        return self.log_probs.argmax(axis=1)

    @property
    def is_right(self) -> npt.NDArray[np.bool_]:
        """Whether each prediction is the truth."""
        return self.predicted == self.truth

    def scores(self) -> ClassScores:
        """Scores of the confusion matrix."""
        confusion = confusion_matrix(self.truth, self.predicted, self.log_probs.shape[1])
        return ClassScores(confusion=confusion)

    def calibration(self) -> Calibration:
        """Calibration of the probabilities of the predictions."""
        return calibration(np.exp(self.log_probs.max(axis=1)), self.is_right)

    def metrics(self) -> dict[str, float]:
        """Accuracy, mean F1 of the classes, and cross entropy in nats a text; NaN where the model gives it."""
        of_truth = self.log_probs[np.arange(len(self.truth)), self.truth]
        finite = bool(np.isfinite(self.log_probs).all(where=~np.isneginf(self.log_probs)))
        scores = self.scores()
        return {
            "accuracy": scores.accuracy if finite else math.nan,
            "macro_f1": scores.macro_f1 if finite else math.nan,
            "cross_entropy": -float(of_truth.astype(np.float64).mean()) if len(self.truth) else math.nan,
        }


class ClassEvaluator:
    """Scores of the development texts.

    Args:
      model: The model; only its structure is kept.
      part: The texts.
      usual_len: Most tokens of a text.
      source_limit: Most tokens that the model can take; None for no end.
    """

    notes: Sequence[str] = ()
    settings: Mapping[str, str] = {}
    record: Mapping[str, Any] = {}

    def __init__(self, model: Any, part: ClassPart, *, usual_len: int, source_limit: int | None) -> None:
        from flax import nnx

        self._part = part
        self._program = class_program(model, usual_len=usual_len, source_limit=source_limit)
        self._state = nnx.split(model)[1]

    @property
    def compile_seconds(self) -> float:
        """Seconds spent on compiling so far."""
        return self._program.compile_seconds

    def check(self) -> None:
        """Raise what evaluating would raise for this model, by shapes alone."""
        self._program.check(self._state)

    def __call__(self, state: Any) -> dict[str, float]:
        """Scores by name, from the model's state as of ``nnx.split(model)[1]``."""
        found = self._program(state, self._part.sequences)
        log_probs = np.stack([log_probs for log_probs, _ in found])
        return Predicted(truth=self._part.classes, log_probs=log_probs).metrics()


def evaluate_classes(task: Any, classifier: TextClassifier, options: ClassEvaluation) -> dict[str, Any]:
    """Score a classifier.

    Args:
      task: The task that it was trained for.
      classifier: The trained model with tokenizer and classes.
      options: What to score it on, and how.

    Returns:
      The scores by name: ``"accuracy"``, ``"macro_f1"``, ``"cross_entropy"``, ``"calibration_error"``; ``"classes"``
      with precision, recall, F1 and support of each; ``"confusion"`` with rows for the truth; ``"against"`` where it
      was asked for; ``"text"`` and ``"remarks"`` for people; ``"environment"`` names machine and versions.

    Raises:
      DataError: If a file is missing or bad, the data have no such part, or a label is none of the classes.
      ConfigError: If the other run has other classes.
    """
    examples, remarks = _examples(task, classifier, options)
    truth = _truth(examples, classifier.class_set, options.where)
    found = _predicted(classifier, examples, truth)
    scores, bins = found.scores(), found.calibration()
    metrics = found.metrics()
    names = classifier.class_set.labels
    text = [
        f"{options.where}: {len(examples):,} texts",
        f"accuracy {metrics['accuracy']:.2%}, macro F1 {metrics['macro_f1']:.2%}, cross entropy "
        f"{metrics['cross_entropy']:.4f} nats, calibration error {bins.error:.2%}",
        *_class_lines(names, scores),
    ]
    compared: dict[str, Any] = {}
    if options.against is not None:
        name, other = options.against
        others = _predicted(_comparable(classifier, name, other), examples, truth)
        test = mcnemar(found.is_right, others.is_right)
        compared = {"against": {"run": name, **others.metrics(), **_test_fields(test)}}
        text.append(_test_line(name, others.metrics()["accuracy"], test))
    if options.figures is not None:
        text.append(f"figures: {', '.join(_draw(options.figures, names, scores, bins))}")
    if not np.isfinite(found.log_probs).all():
        remarks.append("the model gives non-finite probabilities")
    return {
        "task": task.kind,
        "heading": f"{len(examples):,} texts",
        "lines": len(examples),
        **metrics,
        "calibration_error": bins.error,
        "classes": {
            name: {
                "precision": float(scores.precision[place]),
                "recall": float(scores.recall[place]),
                "f1": float(scores.f1[place]),
                "support": int(scores.support[place]),
            }
            for place, name in enumerate(names)
        },
        "confusion": scores.confusion.tolist(),
        **compared,
        "environment": environment_table(),
        "text": text,
        "remarks": remarks,
    }


def _examples(
    task: Any, classifier: TextClassifier, options: ClassEvaluation
) -> tuple[list[LabelledText], list[str]]:
    dataset = task.data.dataset
    if options.source is not None:
        examples, notes = read_labelled_file(
            options.source,
            label_column=getattr(dataset, "label_column", None),
            text_column=getattr(dataset, "text_column", None),
        )
        return examples, list(notes)
    examples = getattr(limited_classes(dataset.load(), task.data), str(options.split))
    if not examples:
        raise DataError(f"the data of {classifier.name} have no {options.split} set: name `source`")
    return examples, []


def _truth(examples: Sequence[LabelledText], class_set: LabelSet, where: str) -> npt.NDArray[np.int32]:
    numbers = []
    for one in examples:
        try:
            numbers.append(class_set.index(one.label))
        except DataError as error:
            raise DataError(f"{where}, line {one.line}: never seen in training: {error}") from None
    return np.array(numbers, np.int32)


def _predicted(
    classifier: TextClassifier, examples: Sequence[LabelledText], truth: npt.NDArray[np.int32]
) -> Predicted:
    return Predicted(truth=truth, log_probs=classifier.log_probs([one.text for one in examples]))


def _comparable(classifier: TextClassifier, name: str, other: Any) -> TextClassifier:
    """The other classifier, if it tells the same classes apart."""
    if not isinstance(other, TextClassifier):
        raise ConfigError(f"{name} is no classifier; {classifier.name} is one")
    if other.class_set.labels != classifier.class_set.labels:
        raise ConfigError(
            f"{name} has other classes than {classifier.name}: {shortened(', '.join(other.class_set.labels))}"
        )
    return other


def _class_lines(names: Sequence[str], scores: ClassScores) -> list[str]:
    width = max(5, *(len(shortened(name, 30)) for name in names))
    order = np.argsort(-scores.support, kind="stable")[:SHOWN_CLASSES]
    lines = [f"{'class':<{width}}  precision  recall     F1  texts"]
    lines += [
        f"{shortened(names[place], 30):<{width}}  {scores.precision[place]:>9.1%}  {scores.recall[place]:>6.1%}  "
        f"{scores.f1[place]:>5.1%}  {int(scores.support[place]):>5,}"
        for place in order.tolist()
    ]
    if len(order) < len(names):
        lines.append(f"and {len(names) - len(order)} more classes")
    return lines


def _test_fields(test: McNemar) -> dict[str, Any]:
    return {
        "only_this": test.only_first,
        "only_other": test.only_second,
        "p_value": test.p_value,
        "differs": test.differs,
    }


def _test_line(name: str, accuracy: float, test: McNemar) -> str:
    verdict = "differs" if test.differs else "not shown to differ"
    return (
        f"against {name}: accuracy {accuracy:.2%}; {test.only_first} texts right here alone, {test.only_second} there "
        f"alone, McNemar's p = {test.p_value:.4f}: {verdict}"
    )


def _draw(folder: Path, names: Sequence[str], scores: ClassScores, bins: Calibration) -> list[str]:
    from transformer_jax.plot.class_figures import confusion_figure, reliability_figure

    files = [folder / "confusion.png", folder / "reliability.png"]
    confusion_figure(scores.confusion, names, path=files[0])
    reliability_figure(bins.edges, bins.counts, bins.confidence, bins.accuracy, path=files[1])
    return [str(file) for file in files]
