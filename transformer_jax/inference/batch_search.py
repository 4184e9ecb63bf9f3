"""Token sequences in, hypotheses out: a compiled search fed with batches of a few fixed shapes."""

import dataclasses
import math
import time
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from transformer_jax.data.batches import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from transformer_jax.data.buckets import PaddedLengths
from transformer_jax.data.padding import pad_rows
from transformer_jax.decode.beam import BeamOutput
from transformer_jax.decode.search_options import RowOptions, SearchIds
from transformer_jax.decode.searcher import (
    BeamConfig,
    SampleConfig,
    SearchConfig,
    Searcher,
    make_searcher,
)
from transformer_jax.errors import ShapeError
from transformer_jax.functional.seeds import seed_key
from transformer_jax.inference.source_rows import TOKEN_ROWS, SourceRows

# No output holds padding, a start token or an unknown one: such a token could only be dropped or be wrong.
_FORBIDDEN_IDS = (PAD_ID, UNK_ID, BOS_ID)


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """One output of a search.

    Args:
      tokens: Ids without start and end.
      score: What the search ranks by: log-probability, or that over the length penalty.
      finished: False where the search was cut off at its longest output.
      copied: Source words that stand for the unknown tokens, in order; none where those stay unknown.
      found: False where no output keeps the rules of the search; it then holds nothing and its score is ``-inf``.
    """

    tokens: tuple[int, ...]
    score: float
    finished: bool
    copied: tuple[str, ...] = ()
    found: bool = True


NOTHING = Hypothesis((), 0.0, True)
"""The output of a source that holds nothing."""

NOT_FOUND = Hypothesis((), -math.inf, False, found=False)
"""Placeholder where no output satisfies the constraints of the search."""

ALONE = 2
"""Of so few lines each is searched alone, unless their bits are to be those they have among others."""

BATCH_ROWS = 32
"""Rows of a batch where the outputs are known already: reading attention, scoring pairs."""

GROUP_LINES = 16 * BATCH_ROWS
"""Lines that are searched together: sorted by length into batches, done before the next group is read."""

SMALL_MODEL = 8_000_000
"""Parameters up to which a step's weights stay in a processor's cache."""


