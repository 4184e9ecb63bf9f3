"""Drawings and images with the text that they stand for, and the three parts of a set of them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from transformer_jax.data.hash_fraction import hash_fraction

HELD_OUT_SHARE = 0.05
"""Share of the captions held out as development set where a data set names none."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Captioned:
    """Something to read, and what it says.

    Attributes:
      item: An `Ink`.
      caption: Its text: tokens between spaces.
      name: What to call it in messages.
    """

    item: Any
    caption: str
    name: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaptionSplits:
    """The three parts of a set of captioned items.

    Attributes:
      train: Training items.
      development: Items to select checkpoints on.
      test: Items to report scores on.
      notes: Remarks on how the parts were made, for reports.
    """

    train: list[Captioned]
    development: list[Captioned]
    test: list[Captioned]
    notes: tuple[str, ...] = ()


def hold_out_captions(
    items: Sequence[Captioned], *, share: float = HELD_OUT_SHARE
) -> tuple[list[Captioned], list[Captioned]]:
    """Hold items out by a hash of their captions: what is held out was never seen, by whatever hand.

    Args:
      items: Captioned items.
      share: Of the different captions, about.

    Returns:
      The items that are kept and those held out, each in the order given.

    Example:
      >>> items = [Captioned(item=None, caption=f"{number // 2}", name="") for number in range(60)]
      >>> kept, held_out = hold_out_captions(items, share=0.2)
      >>> len(kept) + len(held_out), {one.caption for one in kept} & {one.caption for one in held_out}
      (60, set())
    """
    is_out = [hash_fraction(one.caption) < share for one in items]
    return (
        [one for one, out in zip(items, is_out, strict=True) if not out],
        [one for one, out in zip(items, is_out, strict=True) if out],
    )
