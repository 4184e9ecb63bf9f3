"""Sentences whose words have a label each, and the three parts of a set of them."""

import dataclasses
import math
from collections.abc import Sequence

from transformer_jax.data.hash_fraction import hash_fraction
from transformer_jax.errors import DataError

HELD_OUT_SHARE = 0.1
"""Share of the sentences held out as development set where a config names none."""


@dataclasses.dataclass(frozen=True, slots=True)
class TaggedSentence:
    """Words with their labels.

    Attributes:
      words: The words, at least one.
      labels: The label of each word.
      label: Of the whole sentence, as an intent; None where sentences have none.
      line: Number of its first line in the file that it is from, 0 if none.

    Raises:
      DataError: If there is no word, or not a label for each.
    """

    words: tuple[str, ...]
    labels: tuple[str, ...]
    label: str | None = None
    line: int = dataclasses.field(default=0, compare=False)

    def __post_init__(self) -> None:
        if not self.words or len(self.words) != len(self.labels):
            raise DataError(
                f"a sentence has a label for each of its words, at least one; got {len(self.words)} words and "
                f"{len(self.labels)} labels"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TagSplits:
    """The three parts of a set of sentences.

    Attributes:
      train: Training sentences.
      development: Sentences to select checkpoints on.
      test: Sentences to report scores on.
      notes: Remarks on how the parts were made, for reports.
    """

    train: list[TaggedSentence]
    development: list[TaggedSentence]
    test: list[TaggedSentence]
    notes: tuple[str, ...] = ()


def with_held_out(
    train: Sequence[TaggedSentence],
    development: Sequence[TaggedSentence] | None,
    test: Sequence[TaggedSentence] | None,
    *,
    notes: tuple[str, ...] = (),
) -> TagSplits:
    """The three parts of a user's own sentences.

    Args:
      train: Training sentences.
      development: Development sentences; None holds out `HELD_OUT_SHARE` of the different training sentences, by a hash
        of their words, so that no sentence stands on both sides.
      test: Test sentences; None for none.
      notes: Remarks that are known already.

    Example:
      >>> sentences = [TaggedSentence((word,), ("X",)) for word in "abcdefghijk"]
      >>> splits = with_held_out(sentences, None, None)
      >>> len(splits.train), len(splits.development), splits.notes
      (9, 2, ('development set: 10% of the sentences, held out of the training set',))
    """
    kept = list(train)
    if development is None:
        texts = sorted({_text(one) for one in kept}, key=hash_fraction)
        # One sentence at least stays, however few there are.
        held_out = set(texts[: min(math.ceil(HELD_OUT_SHARE * len(texts)), max(0, len(texts) - 1))])
        development = [one for one in kept if _text(one) in held_out]
        kept = [one for one in kept if _text(one) not in held_out]
        notes += (
            f"development set: {HELD_OUT_SHARE:.0%} of the sentences, held out of the training set"
            if held_out
            else "no development set: too few different sentences to hold one out",
        )
    return TagSplits(train=kept, development=list(development), test=list(test or []), notes=notes)


def _text(sentence: TaggedSentence) -> str:
    return "\t".join(sentence.words)
