"""Config of the data of a classifier: texts with a class each, tokenizer, limits and batches."""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from transformer_jax.bounds import Count, Length, Rows, Seed, Tokens, Width, check_at_least, check_bounds
from transformer_jax.data.dataset_kinds import dataset_kinds, with_absolute_dataset_paths
from transformer_jax.data.sources.class_files import ClassFiles
from transformer_jax.data.sources.named_classes import NamedClasses
from transformer_jax.data.tokenizer_config import TokenizerConfig, Words, with_absolute_path
from transformer_jax.errors import require
from transformer_jax.kinds import Kinds

__all__ = ["ClassDatasetConfig", "ClassFiles", "ClassesConfig", "NamedClasses", "with_absolute_class_paths"]

BuiltInClassDatasetConfig = NamedClasses | ClassFiles
DATASET_KINDS: Kinds[Any] = dataset_kinds("classes", get_args(BuiltInClassDatasetConfig))

if TYPE_CHECKING:
    ClassDatasetConfig = BuiltInClassDatasetConfig
else:
    ClassDatasetConfig = Annotated[Any, DATASET_KINDS]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassesConfig:
    """Data of a classifier.

    Attributes:
      dataset: Where the texts come from.
      tokenizer: How they are cut into tokens: words, pieces of words, characters, bytes, or a saved tokenizer.
      lowercase: Whether texts are written in lower case first.
      splits_punctuation: Whether punctuation is set apart from words first.
      marks_ends: Whether each text begins with the start token, as [CLS], and ends with the end token, as [SEP].
      max_len: Most tokens of a text, start and end included.
      too_long: What to do with longer training texts. Those of other parts are cut unless this is ``"fail"``.
      batch_size: Rows of a batch.
      batch_tokens: Instead, tokens of a training batch, padding included, at most.
      num_buckets: Most shapes of training batches.
      seed: Seed of the order of batches.
      max_train_texts: Take only the first so many training texts.
      max_development_texts: The same of the development texts.
      max_test_texts: The same of the test texts.
    """

    dataset: ClassDatasetConfig = dataclasses.field(default_factory=NamedClasses)
    tokenizer: TokenizerConfig = dataclasses.field(default_factory=Words)
    lowercase: bool = False
    splits_punctuation: bool = True
    marks_ends: bool = False
    max_len: Length = 128
    too_long: Literal["skip", "truncate", "fail"] = "truncate"
    batch_size: Rows = 32
    batch_tokens: Tokens | None = None
    num_buckets: Width = 4
    seed: Seed = 0
    max_train_texts: Count | None = None
    max_development_texts: Count | None = None
    max_test_texts: Count | None = None

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(3 if self.marks_ends else 1, max_len=self.max_len)
        check_at_least(1, batch_size=self.batch_size, num_buckets=self.num_buckets)
        check_at_least(
            1,
            max_train_texts=self.max_train_texts,
            max_development_texts=self.max_development_texts,
            max_test_texts=self.max_test_texts,
        )
        check_at_least(0, seed=self.seed)
        require(
            self.batch_tokens is None or self.batch_tokens >= self.max_len,
            f"batch_tokens must be at least max_len, {self.max_len}; got {self.batch_tokens}",
        )


def with_absolute_class_paths(config: ClassesConfig) -> ClassesConfig:
    """The same data, to be found from any folder.

    Example:
      >>> with_absolute_class_paths(ClassesConfig(dataset=ClassFiles(train="/data/../a.tsv"))).dataset.train
      '/a.tsv'
    """
    return dataclasses.replace(
        config,
        dataset=with_absolute_dataset_paths(config.dataset),
        tokenizer=with_absolute_path(config.tokenizer),
    )
