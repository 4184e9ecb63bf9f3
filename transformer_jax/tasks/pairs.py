"""Base of tasks on pairs of lines: data, objective, evaluation by search, and the translator."""

import dataclasses
import functools
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from transformer_jax.data.batches import PAD_ID, UNK_ID, PackedBatch, empty_batch
from transformer_jax.data.line_breaks import escape_line_breaks
from transformer_jax.data.line_pairs import EvaluationItem
from transformer_jax.data.padding import planned_integers
from transformer_jax.data.pairs_config import (
    GivenBuckets,
    NamedDataset,
    PairsConfig,
    with_absolute_paths,
)
from transformer_jax.data.pipeline import rows_of
from transformer_jax.data.prepare import PreparedData, prepare
from transformer_jax.data.sources.stored_files import is_at_hand
from transformer_jax.data.tokenizer_training import known_vocab_size
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.decode.searcher import BeamConfig, GreedyConfig
from transformer_jax.errors import ConfigError
from transformer_jax.evaluate.report import ScoreReport, score_outputs
from transformer_jax.evaluate.text import TextScore, chrf
from transformer_jax.evaluate.tokenization import BleuTokenizer
from transformer_jax.inference.batch_search import BatchSearcher
from transformer_jax.inference.copied_outputs import hypothesis_text, with_copied_words
from transformer_jax.inference.translator import Translator
from transformer_jax.models.sizes import Sizes
from transformer_jax.objectives import PairCrossEntropy
from transformer_jax.objectives.families import PairObjective
from transformer_jax.tasks.pair_evaluation import PairEvaluation, evaluate_pairs
from transformer_jax.tasks.pair_metrics import bleu_tokenizer, percentages
from transformer_jax.tasks.task import Artifacts, Direction, check_files, check_limit, check_sizes

PAIRS_IN_A_PACKED_ROW = 8
"""How many example ids a packed row is planned with; nothing is computed of them."""

