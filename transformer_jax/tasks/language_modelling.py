"""Language modelling: the next token of a text, scored in nats a token, bits a character and perplexity."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from transformer_jax.bounds import Rows, check_bounds
from transformer_jax.data.evaluation_windows import evaluation_batches, evaluation_streams
from transformer_jax.data.prepare_text import PreparedText, prepare_text
from transformer_jax.data.sources.stored_files import is_at_hand
from transformer_jax.data.text_config import (
    ContiguousWindows,
    NamedText,
    PackedDocuments,
    TextConfig,
    with_absolute_text_paths,
)
from transformer_jax.data.token_batches import TokenBatch
from transformer_jax.data.token_windows import token_fingerprint
from transformer_jax.data.tokenizer_training import known_vocab_size
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.decode.search_config import GreedyConfig, SampleConfig
from transformer_jax.errors import ConfigError, require
from transformer_jax.models.sizes import Sizes
from transformer_jax.nn.parameters import CarriedState, carries_state
from transformer_jax.objectives import NextToken
from transformer_jax.tasks.task import Artifacts, Direction

SCORES = ("nats", "bits_per_character", "perplexity")


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
    metrics: ClassVar[Mapping[str, Direction]] = dict.fromkeys(SCORES, "min")
    artifact_types: ClassVar[Mapping[str, Any]] = {"tokenizer": Tokenizer}

    data: TextConfig = dataclasses.field(default_factory=TextConfig)
    objective: NextToken = dataclasses.field(default_factory=NextToken)
    search: SampleConfig | GreedyConfig = dataclasses.field(
        default_factory=lambda: SampleConfig(max_len=200, temperature=0.8)
    )
    evaluation_rows: Rows = 32

    def __post_init__(self) -> None:
        check_bounds(self)
        require(self.evaluation_rows >= 1, f"evaluation_rows must be at least 1, got {self.evaluation_rows}")

    @property
    def window_len(self) -> int:
        """Tokens of a training window."""
        return self.data.windows.context_len

    def check(self, model: Any) -> None:
        """Raise ``ConfigError`` if a model's config does not go with the task."""
        limit = getattr(model, "context_len", None)
        if limit is not None and limit < self.window_len:
            raise ConfigError(
                f"data.windows.context_len is {self.window_len}, but the model has {limit} learned positions: lower "
                "it, or raise model.positions.max_len"
            )
        if (
            isinstance(self.data.windows, PackedDocuments)
            and getattr(model, "self_attention", None) == "linear"
        ):
            raise ConfigError(
                "data.windows 'packed' puts several documents into a row, which linear self-attention cannot keep "
                "apart: choose 'random' or 'contiguous' windows, or model.self_attention='softmax'"
            )

    def check_objective(self, model: Any) -> None:
        """Nothing: next-token prediction suits every language model."""

    def prepare(self, artifacts: Artifacts | None = None) -> "PreparedLanguage":
        """Read the text, train the tokenizer unless it is given, and plan the windows."""
        return PreparedLanguage(prepare_text(self.data, tokenizer=(artifacts or {}).get("tokenizer")))

    def sizes(self, artifacts: Artifacts, *, is_training: bool = False) -> Sizes:
        """The vocabulary, and in training on contiguous windows the rows whose state is carried."""
        return self._sizes(artifacts["tokenizer"].vocab_size, is_training=is_training)

    def _sizes(self, vocab_size: int, *, is_training: bool) -> Sizes:
        carries = is_training and isinstance(self.data.windows, ContiguousWindows)
        return Sizes(vocab_size=vocab_size, carried_rows=self.data.batch_size if carries else None)

    def evaluator(
        self, model: Any, prepared: "PreparedLanguage", *, num_devices: int = 1
    ) -> "LanguageEvaluator":
        """Scores of the development text."""
        return LanguageEvaluator(self, model, prepared)

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

        def zeros(*shape: int) -> Any:
            return np.broadcast_to(np.int32(0), shape)

        length = lengths[0]
        return TokenBatch(
            inputs=zeros(rows, length),
            targets=zeros(rows, length),
            lengths=zeros(rows),
            segments=zeros(rows, length) if self.data.marks_documents else None,
            restarts=zeros(rows),
            example_ids=zeros(rows),
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

    @property
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


class LanguageEvaluator:
    """Loss of the development text.

    A model that carries its state reads the text as streams of as many rows as a training batch, each from a state of
    zeros; others read windows of the training's length side by side.

    Args:
      task: The task.
      model: The model; only its structure is kept.
      prepared: Its text.
    """

    notes: Sequence[str] = ()
    settings: Mapping[str, str] = {}
    record: Mapping[str, Any] = {}

    def __init__(self, task: LanguageModelling, model: Any, prepared: PreparedLanguage) -> None:
        self._task, self._prepared = task, prepared
        self._carries = carries_state(model)
        graph = nnx.split(model)[0]

        def losses(state: Any, batch: TokenBatch) -> Any:
            merged = nnx.merge(graph, state)
            loss, _, _ = NextToken()(merged, batch, None)
            return loss.sum, nnx.split(merged)[1]

        self._losses = jax.jit(losses)
        self._model = model
        self.compile_seconds = 0.0

    def check(self) -> None:
        """Raise what evaluating would raise for this model, by shapes alone."""
        state = nnx.split(self._model)[1]
        rows = self._task.data.batch_size if self._carries else self._task.evaluation_rows
        batch = self._task.abstract_batch(rows, (self._task.window_len,))
        jax.eval_shape(self._losses, state, batch._replace(segments=None))

    def __call__(self, state: Any) -> dict[str, float]:
        """Scores by name, from the model's state as of ``nnx.split(model)[1]``."""
        total, num_tokens = 0.0, 0
        state = _without_history(state) if self._carries else state
        for batch in self._batches():
            loss, after = self._losses(state, jax.device_put(batch))
            total += float(loss)
            num_tokens += int(batch.lengths.sum())
            if self._carries:
                state = after
        characters = self._prepared.text.report.development.num_characters
        return language_scores(total, num_tokens, characters)

    def _batches(self) -> Iterator[TokenBatch]:
        ids, length = self._prepared.text.development, self._task.window_len
        if self._carries:
            yield from evaluation_streams(ids, context_len=length, batch_size=self._task.data.batch_size)
            return
        rows = self._task.evaluation_rows
        for found in evaluation_batches(ids, context_len=length, batch_size=rows):
            yield found.batch


def _without_history(state: Any) -> Any:
    """The state with carried states of zeros; parameters are shared."""
    zeros = jax.tree.map(jnp.zeros_like, nnx.filter_state(state, CarriedState))
    return nnx.merge_state(nnx.filter_state(state, nnx.Not(CarriedState)), zeros)


def language_scores(nats: float, num_tokens: int, num_characters: int) -> dict[str, float]:
    r"""Scores of a text from its summed loss.

    .. math:: \ell / n, \quad \ell / (c \ln 2), \quad e^{\ell / n}

    Args:
      nats: Summed negative log-likelihood :math:`\ell`.
      num_tokens: Tokens that were predicted, :math:`n`.
      num_characters: Characters of the text, :math:`c`.

    Example:
      >>> {name: round(value, 3) for name, value in language_scores(6.0, 4, 8).items()}
      {'nats': 1.5, 'bits_per_character': 1.082, 'perplexity': 4.482}
    """
    mean = nats / max(num_tokens, 1)
    return {
        "nats": mean,
        "bits_per_character": nats / (max(num_characters, 1) * math.log(2.0)),
        "perplexity": math.exp(min(mean, 700.0)),
    }
