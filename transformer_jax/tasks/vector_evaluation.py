"""Scores of word vectors: during training their loss, and of trained ones similarity and analogies too."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
from flax import nnx

from transformer_jax.data.prepare_words import WordStream, encode_words
from transformer_jax.data.sources.registry import locate
from transformer_jax.data.sources.text_sources import load_texts
from transformer_jax.data.word_judgements import Judgement, read_analogies, read_judgements
from transformer_jax.data.word_vocabulary import WordVocabulary
from transformer_jax.data.word_windows import WordWindows
from transformer_jax.environment import environment_table
from transformer_jax.errors import DataError
from transformer_jax.evaluate.vector_scores import CorrelationScore, analogies, correlation
from transformer_jax.inference.word_embedder import WordEmbedder
from transformer_jax.tasks.evaluation_source import EvaluationSource

SIMILARITY_FILES = {"wordsim353": "wordsim353.tsv", "simlex999": "simlex999.txt"}
"""Files of judgements by the names of their scores."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class VectorEvaluation(EvaluationSource):
    """Options of an evaluation of word vectors.

    With the test text come WordSim-353, SimLex-999 and Google's analogies, with the development text SimLex-999 alone;
    a file has two words and a number on each line, separated by tabs.
    """

    file_form: ClassVar[str] = "a file of pairs of words with a number each"


class WindowEvaluator:
    """Loss of the development text: every word, windows and noise words the same each time.

    Args:
      task: The task.
      model: The model; only its structure is kept.
      stream: Words of the text.
      vocabulary: Of the text.
    """

    notes: Sequence[str] = ()
    settings: Mapping[str, str] = {}
    record: Mapping[str, Any] = {}

    def __init__(self, task: Any, model: Any, stream: WordStream, vocabulary: WordVocabulary) -> None:
        self._task, self._model, self._stream, self._vocabulary = task, model, stream, vocabulary
        graph = nnx.split(model)[0]
        self._loss = jax.jit(lambda state, batch: task.objective(nnx.merge(graph, state), batch, None)[0])
        self.compile_seconds = 0.0

    def check(self) -> None:
        """Raise what evaluating would raise for this model, by shapes alone."""
        batch = self._task.abstract_batch(self._task.data.batch_size, (self._task.data.row_len,))
        jax.eval_shape(self._loss, nnx.split(self._model)[1], batch)

    def __call__(self, state: Any) -> dict[str, float]:
        """The loss, from the model's state as of ``nnx.split(model)[1]``."""
        plan = self._task.window_plan(is_training=False)
        source = WordWindows(self._stream.ids, self._stream.sentences, self._vocabulary, plan)
        total, count = 0.0, 0.0
        for batch in source.epoch_batches():
            loss = self._loss(state, jax.device_put(batch))
            total, count = total + float(loss.sum), count + float(loss.count)
        return {"loss": total / count if count else math.nan}


def evaluate_vectors(task: Any, embedder: WordEmbedder, options: VectorEvaluation) -> dict[str, Any]:
    """Score trained vectors.

    Args:
      task: The task that they were trained for.
      embedder: The vectors.
      options: What to score them on.

    Returns:
      The scores by name, Spearman's rho for similarity and a share for analogies; ``"unknown"`` has the share of each
      set that was left out since a word has no vector; ``"text"`` and ``"remarks"`` are lines for people.

    Raises:
      DataError: If a file is missing or bad, or the data have no such part.
    """
    scores: dict[str, Any] = {}
    unknown: dict[str, float] = {}
    text: list[str] = []
    remarks: list[str] = []
    num_items = 0
    for name, judgements in _judgements(options, remarks).items():
        found = correlation(embedder.vector, judgements)
        scores[name], unknown[name] = found.spearman, found.unknown_share
        num_items += len(judgements)
        text.append(_line(name, found))
        if options.against is not None:
            other = correlation(options.against[1].vector, judgements)
            scores[f"{name}_against"] = other.spearman
            text.append(f"{options.against[0]}: {_line(name, other)}")
    if options.split == "test" and not remarks:
        questions = read_analogies(locate("word-similarity", "questions-words.txt"))
        id_of = embedder.vocabulary.id_of
        ids = [(id_of(a), id_of(b), id_of(c), id_of(d)) for _, a, b, c, d in questions]
        answered = analogies(embedder.units, ids)
        scores["analogies"], unknown["analogies"] = answered.accuracy, answered.unknown_share
        num_items += len(questions)
        text.append(
            f"analogies: {answered.num_correct:,} of {answered.num_questions:,} right ({answered.accuracy:.1%}), "
            f"{answered.unknown_share:.1%} of the questions out of vocabulary"
        )
    if options.split is not None:
        scores["loss"] = _loss(task, embedder, options.split)
        text.insert(0, f"{options.split} text: loss {scores['loss']:.4f}")
    where = options.source or f"{options.split} text and judgements"
    return {
        "task": task.kind,
        "heading": f"{where}: {embedder.vocabulary.size:,} words of width {embedder.vectors.shape[1]}",
        "lines": num_items,
        "unknown": unknown,
        **scores,
        "environment": environment_table(),
        "text": text,
        "remarks": remarks,
    }


def _judgements(options: VectorEvaluation, remarks: list[str]) -> dict[str, list[Judgement]]:
    if options.source is not None:
        return {"spearman": read_judgements(options.source)}
    wanted = list(SIMILARITY_FILES) if options.split == "test" else ["simlex999"]
    try:
        return {name: read_judgements(locate("word-similarity", SIMILARITY_FILES[name])) for name in wanted}
    except DataError as error:
        remarks.append(f"similarity and analogies are not scored: {error}")
        return {}


def _line(name: str, found: CorrelationScore) -> str:
    return (
        f"{name}: Spearman {found.spearman:.3f} over {found.num_pairs:,} pairs, {found.unknown_share:.1%} out of "
        "vocabulary"
    )


def _loss(task: Any, embedder: WordEmbedder, split: str) -> float:
    documents = getattr(load_texts(task.data.datasets), split)
    if not documents:
        raise DataError(f"the data of {embedder.name} have no {split} text: name `source`")
    stream = encode_words(documents, embedder.vocabulary, sentences=task.data.sentences)
    evaluator = WindowEvaluator(task, embedder.model, stream, embedder.vocabulary)
    return evaluator(nnx.split(embedder.model)[1])["loss"]
