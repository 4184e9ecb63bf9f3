"""Tagging: a label for each word of a sentence, and a class of the sentence where the data have one."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from flax import nnx

from transformer_jax.bounds import check_bounds
from transformer_jax.data.padding import planned_integers
from transformer_jax.data.pipeline import rows_of
from transformer_jax.data.prepare_tags import PreparedTags, load_tags, prepare_tags, word_encoder
from transformer_jax.data.sources.stored_files import is_at_hand
from transformer_jax.data.tag_config import NamedTags, TagConfig, with_absolute_tag_paths
from transformer_jax.data.tag_set import TagSet
from transformer_jax.data.text_batches import TagBatch
from transformer_jax.data.tokenizer_training import known_vocab_size
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.errors import ConfigError
from transformer_jax.inference.sentence_tagger import SentenceTagger, TagProgram
from transformer_jax.models.sizes import Sizes
from transformer_jax.objectives.families import TagObjective
from transformer_jax.objectives.tags import TagLikelihood
from transformer_jax.tasks.tag_evaluation import (
    ScoredTags,
    TagEvaluation,
    evaluate_tags,
)
from transformer_jax.tasks.task import (
    Artifacts,
    Direction,
    check_files,
    check_sizes,
    saved_tokenizer_overrides,
)

PLANNED_LEN = 64
"""Tokens of a row that is planned without reading the data, where the config does not say them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tagging:
    """A label for each word.

    The metrics are ``"accuracy"`` of words; ``"f1"`` of pieces where labels are IOB, else the mean F1 of the
    labels; ``"exact_match"`` of sentences whose labels, and class where there is one, are all right.

    Attributes:
      data: Sentences, vocabulary and batches.
      objective: Loss that an update minimises.

    Example:
      >>> sorted(Tagging.metrics)
      ['accuracy', 'exact_match', 'f1']
    """

    kind: Literal["tagging"] = "tagging"
    metrics: ClassVar[Mapping[str, Direction]] = {"accuracy": "max", "f1": "max", "exact_match": "max"}
    artifact_types: ClassVar[Mapping[str, Any]] = {"tokenizer": Tokenizer, "tags": TagSet}
    sizes_given: ClassVar[tuple[str, ...]] = ("vocab_size", "num_labels", "num_classes")
    evaluation_type: ClassVar[Any] = TagEvaluation

    data: TagConfig = dataclasses.field(default_factory=TagConfig)
    objective: TagObjective = dataclasses.field(default_factory=TagLikelihood)

    def __post_init__(self) -> None:
        check_bounds(self)

    def check(self, model: Any) -> None:
        """Raise ``ConfigError`` if a model's config does not go with the task."""
        check_sizes(self, model)
        reads_letters = getattr(model, "letters", None) is not None
        if reads_letters != (self.data.word_len is not None):
            raise ConfigError(
                "model.letters reads the letters of words, which data.word_len leaves out: give their number"
                if reads_letters
                else "data.word_len gives the letters of words, which the model does not read: make it null, or give "
                "model.letters"
            )
        limit = getattr(model, "source_limit", None)
        if limit is None:
            return
        name = self._limit_name
        longest = getattr(self.data, name)
        if longest is None or limit < longest:
            raise ConfigError(
                f"data.{name} is {longest}, and the model has {limit} learned positions: let {name} be {limit} at most"
            )

    def check_objective(self, model: Any) -> None:
        """Raise ``ConfigError`` if labels of a chain are to be smoothed."""
        if getattr(model, "crf", False) and getattr(self.objective, "label_smoothing", 0.0):
            raise ConfigError(
                "objective.label_smoothing spreads the probability of single labels, and model.crf gives that of whole "
                "sequences: make it 0"
            )

    def prepare(self, artifacts: Artifacts | None = None) -> PreparedTags:
        """Read the sentences, train the vocabulary unless it is given, and plan the batches."""
        given = artifacts or {}
        return prepare_tags(self.data, tokenizer=given.get("tokenizer"), tags=given.get("tags"))

    def sizes(self, artifacts: Artifacts, *, is_training: bool = False) -> Sizes:
        """The vocabulary, the labels and the classes."""
        return _sizes(artifacts["tokenizer"].vocab_size, artifacts["tags"])

    def evaluator(self, model: Any, prepared: PreparedTags, *, num_devices: int = 1) -> "TagEvaluator":
        """Scores of the development set."""
        return TagEvaluator(self, model, prepared)

    def predictor(self, model: Any, artifacts: Artifacts, *, model_config: Any, name: str) -> SentenceTagger:
        """A tagger of sentences."""
        return SentenceTagger(
            name=name,
            model=model,
            encoder=word_encoder(self.data, artifacts["tokenizer"]),
            tags=artifacts["tags"],
            source_limit=getattr(model_config, "source_limit", None),
        )

    def evaluate(self, predictor: SentenceTagger, options: TagEvaluation) -> dict[str, Any]:
        """Accuracy, F1 and errors on a part of the data or a file, see `evaluate_tags`."""
        return evaluate_tags(self, predictor, options)

    def file_overrides(self, files: Mapping[str, Sequence[str]]) -> list[str]:
        """Overrides that train on files of one's own, a word with its label a line."""
        check_files(self.kind, files, known=("text", "development_text"), needed=("text",))
        names = {"text": "train", "development_text": "development"}
        for name, paths in files.items():
            if len(paths) != 1:
                raise ConfigError(f"task '{self.kind}' takes one file as `{name}`, got {len(paths)}")
        dataset = {names[name]: paths[0] for name, paths in files.items()}
        return [f"task.data.dataset={json.dumps({'kind': 'files', **dataset})}"]

    def tokenizer_overrides(self, path: str) -> list[str]:
        """Overrides that take a saved vocabulary."""
        return saved_tokenizer_overrides(path)

    def with_absolute_paths(self) -> Self:
        """The same task, its files to be found from any folder."""
        return dataclasses.replace(self, data=with_absolute_tag_paths(self.data))

    @property
    def has_shorter_batches(self) -> bool:
        """Whether there are training batches of shorter sentences beside those that are planned."""
        return True

    @property
    def _limit_name(self) -> str:
        """The field of the data that bounds the tokens of a row."""
        return "max_len" if self.data.reads_pieces else "max_words"

    def plan_lengths(self) -> tuple[int, ...]:
        """Tokens of a row of the longest training batch; where the config does not say them, `PLANNED_LEN`."""
        return (getattr(self.data, self._limit_name) or PLANNED_LEN,)

    def plan_rows(self, lengths: tuple[int, ...]) -> int:
        """Rows of a training batch of such a length."""
        tokens = self.data.batch_tokens
        return self.data.batch_size if tokens is None else rows_of(tokens, lengths[0])

    def abstract_batch(self, rows: int, lengths: tuple[int, ...]) -> TagBatch:
        """Shapes of a training batch."""

        length, word_len = lengths[0], self.data.word_len
        return TagBatch(
            tokens=planned_integers(rows, length),
            lengths=planned_integers(rows),
            labels=planned_integers(rows, length),
            classes=planned_integers(rows) if self._data_tags.classes is not None else None,
            example_ids=planned_integers(rows),
            letters=None if word_len is None else planned_integers(rows, length, word_len),
            first_pieces=planned_integers(rows, length) if self.data.reads_pieces else None,
        )

    def known_sizes(self, vocab_sizes: tuple[int, ...] = ()) -> Sizes | None:
        """The vocabulary that is given or that the tokenizer's config bounds, with the labels of the data."""
        size = vocab_sizes[0] if vocab_sizes else known_vocab_size(self.data.tokenizer)
        if size is not None and not vocab_sizes and self.data.more_words is not None:
            size += self.data.max_more_words
        return None if size is None else _sizes(size, self._data_tags)

    def is_at_hand(self) -> bool:
        """Whether the sentences can be read without fetching anything."""
        return not isinstance(self.data.dataset, NamedTags) or is_at_hand(self.data.dataset.name)

    @functools.cached_property
    def _data_tags(self) -> TagSet:
        """Labels of the training sentences, which no config says."""
        train = load_tags(self.data)[0].train
        limit = self.data.max_words
        return TagSet.of(one for one in train if limit is None or len(one.words) <= limit)


