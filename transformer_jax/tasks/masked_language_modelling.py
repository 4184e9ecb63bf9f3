"""Masked language modelling: hidden tokens of a text from all others, scored in nats and accuracy there."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np

from transformer_jax.bounds import check_bounds
from transformer_jax.data.masked_config import MaskedTextConfig, with_absolute_masked_paths
from transformer_jax.data.prepare_masked import PreparedMasked, masked_encoding, prepare_masked
from transformer_jax.data.sources.text_sources import are_at_hand
from transformer_jax.data.text_batches import MaskedBatch
from transformer_jax.data.tokenizer_training import known_vocab_size
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.errors import ConfigError
from transformer_jax.inference.mask_filler import MaskFiller
from transformer_jax.models.sizes import Sizes
from transformer_jax.objectives import MaskedTokens
from transformer_jax.objectives.families import MaskedObjective
from transformer_jax.tasks.masked_evaluation import MaskedEvaluation, MaskedEvaluator, evaluate_masked
from transformer_jax.tasks.task import (
    Artifacts,
    Direction,
    check_files,
    check_limit,
    check_sizes,
    saved_tokenizer_overrides,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedLanguageModelling:
    """Hidden tokens of a text, from all the others.

    Attributes:
      data: Text, tokenizer, masking and batches.
      objective: Loss that an update minimises.

    Example:
      >>> sorted(MaskedLanguageModelling.metrics)
      ['accuracy', 'nats', 'perplexity']
    """

    kind: Literal["masked_language_modelling"] = "masked_language_modelling"
    metrics: ClassVar[Mapping[str, Direction]] = {"nats": "min", "accuracy": "max", "perplexity": "min"}
    artifact_types: ClassVar[Mapping[str, Any]] = {"tokenizer": Tokenizer}
    sizes_given: ClassVar[tuple[str, ...]] = ("vocab_size",)
    evaluation_type: ClassVar[Any] = MaskedEvaluation

    data: MaskedTextConfig = dataclasses.field(default_factory=MaskedTextConfig)
    objective: MaskedObjective = dataclasses.field(default_factory=MaskedTokens)

    def __post_init__(self) -> None:
        check_bounds(self)

    def check(self, model: Any) -> None:
        """Raise ``ConfigError`` if a model's config does not go with the task."""
        check_sizes(self, model)
        if not hasattr(model, "order_head"):
            raise ConfigError(
                f"model '{model.kind}' has no head for hidden tokens: choose 'encoder_only', or another task"
            )
        limit = getattr(model, "source_limit", None)
        check_limit("data.max_len", self.data.max_len, limit, raised="model.encoder.positions.max_len")

    def check_objective(self, model: Any) -> None:
        """Raise ``ConfigError`` unless the order of two parts is in the data, the loss and the model, or in none."""
        parts = {
            "data.sentence_order": self.data.sentence_order,
            "objective.order_weight": getattr(self.objective, "order_weight", 0.0) > 0,
            "model.order_head": bool(getattr(model, "order_head", False)),
        }
        if len(set(parts.values())) > 1:
            missing = ", ".join(name for name, is_there in parts.items() if not is_there)
            there = ", ".join(name for name, is_there in parts.items() if is_there)
            raise ConfigError(
                f"the order of two parts is in {there}, but not in {missing}: set all of them, or none"
            )

    def prepare(self, artifacts: Artifacts | None = None) -> "PreparedMaskedLanguage":
        """Read the text, train the tokenizer unless it is given, and plan the batches."""
        return PreparedMaskedLanguage(prepare_masked(self.data, tokenizer=(artifacts or {}).get("tokenizer")))

    def sizes(self, artifacts: Artifacts, *, is_training: bool = False) -> Sizes:
        """The vocabulary."""
        return Sizes(vocab_size=artifacts["tokenizer"].vocab_size)

    def evaluator(
        self, model: Any, prepared: "PreparedMaskedLanguage", *, num_devices: int = 1
    ) -> MaskedEvaluator:
        """Scores of the development texts."""
        return MaskedEvaluator(
            model,
            prepared.texts.development,
            usual_len=self.data.max_len,
            source_limit=self._source_limit(getattr(model, "config", None)),
        )

    def predictor(self, model: Any, artifacts: Artifacts, *, model_config: Any, name: str) -> MaskFiller:
        """A predictor of hidden tokens, and of vectors."""
        return MaskFiller(
            name=name,
            model=model,
            encoding=masked_encoding(self.data, artifacts["tokenizer"]),
            usual_len=self.data.max_len,
            source_limit=self._source_limit(model_config),
        )

    def _source_limit(self, model: Any) -> int | None:
        """Tokens that a model reads at most: those of training if it learns positions, the others being untrained."""
        limit = getattr(model, "source_limit", None)
        return None if limit is None else min(limit, self.data.max_len)

    def evaluate(self, predictor: MaskFiller, options: MaskedEvaluation) -> dict[str, Any]:
        """Loss and accuracy of hidden tokens, and pseudo-perplexity, see `evaluate_masked`."""
        return evaluate_masked(self, predictor, options)

    def file_overrides(self, files: Mapping[str, Sequence[str]]) -> list[str]:
        """Overrides that train on text files of one's own."""
        check_files(self.kind, files, known=("text", "development_text"), needed=("text",))
        names = {"text": "train", "development_text": "development"}
        dataset = {names[name]: list(paths) for name, paths in files.items()}
        return [f"task.data.datasets={json.dumps([{'kind': 'files', **dataset}])}"]

    def tokenizer_overrides(self, path: str) -> list[str]:
        """Overrides that take a saved tokenizer."""
        return saved_tokenizer_overrides(path)

    def with_absolute_paths(self) -> Self:
        """The same task, its files to be found from any folder."""
        return dataclasses.replace(self, data=with_absolute_masked_paths(self.data))

    def plan_lengths(self) -> tuple[int, ...]:
        """Tokens of the longest text."""
        return (self.data.max_len,)

    def plan_rows(self, lengths: tuple[int, ...]) -> int:
        """Rows of a training batch."""
        return self.data.batch_size

    def abstract_batch(self, rows: int, lengths: tuple[int, ...]) -> MaskedBatch:
        """Shapes of a training batch."""

        def zeros(*shape: int) -> Any:
            return np.broadcast_to(np.int32(0), shape)

        num_places = self.data.masking.num_places(lengths[0])
        return MaskedBatch(
            tokens=zeros(rows, lengths[0]),
            lengths=zeros(rows),
            places=zeros(rows, num_places),
            targets=zeros(rows, num_places),
            classes=zeros(rows) if self.data.sentence_order else None,
            example_ids=zeros(rows),
        )

    def known_sizes(self, vocab_sizes: tuple[int, ...] = ()) -> Sizes | None:
        """Vocabulary that is given, or that the tokenizer's config bounds."""
        size = vocab_sizes[0] if vocab_sizes else known_vocab_size(self.data.tokenizer)
        return None if size is None else Sizes(vocab_size=size)

    def is_at_hand(self) -> bool:
        """Whether the text can be read without fetching anything."""
        return are_at_hand(self.data.datasets)


@dataclasses.dataclass(frozen=True)
class PreparedMaskedLanguage:
    """Prepared text, as the task protocol sees it.

    Attributes:
      texts: The prepared text.
    """

    texts: PreparedMasked

    @property
    def train(self) -> Any:
        """Training batches."""
        return self.texts.batches

    @property
    def artifacts(self) -> dict[str, Tokenizer]:
        """The tokenizer."""
        return {"tokenizer": self.texts.encoding.tokenizer}

    @functools.cached_property
    def fingerprints(self) -> dict[str, str]:
        """Fingerprints of the training and the development text."""
        return {
            "training data": self.texts.batches.fingerprint(),
            "development data": self.texts.development.fingerprint(),
        }

    @property
    def has_development(self) -> bool:
        """Whether there is a development text."""
        return len(self.texts.development) > 0

    @property
    def report(self) -> Any:
        """Sizes and unknown tokens."""
        return self.texts.report
