"""Random lines to copy or reverse, for tests of whole models."""

import dataclasses
from typing import Literal

import numpy as np

from transformer_jax.bounds import Count, Length, Seed, Vocabulary, check_at_least, check_bounds
from transformer_jax.data.line_pairs import Pair, PairSplits, as_items
from transformer_jax.errors import DataError, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class SyntheticDataset:
    """Random words to copy or to reverse: a task that every model must learn.

    Attributes:
      task: What the target is.
      num_train: Training pairs, all different.
      num_development: Development items, in no other part.
      num_test: Test items, in no other part.
      num_symbols: Different words.
      min_len: Fewest words of a line.
      max_len: Most words of a line.
      seed: Seed of the draw.
    """

    kind: Literal["synthetic"] = "synthetic"
    task: Literal["copy", "reverse"] = "copy"
    num_train: Count = 2000
    num_development: Count = 100
    num_test: Count = 100
    num_symbols: Vocabulary = 10
    min_len: Length = 3
    max_len: Length = 8
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_bounds(self)
        check_at_least(1, num_train=self.num_train, num_symbols=self.num_symbols, min_len=self.min_len)
        check_at_least(0, num_development=self.num_development, num_test=self.num_test, seed=self.seed)
        require(self.min_len <= self.max_len, f"min_len {self.min_len} is more than max_len {self.max_len}")
        wanted = self.num_train + self.num_development + self.num_test
        possible = 0
        for length in range(self.min_len, self.max_len + 1):
            if possible >= 2 * wanted:
                break
            # A power beyond what is wanted is not computed: it can have millions of digits.
            possible += self.num_symbols ** min(length, wanted.bit_length() + 1)
        require(
            2 * wanted <= possible,
            f"{wanted} different lines are wanted; lines of {self.min_len} to {self.max_len} out of "
            f"{self.num_symbols} words are {possible}, and at least twice as many are needed",
        )

    def load(self) -> PairSplits:
        """Draw the three parts."""
        draw = copy_pairs if self.task == "copy" else reverse_pairs
        pairs = draw(
            self.num_train + self.num_development + self.num_test,
            num_symbols=self.num_symbols,
            min_len=self.min_len,
            max_len=self.max_len,
            seed=self.seed,
        )
        first_test = self.num_train + self.num_development
        return PairSplits(
            train=pairs[: self.num_train],
            development=as_items(pairs[self.num_train : first_test]),
            test=as_items(pairs[first_test:]),
        )


def copy_pairs(num: int, *, num_symbols: int, min_len: int, max_len: int, seed: int) -> list[Pair]:
    """Different random lines, each paired with itself.

    Args:
      num: How many.
      num_symbols: Different words, written ``0``, ``1``, ...
      min_len: Fewest words of a line.
      max_len: Most words of a line.
      seed: Seed of the draw.

    Raises:
      DataError: If there are not that many different lines, or nearly so.

    Example:
      >>> copy_pairs(1, num_symbols=3, min_len=4, max_len=4, seed=0)[0]
      Pair(source='2 1 1 0', target='2 1 1 0', line=1)
    """
    generator = np.random.default_rng(seed)
    lines: dict[str, None] = {}
    for _ in range(20):
        lengths = generator.integers(min_len, max_len, size=num, endpoint=True)
        words = generator.integers(num_symbols, size=(num, max_len))
        lines.update((" ".join(map(str, row[:length])), None) for row, length in zip(words.tolist(), lengths))
        if len(lines) >= num:
            return [Pair(line, line, number) for number, line in enumerate(list(lines)[:num], 1)]
    raise DataError(
        f"cannot draw {num} different lines of {min_len} to {max_len} out of {num_symbols} words; "
        f"found {len(lines)}"
    )


def reverse_pairs(num: int, *, num_symbols: int, min_len: int, max_len: int, seed: int) -> list[Pair]:
    """Different random lines, each paired with itself from the last word to the first; see `copy_pairs`."""
    pairs = copy_pairs(num, num_symbols=num_symbols, min_len=min_len, max_len=max_len, seed=seed)
    return [Pair(pair.source, " ".join(reversed(pair.source.split())), pair.line) for pair in pairs]
