"""Config of the data of a captioner: drawings or images with captions, tokenizer, features, limits and batches."""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, get_args

from transformer_jax.bounds import Length, Rows, Width, check_at_least
from transformer_jax.data.dataset_kinds import dataset_kinds
from transformer_jax.data.feature_text_config import FeatureTextConfig
from transformer_jax.data.images import ImageFeatures
from transformer_jax.data.ink import StrokeFeatures
from transformer_jax.data.sources.digits import DigitStrips
from transformer_jax.data.sources.ink_files import InkFiles
from transformer_jax.data.sources.named_captions import NamedCaptions
from transformer_jax.data.tokenizer_config import TokenizerConfig, Words
from transformer_jax.kinds import Kinds

__all__ = [
    "CaptionDatasetConfig",
    "CaptionsConfig",
    "DigitStrips",
    "InkFiles",
    "NamedCaptions",
]

BuiltInCaptionDatasetConfig = NamedCaptions | InkFiles | DigitStrips
DATASET_KINDS: Kinds[Any] = dataset_kinds("captions", get_args(BuiltInCaptionDatasetConfig))

if TYPE_CHECKING:
    CaptionDatasetConfig = BuiltInCaptionDatasetConfig
else:
    CaptionDatasetConfig = Annotated[Any, DATASET_KINDS]
ItemFeatures = StrokeFeatures | ImageFeatures


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaptionsConfig(FeatureTextConfig):
    """Data of a captioner; what is not named here is as in `FeatureTextConfig`.

    Attributes:
      dataset: Where drawings and captions come from.
      tokenizer: How captions are cut into tokens; words are what stands between spaces.
      features: How a drawing becomes frames: points along its strokes, or columns of an image.
      max_frames: Most frames of a drawing; one that has more is read at a wider spacing.
      max_target_len: Most tokens of a training caption, the end included; drawings with longer ones are left out of
        training.
      distorted_copies: Copies of each training drawing, slanted, turned and stretched at random, that are trained on
        beside it.

    Example:
      >>> CaptionsConfig(dataset=InkFiles(train="/data/../a")).with_absolute_paths().dataset.train
      '/a'
    """

    dataset: CaptionDatasetConfig = dataclasses.field(default_factory=NamedCaptions)
    tokenizer: TokenizerConfig = dataclasses.field(default_factory=Words)
    features: ItemFeatures = dataclasses.field(default_factory=StrokeFeatures)
    max_frames: Length = 400
    max_target_len: Length = 64
    distorted_copies: Width = 0
    batch_size: Rows = 32
    num_buckets: Width = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(0, distorted_copies=self.distorted_copies)
