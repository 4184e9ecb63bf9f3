"""Outputs that hold words of their sources which the vocabulary does not have: their ids replaced by the words."""

import dataclasses
from collections.abc import Sequence

from transformer_jax.data.copied_words import CopiedWords
from transformer_jax.data.tokenizers import UNKNOWN_TEXT, Tokenizer
from transformer_jax.inference.batch_search import Hypothesis


def with_copied_words(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    sources: Sequence[Sequence[int]],
    found: Sequence[Sequence[Hypothesis]],
) -> list[list[Hypothesis]]:
    """Hypotheses whose extended ids are unknown tokens with the words that these stand for.

    Args:
      tokenizer: The tokenizer of both sides.
      texts: Sources as the tokenizer reads them.
      sources: Their ids, unknown words numbered.
      found: Hypotheses of each.
    """
    copied, size = CopiedWords(tokenizer), tokenizer.vocab_size
    changed = []
    for text, source, hypotheses in zip(texts, sources, found, strict=True):
        row = list(hypotheses)
        if any(token >= size for one in row for token in one.tokens):
            words = copied.words(source, text)
            for place, one in enumerate(row):
                ids, named = copied.named(one.tokens, words)
                row[place] = dataclasses.replace(one, tokens=tuple(ids), copied=tuple(named))
        changed.append(row)
    return changed


def source_pieces(tokenizer: Tokenizer, ids: Sequence[int], text: str | None) -> list[str]:
    """One text for each id of a source, of its own words the words where the text is given."""
    size = tokenizer.vocab_size
    if all(token < size for token in ids):
        return tokenizer.pieces(ids)
    words = {} if text is None else CopiedWords(tokenizer).words(ids, text)
    by_id = {token: word for word, token in words.items()}
    return [
        by_id.get(token, UNKNOWN_TEXT) if token >= size else tokenizer.pieces([token])[0] for token in ids
    ]


def hypothesis_pieces(tokenizer: Tokenizer, hypothesis: Hypothesis) -> list[str]:
    """One text for each token of a hypothesis of `with_copied_words`, its copied words among them."""
    words = iter(hypothesis.copied)
    return [
        next(words, piece) if piece == UNKNOWN_TEXT else piece
        for piece in tokenizer.pieces(hypothesis.tokens)
    ]


def hypothesis_text(tokenizer: Tokenizer, hypothesis: Hypothesis) -> str:
    """Text of a hypothesis, with the copied words in the place of unknown tokens; it may hold line breaks."""
    text = tokenizer.decode(hypothesis.tokens)
    parts = text.split(UNKNOWN_TEXT)
    if len(parts) == len(hypothesis.copied) + 1:  # something is copied, or nothing is unknown
        text = "".join(piece for pair in zip(parts, (*hypothesis.copied, "")) for piece in pair)
    return text