def _sizes(vocab_size: int, tags: TagSet) -> Sizes:
    return Sizes(
        vocab_size=vocab_size,
        num_labels=len(tags.labels),
        num_classes=None if tags.classes is None else len(tags.classes),
    )


class TagEvaluator:
    """Scores of the development sentences.

    Args:
      task: The task.
      model: The model; only its structure is kept.
      prepared: Its data.
    """

    notes: Sequence[str] = ()
    settings: Mapping[str, str] = {}
    record: Mapping[str, Any] = {}

    def __init__(self, task: Tagging, model: Any, prepared: PreparedTags) -> None:
        self._sentences, self._examples = prepared.splits.development, prepared.development
        self._tags = prepared.tags
        self._program = TagProgram(model, prepared.tags, source_limit=model.config.source_limit)
        self._state = nnx.split(model)[1]

    @property
    def compile_seconds(self) -> float:
        """Seconds spent on compiling so far."""
        return self._program.compile_seconds

    def check(self) -> None:
        """Raise what evaluating would raise for this model, by shapes alone."""
        longest, unit = (
            self._examples.lengths.max(initial=0),
            "words" if self._examples.pieces is None else "tokens",
        )
        if longest > self._program.longest:
            raise ConfigError(
                f"the development set has a sentence of {longest} {unit}, the model takes at most "
                f"{self._program.longest}: raise model.encoder.positions.max_len"
            )
        self._program.check(self._state, self._examples)

    def __call__(self, state: Any) -> dict[str, float]:
        """Scores by name, from the model's state as of ``nnx.split(model)[1]``."""
        found = self._program(state, self._examples)
        scored = ScoredTags.of(self._tags, found, self._sentences)
        return {name: scored.score(name) for name in Tagging.metrics}
