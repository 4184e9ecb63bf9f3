"""Word vectors: word2vec and fastText, scored by their loss, by judgements of similarity and by analogies."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from transformer_jax.data.prepare_words import PreparedWords, WordStream, prepare_words
from transformer_jax.data.sources.text_sources import are_at_hand
from transformer_jax.data.token_windows import token_fingerprint
from transformer_jax.data.word_batches import WordBatch
from transformer_jax.data.word_vocabulary import WordVocabulary
from transformer_jax.data.word_windows import WindowPlan, WordWindows, abstract_word_batch
from transformer_jax.data.words_config import WordsConfig, with_absolute_word_paths
from transformer_jax.errors import ConfigError
from transformer_jax.inference.word_embedder import WordEmbedder
from transformer_jax.models.sizes import Sizes
from transformer_jax.objectives import NegativeSampling
from transformer_jax.objectives.families import WordObjective
from transformer_jax.tasks.task import Artifacts, Direction, check_files, check_sizes
from transformer_jax.tasks.vector_evaluation import VectorEvaluation, WindowEvaluator, evaluate_vectors

DEPTH_BOUND = 40
"""Longest path of a Huffman tree that a plan takes where the counts are not known."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordEmbedding:
    """Vectors of words from the words beside them.

    Attributes:
      data: Texts, vocabulary, windows and batches.
      objective: Loss that an update minimises: negative sampling, hierarchical or full softmax, as skip-gram or CBOW.

    Example:
      >>> WordEmbedding(objective=NegativeSampling(architecture="cbow")).metrics
      {'loss': 'min'}
    """

    kind: Literal["word_vectors"] = "word_vectors"
    metrics: ClassVar[Mapping[str, Direction]] = {"loss": "min"}
    artifact_types: ClassVar[Mapping[str, Any]] = {"vocabulary": WordVocabulary}
    sizes_given: ClassVar[tuple[str, ...]] = ("vocab_size", "num_buckets")
    evaluation_type: ClassVar[Any] = VectorEvaluation

    data: WordsConfig = dataclasses.field(default_factory=WordsConfig)
    objective: WordObjective = dataclasses.field(default_factory=NegativeSampling)

    def check(self, model: Any) -> None:
        """Raise ``ConfigError`` if a model's config does not go with the task."""
        check_sizes(self, model)

    def check_objective(self, model: Any) -> None:
        """Raise ``ConfigError`` for a model without the two tables of word vectors."""
        if getattr(model, "kind", None) != "word_vectors":
            raise ConfigError(
                f"objective '{self.objective.kind}' trains the tables of model 'word_vectors', got '{model.kind}'"
            )

    def window_plan(self, *, is_training: bool) -> WindowPlan:
        """How rows and windows are cut: evaluations read every word, in the order of the text."""
        data, objective = self.data, self.objective
        return WindowPlan(
            window=data.window,
            row_len=data.row_len,
            batch_size=data.batch_size,
            sample=data.sample if is_training else 0.0,
            num_noise=objective.num_noise,
            noise_exponent=objective.noise_exponent,
            has_paths=objective.has_paths,
            shuffles=is_training,
            seed=data.seed,
        )

    def prepare(self, artifacts: Artifacts | None = None) -> "PreparedVectors":
        """Read the texts, count the words unless a vocabulary is given, and plan the windows."""
        words = prepare_words(self.data, vocabulary=(artifacts or {}).get("vocabulary"))
        train = WordWindows(
            words.train.ids, words.train.sentences, words.vocabulary, self.window_plan(is_training=True)
        )
        return PreparedVectors(words, train)

    def sizes(self, artifacts: Artifacts, *, is_training: bool = False) -> Sizes:
        """The vocabulary, and the buckets of n-grams."""
        return self._sizes(artifacts["vocabulary"].size)

    def _sizes(self, vocab_size: int) -> Sizes:
        subwords = self.data.subwords
        return Sizes(vocab_size=vocab_size, num_buckets=None if subwords is None else subwords.num_buckets)

    def evaluator(self, model: Any, prepared: "PreparedVectors", *, num_devices: int = 1) -> WindowEvaluator:
        """Loss of the development text."""
        return WindowEvaluator(self, model, prepared.words.development, prepared.words.vocabulary)

    def predictor(self, model: Any, artifacts: Artifacts, *, model_config: Any, name: str) -> WordEmbedder:
        """Vectors, neighbours and analogies."""
        return WordEmbedder.of_model(model, artifacts["vocabulary"], name=name)

    def evaluate(self, predictor: WordEmbedder, options: VectorEvaluation) -> dict[str, Any]:
        """Loss, similarity and analogies, see `evaluate_vectors`."""
        return evaluate_vectors(self, predictor, options)

    def file_overrides(self, files: Mapping[str, Sequence[str]]) -> list[str]:
        """Overrides that train on text files of one's own."""
        check_files(self.kind, files, known=("text", "development_text"), needed=("text",))
        names = {"text": "train", "development_text": "development"}
        dataset = {names[name]: list(paths) for name, paths in files.items()}
        return [f"task.data.datasets={json.dumps([{'kind': 'files', **dataset}])}"]

    def tokenizer_overrides(self, path: str) -> list[str]:
        """Refused: words are counted, not cut by a tokenizer.

        Raises:
          ConfigError: Always.
        """
        raise ConfigError("task 'word_vectors' counts words and takes no `tokenizer`: leave it out")

    def with_absolute_paths(self) -> Self:
        """The same task, its files to be found from any folder."""
        return dataclasses.replace(self, data=with_absolute_word_paths(self.data))

    def plan_lengths(self) -> tuple[int, ...]:
        """Centres of a row."""
        return (self.data.row_len,)

    def plan_rows(self, lengths: tuple[int, ...]) -> int:
        """Rows of a training batch."""
        return self.data.batch_size

    def abstract_batch(self, rows: int, lengths: tuple[int, ...]) -> WordBatch:
        """Shapes of a training batch; the longest path of a tree and the most n-grams of a word are bounds."""
        plan = dataclasses.replace(self.window_plan(is_training=True), row_len=lengths[0])
        subwords = self.data.subwords
        return abstract_word_batch(
            plan,
            rows,
            depth=DEPTH_BOUND if plan.has_paths else None,
            num_subwords=None if subwords is None else 16 * (subwords.max_len - subwords.min_len + 1),
        )

    def known_sizes(self, vocab_sizes: tuple[int, ...] = ()) -> Sizes | None:
        """Vocabulary that is given; None where it is not, since words are counted."""
        return self._sizes(vocab_sizes[0]) if vocab_sizes else None

    def is_at_hand(self) -> bool:
        """Whether the texts can be read without fetching anything."""
        return are_at_hand(self.data.datasets)


