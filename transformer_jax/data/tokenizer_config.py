"""Configs of tokenizers."""

import dataclasses
from typing import ClassVar, Literal

from transformer_jax.bounds import Count, Vocabulary, check_at_least, check_bounds
from transformer_jax.errors import require
from transformer_jax.files import absolute_path


@dataclasses.dataclass(frozen=True, kw_only=True)
class Characters:
    """One token a character, also for white space; ``max_size`` bounds the vocabulary, special ids included."""

    kind: Literal["characters"] = "characters"
    max_size: Vocabulary | None = None

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(5, max_size=self.max_size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Words:
    """One token a word between white space; ``max_size`` bounds the vocabulary, special ids included."""

    kind: Literal["words"] = "words"
    max_size: Vocabulary | None = None
    min_count: Count = 1

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(5, max_size=self.max_size)
        check_at_least(1, min_count=self.min_count)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subwords:
    """Pieces of words, at most ``vocab_size`` of them, special ids included; white space becomes single spaces."""

    kind: Literal["subwords"] = "subwords"
    algorithm: Literal["bpe", "unigram"] = "bpe"
    vocab_size: Vocabulary = 8000

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(6, vocab_size=self.vocab_size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bytes:
    """One token a byte of the text in UTF-8: 260 ids, nothing is ever unknown, and every text is decoded exactly."""

    kind: Literal["bytes"] = "bytes"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BytePairs:
    """Pieces of bytes, at most ``vocab_size`` of them, as in GPT-2: line breaks and white space stay exactly."""

    kind: Literal["byte_pairs"] = "byte_pairs"
    vocab_size: Vocabulary = 1024

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(260, vocab_size=self.vocab_size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordPieces:
    """Pieces of words as in BERT, at most ``vocab_size``; white space and (where ``lowercase``) case are lost."""

    kind: Literal["word_pieces"] = "word_pieces"
    vocab_size: Vocabulary = 8000
    lowercase: bool = True

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(7, vocab_size=self.vocab_size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SavedTokenizer:
    """A file that ``transformer-jax tokenizer train`` or a run wrote, or any ``tokenizer.json`` of another program.

    Both sides of one path share it.
    """

    kind: Literal["saved"] = "saved"
    path: str

    TEXT_FIELD: ClassVar[str] = "path"  # what a text says that stands for the whole in an override

    def __post_init__(self) -> None:
        require(bool(self.path), "the path of a saved tokenizer is empty")


TokenizerConfig = Characters | Words | Subwords | WordPieces | Bytes | BytePairs | SavedTokenizer


def with_absolute_path(tokenizer: TokenizerConfig) -> TokenizerConfig:
    """The same tokenizer, to be found from any folder.

    Example:
      >>> with_absolute_path(SavedTokenizer(path="/data/../joint.json")).path
      '/joint.json'
    """
    if not isinstance(tokenizer, SavedTokenizer):
        return tokenizer
    return dataclasses.replace(tokenizer, path=absolute_path(tokenizer.path))
