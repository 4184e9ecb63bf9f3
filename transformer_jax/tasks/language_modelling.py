"""Language modelling: the next token of a text, scored in nats a token, bits a character and perplexity."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from transformer_jax.bounds import Rows, check_bounds
from transformer_jax.data.padding import planned_integers
from transformer_jax.data.prepare_text import PreparedText, prepare_text
from transformer_jax.data.sources.stored_files import is_at_hand
from transformer_jax.data.text_config import (
    ContiguousWindows,
    NamedText,
    TextConfig,
    with_absolute_text_paths,
)
from transformer_jax.data.token_batches import TokenBatch
from transformer_jax.data.token_windows import token_fingerprint
from transformer_jax.data.tokenizer_training import known_vocab_size
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.decode.search_config import GreedyConfig, SampleConfig
from transformer_jax.errors import require
from transformer_jax.inference.text_generator import TextGenerator
from transformer_jax.models.sizes import Sizes
from transformer_jax.objectives import NextToken
from transformer_jax.objectives.families import TextObjective
from transformer_jax.tasks.task import (
    Artifacts,
    Direction,
    check_files,
    check_limit,
    check_sizes,
    saved_tokenizer_overrides,
)
from transformer_jax.tasks.text_evaluation import LanguageEvaluator, TextEvaluation, evaluate_text


@dataclasses.dataclass(frozen=True, kw_only=True)
class LanguageModelling:
    """The next token of a text.

    Attributes:
      data: Text, tokenizer and training windows.
      objective: Loss that an update minimises.
      search: How text is generated.
      evaluation_rows: Rows of an evaluation's batch; a model that carries its state has as many as a training batch.

    Example:
      >>> sorted(LanguageModelling.metrics)
      ['bits_per_character', 'nats', 'perplexity']
    """

    kind: Literal["language_modelling"] = "language_modelling"
    metrics: ClassVar[Mapping[str, Direction]] = {
        "nats": "min",
        "bits_per_character": "min",
        "perplexity": "min",
    }
    artifact_types: ClassVar[Mapping[str, Any]] = {"tokenizer": Tokenizer}
    sizes_given: ClassVar[tuple[str, ...]] = ("vocab_size",)
    evaluation_type: ClassVar[Any] = TextEvaluation

    data: TextConfig = dataclasses.field(default_factory=TextConfig)
    objective: TextObjective = dataclasses.field(default_factory=NextToken)
    search: SampleConfig | GreedyConfig = dataclasses.field(
        default_factory=lambda: SampleConfig(max_len=200, temperature=0.8)
    )
    evaluation_rows: Rows = 32

    def __post_init__(self) -> None:
        check_bounds(self)
        require(self.evaluation_rows >= 1, f"evaluation_rows must be at least 1, got {self.evaluation_rows}")

    @property
    def carries_state(self) -> bool:
        """Whether a recurrent model is trained with its state carried from window to window."""
        return isinstance(self.data.windows, ContiguousWindows)

    @property
    def document_separator(self) -> str | None:
        """Text between two documents of a file; None where a file is one."""
        return getattr(self.data.dataset, "document_separator", None)

    @property
    def window_len(self) -> int:
        """Tokens of a training window."""
        return self.data.windows.context_len

    def check(self, model: Any) -> None:
        """Raise ``ConfigError`` if a model's config does not go with the task."""
        check_sizes(self, model)
        limit = getattr(model, "context_len", None)
        check_limit("data.windows.context_len", self.window_len, limit, raised="model.positions.max_len")

    def check_objective(self, model: Any) -> None:
        """Nothing: next-token prediction suits every language model."""

    def prepare(self, artifacts: Artifacts | None = None) -> "PreparedLanguage":
        """Read the text, train the tokenizer unless it is given, and plan the windows."""
        return PreparedLanguage(prepare_text(self.data, tokenizer=(artifacts or {}).get("tokenizer")))

    def sizes(self, artifacts: Artifacts, *, is_training: bool = False) -> Sizes:
        """The vocabulary, and in training on contiguous windows the rows whose state is carried."""
        return self._sizes(artifacts["tokenizer"].vocab_size, is_training=is_training)

    def _sizes(self, vocab_size: int, *, is_training: bool) -> Sizes:
        carries = is_training and self.carries_state
        return Sizes(vocab_size=vocab_size, carried_rows=self.data.batch_size if carries else None)

    def evaluator(
        self, model: Any, prepared: "PreparedLanguage", *, num_devices: int = 1
    ) -> "LanguageEvaluator":
        """Scores of the development text."""
        text = prepared.text
        return LanguageEvaluator(self, model, text.development, text.report.development.num_predicted)

    def predictor(self, model: Any, artifacts: Artifacts, *, model_config: Any, name: str) -> TextGenerator:
        """A generator with the task's own search."""
        return TextGenerator(
            name=name,
            model=model,
            tokenizer=artifacts["tokenizer"],
            search=self.search,
            window_len=self.window_len,
            context_len=self._context_len(model_config),
            marks_documents=self.data.marks_documents,
            document_separator=self.document_separator,
            carries_state=self.carries_state,
        )

    def _context_len(self, model: Any) -> int | None:
        """Tokens that a model reads at most: the training window if it attends or learns positions; None for no end.

        Learned positions behind the window were never trained.
        """
        learns_positions = getattr(model, "context_len", None) is not None
        attends = getattr(model, "self_attention", None) == "softmax"
        return self.window_len if learns_positions or attends else None

    def evaluate(self, predictor: TextGenerator, options: TextEvaluation) -> dict[str, Any]:
        """Loss, bits a character and perplexity of a text, see `evaluate_text`."""
        return evaluate_text(self, predictor, options)

    def file_overrides(self, files: Mapping[str, Sequence[str]]) -> list[str]:
        """Overrides that train on text files of one's own."""
        check_files(self.kind, files, known=("text", "development_text"), needed=("text",))
        names = {"text": "train", "development_text": "development"}
        dataset = {names[name]: list(paths) for name, paths in files.items()}
        return [f"task.data.dataset={json.dumps({'kind': 'files', **dataset})}"]

    def tokenizer_overrides(self, path: str) -> list[str]:
        """Overrides that take a saved tokenizer."""
        return saved_tokenizer_overrides(path)

    def with_absolute_paths(self) -> Self:
        """The same task, its files to be found from any folder."""
        return dataclasses.replace(self, data=with_absolute_text_paths(self.data))

    def plan_lengths(self) -> tuple[int, ...]:
        """Tokens of a training window."""
        return (self.window_len,)

    def plan_rows(self, lengths: tuple[int, ...]) -> int:
        """Rows of a training batch."""
        return self.data.batch_size

    def abstract_batch(self, rows: int, lengths: tuple[int, ...]) -> TokenBatch:
        """Shapes of a training batch."""

        length = lengths[0]
        return TokenBatch(
            inputs=planned_integers(rows, length),
            targets=planned_integers(rows, length),
            lengths=planned_integers(rows),
            segments=planned_integers(rows, length) if self.data.marks_documents else None,
            restarts=planned_integers(rows),
            example_ids=planned_integers(rows),
        )

    def known_sizes(self, vocab_sizes: tuple[int, ...] = ()) -> Sizes | None:
        """Vocabulary that is given, or that the tokenizer's config bounds."""
        size = vocab_sizes[0] if vocab_sizes else known_vocab_size(self.data.tokenizer)
        return None if size is None else self._sizes(size, is_training=True)

    def is_at_hand(self) -> bool:
        """Whether the text can be read without fetching anything."""
        return not isinstance(self.data.dataset, NamedText) or is_at_hand(self.data.dataset.name)


@dataclasses.dataclass(frozen=True)
class PreparedLanguage:
    """Prepared text, as the task protocol sees it.

    Attributes:
      text: The prepared text.
    """

    text: PreparedText

    @property
    def train(self) -> Any:
        """Training windows."""
        return self.text.train

    @property
    def artifacts(self) -> dict[str, Tokenizer]:
        """The tokenizer."""
        return {"tokenizer": self.text.tokenizer}

    @functools.cached_property
    def fingerprints(self) -> dict[str, str]:
        """Fingerprints of the training and the development text."""
        return {
            "training data": self.text.train.fingerprint(),
            "development data": token_fingerprint(self.text.development),
        }

    @property
    def has_development(self) -> bool:
        """Whether there is a development text of at least one target."""
        return len(self.text.development) > 1

    @property
    def report(self) -> Any:
        """Sizes and unknown tokens."""
        return self.text.report
