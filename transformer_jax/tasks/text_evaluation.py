"""Loss of a text under a language model: during training, and of a trained one."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from transformer_jax.bounds import Length
from transformer_jax.data.documents import Document, first_characters
from transformer_jax.data.evaluation_windows import evaluation_batches, evaluation_streams
from transformer_jax.data.prepare_text import encode_documents, predicted_characters
from transformer_jax.data.sources.text_files import read_documents
from transformer_jax.data.token_batches import TokenBatch
from transformer_jax.environment import environment_table
from transformer_jax.errors import ConfigError, DataError
from transformer_jax.evaluate.paired_losses import PairedDifference, paired_difference
from transformer_jax.inference.text_generator import TextGenerator
from transformer_jax.inference.token_scores import non_finite_note, perplexity
from transformer_jax.nn.parameters import CarriedState, carries_state
from transformer_jax.objectives import NextToken
from transformer_jax.tasks.evaluation_source import EvaluationSource


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextEvaluation(EvaluationSource):
    """Options of a language model's evaluation; another one is compared with by paired bootstrap over windows.

    Attributes:
      stride: Tokens between the starts of two windows, see `TokenScorer`; None reads windows side by side, and a model
        that carries its state reads the text without a break.
    """

    file_form: ClassVar[str] = "a file of text"

    stride: Length | None = None


def evaluate_text(task: Any, generator: TextGenerator, options: TextEvaluation) -> dict[str, Any]:
    """Score a text.

    Args:
      task: The task that the model was trained for.
      generator: The trained model with its tokenizer.
      options: What to score it on, and how.

    Returns:
      The scores by name, non-finite where the model's logits are; ``"characters"``, ``"tokens"`` and ``"unknown"`` say
      what they were taken on, ``"heading"``, ``"text"`` and ``"remarks"`` are for people; ``"environment"`` names
      machine and versions.

    Raises:
      DataError: If a file is missing, empty or binary, or the data have no such part.
      ConfigError: If another model is to be compared with and cuts text into other tokens.
    """
    if options.against is not None:
        _require_comparable(generator, *options.against)
    documents = _documents(task, generator.name, options)
    ids = encode_documents(documents, generator.tokenizer, marks_documents=task.data.marks_documents)
    if len(ids) < 2:
        raise DataError(
            f"the text of {options.source or options.split} has {len(ids)} tokens: at least two are needed"
        )
    characters = sum(len(one.text) for one in documents)
    scored = generator.scorer(options.stride, batch_size=task.evaluation_rows)(ids)
    num_tokens = scored.count
    predicted = predicted_characters(
        documents, generator.tokenizer, marks_documents=task.data.marks_documents
    )
    scores = language_scores(-scored.total, num_tokens, predicted)
    unknown = generator.tokenizer.count_unknown(ids)
    where = f"{options.split} text" if options.source is None else str(options.source)
    text = [
        f"{where}: {num_tokens:,} tokens",
        f"nats a token {scores['nats']:.4f}, bits a character {scores['bits_per_character']:.4f}, perplexity "
        f"{scores['perplexity']:.3f}",
    ]
    non_finite = non_finite_note(scored)
    remarks = [] if non_finite is None else [non_finite]
    remarks += (
        [f"{unknown:,} of {len(ids):,} tokens never seen in training were scored as <unk>"] if unknown else []
    )
    compared: dict[str, Any] = {}
    if options.against is not None:
        name, other = options.against
        others = other.scorer(options.stride, batch_size=task.evaluation_rows)(ids)
        found = paired_difference(
            -scored.log_probs[scored.counted], -others.log_probs[scored.counted], window_len=task.window_len
        )
        compared = {"against": {"run": name, "nats": -others.total / others.count, **_fields(found)}}
        verdict = "differs" if found.differs else "not shown to differ"
        text += [
            f"against {name}: nats a token {-others.total / others.count:.4f}, difference {found.nats:+.4f}, 95 % "
            f"interval {found.low:+.4f} to {found.high:+.4f} over {found.num_windows:,} windows: {verdict}"
        ]
    return {
        "task": task.kind,
        "heading": f"{characters:,} characters",
        "lines": len(documents),
        "characters": characters,
        "tokens": num_tokens,
        "unknown": unknown,
        **scores,
        **compared,
        "environment": environment_table(),
        "text": text,
        "remarks": remarks,
    }


def _fields(found: PairedDifference) -> dict[str, Any]:
    return {
        "difference": found.nats,
        "interval": [found.low, found.high],
        "windows": found.num_windows,
        "differs": found.differs,
    }


def _require_comparable(generator: TextGenerator, name: str, other: Any) -> None:
    """Raise ``ConfigError`` unless another model has a probability for each of this one's tokens."""
    if not isinstance(other, TextGenerator):
        raise ConfigError(f"{name} is no language model; {generator.name} is one")
    if (
        other.tokenizer.fingerprint() != generator.tokenizer.fingerprint()
        or other.marks_documents != generator.marks_documents
    ):
        raise ConfigError(
            f"{name} cuts text into other tokens than {generator.name}, whose losses cannot be paired: compare bits a "
            "character of two evaluations"
        )


