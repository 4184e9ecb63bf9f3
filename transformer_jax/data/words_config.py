"""Configs of the data of word vectors: texts, words, windows and batches."""

import dataclasses
from typing import Literal

from transformer_jax.bounds import (
    Count,
    Length,
    Rows,
    Seed,
    Vocabulary,
    check_at_least,
    check_bounds,
    require_field,
)
from transformer_jax.data.sources.named_text import NamedText
from transformer_jax.data.sources.text_files import TextFiles
from transformer_jax.data.sources.text_sources import TextSource, from_any_folder
from transformer_jax.data.subword_buckets import SubwordBuckets
from transformer_jax.data.word_phrases import Phrases
from transformer_jax.data.word_vocabulary import WordRule
from transformer_jax.errors import check_choice

__all__ = ["NamedText", "Phrases", "SubwordBuckets", "TextFiles", "WordRule", "WordsConfig"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordsConfig:
    """Data of word vectors.

    Attributes:
      datasets: Texts, one after another; the development and test texts are theirs too.
      rule: How a line is cut into words.
      sentences: What no window crosses: the end of a line, or that of a document.
      min_count: Words that stand more rarely in the training text are left out, as if they were not there.
      max_words: Most words of the vocabulary; None for all.
      phrases: Neighbours that are joined into one word; None for none.
      subwords: Character n-grams that have vectors too; None for none.
      window: Largest distance of a context.
      sample: Threshold of the subsampling of frequent words; 0 keeps all.
      row_len: Centres of a row; noise words are shared by a row.
      batch_size: Rows of a batch.
      seed: Seed of subsampling, windows, noise and order.

    Raises:
      ConfigError: If a value is out of range.
    """

    datasets: tuple[TextSource, ...] = (NamedText(name="english-novels"),)
    rule: WordRule = dataclasses.field(default_factory=WordRule)
    sentences: Literal["lines", "documents"] = "lines"
    min_count: Count = 5
    max_words: Vocabulary | None = None
    phrases: Phrases | None = None
    subwords: SubwordBuckets | None = None
    window: Length = 5
    sample: float = 1e-3
    row_len: Length = 32
    batch_size: Rows = 128
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(
            1,
            min_count=self.min_count,
            max_words=self.max_words,
            window=self.window,
            row_len=self.row_len,
            batch_size=self.batch_size,
        )
        check_at_least(0, seed=self.seed)
        check_choice("sentences", self.sentences, ("lines", "documents"))
        require_field(len(self.datasets) > 0, self, "datasets", "at least one text")
        require_field(0.0 <= self.sample < 1.0, self, "sample", "at least 0 and below 1")


def with_absolute_word_paths(config: WordsConfig) -> WordsConfig:
    """The same data, to be found from any folder.

    Example:
      >>> config = WordsConfig(datasets=(TextFiles(train=("/data/../a.txt",)),))
      >>> with_absolute_word_paths(config).datasets[0].train
      ('/a.txt',)
    """
    return dataclasses.replace(config, datasets=from_any_folder(config.datasets))
