"""Configs of the data of a tagger: sentences, vocabulary and batches."""

import dataclasses
import functools
import os
from typing import TYPE_CHECKING, Annotated, Any, get_args

from transformer_jax.bounds import (
    AtMost,
    Count,
    Length,
    Rows,
    Seed,
    Tokens,
    Vocabulary,
    check_at_least,
    check_bounds,
)
from transformer_jax.data.dataset_kinds import dataset_kinds, with_absolute_dataset_paths
from transformer_jax.data.iob import BrokenIob
from transformer_jax.data.sources.named_tags import NamedTags
from transformer_jax.data.sources.tag_files import TagFiles
from transformer_jax.data.tokenizer_config import SavedTokenizer, WordPieces, Words, with_absolute_path
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.errors import check_choice, require
from transformer_jax.files import absolute_path
from transformer_jax.kinds import Kinds

__all__ = [
    "NamedTags",
    "SavedTokenizer",
    "TagConfig",
    "TagDatasetConfig",
    "TagFiles",
    "WordPieces",
    "Words",
    "with_absolute_tag_paths",
]

BuiltInTagDatasetConfig = NamedTags | TagFiles
DATASET_KINDS: Kinds[Any] = dataset_kinds("tags", get_args(BuiltInTagDatasetConfig))

if TYPE_CHECKING:
    TagDatasetConfig = BuiltInTagDatasetConfig
else:
    TagDatasetConfig = Annotated[Any, DATASET_KINDS]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TagConfig:
    """Data of a tagger.

    Attributes:
      dataset: Where the sentences come from.
      tokenizer: Vocabulary of words, or of their pieces: a word's label is then read at its first piece.
        ``Words(min_count=2)`` leaves words out that training has once, so that the unknown id learns from them what
        unknown words are like.
      more_words: A file of word vectors (word2vec's formats) whose words join the vocabulary, so that a run that begins
        with these vectors (``start``) knows words that its own sentences do not have.
      max_more_words: Most of them, the first in the file, which are the most frequent.
      lowercase: Whether words are looked up in lower case; letters keep their case.
      word_len: Bytes of each word that models of letters read; None where no model reads them.
      broken_iob: What to do with labels that break the IOB scheme, see `transformer_jax.data.iob`.
      max_words: Longest training sentence; longer ones are left out of training, never of scores. None takes all.
      max_len: The same in tokens, where these are pieces: start and end included.
      batch_tokens: Words of a training batch, padding included, at most: the shorter the sentences, the more rows.
      batch_size: Instead, rows of every training batch.
      num_buckets: Most lengths of training batches.
      seed: Seed of the order of batches.
      max_train_sentences: Take only the first so many training sentences.
      max_development_sentences: Take only the first so many development sentences.
      max_test_sentences: Take only the first so many test sentences.

    Raises:
      ConfigError: If a number is out of range.
    """

    dataset: TagDatasetConfig = dataclasses.field(default_factory=NamedTags)
    tokenizer: Words | WordPieces | SavedTokenizer = dataclasses.field(
        default_factory=lambda: Words(min_count=2)
    )
    more_words: str | None = None
    max_more_words: Vocabulary = 20_000
    lowercase: bool = True
    word_len: Length | None = 20
    broken_iob: BrokenIob = "repair"
    max_words: Length | None = None
    max_len: Length | None = None
    batch_tokens: Tokens | None = None
    batch_size: Rows = 32
    num_buckets: Annotated[int, AtMost(1_000)] = 5
    seed: Seed = 0
    max_train_sentences: Count | None = None
    max_development_sentences: Count | None = None
    max_test_sentences: Count | None = None

    def __post_init__(self) -> None:
        check_bounds(self)
        check_choice("broken_iob", self.broken_iob, ("repair", "refuse"))
        for name in ("batch_tokens", "batch_size", "num_buckets", "max_words", "max_len"):
            check_at_least(1, **{name: getattr(self, name)})
        for name in ("train", "development", "test"):
            check_at_least(1, **{f"max_{name}_sentences": getattr(self, f"max_{name}_sentences")})
        check_at_least(2, word_len=self.word_len)
        check_at_least(1, max_more_words=self.max_more_words)
        require(self.more_words != "", "the path of more_words is empty; None for no more words")
        check_at_least(0, seed=self.seed)
        if isinstance(self.tokenizer, WordPieces):
            require(
                self.word_len is None, "letters go with whole words: with 'word_pieces' let word_len be null"
            )
            require(self.more_words is None, "more_words are whole words: leave them out with 'word_pieces'")

    @functools.cached_property
    def reads_pieces(self) -> bool:
        """Whether tokens are pieces of words."""
        if isinstance(self.tokenizer, SavedTokenizer):
            return Tokenizer.load(os.path.expanduser(self.tokenizer.path)).unit != "words"
        return isinstance(self.tokenizer, WordPieces)


def with_absolute_tag_paths(config: TagConfig) -> TagConfig:
    """The same data, to be found from any folder.

    Example:
      >>> with_absolute_tag_paths(TagConfig(dataset=TagFiles(train="/data/../a.tsv"))).dataset.train
      '/a.tsv'
    """
    tokenizer = with_absolute_path(config.tokenizer)
    assert isinstance(tokenizer, Words | WordPieces | SavedTokenizer)
    return dataclasses.replace(
        config,
        dataset=with_absolute_dataset_paths(config.dataset),
        tokenizer=tokenizer,
        more_words=config.more_words and absolute_path(config.more_words),
    )
