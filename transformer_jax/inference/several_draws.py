"""Several draws of each source by a search that draws: every draw follows from the seed, the source and two numbers."""

from collections.abc import Sequence
from typing import Any

from transformer_jax.decode.search_config import SampleConfig
from transformer_jax.errors import ConfigError
from transformer_jax.inference.batch_search import BatchSearcher, Hypothesis

__all__ = ["MAX_SAMPLES", "SAMPLE_NUMBERS", "SeveralDraws", "check_num_samples"]

SAMPLE_NUMBERS = 1 << 20
"""Draw ``j`` of source ``i`` has the number ``i + j * SAMPLE_NUMBERS``, from which it draws."""

MAX_SAMPLES = 2**31 // SAMPLE_NUMBERS - 1
"""Most draws of a source, whose numbers stay below 2**31."""


def check_num_samples(num_samples: int, search: Any = None) -> None:
    """Raise ``ConfigError`` unless a search can give so many outputs of a source.

    Args:
      num_samples: Draws of each source.
      search: The search; None if it draws.

    Example:
      >>> check_num_samples(4)
    """
    if not 1 <= num_samples <= MAX_SAMPLES:
        raise ConfigError(f"`num_samples` must be 1 to {MAX_SAMPLES:,}, got {num_samples}")
    if num_samples > 1 and search is not None and not isinstance(search, SampleConfig):
        raise ConfigError(
            f"`num_samples={num_samples}` is for searches that draw, and this one is '{search.kind}': add "
            "`temperature=1`, or ask a beam for its `num_best`"
        )


class SeveralDraws:
    """A search that gives every source several hypotheses, one from each draw.

    The first draw of a source is the one that the search gives alone.

    Args:
      searcher: Draws one output of each source.
      num_samples: Draws of each source; with one the search is as it is, whether it draws or not.
    """

    def __init__(self, searcher: BatchSearcher, num_samples: int) -> None:
        self._searcher, self._num_samples = searcher, num_samples

    def __call__(self, params: Any, sources: Sequence[Any], **given: Any) -> list[list[Hypothesis]]:
        """Hypotheses of every source in the order of the draws; arguments as those of `BatchSearcher`."""
        if self._num_samples == 1:
            return self._searcher(params, sources, **given)
        found = self._searcher(params, self._repeated(sources), **self._numbered(given, len(sources)))
        return [
            [one for draw in found[first : first + self._num_samples] for one in draw]
            for first in range(0, len(found), self._num_samples)
        ]

    def changed_by_neighbours(
        self,
        params: Any,
        sources: Sequence[Any],
        found: Sequence[Sequence[Hypothesis]],
        *,
        seed: int = 0,
        **given: Any,
    ) -> list[int]:
        """Which sources have a draw that changes in other batches, see `BatchSearcher.changed_by_neighbours`."""
        if self._num_samples == 1:
            return self._searcher.changed_by_neighbours(params, sources, found, seed=seed, **given)
        changed = self._searcher.changed_by_neighbours(
            params,
            self._repeated(sources),
            [[one] for draws in found for one in draws],
            seed=seed,
            **self._numbered(given, len(sources)),
        )
        return sorted({place // self._num_samples for place in changed})

    def _repeated(self, values: Sequence[Any]) -> list[Any]:
        return [value for value in values for _ in range(self._num_samples)]

    def _numbered(self, given: dict[str, Any], num_sources: int) -> dict[str, Any]:
        prefixes, row_ids = given.get("prefixes"), given.get("row_ids")
        numbers = range(num_sources) if row_ids is None else row_ids
        return {
            "prefixes": None if prefixes is None else self._repeated(prefixes),
            "row_ids": [
                (number + draw * SAMPLE_NUMBERS) % 2**31
                for number in numbers
                for draw in range(self._num_samples)
            ],
        }
