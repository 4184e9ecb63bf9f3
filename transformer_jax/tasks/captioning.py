"""Captioning: the text of a drawing or an image, scored in exact matches and token error rate."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np

from transformer_jax.bounds import check_bounds
from transformer_jax.data.captions_config import (
    CaptionsConfig,
    DigitStrips,
    NamedCaptions,
)
from transformer_jax.data.feature_batches import FeatureBatch, abstract_feature_batch
from transformer_jax.data.images import ImageFeatures
from transformer_jax.data.padding import planned_integers
from transformer_jax.data.prepare_captions import PreparedCaptions, prepare_captions
from transformer_jax.data.sources.digits import DIGITS
from transformer_jax.data.sources.stored_files import is_at_hand
from transformer_jax.decode.searcher import BeamConfig, GreedyConfig
from transformer_jax.errors import ConfigError
from transformer_jax.inference.captioner import Captioner
from transformer_jax.objectives import FeatureCrossEntropy
from transformer_jax.objectives.families import CaptionObjective
from transformer_jax.tasks.caption_evaluation import CaptionEvaluation, CaptionEvaluator, evaluate_captions
from transformer_jax.tasks.feature_text_task import FeatureTextTask
from transformer_jax.tasks.task import Artifacts, Direction, check_sizes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Captioning(FeatureTextTask):
    """The text of a drawing.

    Attributes:
      data: Drawings with their captions, features, tokenizer and batches.
      objective: Loss that an update minimises.
      search: How captions are found. Evaluations during training replace a beam search by greedy search, for speed.

    Example:
      >>> sorted(Captioning.metrics)
      ['exact', 'token_error_rate']
    """

    kind: Literal["captioning"] = "captioning"
    metrics: ClassVar[Mapping[str, Direction]] = {"exact": "max", "token_error_rate": "min"}
    evaluation_type: ClassVar[Any] = CaptionEvaluation
    files_kind: ClassVar[str] = "inkml"

    data: CaptionsConfig = dataclasses.field(default_factory=CaptionsConfig)
    objective: CaptionObjective = dataclasses.field(default_factory=FeatureCrossEntropy)
    search: GreedyConfig | BeamConfig = dataclasses.field(default_factory=lambda: GreedyConfig(max_len=96))

    def __post_init__(self) -> None:
        check_bounds(self)

    def check(self, model: Any) -> None:
        """Raise ``ConfigError`` if a model's config does not go with the task."""
        check_sizes(self, model)
        if getattr(model, "decoder", self) is None:
            raise ConfigError("captions are written by a decoder, which the model has not: set model.decoder")
        features = self.data.features
        self.check_encoder(
            model,
            reads_images=isinstance(features, ImageFeatures),
            data=f"data.features of '{features.kind}'",
        )
        self.check_lengths(model)

    def check_objective(self, model: Any) -> None:
        """Every model can be trained by the objective."""

    def prepare(self, artifacts: Artifacts | None = None) -> PreparedCaptions:
        """Read the drawings, train the tokenizer unless it is given, and plan the batches."""
        return prepare_captions(self.data, tokenizer=(artifacts or {}).get("tokenizer"))

    def evaluator(self, model: Any, prepared: PreparedCaptions, *, num_devices: int = 1) -> CaptionEvaluator:
        """Scores of the development set by greedy search."""
        return CaptionEvaluator(self, model, prepared, num_devices=num_devices)

    def predictor(self, model: Any, artifacts: Artifacts, *, model_config: Any, name: str) -> Captioner:
        """A captioner with the task's own search."""
        return Captioner(
            name=name,
            model=model,
            tokenizer=artifacts["tokenizer"],
            features=self.data.features,
            max_frames=self.data.max_frames,
            search=self.search,
        )

    def evaluate(self, predictor: Captioner, options: CaptionEvaluation) -> dict[str, Any]:
        """Exact matches and token error rate, see `evaluate_captions`."""
        return evaluate_captions(self, predictor, options)

    def abstract_batch(self, rows: int, lengths: tuple[int, ...]) -> FeatureBatch:
        """Shapes of a training batch; one length is that of both sides."""
        features = self.data.features
        plain = abstract_feature_batch(rows, lengths[0], features.column_dim, lengths[-1])
        if not isinstance(features, ImageFeatures):
            return plain
        pixels = np.broadcast_to(np.float32(0), (rows, features.height, lengths[0], features.feature_dim))
        return plain._replace(inputs=(pixels, planned_integers(rows, 2)))

    def is_at_hand(self) -> bool:
        """Whether the drawings can be read without fetching anything."""
        dataset = self.data.dataset
        if isinstance(dataset, DigitStrips):
            return is_at_hand(DIGITS.name)
        return not isinstance(dataset, NamedCaptions) or is_at_hand(dataset.name)
