"""Transcription: the text of a recording, scored in error rates of characters and words and in exact matches."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from transformer_jax.bounds import check_bounds, require_field
from transformer_jax.data.prepare_speech import PreparedSpeech, prepare_speech
from transformer_jax.data.sources.stored_files import is_at_hand
from transformer_jax.data.speech_config import NamedSpeech, SpeechConfig
from transformer_jax.decode.searcher import BeamConfig, GreedyConfig
from transformer_jax.errors import ConfigError
from transformer_jax.inference.transcriber import Transcriber
from transformer_jax.objectives import CtcLoss
from transformer_jax.objectives.families import SpeechObjective
from transformer_jax.tasks.feature_text_task import FeatureTextTask
from transformer_jax.tasks.task import Artifacts, Direction, check_sizes
from transformer_jax.tasks.transcription_evaluation import (
    SpeechEvaluation,
    SpeechEvaluator,
    evaluate_speech,
)

DECODER, HEAD = "a decoder", "a CTC head"
_TRAINED_PARTS = {
    "ctc": (HEAD,),
    "joint_ctc": (DECODER, HEAD),
    "feature_cross_entropy": (DECODER,),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transcription(FeatureTextTask):
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
    evaluation_type: ClassVar[Any] = SpeechEvaluation
    files_kind: ClassVar[str] = "files"

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
        self.check_encoder(model, reads_images=False, data="recordings")
        self.check_lengths(model)

    def check_objective(self, model: Any) -> None:
        """Raise ``ConfigError`` if the objective does not train all parts of the model, or wants one that it lacks."""
        wanted = _TRAINED_PARTS.get(self.objective.kind)
        found = tuple(name for name, has in ((DECODER, model.decoder is not None), (HEAD, model.ctc)) if has)
        if wanted is not None and wanted != found:
            raise ConfigError(
                f"objective '{self.objective.kind}' trains {' and '.join(wanted)}, but the model has "
                f"{' and '.join(found)}: choose the objective that trains what the model has"
            )

    def prepare(self, artifacts: Artifacts | None = None) -> PreparedSpeech:
        """Read the recordings, train the tokenizer unless it is given, and plan the batches."""
        return prepare_speech(self.data, tokenizer=(artifacts or {}).get("tokenizer"))

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
        )

    def evaluate(self, predictor: Transcriber, options: SpeechEvaluation) -> dict[str, Any]:
        """Error rates and exact matches, see `evaluate_speech`."""
        return evaluate_speech(self, predictor, options)

    def is_at_hand(self) -> bool:
        """Whether the recordings can be read without fetching anything."""
        dataset = self.data.dataset
        return not isinstance(dataset, NamedSpeech) or is_at_hand(dataset.name)