@dataclasses.dataclass(frozen=True)
class PreparedVectors:
    """Prepared words, as the task protocol sees them.

    Attributes:
      words: The prepared words.
      train: Training windows.
    """

    words: PreparedWords
    train: WordWindows

    @property
    def artifacts(self) -> dict[str, WordVocabulary]:
        """The vocabulary."""
        return {"vocabulary": self.words.vocabulary}

    @functools.cached_property
    def fingerprints(self) -> dict[str, str]:
        """Fingerprints of the training and the development text."""
        return {
            "training data": self.train.fingerprint(),
            "development data": token_fingerprint(self.words.development.ids),
        }

    @property
    def has_development(self) -> bool:
        """Whether two words of one sentence of the development text are in the vocabulary."""
        return has_windows(self.words.development)

    @property
    def report(self) -> "VectorReport":
        """Sizes and remarks."""
        return VectorReport(self)


@dataclasses.dataclass(frozen=True)
class VectorReport:
    """Sizes of prepared words.

    Attributes:
      prepared: The words.
    """

    prepared: PreparedVectors

    def lines(self) -> list[str]:
        """The report for people, a few lines."""
        words, train = self.prepared.words, self.prepared.train
        known = len(words.train.ids) / max(1, words.train.num_words)
        return [
            f"data: {words.train.num_words:,} training, {words.development.num_words:,} development and "
            f"{words.test.num_words:,} test words",
            f"vocabulary: {words.vocabulary.size:,} words that stand at least {words.config.min_count} times, "
            f"{known:.1%} of the training text",
            f"batches: {train.batches_per_epoch:,} an epoch, {train.padding_share():.1%} padding; {train.describe()}",
            *(f"note: {note}" for note in words.notes),
        ]


def has_windows(stream: WordStream) -> bool:
    """Whether any word of a text has another one in its sentence."""
    return bool((stream.sentences[:-1] == stream.sentences[1:]).any())
