"""What the configs of features with texts share, drawings with captions and recordings with what is said in them."""

import dataclasses
from typing import Any, Self

from transformer_jax.bounds import Count, Length, Rows, Seed, Tokens, Width, check_at_least, check_bounds
from transformer_jax.data.dataset_kinds import with_absolute_dataset_paths
from transformer_jax.data.tokenizer_config import TokenizerConfig, with_absolute_path
from transformer_jax.errors import require


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureTextConfig:
    """Data of a model from features to texts.

    Attributes:
      dataset: Where the examples come from.
      tokenizer: How texts are cut into tokens.
      max_frames: Most frames of an example.
      max_target_len: Most tokens of a training text, the end included.
      batch_size: Rows of a training batch.
      batch_tokens: Instead, frames and tokens of a batch, padding included, at most.
      num_buckets: Most shapes of training batches.
      seed: Seed of the order of batches, and of all that is drawn.
      max_train_items: Take a fixed choice of so many training examples.
      max_development_items: Take only the first so many development examples.
      max_test_items: The same of the test set.

    Raises:
      ConfigError: If a number is out of range.
    """

    dataset: Any
    tokenizer: TokenizerConfig
    max_frames: Length
    max_target_len: Length
    batch_size: Rows
    batch_tokens: Tokens | None = None
    num_buckets: Width
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
        check_at_least(0, seed=self.seed)
        longest = self.max_frames + self.max_target_len
        require(
            self.batch_tokens is None or self.batch_tokens >= longest,
            f"batch_tokens must be at least max_frames + max_target_len, {longest}; got {self.batch_tokens}",
        )

    def with_absolute_paths(self) -> Self:
        """The same data, to be found from any folder."""
        return dataclasses.replace(
            self,
            dataset=with_absolute_dataset_paths(self.dataset),
            tokenizer=with_absolute_path(self.tokenizer),
        )
