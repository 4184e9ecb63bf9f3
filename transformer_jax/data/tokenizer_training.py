"""From a tokenizer's config and training text to the tokenizer."""

import dataclasses
import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from transformer_jax.data.byte_tokenizer import single_byte_tokenizer, train_byte_pair_tokenizer
from transformer_jax.data.readers import stream_lines
from transformer_jax.data.tokenizer_config import (
    BytePairs,
    Bytes,
    Characters,
    SavedTokenizer,
    Subwords,
    TokenizerConfig,
    WordPieces,
    Words,
)
from transformer_jax.data.tokenizers import (
    Tokenizer,
    train_character_tokenizer,
    train_subword_tokenizer,
    train_word_tokenizer,
)
from transformer_jax.data.word_piece_tokenizer import train_word_piece_tokenizer
from transformer_jax.errors import ConfigError


def train_tokenizer(config: TokenizerConfig, texts: Iterable[str]) -> Tokenizer:
    """Tokenizer of a config, trained on texts; a saved one is loaded.

    Args:
      config: Kind of tokenizer and its size.
      texts: Lines, or whole documents.

    Raises:
      ConfigError: If the vocabulary is larger than one may be.
      DataError: If a saved tokenizer cannot be read, or the texts do not hold what the trainer needs.

    Example:
      >>> train_tokenizer(Characters(), ["cab"]).encode("abc")
      [4, 5, 6]
    """
    match config:
        case SavedTokenizer():
            return Tokenizer.load(os.path.expanduser(config.path))
        case Characters():
            return train_character_tokenizer(texts, max_size=config.max_size)
        case Words():
            return train_word_tokenizer(texts, max_size=config.max_size, min_count=config.min_count)
        case Subwords():
            return train_subword_tokenizer(texts, algorithm=config.algorithm, vocab_size=config.vocab_size)
        case WordPieces():
            return train_word_piece_tokenizer(texts, vocab_size=config.vocab_size, lowercase=config.lowercase)
        case Bytes():
            return single_byte_tokenizer()
        case BytePairs():
            return train_byte_pair_tokenizer(texts, vocab_size=config.vocab_size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainedTokenizer:
    """A tokenizer, and what it makes of the text that it was trained on.

    Attributes:
      tokenizer: The tokenizer.
      num_lines: Lines of the text.
      num_words: Words between white space.
      num_tokens: Tokens of the lines, without start and end.
    """

    tokenizer: Tokenizer
    num_lines: int
    num_words: int
    num_tokens: int

    @property
    def tokens_per_word(self) -> float:
        """Mean tokens of a word."""
        return self.num_tokens / max(self.num_words, 1)


def train_on_files(config: TokenizerConfig, files: Sequence[str | os.PathLike[str]]) -> TrainedTokenizer:
    """Tokenizer of a config, trained on the lines of files.

    Args:
      config: Kind of tokenizer and its size.
      files: Plain or gzipped, one example a line.

    Raises:
      ConfigError: If there is no file, or the vocabulary is larger than one may be.
      DataError: If a file cannot be read, or the texts do not hold what the trainer needs.
    """
    if not files:
        raise ConfigError("a tokenizer is trained on at least one text file: name it")
    lines = list(itertools.chain.from_iterable(stream_lines(Path(file)) for file in files))
    tokenizer = train_tokenizer(config, lines)
    return TrainedTokenizer(
        tokenizer=tokenizer,
        num_lines=len(lines),
        num_words=sum(len(line.split()) for line in lines),
        num_tokens=sum(map(len, tokenizer.encode_batch(lines))),
    )


def known_vocab_size(tokenizer: TokenizerConfig) -> int | None:
    """Vocabulary size known from a tokenizer's config alone, an upper bound where it is trained; None where none.

    Example:
      >>> known_vocab_size(Subwords(vocab_size=300)), known_vocab_size(Characters())
      (300, None)
    """
    match tokenizer:
        case SavedTokenizer():
            return Tokenizer.load(os.path.expanduser(tokenizer.path)).vocab_size
        case Bytes():
            return single_byte_tokenizer().vocab_size
        case Subwords() | WordPieces() | BytePairs():
            return tokenizer.vocab_size
        case Characters() | Words():
            return tokenizer.max_size
