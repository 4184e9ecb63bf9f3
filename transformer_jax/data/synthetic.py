"""Random lines to copy or reverse, for tests of whole models."""

import numpy as np

from transformer_jax.data.examples import Pair
from transformer_jax.errors import DataError


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
