"""Classification: one class of a whole text, scored in accuracy, mean F1 of the classes and cross entropy."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from transformer_jax.bounds import check_bounds
from transformer_jax.data.classes_config import ClassesConfig, NamedClasses, with_absolute_class_paths
from transformer_jax.data.label_set import LabelSet
from transformer_jax.data.padding import planned_integers
from transformer_jax.data.pipeline import rows_of
from transformer_jax.data.prepare_classes import (
    PreparedClasses,
    limited_classes,
    prepare_classes,
    text_encoding,
)
from transformer_jax.data.sources.sentences import SUBSETS
from transformer_jax.data.sources.stored_files import is_at_hand
from transformer_jax.data.text_batches import ClassBatch
from transformer_jax.data.tokenizer_training import known_vocab_size
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.errors import ConfigError
from transformer_jax.inference.text_classifier import TextClassifier
from transformer_jax.models.sizes import Sizes
from transformer_jax.objectives import ClassCrossEntropy
from transformer_jax.objectives.families import ClassObjective
from transformer_jax.tasks.class_evaluation import ClassEvaluation, ClassEvaluator, evaluate_classes
from transformer_jax.tasks.task import (
    Artifacts,
    Direction,
    check_files,
    check_limit,
    check_sizes,
    saved_tokenizer_overrides,
)
from transformer_jax.tasks.task_data import describe_dataset


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classification:
    """One class of a whole text.

    Attributes:
      data: Texts with their classes, tokenizer and batches.
      objective: Loss that an update minimises.

    Example:
      >>> sorted(Classification.metrics)
      ['accuracy', 'cross_entropy', 'macro_f1']
    """

    kind: Literal["classification"] = "classification"
    metrics: ClassVar[Mapping[str, Direction]] = {
        "accuracy": "max",
        "macro_f1": "max",
        "cross_entropy": "min",
    }
    artifact_types: ClassVar[Mapping[str, Any]] = {"tokenizer": Tokenizer, "class_set": LabelSet}
    sizes_given: ClassVar[tuple[str, ...]] = ("vocab_size", "num_classes")
    evaluation_type: ClassVar[Any] = ClassEvaluation
    has_shorter_batches: ClassVar[bool] = True

    data: ClassesConfig = dataclasses.field(default_factory=ClassesConfig)
    objective: ClassObjective = dataclasses.field(default_factory=ClassCrossEntropy)

    def __post_init__(self) -> None:
        check_bounds(self)

    def check(self, model: Any) -> None:
        """Raise ``ConfigError`` if a model's config does not go with the task."""
        check_sizes(self, model)
        limit = getattr(model, "source_limit", None)
        check_limit("data.max_len", self.data.max_len, limit, raised="model.encoder.positions.max_len")
        if (
            getattr(getattr(model, "pooling", None), "kind", None) == "first_token"
            and not self.data.marks_ends
        ):
            raise ConfigError(
                "pooling 'first_token' reads the start token, which the texts have not: set data.marks_ends=True, or "
                "choose another pooling"
            )

    def check_objective(self, model: Any) -> None:
        """Raise ``ConfigError`` if there is a penalty on hops and the model has one hop at most."""
        if (
            getattr(self.objective, "penalty_weight", 0.0)
            and getattr(getattr(model, "pooling", None), "kind", "") != "structured"
        ):
            raise ConfigError(
                "objective.penalty_weight keeps the hops of structured self-attention apart: choose pooling "
                "'structured', or leave it 0"
            )

    def prepare(self, artifacts: Artifacts | None = None) -> "PreparedClassification":
        """Read the texts, train the tokenizer unless it is given, and plan the batches."""
        given = artifacts or {}
        return PreparedClassification(
            prepare_classes(self.data, tokenizer=given.get("tokenizer"), class_set=given.get("class_set"))
        )

    def sizes(self, artifacts: Artifacts, *, is_training: bool = False) -> Sizes:
        """Vocabulary and classes."""
        return Sizes(vocab_size=artifacts["tokenizer"].vocab_size, num_classes=len(artifacts["class_set"]))

    def evaluator(
        self, model: Any, prepared: "PreparedClassification", *, num_devices: int = 1
    ) -> ClassEvaluator:
        """Scores of the development texts."""
        return ClassEvaluator(
            model,
            prepared.classes.development,
            usual_len=self.data.max_len,
            source_limit=self._source_limit(getattr(model, "config", None)),
        )

    def predictor(self, model: Any, artifacts: Artifacts, *, model_config: Any, name: str) -> TextClassifier:
        """A classifier of texts."""
        return TextClassifier(
            name=name,
            model=model,
            encoding=text_encoding(self.data, artifacts["tokenizer"]),
            class_set=artifacts["class_set"],
            usual_len=self.data.max_len,
            source_limit=self._source_limit(model_config),
        )

    def _source_limit(self, model: Any) -> int | None:
        """Tokens that a model reads at most: those of training if it learns positions, the others being untrained."""
        limit = getattr(model, "source_limit", None)
        return None if limit is None else min(limit, self.data.max_len)

    def evaluate(self, predictor: TextClassifier, options: ClassEvaluation) -> dict[str, Any]:
        """Accuracy, F1, confusion matrix and calibration, see `evaluate_classes`."""
        return evaluate_classes(self, predictor, options)

    def file_overrides(self, files: Mapping[str, Sequence[str]]) -> list[str]:
        """Overrides that train on a file of labels and texts of one's own, and a second one to develop on."""
        check_files(self.kind, files, known=("text", "development_text"), needed=("text",))
        dataset: dict[str, str] = {}
        for name, part in (("text", "train"), ("development_text", "development")):
            paths = files.get(name, ())
            if len(paths) > 1:
                raise ConfigError(f"`{name}`: a classifier trains on one file, got {len(paths)}")
            if paths:
                dataset[part] = paths[0]
        return [f"task.data.dataset={json.dumps({'kind': 'files', **dataset})}"]

    def tokenizer_overrides(self, path: str) -> list[str]:
        """Overrides that take a saved tokenizer."""
        return saved_tokenizer_overrides(path)

    def with_absolute_paths(self) -> Self:
        """The same task, its files to be found from any folder."""
        return dataclasses.replace(self, data=with_absolute_class_paths(self.data))

    def plan_lengths(self) -> tuple[int, ...]:
        """Tokens of the longest text."""
        return (self.data.max_len,)

    def plan_rows(self, lengths: tuple[int, ...]) -> int:
        """Rows of a training batch."""
        tokens = self.data.batch_tokens
        return self.data.batch_size if tokens is None else rows_of(tokens, lengths[0])

    def abstract_batch(self, rows: int, lengths: tuple[int, ...]) -> ClassBatch:
        """Shapes of a training batch."""

        return ClassBatch(
            tokens=planned_integers(rows, lengths[0]),
            lengths=planned_integers(rows),
            classes=planned_integers(rows),
            example_ids=planned_integers(rows),
        )

    def known_sizes(self, vocab_sizes: tuple[int, ...] = ()) -> Sizes | None:
        """Vocabulary that is given, or that the tokenizer's config bounds, and the classes of the data."""
        size = vocab_sizes[0] if vocab_sizes else known_vocab_size(self.data.tokenizer)
        return None if size is None else Sizes(vocab_size=size, num_classes=self._num_classes())

    def _num_classes(self) -> int:
        dataset = self.data.dataset
        if isinstance(dataset, NamedClasses) and self.data.max_train_texts is None:
            return dataset.num_classes
        train = limited_classes(dataset.load(), self.data).train
        return len(LabelSet.of(one.label for one in train))

    def is_at_hand(self) -> bool:
        """Whether the texts can be read without fetching anything."""
        return not isinstance(self.data.dataset, NamedClasses) or is_at_hand(self.data.dataset.name)

    def describe_data(self) -> list[str]:
        """Data, licences, and what a reader of scores should know of the subset."""
        dataset = self.data.dataset
        lines = describe_dataset(dataset)
        if isinstance(dataset, NamedClasses):
            fold = "" if dataset.fold is None else f", fold {dataset.fold} held out as the test set"
            lines.insert(1, f"Subset: {dataset.subset}{fold}; {SUBSETS[dataset.subset].remark}")
        return lines

    def data_name(self) -> str:
        """Name of the data in messages."""
        dataset = self.data.dataset
        return dataset.subset if isinstance(dataset, NamedClasses) else "files of one's own"


@dataclasses.dataclass(frozen=True)
class PreparedClassification:
    """Prepared texts, as the task protocol sees them.

    Attributes:
      classes: The prepared texts.
    """

    classes: PreparedClasses

    @property
    def train(self) -> Any:
        """Training batches."""
        return self.classes.train

    @property
    def artifacts(self) -> dict[str, Any]:
        """Tokenizer and classes."""
        return {"tokenizer": self.classes.encoding.tokenizer, "class_set": self.classes.class_set}

    @functools.cached_property
    def fingerprints(self) -> dict[str, str]:
        """Fingerprints of the training and the development texts."""
        return {
            "training data": self.classes.train.fingerprint(),
            "development data": self.classes.development.fingerprint(),
        }

    @property
    def has_development(self) -> bool:
        """Whether there is a development text."""
        return len(self.classes.development) > 0

    @property
    def report(self) -> Any:
        """Sizes, classes and remarks."""
        return self.classes.report
