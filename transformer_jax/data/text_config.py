"""Configs of the data of a language model: text, tokenizer, windows and batches."""

import dataclasses
from typing import Literal

from transformer_jax.bounds import Count, Length, Rows, Seed, check_at_least, check_bounds
from transformer_jax.data.dataset_kinds import with_absolute_dataset_paths
from transformer_jax.data.sources.named_text import NamedText
from transformer_jax.data.sources.text_files import TextFiles
from transformer_jax.data.sources.text_sources import TextSource
from transformer_jax.data.tokenizer_config import (
    BytePairs,
    Bytes,
    Characters,
    SavedTokenizer,
    Subwords,
    TokenizerConfig,
    Words,
    with_absolute_path,
)
from transformer_jax.errors import ConfigError

__all__ = [
    "BytePairs",
    "Bytes",
    "Characters",
    "ContiguousWindows",
    "NamedText",
    "PackedDocuments",
    "RandomWindows",
    "SavedTokenizer",
    "TextConfig",
    "TextDatasetConfig",
    "TextFiles",
    "WindowsConfig",
    "with_absolute_text_paths",
]

TextDatasetConfig = TextSource


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomWindows:
    """Windows of ``context_len`` tokens at random places of the text, as nanoGPT draws them.

    Documents stand one after another without anything in between. An epoch is as many batches as hold the tokens of
    the text once; no window knows the one before.
    """

    kind: Literal["random"] = "random"
    context_len: Length = 64

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(1, context_len=self.context_len)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContiguousWindows:
    """Windows of ``context_len`` tokens that continue where the same row of the last batch ended.

    The text is cut into as many streams as a batch has rows, and an epoch reads them from their starts to their ends:
    what recurrent models with carried state are trained on.
    """

    kind: Literal["contiguous"] = "contiguous"
    context_len: Length = 64

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(1, context_len=self.context_len)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackedDocuments:
    """Rows of ``context_len`` tokens, each filled with whole documents; longer documents are cut into pieces.

    Each document begins with the start token and ends with the end token, and the positions of a row carry the number
    of their document, so that no attention crosses from one to another.
    """

    kind: Literal["packed"] = "packed"
    context_len: Length = 256

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(2, context_len=self.context_len)


WindowsConfig = RandomWindows | ContiguousWindows | PackedDocuments


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Data of a language model.

    Attributes:
      dataset: Where the text comes from.
      tokenizer: How it is cut into tokens: characters, bytes, pairs of bytes, or a saved tokenizer.
      windows: How training windows are taken from it.
      batch_size: Rows of a training batch.
      seed: Seed of the order of batches.
      max_train_characters: Take only the first so many characters of the training text.
      max_development_characters: Take only the first so many characters of the development text.
      max_test_characters: Take only the first so many characters of the test text.
    """

    dataset: TextDatasetConfig = dataclasses.field(default_factory=NamedText)
    tokenizer: TokenizerConfig = dataclasses.field(default_factory=Characters)
    windows: WindowsConfig = dataclasses.field(default_factory=RandomWindows)
    batch_size: Rows = 12
    seed: Seed = 0
    max_train_characters: Count | None = None
    max_development_characters: Count | None = None
    max_test_characters: Count | None = None

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(1, batch_size=self.batch_size, max_train_characters=self.max_train_characters)
        check_at_least(
            1,
            max_development_characters=self.max_development_characters,
            max_test_characters=self.max_test_characters,
        )
        check_at_least(0, seed=self.seed)
        if isinstance(self.tokenizer, Words | Subwords):
            raise ConfigError(
                f"tokenizer '{self.tokenizer.kind}' loses line breaks and white space, which a language model writes; "
                "choose 'characters', 'bytes' or 'byte_pairs'"
            )

    @property
    def marks_documents(self) -> bool:
        """Whether each document begins with the start token and ends with the end token."""
        return isinstance(self.windows, PackedDocuments)


def with_absolute_text_paths(config: TextConfig) -> TextConfig:
    """The same data, to be found from any folder.

    Example:
      >>> with_absolute_text_paths(TextConfig(dataset=TextFiles(train=("/data/../a.txt",)))).dataset.train
      ('/a.txt',)
    """
    return dataclasses.replace(
        config,
        dataset=with_absolute_dataset_paths(config.dataset),
        tokenizer=with_absolute_path(config.tokenizer),
    )
