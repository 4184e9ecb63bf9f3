"""Moses-style text, on which many published scores were computed: lower-cased, normalised, cut into tokens."""

import dataclasses
import functools
from typing import Any

from transformer_jax.data.line_pairs import LineForm
from transformer_jax.data.pairs_config import PairsConfig


@functools.cache
def _tools(language: str) -> tuple[Any, Any, Any]:
    from sacremoses import MosesDetokenizer, MosesPunctNormalizer, MosesTokenizer

    return MosesPunctNormalizer(lang=language), MosesTokenizer(lang=language), MosesDetokenizer(lang=language)


def moses_tokenized(line: str, language: str, *, lowercase: bool) -> str:
    """The line normalised and cut into tokens with spaces between, ``&``, quotes and the like escaped.

    Args:
      line: Plain text.
      language: Two letters, as in ``"de"``: rules for abbreviations and quotes.
      lowercase: Whether text is lower-cased first.

    Example:
      >>> moses_tokenized("Two dogs, a cat's toy.", "en", lowercase=True)
      'two dogs , a cat &apos;s toy .'

    Source: the scripts of Moses (Koehn et al. 2007, https://aclanthology.org/P07-2045), by ``sacremoses``.
    """
    normalizer, tokenizer, _ = _tools(language)
    text = normalizer.normalize(line.lower() if lowercase else line)
    return tokenizer.tokenize(text, return_str=True, escape=True)


def moses_detokenized(line: str, language: str) -> str:
    """Plain text of a line of tokens; case that was lost stays lost.

    Example:
      >>> moses_detokenized("two dogs , a cat &apos;s toy .", "en")
      "two dogs, a cat's toy."
    """
    return _tools(language)[2].detokenize(line.split())


@dataclasses.dataclass(frozen=True)
class MosesSides(LineForm):
    """Both sides of a data set in Moses-style tokens.

    Attributes:
      source_language: Two letters.
      target_language: Two letters.
      lowercase: Whether text is lower-cased first.
    """

    source_language: str
    target_language: str
    lowercase: bool

    @classmethod
    def of(cls, config: PairsConfig) -> "MosesSides | None":
        """Moses-style tokenization of both sides as a config has it; None if its lines stay unchanged."""
        if config.moses is None:
            return None
        source_language, target_language = config.moses_languages()
        assert source_language is not None  # the config has checked both
        assert target_language is not None
        return cls(source_language, target_language, config.moses.lowercase)

    def source(self, line: str) -> str:
        """A source in tokens."""
        return moses_tokenized(line, self.source_language, lowercase=self.lowercase)

    def target(self, line: str) -> str:
        """A target in tokens."""
        return moses_tokenized(line, self.target_language, lowercase=self.lowercase)

    def plain_target(self, line: str) -> str:
        """A target's tokens as plain text again."""
        return moses_detokenized(line, self.target_language)

    @property
    def description(self) -> str:
        """The form in words."""
        return f"{self.target_language} tokens{', lower case' if self.lowercase else ''}"
