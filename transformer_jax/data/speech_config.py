"""Config of the data of a transcriber: recordings with texts, front end, tokenizer, limits and batches."""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, get_args

from transformer_jax.bounds import Length, Rows, Width
from transformer_jax.data.dataset_kinds import dataset_kinds
from transformer_jax.data.feature_text_config import FeatureTextConfig
from transformer_jax.data.sources.named_speech import NamedSpeech
from transformer_jax.data.sources.speech_files import SpeechFiles
from transformer_jax.data.speech_features import SpeechFeatures
from transformer_jax.data.tokenizer_config import Characters, TokenizerConfig
from transformer_jax.errors import require
from transformer_jax.kinds import Kinds

__all__ = ["NamedSpeech", "SpeechConfig", "SpeechDatasetConfig", "SpeechFiles"]

BuiltInSpeechDatasetConfig = NamedSpeech | SpeechFiles
DATASET_KINDS: Kinds[Any] = dataset_kinds("speech", get_args(BuiltInSpeechDatasetConfig))

if TYPE_CHECKING:
    SpeechDatasetConfig = BuiltInSpeechDatasetConfig
else:
    SpeechDatasetConfig = Annotated[Any, DATASET_KINDS]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechConfig(FeatureTextConfig):
    """Data of a transcriber; what is not named here is as in `FeatureTextConfig`.

    Attributes:
      dataset: Where recordings and texts come from.
      features: How sound becomes frames; of stored frames, how they were made.
      tokenizer: How texts are cut into tokens.
      lowercase: Whether texts are written in lower case first.
      speeds: Training recordings are read at these speeds too, as further recordings: 0.9 and 1.1 are usual. Sound
        changes its pitch with its speed; stored frames are stretched in time alone.
      max_frames: Most frames of a training recording; longer ones are left out of training.
      max_target_len: Most tokens of a training text, the end included; recordings with longer ones are left out.

    Raises:
      ConfigError: If a speed is 1 or not from 0.5 to 2, or what `FeatureTextConfig` refuses.

    Example:
      >>> SpeechConfig(dataset=SpeechFiles(train="/data/../a.tsv")).with_absolute_paths().dataset.train
      '/a.tsv'
    """

    dataset: SpeechDatasetConfig = dataclasses.field(default_factory=NamedSpeech)
    features: SpeechFeatures = dataclasses.field(default_factory=SpeechFeatures)
    tokenizer: TokenizerConfig = dataclasses.field(default_factory=Characters)
    lowercase: bool = False
    speeds: tuple[float, ...] = ()
    max_frames: Length = 1600
    max_target_len: Length = 256
    batch_size: Rows = 16
    num_buckets: Width = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            all(0.5 <= speed <= 2.0 and speed != 1.0 for speed in self.speeds),
            f"speeds must be from 0.5 to 2 and other than 1, got {self.speeds}",
        )