BLEU_TOKENIZER = "tokenizer of BLEU"
"""Name of the setting that says how the scores that choose the best checkpoint are taken."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairTask:
    """A task whose examples are pairs of lines.

    It scores outputs as texts. A task that is scored otherwise replaces `scores_of` and `sentence_score`, and says so
    in ``metrics``, ``compares_texts`` and ``sentence_measure``.

    Attributes:
      data: Data set, tokenizers and batches.
      objective: Loss that an update minimises.
      score_kind: How `score_outputs` scores its outputs.
      compares_texts: Whether outputs are texts, of which BLEU can be taken: by classes of length, and beside another
        translator's.
      sentence_measure: What `sentence_score` measures, in words.
      search: How outputs are found. Evaluations on the development set during training replace a beam search by
        greedy search, for speed.
    """

    metrics: ClassVar[Mapping[str, Direction]]
    score_kind: ClassVar[Any] = "translation"
    compares_texts: ClassVar[bool] = True
    sentence_measure: ClassVar[str] = "sentence-level chrF"
    artifact_types: ClassVar[Mapping[str, Any]] = {
        "source_tokenizer": Tokenizer,
        "target_tokenizer": Tokenizer,
    }
    sizes_given: ClassVar[tuple[str, ...]] = ("source_vocab_size", "target_vocab_size")
    evaluation_type: ClassVar[Any] = PairEvaluation

    data: PairsConfig = dataclasses.field(default_factory=PairsConfig)
    objective: PairObjective = dataclasses.field(default_factory=PairCrossEntropy)
    search: GreedyConfig | BeamConfig = dataclasses.field(default_factory=lambda: GreedyConfig(max_len=40))

    def check(self, model: Any) -> None:
        """Raise ``ConfigError`` if a model's config does not go with the task."""
        check_sizes(self, model)
        padding_id = getattr(model, "padding_id", PAD_ID)
        if padding_id != PAD_ID:
            raise ConfigError(f"model.padding_id must be {PAD_ID}, which the data pad with; got {padding_id}")
        if self.data.packing is not None and getattr(model, "decoder_self_attention", None) != "softmax":
            raise ConfigError(
                "data.packing puts several pairs into a row, which only a Transformer with softmax attention keeps "
                f"apart; the model is '{model.kind}': set data.packing to null"
            )
        self._check_lengths(model)
        self._check_pointer(getattr(model, "pointer", None))

    def _check_lengths(self, model: Any) -> None:
        """Raise ``ConfigError`` if the longest rows of a training batch are longer than what a model can take."""
        if self.data.packing is not None:
            names = ("packing.source_len", "packing.target_len")
        elif isinstance(self.data.buckets, GivenBuckets):
            names = ("buckets.shapes[-1][0]", "buckets.shapes[-1][1]")
        else:
            names = ("max_source_len", "max_target_len")
        has_positions = hasattr(model, "positions")
        for name, length, limit in zip(
            names, self.plan_lengths(), ("source_limit", "target_limit"), strict=True
        ):
            check_limit(
                f"data.{name}",
                length,
                getattr(model, limit, None),
                raised="model.positions.max_len" if has_positions else "model.attention.max_len",
                noun="learned positions" if has_positions else "location scores",
            )

    def _check_pointer(self, pointer: Any) -> None:
        """Raise ``ConfigError`` if a model's way to copy does not go with the data."""
        if self.data.copies_unknown != bool(pointer is not None and pointer.extended):
            raise ConfigError(
                f"data.copies_unknown is {self.data.copies_unknown}, which wants a model with pointer.extended "
                f"{self.data.copies_unknown}; got pointer {pointer}: set both or none"
            )
        if pointer is None:
            return
        if not self.data.share_vocabulary:
            raise ConfigError(
                "model.pointer needs one vocabulary for both sides: set data.share_vocabulary to true"
            )
        if pointer.unknown_id != UNK_ID:
            raise ConfigError(
                f"model.pointer.unknown_id must be {UNK_ID}, that of the data; got {pointer.unknown_id}"
            )
        if self.data.packing is not None:
            raise ConfigError("model.pointer copies from one source a row: set data.packing to null")

    def check_objective(self, model: Any) -> None:
        """Raise ``ConfigError`` if the objective cannot do anything with such a model."""
        objective: Any = self.objective
        if not isinstance(objective, PairCrossEntropy):  # one of a plug-in
            return
        objective.check_attending(has_pointer=getattr(model, "pointer", None) is not None)
        weight = objective.r_drop_weight
        if weight and not any(rate for name, rate in vars(model).items() if name.endswith("dropout_rate")):
            raise ConfigError(
                f"objective.r_drop_weight is {weight:g}, but the model has no dropout, so that both passes "
                "would be the same: set model.dropout_rate above 0, or objective.r_drop_weight to 0"
            )

    def prepare(self, artifacts: Artifacts | None = None) -> PreparedData:
        """Read the data, train the tokenizers that are not given, and plan the batches."""
        given = artifacts or {}
        return prepare(
            self.data,
            source_tokenizer=given.get("source_tokenizer"),
            target_tokenizer=given.get("target_tokenizer"),
        )

    def sizes(self, artifacts: Artifacts, *, is_training: bool = False) -> Sizes:
        """Both vocabularies."""
        return Sizes(
            source_vocab_size=artifacts["source_tokenizer"].vocab_size,
            target_vocab_size=artifacts["target_tokenizer"].vocab_size,
        )

    def evaluator(self, model: Any, prepared: PreparedData, *, num_devices: int = 1) -> "PairEvaluator":
        """Scores on the development set by greedy search."""
        return PairEvaluator(self, model, prepared, num_devices=num_devices)

    def predictor(self, model: Any, artifacts: Artifacts, *, model_config: Any, name: str) -> Translator:
        """A translator with the task's own search."""
        return Translator(
            name=name,
            model=model,
            source_tokenizer=artifacts["source_tokenizer"],
            target_tokenizer=artifacts["target_tokenizer"],
            data=self.data,
            search=self.search,
            source_limit=getattr(model_config, "source_limit", None),
            target_limit=getattr(model_config, "target_limit", None),
        )

    def evaluate(self, predictor: Translator, options: PairEvaluation) -> dict[str, Any]:
        """Scores of a translator's outputs, see `evaluate_pairs`."""
        return evaluate_pairs(self, predictor, options)

    def sentence_score(self, output: str, references: Sequence[str]) -> float:
        """Quality of one output, from 0 to 100, the more the better: its chrF."""
        return chrf([output], [list(references)]).score

    def scores_of(
        self,
        outputs: Sequence[str],
        references: Sequence[Sequence[str]],
        *,
        tokenize: BleuTokenizer | None = None,
        with_ter: bool = False,
    ) -> ScoreReport:
        """Scores of outputs.

        Args:
          outputs: One line each.
          references: Of each output, one or more.
          tokenize: How BLEU cuts words.
          with_ter: Whether the edit rate of texts is taken too.
        """
        return score_outputs(self.score_kind, outputs, references, tokenize=tokenize, with_ter=with_ter)

    def scores_apart(
        self, items: Sequence[EvaluationItem], outputs: Sequence[str], references: Sequence[Sequence[str]]
    ) -> Sequence[TextScore]:
        """Further scores of some of the items of the task's own data; none."""
        del items, outputs, references
        return ()

    def file_overrides(self, files: Mapping[str, Sequence[str]]) -> list[str]:
        """Overrides that train on files of one's own, aligned by line."""
        known = ("source", "target", "development_source", "development_target")
        check_files(getattr(self, "kind", self.score_kind), files, known=known, needed=known[:2])
        names = {"source": "train_source", "target": "train_target"}
        dataset = {names.get(name, name): paths[0] for name, paths in files.items()}
        return [f"task.data.dataset={json.dumps({'kind': 'parallel', **dataset})}"]

    def tokenizer_overrides(self, path: str) -> list[str]:
        """Overrides that take one saved tokenizer for both sides."""
        saved = json.dumps({"kind": "saved", "path": path})
        sides = [f"task.data.{side}_tokenizer={saved}" for side in ("source", "target")]
        return [*sides, "task.data.share_vocabulary=true"]

    def with_absolute_paths(self) -> Self:
        """The same task, its files to be found from any folder."""
        return dataclasses.replace(self, data=with_absolute_paths(self.data))

    @property
    def has_shorter_batches(self) -> bool:
        """Whether there are training batches of shorter pairs beside those that are planned."""
        return self.data.packing is None

    def plan_lengths(self) -> tuple[int, ...]:
        """Source and target tokens of a row of the longest training batch that the config allows."""
        data = self.data
        if data.packing is not None:
            return data.packing.source_len, data.packing.target_len
        if isinstance(data.buckets, GivenBuckets):
            return data.buckets.shapes[-1]
        return data.max_source_len, data.max_target_len

    def plan_rows(self, lengths: tuple[int, ...]) -> int:
        """Rows of a training batch of such lengths."""
        data = self.data
        return data.batch_size if data.batch_tokens is None else rows_of(data.batch_tokens, sum(lengths))

    def abstract_batch(self, rows: int, lengths: tuple[int, ...]) -> Any:
        """Shapes of a training batch; one length is that of both sides."""
        source_len, target_len = lengths[0], lengths[-1]
        plain = empty_batch(rows, source_len, target_len)
        if self.data.packing is None:
            return plain

        return PackedBatch(
            **plain._asdict()
            | {
                "source_segments": planned_integers(rows, source_len),
                "target_segments": planned_integers(rows, target_len),
                "example_ids": planned_integers(rows, PAIRS_IN_A_PACKED_ROW),
            }
        )

    def known_sizes(self, vocab_sizes: tuple[int, ...] = ()) -> Sizes | None:
        """Vocabularies that are given, or that the tokenizers' configs bound."""
        found = (
            (vocab_sizes[0], vocab_sizes[-1])
            if vocab_sizes
            else (known_vocab_size(self.data.source_tokenizer), known_vocab_size(self.data.target_tokenizer))
        )
        if None in found:
            return None
        return Sizes(source_vocab_size=found[0], target_vocab_size=found[1])

    def is_at_hand(self) -> bool:
        """Whether the data can be read without fetching anything."""
        dataset = self.data.dataset
        return not isinstance(dataset, NamedDataset) or is_at_hand(dataset.name)


