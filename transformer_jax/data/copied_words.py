"""Ids of words that a vocabulary does not have but a source does, so that they can be copied.

In each row such a word has the id ``vocab_size + position of its first token in the source``: it depends on the row
alone, and a model that copies source tokens gives these ids probabilities as it does those of the vocabulary
(`transformer_jax.functional.pointer`).

Source: See et al. 2017, https://arxiv.org/abs/1704.04368, section 2.2.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from transformer_jax.data.batches import UNK_ID
from transformer_jax.data.tokenizers import Tokenizer


@dataclasses.dataclass(frozen=True)
class CopiedWords:
    """Extended ids of rows, by a tokenizer that both sides share.

    Attributes:
      tokenizer: The tokenizer.

    Example:
      >>> from transformer_jax.data.tokenizers import train_word_tokenizer
      >>> copied = CopiedWords(train_word_tokenizer(["call the method"]))
      >>> ids = copied.tokenizer.encode("call foo the foo")
      >>> source = copied.source(ids, "call foo the foo")
      >>> source, copied.tokenizer.vocab_size
      ([4, 8, 6, 8], 7)
      >>> copied.target(copied.tokenizer.encode("foo bar"), "foo bar", copied.words(source, "call foo the foo"))
      [8, 1]
    """

    tokenizer: Tokenizer

    def source(self, ids: Sequence[int], text: str) -> list[int]:
        """Ids of a source, its unknown words numbered.

        Args:
          ids: As the tokenizer gives them, or the first of them.
          text: The text that they are of.
        """
        if UNK_ID not in ids:
            return list(ids)
        size, unknown = self.tokenizer.vocab_size, iter(self.tokenizer.unknown_pieces(text))
        places: dict[str, int] = {}
        return [
            places.setdefault(next(unknown), size + place) if token == UNK_ID else token
            for place, token in enumerate(ids)
        ]

    def words(self, source: Sequence[int], text: str) -> dict[str, int]:
        """Extended id of each unknown word of a source.

        Args:
          source: Its ids, as `source` gives them.
          text: The text that they are of.
        """
        size = self.tokenizer.vocab_size
        extended = [token for token in source if token >= size]
        # A source that was cut has fewer ids than its text has unknown words.
        return dict(zip(self.tokenizer.unknown_pieces(text), extended)) if extended else {}

    def target(self, ids: Sequence[int], text: str, words: Mapping[str, int]) -> list[int]:
        """Ids of a target, its unknown words numbered where the source has them.

        Args:
          ids: As the tokenizer gives them, or the first of them.
          text: The text that they are of.
          words: The source's, as `words` gives them.
        """
        if UNK_ID not in ids or not words:
            return list(ids)
        unknown = iter(self.tokenizer.unknown_pieces(text))
        return [words.get(next(unknown), UNK_ID) if token == UNK_ID else token for token in ids]

    def named(self, ids: Sequence[int], words: Mapping[str, int]) -> tuple[list[int], list[str]]:
        """Ids of the vocabulary alone, and the words that its unknown tokens stand for, in order.

        Args:
          ids: Of an output; none is the unknown id.
          words: The source's, as `words` gives them.
        """
        size, by_id = self.tokenizer.vocab_size, {place: word for word, place in words.items()}
        named = [by_id[token] for token in ids if token >= size]
        return [UNK_ID if token >= size else token for token in ids], named
