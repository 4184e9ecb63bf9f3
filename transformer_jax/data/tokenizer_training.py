"""From a tokenizer's config and training text to the tokenizer."""

import os
from collections.abc import Iterable

from transformer_jax.data.byte_tokenizer import single_byte_tokenizer, train_byte_pair_tokenizer
from transformer_jax.data.tokenizer_config import (
    BytePairs,
    Bytes,
    Characters,
    SavedTokenizer,
    Subwords,
    TokenizerConfig,
    Words,
)
from transformer_jax.data.tokenizers import (
    Tokenizer,
    train_character_tokenizer,
    train_subword_tokenizer,
    train_word_tokenizer,
)


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
        case Bytes():
            return single_byte_tokenizer()
        case BytePairs():
            return train_byte_pair_tokenizer(texts, vocab_size=config.vocab_size)


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
        case Subwords() | BytePairs():
            return tokenizer.vocab_size
        case Characters() | Words():
            return tokenizer.max_size
