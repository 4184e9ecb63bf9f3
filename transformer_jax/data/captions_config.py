"""Config of the data of a captioner: drawings or images with captions, tokenizer, features, limits and batches."""

import dataclasses

from transformer_jax.bounds import Count, Length, Rows, Seed, Tokens, Width, check_at_least, check_bounds
from transformer_jax.data.images import ImageFeatures
from transformer_jax.data.ink import StrokeFeatures
from transformer_jax.data.sources.digits import DigitStrips
from transformer_jax.data.sources.ink_files import InkFiles
from transformer_jax.data.sources.named_captions import NamedCaptions
from transformer_jax.data.tokenizer_config import TokenizerConfig, Words, with_absolute_path
from transformer_jax.errors import require

__all__ = [
    "CaptionDatasetConfig",
    "CaptionsConfig",
    "DigitStrips",
    "InkFiles",
    "NamedCaptions",
    "with_absolute_caption_paths",
]

CaptionDatasetConfig = NamedCaptions | InkFiles | DigitStrips
ItemFeatures = StrokeFeatures | ImageFeatures


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaptionsConfig:
    """Data of a captioner.

    Attributes:
      dataset: Where drawings and captions come from.
      tokenizer: How captions are cut into tokens; words are what stands between spaces.
      features: How a drawing becomes frames: points along its strokes, or columns of an image.
      max_frames: Most frames of a drawing; one that has more is read at a wider spacing.
      max_target_len: Most tokens of a training caption, the end included; drawings with longer ones are left out of
        training.
      distorted_copies: Copies of each training drawing, slanted, turned and stretched at random, that are trained on
        beside it.
      batch_size: Rows of a batch.
      batch_tokens: Instead, frames and tokens of a training batch, padding included, at most.
      num_buckets: Most shapes of training batches.
      seed: Seed of the order of batches and of the distortions.
      max_train_items: Take a fixed choice of so many training drawings.
      max_development_items: Take only the first so many of the development set.
      max_test_items: The same of the test set.
    """

    dataset: CaptionDatasetConfig = dataclasses.field(default_factory=NamedCaptions)
    tokenizer: TokenizerConfig = dataclasses.field(default_factory=Words)
    features: ItemFeatures = dataclasses.field(default_factory=StrokeFeatures)
    max_frames: Length = 400
    max_target_len: Length = 64
    distorted_copies: Width = 0
    batch_size: Rows = 32
    batch_tokens: Tokens | None = None
    num_buckets: Width = 8
    seed: Seed = 0
    max_train_items: Count | None = None
    max_development_items: Count | None = None
    max_test_items: Count | None = None

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(
            1,
            max_frames=self.max_frames,
            batch_size=self.batch_size,
            num_buckets=self.num_buckets,
            max_train_items=self.max_train_items,
            max_development_items=self.max_development_items,
            max_test_items=self.max_test_items,
        )
        check_at_least(2, max_target_len=self.max_target_len)
        check_at_least(0, distorted_copies=self.distorted_copies, seed=self.seed)
        longest = self.max_frames + self.max_target_len
        require(
            self.batch_tokens is None or self.batch_tokens >= longest,
            f"batch_tokens must be at least max_frames + max_target_len, {longest}; got {self.batch_tokens}",
        )


def with_absolute_caption_paths(config: CaptionsConfig) -> CaptionsConfig:
    """The same data, to be found from any folder.

    Example:
      >>> with_absolute_caption_paths(CaptionsConfig(dataset=InkFiles(train="/data/../a"))).dataset.train
      '/a'
    """
    dataset = config.dataset
    return dataclasses.replace(
        config,
        dataset=dataset.with_absolute_paths() if isinstance(dataset, InkFiles) else dataset,
        tokenizer=with_absolute_path(config.tokenizer),
    )