def _documents(task: Any, name: str, options: TextEvaluation) -> list[Document]:
    data = task.data
    if options.source is not None:
        return read_documents(str(options.source), task.document_separator)
    limit = getattr(data, f"max_{options.split}_characters")
    documents = first_characters(getattr(data.dataset.load(), str(options.split)), limit)
    if not documents:
        raise DataError(f"the data of {name} have no {options.split} text: name `source`")
    return list(documents)


class LanguageEvaluator:
    """Loss of the development text.

    A model that carries its state reads the text as streams of as many rows as a training batch, each from a state of
    zeros; others read windows of the training's length side by side.

    Args:
      task: The task.
      model: The model; only its structure is kept.
      ids: Token ids of the text.
      num_characters: Characters of the text that are predicted.
    """

    notes: Sequence[str] = ()
    settings: Mapping[str, str] = {}
    record: Mapping[str, Any] = {}

    def __init__(self, task: Any, model: Any, ids: Any, num_characters: int) -> None:
        self._task, self._ids, self._num_characters = task, ids, num_characters
        self._carries = carries_state(model)
        self._rows = task.data.batch_size if self._carries else task.evaluation_rows
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
        batch = self._task.abstract_batch(self._rows, (self._task.window_len,))
        jax.eval_shape(self._losses, state, batch._replace(segments=None))

    def __call__(self, state: Any) -> dict[str, float]:
        """Scores by name, from the model's state as of ``nnx.split(model)[1]``."""
        total, num_tokens = 0.0, 0
        state = _without_history(state) if self._carries else state
        for batch in self._batches():
            loss, after = self._losses(state, jax.device_put(batch))
            total += float(loss)
            num_tokens += batch.num_tokens()
            if self._carries:
                state = after
        return language_scores(total, num_tokens, self._num_characters)

    def _batches(self) -> Iterator[TokenBatch]:
        length = self._task.window_len
        if self._carries:
            yield from evaluation_streams(self._ids, context_len=length, batch_size=self._rows)
            return
        yield from evaluation_batches(self._ids, context_len=length, batch_size=self._rows)


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
      num_characters: Characters of the text that are predicted, :math:`c`.

    Example:
      >>> {name: round(value, 3) for name, value in language_scores(6.0, 4, 8).items()}
      {'nats': 1.5, 'bits_per_character': 1.082, 'perplexity': 4.482}
    """
    return {
        "nats": nats / num_tokens if num_tokens else math.nan,
        "bits_per_character": nats / (num_characters * math.log(2.0)) if num_characters else math.nan,
        "perplexity": perplexity(nats, num_tokens),
    }
