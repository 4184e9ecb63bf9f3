"""Texts with a class each, and the three parts of a set of them."""

import collections
import dataclasses
import math
from collections.abc import Iterable, Sequence

from transformer_jax.data.hash_fraction import hash_fraction

HELD_OUT_SHARE = 0.1
"""Share of each class held out as development set where a data set names none."""


@dataclasses.dataclass(frozen=True, slots=True)
class LabelledText:
    """A text and its class; ``line`` is its number in the file it came from, 0 if none."""

    text: str
    label: str
    line: int = dataclasses.field(default=0, compare=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassSplits:
    """The three parts of a set of labelled texts.

    Attributes:
      train: Training texts.
      development: Texts to select checkpoints on.
      test: Texts to report scores on.
      notes: Remarks on how the parts were made, for reports.
    """

    train: list[LabelledText]
    development: list[LabelledText]
    test: list[LabelledText]
    notes: tuple[str, ...] = ()


def hold_out(
    examples: Sequence[LabelledText], *, share: float = HELD_OUT_SHARE, salt: str = ""
) -> tuple[list[LabelledText], list[LabelledText]]:
    """Hold a share of each class out by a hash of the text, so that equal texts stay together.

    A class keeps at least one of its texts, so that nothing held out is of a class that training never sees.

    Args:
      examples: Labelled texts.
      share: Of each class, rounded up where something can be held out.
      salt: Another salt gives another choice.

    Returns:
      The texts that are kept and those held out, each in the order given.

    Example:
      >>> examples = [LabelledText(f"text {number}", "ab"[number % 2]) for number in range(20)]
      >>> kept, held_out = hold_out([*examples, LabelledText("x", "c")])
      >>> len(kept), sorted(one.label for one in held_out)
      (19, ['a', 'b'])
    """
    texts: dict[str, dict[str, None]] = collections.defaultdict(dict)
    for one in examples:
        texts[one.label][one.text] = None
    # A text that stands in two classes is decided once, by the first.
    chosen: set[str] = set()
    for of_class in texts.values():
        ordered = sorted(of_class, key=lambda text: hash_fraction(salt + text))
        chosen.update(ordered[: min(math.ceil(share * len(ordered)), len(ordered) - 1)])
    kept = [one for one in examples if one.text not in chosen]
    held_out = [one for one in examples if one.text in chosen]
    left = {one.label for one in kept}
    lost = [one for one in held_out if one.label not in left]
    return (
        [one for one in examples if one.text not in chosen or one in lost],
        [one for one in held_out if one not in lost],
    )


def without_texts_of(
    train: Sequence[LabelledText], others: Iterable[LabelledText]
) -> tuple[list[LabelledText], int]:
    """Training texts that do not stand among others, and how many do.

    Example:
      >>> without_texts_of([LabelledText("a", "x"), LabelledText("b", "x")], [LabelledText("a", "y")])[1]
      1
    """
    known = {one.text for one in others}
    kept = [one for one in train if one.text not in known]
    return kept, len(train) - len(kept)
