"""Transcription: the text of a recording, scored in error rates of characters and words and in exact matches."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from transformer_jax.bounds import check_bounds, require_field
from transformer_jax.data.feature_batches import FeatureBatch, abstract_feature_batch
from transformer_jax.data.pipeline import rows_of
from transformer_jax.data.prepare_speech import PreparedSpeech, prepare_speech
from transformer_jax.data.sources.stored_files import is_at_hand
from transformer_jax.data.speech_config import NamedSpeech, SpeechConfig, with_absolute_speech_paths
from transformer_jax.data.tokenizer_training import known_vocab_size
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.decode.searcher import BeamConfig, GreedyConfig
from transformer_jax.errors import ConfigError
from transformer_jax.inference.transcriber import Transcriber
from transformer_jax.models.sizes import Sizes
from transformer_jax.objectives import CtcLoss, FeatureCrossEntropy, JointCtc
from transformer_jax.tasks.task import Artifacts, Direction, check_files, check_sizes
from transformer_jax.tasks.transcription_evaluation import (
    SpeechEvaluation,
    SpeechEvaluator,
    evaluate_speech,
)

SpeechObjective = CtcLoss | JointCtc | FeatureCrossEntropy

DECODER, HEAD = "a decoder", "a CTC head"
_TRAINED_PARTS = {
    "ctc": (HEAD,),
    "joint_ctc": (DECODER, HEAD),
    "feature_cross_entropy": (DECODER,),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transcription:
    """The text of a recording.

    Attributes:
      data: Recordings with their texts, front end, tokenizer and batches.
      objective: Loss that an update minimises: CTC, a decoder's cross entropy, or both.
      search: How texts are found. Evaluations during training replace a beam search by greedy search, for speed.
      ctc_weight: Share of CTC in the beam search of a model that has a decoder and a CTC head; 0 for none.

    Example:
      >>> sorted(Transcription.metrics)
      ['cer', 'exact', 'wer']
    """

    kind: Literal["transcription"] = "transcription"
    metrics: ClassVar[Mapping[str, Direction]] = {"cer": "min", "wer": "min", "exact": "max"}
    artifact_types: ClassVar[Mapping[str, Any]] = {"tokenizer": Tokenizer}
    sizes_given: ClassVar[tuple[str, ...]] = ("feature_dim", "vocab_size")
    evaluation_type: ClassVar[Any] = SpeechEvaluation
    has_shorter_batches: ClassVar[bool] = True

    data: SpeechConfig = dataclasses.field(default_factory=SpeechConfig)
    objective: SpeechObjective = dataclasses.field(default_factory=CtcLoss)
    search: GreedyConfig | BeamConfig = dataclasses.field(default_factory=lambda: GreedyConfig(max_len=128))
    ctc_weight: float = 0.3

    def __post_init__(self) -> None:
        check_bounds(self)
        require_field(0.0 <= self.ctc_weight <= 1.0, self, "ctc_weight", "between 0 and 1")

    def check(self, model: Any) -> None:
        """Raise ``ConfigError`` if a model's config does not go with the task."""
        check_sizes(self, model)
        limit = getattr(model.encoder, "source_limit", None)
        if limit is not None and limit < self.data.max_frames:
            raise ConfigError(
                f"data.max_frames is {self.data.max_frames}, but the encoder takes {limit} at most: lower it, or raise "
                "the encoder's positions"
            )

    def check_objective(self, model: Any) -> None:
        """Raise ``ConfigError`` if the objective does not train all parts of the model, or wants one that it lacks."""
        wanted = _TRAINED_PARTS[self.objective.kind]
        found = tuple(name for name, has in ((DECODER, model.decoder is not None), (HEAD, model.ctc)) if has)
        if wanted != found:
            raise ConfigError(
                f"objective '{self.objective.kind}' trains {' and '.join(wanted)}, but the model has "
                f"{' and '.join(found)}: choose the objective that trains what the model has"
            )

    def prepare(self, artifacts: Artifacts | None = None) -> PreparedSpeech:
        """Read the recordings, train the tokenizer unless it is given, and plan the batches."""
        return prepare_speech(self.data, tokenizer=(artifacts or {}).get("tokenizer"))

    def sizes(self, artifacts: Artifacts, *, is_training: bool = False) -> Sizes:
        """Numbers of a frame, and vocabulary."""
        return Sizes(feature_dim=self.data.features.feature_dim, vocab_size=artifacts["tokenizer"].vocab_size)

    def evaluator(self, model: Any, prepared: PreparedSpeech, *, num_devices: int = 1) -> SpeechEvaluator:
        """Scores of the development set by greedy search."""
        return SpeechEvaluator(self, model, prepared, num_devices=num_devices)

    def predictor(self, model: Any, artifacts: Artifacts, *, model_config: Any, name: str) -> Transcriber:
        """A transcriber with the task's own search."""
        return Transcriber(
            name=name,
            model=model,
            tokenizer=artifacts["tokenizer"],
            features=self.data.features,
            max_frames=self.data.max_frames,
            search=self.search,
            ctc_weight=self.ctc_weight,
            source_limit=getattr(model_config.encoder, "source_limit", None),
            target_limit=getattr(model_config, "target_limit", None),
        )

    def evaluate(self, predictor: Transcriber, options: SpeechEvaluation) -> dict[str, Any]:
        """Error rates and exact matches, see `evaluate_speech`."""
        return evaluate_speech(self, predictor, options)

    def file_overrides(self, files: Mapping[str, Sequence[str]]) -> list[str]:
        """Overrides that train on a list of recordings of one's own, and a second one to develop on."""
        check_files(self.kind, files, known=("text", "development_text"), needed=("text",))
        dataset = {
            part: files[name][0]
            for name, part in (("text", "train"), ("development_text", "development"))
            if name in files
        }
        return [f"task.data.dataset={json.dumps({'kind': 'files', **dataset})}"]

    def tokenizer_overrides(self, path: str) -> list[str]:
        """Overrides that take a saved tokenizer."""
        return [f"task.data.tokenizer={json.dumps({'kind': 'saved', 'path': path})}"]

    def with_absolute_paths(self) -> Self:
        """The same task, its files to be found from any folder."""
        return dataclasses.replace(self, data=with_absolute_speech_paths(self.data))

    def plan_lengths(self) -> tuple[int, ...]:
        """Frames and tokens of the longest training batch that the config allows."""
        return self.data.max_frames, self.data.max_target_len

    def plan_rows(self, lengths: tuple[int, ...]) -> int:
        """Rows of a training batch."""
        tokens = self.data.batch_tokens
        return self.data.batch_size if tokens is None else rows_of(tokens, sum(lengths))

    def abstract_batch(self, rows: int, lengths: tuple[int, ...]) -> FeatureBatch:
        """Shapes of a training batch; one length is that of both sides."""
        return abstract_feature_batch(rows, lengths[0], self.data.features.feature_dim, lengths[-1])

    def known_sizes(self, vocab_sizes: tuple[int, ...] = ()) -> Sizes | None:
        """Vocabulary that is given, or that the tokenizer's config bounds, and the numbers of a frame."""
        size = vocab_sizes[0] if vocab_sizes else known_vocab_size(self.data.tokenizer)
        return None if size is None else Sizes(feature_dim=self.data.features.feature_dim, vocab_size=size)

    def is_at_hand(self) -> bool:
        """Whether the recordings can be read without fetching anything."""
        dataset = self.data.dataset
        return not isinstance(dataset, NamedSpeech) or is_at_hand(dataset.name)
