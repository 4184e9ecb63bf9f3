"""Config of the data of a transcriber: recordings with texts, front end, tokenizer, limits and batches."""

import dataclasses

from transformer_jax.bounds import Count, Length, Rows, Seed, Tokens, Width, check_at_least, check_bounds
from transformer_jax.data.sources.named_speech import NamedSpeech
from transformer_jax.data.sources.speech_files import SpeechFiles
from transformer_jax.data.speech_features import SpeechFeatures
from transformer_jax.data.tokenizer_config import Characters, TokenizerConfig, with_absolute_path
from transformer_jax.errors import require

__all__ = ["NamedSpeech", "SpeechConfig", "SpeechDatasetConfig", "SpeechFiles", "with_absolute_speech_paths"]

SpeechDatasetConfig = NamedSpeech | SpeechFiles


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechConfig:
    """Data of a transcriber.

    Attributes:
      dataset: Where recordings and texts come from.
      features: How sound becomes frames; of stored frames, how they were made.
      tokenizer: How texts are cut into tokens.
      lowercase: Whether texts are written in lower case first.
      speeds: Training recordings are read at these speeds too, as further recordings: 0.9 and 1.1 are usual. Sound
        changes its pitch with its speed; stored frames are stretched in time alone.
      max_frames: Most frames of a training recording; longer ones are left out of training.
      max_target_len: Most tokens of a training text, the end included; recordings with longer ones are left out.
      batch_size: Rows of a batch.
      batch_tokens: Instead, frames and tokens of a training batch, padding included, at most.
      num_buckets: Most shapes of training batches.
      seed: Seed of the order of batches.
      max_train_items: Take a fixed choice of so many training recordings.
      max_development_items: Take only the first so many of the development set.
      max_test_items: The same of the test set.
    """

    dataset: SpeechDatasetConfig = dataclasses.field(default_factory=NamedSpeech)
    features: SpeechFeatures = dataclasses.field(default_factory=SpeechFeatures)
    tokenizer: TokenizerConfig = dataclasses.field(default_factory=Characters)
    lowercase: bool = False
    speeds: tuple[float, ...] = ()
    max_frames: Length = 1600
    max_target_len: Length = 256
    batch_size: Rows = 16
    batch_tokens: Tokens | None = None
    num_buckets: Width = 4
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
        require(
            all(0.5 <= speed <= 2.0 and speed != 1.0 for speed in self.speeds),
            f"speeds must be from 0.5 to 2 and other than 1, got {self.speeds}",
        )
        longest = self.max_frames + self.max_target_len
        require(
            self.batch_tokens is None or self.batch_tokens >= longest,
            f"batch_tokens must be at least max_frames + max_target_len, {longest}; got {self.batch_tokens}",
        )


def with_absolute_speech_paths(config: SpeechConfig) -> SpeechConfig:
    """The same data, to be found from any folder.

    Example:
      >>> with_absolute_speech_paths(SpeechConfig(dataset=SpeechFiles(train="/data/../a.tsv"))).dataset.train
      '/a.tsv'
    """
    dataset = config.dataset
    return dataclasses.replace(
        config,
        dataset=dataset.with_absolute_paths() if isinstance(dataset, SpeechFiles) else dataset,
        tokenizer=with_absolute_path(config.tokenizer),
    )
