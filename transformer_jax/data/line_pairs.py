"""Pairs of lines, and the three parts of a set of them."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

from transformer_jax.data.hash_fraction import hash_fraction

HELD_OUT_SHARE = 0.025
"""Share of the source lines held out as development set where a config names none."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """A source line with its target line; ``line`` is its number in the file it came from, 0 if none."""

    source: str
    target: str
    line: int = dataclasses.field(default=0, compare=False)


@dataclasses.dataclass(frozen=True, slots=True)
class EvaluationItem:
    """A source line with every target that counts as right, at least one."""

    source: str
    references: tuple[str, ...]
    line: int = dataclasses.field(default=0, compare=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairSplits:
    """The three parts of a set of pairs.

    Attributes:
      train: Training pairs.
      development: Items to select checkpoints on.
      test: Items to report scores on.
      notes: Remarks on how the parts were made, for reports.
    """

    train: list[Pair]
    development: list[EvaluationItem]
    test: list[EvaluationItem]
    notes: tuple[str, ...] = ()


def as_items(pairs: Iterable[Pair]) -> list[EvaluationItem]:
    """Items whose only reference is the pair's target."""
    return [EvaluationItem(pair.source, (pair.target,), pair.line) for pair in pairs]


def with_held_out(train: list[Pair], development: list[Pair] | None, test: list[Pair] | None) -> PairSplits:
    """Splits of pairs of lines, without the training pairs that have an empty side.

    Args:
      train: Training pairs.
      development: Development pairs; None holds out `HELD_OUT_SHARE` of the source lines, by a hash of the line.
      test: Test pairs; None for no test set.
    """
    notes: tuple[str, ...] = ()
    whole = [pair for pair in train if pair.source.strip() and pair.target.strip()]
    if len(whole) < len(train):
        notes += (f"left out {len(train) - len(whole)} training pairs with an empty side",)
    if development is None:
        sources = sorted({pair.source for pair in whole}, key=hash_fraction)
        # One source at least stays, however few there are.
        num_held_out = min(math.ceil(HELD_OUT_SHARE * len(sources)), max(0, len(sources) - 1))
        held_out = set(sources[:num_held_out])
        development = [pair for pair in whole if pair.source in held_out]
        whole = [pair for pair in whole if pair.source not in held_out]
        if held_out:
            notes += (
                f"development set: {HELD_OUT_SHARE:.1%} of the source lines, held out of the training set",
            )
        else:
            notes += ("no development set: too few different source lines to hold one out",)
    return PairSplits(train=whole, development=as_items(development), test=as_items(test or []), notes=notes)


class LineForm:
    """Base of forms that lines have before a tokenizer sees them, such as Moses-style tokens."""

    def source(self, line: str) -> str:
        """A source in this form."""
        raise NotImplementedError

    def target(self, line: str) -> str:
        """A target in this form."""
        raise NotImplementedError

    def pairs(self, pairs: Sequence[Any]) -> list[Any]:
        """Both sides of pairs, or source and references of evaluation items, in this form."""
        found: list[Pair | EvaluationItem] = []
        for one in pairs:
            if isinstance(one, Pair):
                changed = dataclasses.replace(
                    one, source=self.source(one.source), target=self.target(one.target)
                )
                found.append(changed)
            else:
                references = tuple(map(self.target, one.references))
                found.append(dataclasses.replace(one, source=self.source(one.source), references=references))
        return found