def batch_rows(search: SearchConfig, *, parameters: int) -> int:
    """Rows of a search's batch, from search and model alone.

    A batch is the tile that a search ends with: no step is computed for one whose lines have all ended. So few rows
    waste less on lines that ended before their neighbours, and on a line that has none; many read a large model's
    weights less often.

    Args:
      search: Which search.
      parameters: Of the model.

    Example:
      >>> batch_rows(BeamConfig(max_len=60, num_beams=5), parameters=3_000_000)
      8
    """
    beams = search.num_beams if isinstance(search, BeamConfig) else 1
    most, hypotheses = (24, 40) if parameters <= SMALL_MODEL else (32, 64)
    return max(4, min(most, hypotheses // beams))


class BatchSearcher:
    """Searches for many sources: sorts them into batches of fixed shapes and puts the outputs back in order.

    Args:
      model: The model; only its structure is kept.
      config: Which search.
      batch_size: Rows of every batch on a device; what is missing is filled with rows that are skipped.
      lengths: What sources are padded to. Beyond the usual lengths batches have fewer rows, and outputs may be longer
        in the same ratio as their sources.
      longest_output: The model's own limit of an output; None where it has none.
      seed: Of the draws, where the search draws.
      may_be_unknown: Whether an output may hold the unknown token, for a caller that puts a word in its place.
      num_devices: Devices of this process that search side by side; outputs have the same bits with any number of them.
      form: How sources become the inputs of the model: as rows of token ids, or of features.
    """

    def __init__(
        self,
        model: nnx.Module,
        config: SearchConfig,
        *,
        batch_size: int,
        lengths: PaddedLengths | Sequence[int],
        longest_output: int | None = None,
        seed: int = 0,
        may_be_unknown: bool = False,
        num_devices: int = 1,
        form: SourceRows = TOKEN_ROWS,
    ) -> None:
        self.form = form
        own = (PAD_ID, BOS_ID) if may_be_unknown else _FORBIDDEN_IDS
        forbidden = tuple(sorted({*config.forbidden_ids, *own}))
        self.config: SearchConfig = dataclasses.replace(config, forbidden_ids=forbidden)
        self.batch_size = batch_size * num_devices
        self.lengths = (
            lengths if isinstance(lengths, PaddedLengths) else PaddedLengths(tuple(sorted(set(lengths))))
        )
        self.search_seconds = 0.0
        self._rng_key = seed_key(seed)
        self._model, self._num_devices, self._longest_output = model, num_devices, longest_output
        self._searchers: dict[int, Searcher] = {}  # by the limit of their outputs
        self._searcher(self.lengths.usual)  # refuses now what cannot be, too many devices say

    def set_seed(self, seed: int) -> None:
        """Draw from another seed from now on; nothing is compiled anew."""
        self._rng_key = seed_key(seed)

    def max_len(self, padded: int) -> int:
        """Most tokens of the outputs of sources padded to this length, the end included."""
        usual, wanted = self.lengths.usual, self.config.max_len
        if padded > usual:
            grown = math.ceil(wanted * padded / usual)
            wanted = max(wanted, min(grown, self._longest_output or grown))
        return wanted

    def _searcher(self, padded: int) -> Searcher:
        max_len = self.max_len(padded)
        if max_len not in self._searchers:
            self._searchers[max_len] = make_searcher(
                self._model,
                dataclasses.replace(self.config, max_len=max_len),
                SearchIds(bos_id=BOS_ID, eos_id=EOS_ID, pad_id=PAD_ID),
                num_devices=self._num_devices,
            )
        return self._searchers[max_len]

    def _rows(self, padded: int) -> int:
        return self.lengths.rows(padded, self.batch_size // self._num_devices) * self._num_devices

    @property
    def compile_seconds(self) -> float:
        """Seconds spent on compiling so far."""
        return sum(one.compile_seconds for one in self._searchers.values())

    @property
    def compile_count(self) -> int:
        """Searches compiled so far."""
        return sum(one.compile_count for one in self._searchers.values())

    @property
    def executables(self) -> tuple[jax.stages.Compiled, ...]:
        """The compiled searches."""
        return tuple(compiled for one in self._searchers.values() for compiled in one.executables)

    def check(self) -> None:
        """Raise what the search of sources of the longest usual length would raise, without compiling it."""
        self._searcher(self.lengths.usual).check(self.form.abstract(self.batch_size, self.lengths.usual))

    def __call__(
        self,
        params: Any,
        sources: Sequence[Any],
        *,
        prefixes: Sequence[Sequence[int]] | None = None,
        row_ids: Sequence[int] | None = None,
    ) -> list[list[Hypothesis]]:
        """Hypotheses of every source, best first; an empty source has the empty one, and `NOT_FOUND` marks none.

        Args:
          params: The model's state.
          sources: Ids of each source, or what else ``form`` takes.
          prefixes: Ids that each output must begin with; None for none.
          row_ids: For sampling a number for each source, from which it draws; None numbers them from 0.

        Raises:
          ShapeError: If a source is longer than the longest length, or a prefix than the longest output.
        """
        found: list[list[Hypothesis]] = [[NOTHING] for _ in sources]
        for source in sources:
            if len(source) > self.lengths.longest:
                raise ShapeError(
                    f"a source has {len(source)} {self.form.unit}, the search takes at most {self.lengths.longest}"
                )
        groups = by_padded_length(sources, self.lengths, [i for i, one in enumerate(sources) if len(one)])
        for padded in sorted(groups):
            self._searcher(padded).compile([self.form.abstract(self._rows(padded), padded)])
        start = time.perf_counter()
        if groups:
            params = self._searcher(min(groups)).placed(params)
        for padded, indices in sorted(groups.items()):
            for first in range(0, len(indices), self._rows(padded)):
                chosen = indices[first : first + self._rows(padded)]
                in_batch = self._batch(
                    params,
                    [sources[i] for i in chosen],
                    padded,
                    _picked(prefixes, chosen),
                    _picked(row_ids, chosen) or chosen,
                )
                for index, hypotheses in zip(chosen, in_batch):
                    found[index] = hypotheses
        self.search_seconds += time.perf_counter() - start
        return found

    def changed_by_neighbours(
        self,
        params: Any,
        sources: Sequence[Any],
        found: Sequence[Sequence[Hypothesis]],
        *,
        seed: int = 0,
        prefixes: Sequence[Sequence[int]] | None = None,
        row_ids: Sequence[int] | None = None,
    ) -> list[int]:
        """Which sources' hypotheses change, by a bit of a score or a token, in other batches and another order.

        Args:
          params: As for the search itself.
          sources: What was searched for.
          found: What was found.
          seed: Of the order, and so of who stands beside whom.
          prefixes: As for the search.
          row_ids: As for the search.
        """
        order = np.random.default_rng(seed).permutation(len(sources)).tolist()
        changed, size = [], self.batch_size // 2
        for members in by_padded_length(sources, self.lengths, order).values():
            for first in range(0, len(members), size):
                chosen = members[first : first + size]
                # Before them stands the last of them once more, so that each has another row and a neighbour.
                indices = (chosen[-1], *chosen)
                again = self(
                    params,
                    [sources[index] for index in indices],
                    prefixes=_picked(prefixes, indices),
                    row_ids=_picked(row_ids, indices) or indices,
                )[1:]
                changed += [index for index, one in zip(chosen, again) if one != list(found[index])]
        return sorted(changed)

    def _batch(
        self,
        params: Any,
        sources: Sequence[Any],
        padded: int,
        prefixes: Sequence[Sequence[int]] | None,
        row_ids: Sequence[int],
    ) -> list[list[Hypothesis]]:
        num_rows, max_len = self._rows(padded), self.max_len(padded)
        inputs = self.form.make(sources, num_rows=num_rows, length=padded)
        limits = np.zeros(num_rows, np.int32)
        limits[: len(sources)] = [max_len if len(source) else 0 for source in sources]
        begin = None
        if prefixes is not None:
            longest = max(map(len, prefixes), default=0)
            if longest > max_len:
                raise ShapeError(
                    f"a prefix has {longest} tokens, an output at most {max_len} (search.max_len)"
                )
            begin, _ = pad_rows(prefixes, num_rows=num_rows, length=max_len, pad_id=-1)
        numbers = rng_key = None
        if isinstance(self.config, SampleConfig):
            rng_key, numbers = self._rng_key, np.zeros(num_rows, np.int32)
            numbers[: len(row_ids)] = row_ids
        rows = RowOptions(max_lens=limits, prefix=begin, row_ids=numbers)
        output = self._searcher(padded)(params, inputs, rows, rng_key=rng_key)
        if isinstance(output, BeamOutput):
            fields = (output.tokens, output.lengths, output.scores, output.finished)
        else:
            fields = (
                output.tokens[:, None],
                output.lengths[:, None],
                output.log_probs[:, None],
                output.finished[:, None],
            )
        all_tokens, all_lengths, all_scores, all_finished = (np.asarray(field) for field in fields)
        found = []
        for row in range(len(sources)):
            hypotheses = [
                Hypothesis(tuple(ids[:length].tolist()), float(score), bool(finished))
                for ids, length, score, finished in zip(
                    all_tokens[row], all_lengths[row], all_scores[row], all_finished[row]
                )
                if np.isfinite(score)
            ]
            found.append(hypotheses or [NOT_FOUND])
        return found


def not_found_note(num_lines: int, first: int) -> str:
    """Remark on lines for which the search found no output: how many, and the number of the first of them.

    Example:
      >>> not_found_note(2, 3)[:63]
      '2 lines have no output that keeps the rules of the search: line'
    """
    count, others = (
        ("1 line has", " is") if num_lines == 1 else (f"{num_lines:,} lines have", " and others are")
    )
    return (
        f"{count} no output that keeps the rules of the search: line {first}{others} left empty, with score "
        "-inf; loosen `min_len`, `no_repeat_ngram` or the prefix, or raise search.max_len"
    )


def by_padded_length(
    sources: Sequence[Any], lengths: PaddedLengths, indices: Iterable[int]
) -> dict[int, list[int]]:
    """The indices of sources by the length that each is padded to, which follows from the source alone.

    Example:
      >>> by_padded_length([[4], [4, 5, 6], []], PaddedLengths((2, 4)), range(3))
      {2: [0, 2], 4: [1]}
    """
    groups: dict[int, list[int]] = {}
    for index in indices:
        groups.setdefault(lengths.of(len(sources[index])), []).append(index)
    return groups


def _picked(values: Sequence[Any] | None, indices: Sequence[int]) -> list[Any] | None:
    """The values at the indices; None of none."""
    return None if values is None else [values[index] for index in indices]
