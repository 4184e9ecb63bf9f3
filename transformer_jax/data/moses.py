"""Moses-style text, on which many published scores were computed: lower-cased, normalised, cut into tokens."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from transformer_jax.data.examples import EvaluationItem, Pair


@functools.cache
def _tools(language: str) -> tuple[Any, Any, Any]:
    from sacremoses import MosesDetokenizer, MosesPunctNormalizer, MosesTokenizer

    return MosesPunctNormalizer(lang=language), MosesTokenizer(lang=language), MosesDetokenizer(lang=language)


def moses_tokenized(line: str, language: str, *, lowercase: bool) -> str:
    """The line normalised and cut into tokens with spaces between, ``&``, quotes and the like escaped.

    Args:
      line: Plain text.
      language: Two letters, as in ``"de"``: rules for abbreviations and quotes.
      lowercase: Whether upper case goes first.

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


def tokenized_pairs(
    pairs: Sequence[Any], source_language: str, target_language: str, *, lowercase: bool
) -> list[Any]:
    """Both sides of pairs, or source and references of evaluation items, as Moses-style tokens."""

    def source(line: str) -> str:
        return moses_tokenized(line, source_language, lowercase=lowercase)

    def target(line: str) -> str:
        return moses_tokenized(line, target_language, lowercase=lowercase)

    found: list[Pair | EvaluationItem] = []
    for one in pairs:
        if isinstance(one, Pair):
            found.append(dataclasses.replace(one, source=source(one.source), target=target(one.target)))
        else:
            references = tuple(map(target, one.references))
            found.append(dataclasses.replace(one, source=source(one.source), references=references))
    return found