class PairEvaluator:
    """Scores on the development set by greedy search.

    Args:
      task: The task.
      model: The model; only its structure is kept.
      prepared: Its data.
      num_devices: Devices that search side by side.
    """

    def __init__(self, task: PairTask, model: Any, prepared: PreparedData, *, num_devices: int = 1) -> None:
        self._task, self._prepared = task, prepared
        self.searcher = BatchSearcher(
            model,
            GreedyConfig(max_len=task.search.max_len, forbidden_ids=task.search.forbidden_ids),
            batch_size=task.data.batch_size,
            lengths=[shape[0] for shape in prepared.plan.shapes],
            num_devices=num_devices,
        )

    @functools.cached_property
    def tokenizer(self) -> BleuTokenizer | None:
        """How BLEU cuts words in the whole run; None where the task takes no BLEU or nothing is scored."""
        items = self._prepared.development_items
        if "bleu" not in self._task.metrics or not items:
            return None
        return bleu_tokenizer(self._task.data, [item.references for item in items])

    @property
    def notes(self) -> Sequence[str]:
        """Remarks on the scores, for people."""
        if self.tokenizer is None:
            return ()
        return (f"BLEU cuts words by sacrebleu's '{self.tokenizer.name}' ({self.tokenizer.reason})",)

    @property
    def settings(self) -> Mapping[str, str]:
        """Settings besides the data that determine the scores."""
        return {} if self.tokenizer is None else {BLEU_TOKENIZER: self.tokenizer.name}

    @property
    def record(self) -> Mapping[str, Any]:
        """The same for ``result.json``."""
        return {} if self.tokenizer is None else {"bleu_tokenizer": self.tokenizer.name}

    @property
    def compile_seconds(self) -> float:
        """Seconds spent on compiling the search so far."""
        return self.searcher.compile_seconds

    def check(self) -> None:
        """Raise what the search of the longest sources would raise, without compiling it."""
        self.searcher.check()

    def __call__(self, state: Any) -> dict[str, float]:
        """Scores by name, from the model's state as of ``nnx.split(model)[1]``."""
        prepared = self._prepared
        tokenizer, sources = prepared.target_tokenizer, encoded_sources(prepared.development)
        found = self.searcher(state, sources)
        if prepared.config.copies_unknown:
            texts = [item.source for item in prepared.development_items]
            found = with_copied_words(tokenizer, texts, sources, found)
        outputs = [escape_line_breaks(hypothesis_text(tokenizer, hypotheses[0])) for hypotheses in found]
        references = [tuple(map(escape_line_breaks, item.references)) for item in prepared.development_items]
        return percentages(self._task.scores_of(outputs, references, tokenize=self.tokenizer))


def encoded_sources(examples: Any) -> list[list[int]]:
    """Source ids of every example of an ``EncodedExamples``."""
    offsets = examples.source_offsets
    return [examples.source_ids[start:stop].tolist() for start, stop in itertools.pairwise(offsets)]
