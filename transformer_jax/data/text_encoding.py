"""From texts to token ids as a classifier reads them, and from tokens back to words."""

import bisect
import dataclasses
import itertools
from collections.abc import Sequence

from transformer_jax.data.batches import BOS_ID, EOS_ID
from transformer_jax.data.text_cleaning import clean_text
from transformer_jax.data.tokenizers import Tokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextEncoding:
    """How texts become token ids, the same in training and prediction.

    Attributes:
      tokenizer: Turns text into ids.
      lowercase: Whether texts are written in lower case first.
      splits_punctuation: Whether punctuation is set apart from words first.
      marks_ends: Whether each text begins with the start token and ends with the end token.

    Example:
      >>> from transformer_jax.data.tokenizers import train_word_tokenizer
      >>> encoding = TextEncoding(
      ...   tokenizer=train_word_tokenizer(["who is he ?"]), lowercase=True, splits_punctuation=True, marks_ends=True)
      >>> encoding.encode(["Who is he?", ""])
      [[2, 7, 6, 5, 4, 3], [2, 3]]
    """

    tokenizer: Tokenizer
    lowercase: bool = False
    splits_punctuation: bool = False
    marks_ends: bool = False

    def clean(self, text: str) -> str:
        """The text as the tokenizer reads it."""
        return clean_text(text, lowercase=self.lowercase, splits_punctuation=self.splits_punctuation)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""
        found = self.tokenizer.encode_batch([self.clean(text) for text in texts])
        return [[BOS_ID, *ids, EOS_ID] for ids in found] if self.marks_ends else found

    def cut(self, ids: Sequence[int], length: int) -> list[int]:
        """At most ``length`` of the ids: the first, and the end token where there is one."""
        if len(ids) <= length:
            return list(ids)
        return [*ids[: length - 1], EOS_ID] if self.marks_ends else list(ids[:length])

    def words(self, text: str) -> tuple[str, ...]:
        """The words of a text as the tokenizer reads it."""
        return tuple(self.clean(text).split())

    def word_of_token(self, text: str) -> list[int | None]:
        """The number of the word that each token of a text belongs to; None for start and end.

        Example:
          >>> from transformer_jax.data.tokenizers import train_character_tokenizer
          >>> TextEncoding(tokenizer=train_character_tokenizer(["ab"]), marks_ends=True).word_of_token("ab b")
          [None, 0, 0, 1, 1, None]
        """
        cleaned = self.clean(text)
        words = cleaned.split()
        # Words stand between single spaces: each ends where the lengths so far and a space for each add up to.
        stops = [end + place for place, end in enumerate(itertools.accumulate(map(len, words)))]
        last = len(words) - 1
        places: list[int | None] = [
            min(last, bisect.bisect_right(stops, max(start, stop - 1)))
            for start, stop in self.tokenizer.spans(cleaned)
        ]
        return [None, *places, None] if self.marks_ends else places
