"""Training batches of word vectors: rows of a subsampled text, endless and resumable from one integer.

Everything that is drawn follows from the seed, the epoch and a place in the text or in the epoch's order, never from
the batch: an epoch has the same rows, windows and noise words whatever the number of rows in a batch, and so the same
loss.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from transformer_jax.data.batches import DUMMY_EXAMPLE_ID
from transformer_jax.data.padding import planned_integers
from transformer_jax.data.pipeline import BatchIterator
from transformer_jax.data.token_windows import token_fingerprint
from transformer_jax.data.word_batches import WordBatch
from transformer_jax.data.word_vocabulary import WordVocabulary
from transformer_jax.errors import DataError

Ids = npt.NDArray[np.int32]

_DRAWN_ROWS = 128
"""Rows whose windows and noise words are drawn together."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WindowPlan:
    """How a text is cut into rows and windows.

    Attributes:
      window: Largest distance of a context; the distance of each centre is drawn from 1 to it, all equally likely.
      row_len: Centres of a row.
      batch_size: Rows of a batch.
      sample: Threshold of subsampling, see `WordVocabulary.keep_rates`; 0 keeps every word.
      num_noise: Noise words of a row; 0 for none.
      noise_exponent: Power of the counts in the noise distribution.
      has_paths: Whether batches have the paths of the Huffman tree.
      shuffles: Whether rows come in another order each epoch; without it in that of the text.
      seed: Seed of everything that is drawn.
    """

    window: int
    row_len: int
    batch_size: int
    sample: float = 0.0
    num_noise: int = 0
    noise_exponent: float = 0.75
    has_paths: bool = False
    shuffles: bool = True
    seed: int = 0


class _Epoch(NamedTuple):
    """The text of an epoch, with a margin of padding at both ends, and the order of its rows."""

    words: Ids
    sentences: Ids
    order: npt.NDArray[np.int64]
    num_rows: int


class WordWindows:
    """Endless batches of one shape over a text of word ids.

    An epoch has a fixed number of rows: as many as hold the words that subsampling keeps, six standard deviations above
    the mean; those left over are without words.

    Args:
      ids: Ids of the text's words.
      sentences: Number of each word's sentence, from 0.
      vocabulary: Counts, paths and n-grams of the words.
      plan: How rows and windows are cut.

    Raises:
      DataError: If no centre has a context.

    Attributes:
      batches_per_epoch: Batches of an epoch.

    Example:
      >>> vocabulary = WordVocabulary(["a", "b"], [3, 2])
      >>> plan = WindowPlan(window=1, row_len=4, batch_size=2, num_noise=3)
      >>> source = WordWindows(np.array([0, 1, 0, 1, 0], np.int32), np.zeros(5, np.int32), vocabulary, plan)
      >>> batch = source.batch_at(0)
      >>> batch.words.shape, batch.radius.shape, batch.noise.shape, batch.num_centres()
      ((2, 6), (2, 4), (2, 3), 5)
    """

    def __init__(self, ids: Ids, sentences: Ids, vocabulary: WordVocabulary, plan: WindowPlan) -> None:
        if not (sentences[:-1] == sentences[1:]).any():
            raise DataError(
                f"the text is smaller than one window: {len(ids):,} words of the vocabulary and no two of them in one "
                "sentence; take a longer text, a smaller min_count, or sentences='documents'"
            )
        self._ids, self._sentences, self.vocabulary, self.plan = ids, sentences, vocabulary, plan
        self._keep = vocabulary.keep_rates(plan.sample)
        rates = self._keep.astype(np.float64)
        counts = np.bincount(ids, minlength=vocabulary.size)
        self._expected = float((rates * counts).sum())
        deviation = math.sqrt(float((rates * (1.0 - rates) * counts).sum()))
        most = min(len(ids), math.ceil(self._expected + 6.0 * deviation))
        self.batches_per_epoch = max(1, math.ceil(math.ceil(most / plan.row_len) / plan.batch_size))
        self._noise = _Alias.of(vocabulary.noise_rates(plan.noise_exponent)) if plan.num_noise else None
        self._epoch = functools.lru_cache(maxsize=2)(self._make_epoch)

    def batch_at(self, step: int) -> WordBatch:
        """The batch of a training step, counted from 0 over all epochs."""
        number, place = divmod(int(step), self.batches_per_epoch)
        plan, epoch = self.plan, self._epoch(number)
        first = place * plan.batch_size
        rows = epoch.order[first : first + plan.batch_size]
        columns = np.arange(plan.row_len + 2 * plan.window)
        places = rows[:, None] * plan.row_len + columns
        words = np.take(epoch.words, places, mode="clip")  # behind the end stands padding
        segments = np.take(epoch.sentences, places, mode="clip")
        own = slice(plan.window, plan.window + plan.row_len)
        radius, noise = self._drawn(number, first)
        centres = words[:, own]
        paths = self.vocabulary.paths if plan.has_paths else None
        table = self.vocabulary.subword_table
        return WordBatch(
            words=words,
            segments=segments,
            radius=np.where(segments[:, own] > 0, radius, 0).astype(np.int32),
            example_ids=np.where(rows < epoch.num_rows, rows, DUMMY_EXAMPLE_ID).astype(np.int32),
            noise=noise,
            nodes=None if paths is None else paths.nodes[centres],
            signs=None if paths is None else paths.signs[centres].astype(np.int32),
            subwords=None if table is None else table[words],
        )

    def iterate(self, start_step: int = 0) -> BatchIterator[WordBatch]:
        """Batches from a step on, without end."""
        return BatchIterator(self.batch_at, start_step)

    def epoch_batches(self) -> Iterator[WordBatch]:
        """The batches of the first epoch, as an evaluation reads them."""
        return map(self.batch_at, range(self.batches_per_epoch))

    def abstract_batches(self) -> list[WordBatch]:
        """A batch of the one shape that all batches have, without content: what a trainer compiles for."""
        table, plan = self.vocabulary.subword_table, self.plan
        return [
            abstract_word_batch(
                plan,
                plan.batch_size,
                depth=self.vocabulary.paths.nodes.shape[1] if plan.has_paths else None,
                num_subwords=None if table is None else table.shape[1],
            )
        ]

    def count_tokens(self, batch: WordBatch) -> int:
        """Centres of a batch."""
        return batch.num_centres()

    def padding_share(self) -> float:
        """Share of an epoch's places that hold no word, on average."""
        places = self.batches_per_epoch * self.plan.batch_size * self.plan.row_len
        return 1.0 - self._expected / places

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change when any word, its order or a sentence does."""
        return token_fingerprint(np.concatenate([self._ids, self._sentences]))

    def describe(self) -> str:
        """Shape and content of the batches in words, for reports."""
        plan = self.plan
        return (
            f"{plan.batch_size:,} rows of {plan.row_len:,} centres, about {self._expected:,.0f} of {len(self._ids):,} "
            "words an epoch after subsampling"
        )

    def _make_epoch(self, number: int) -> _Epoch:
        plan = self.plan
        generator = np.random.default_rng(np.random.SeedSequence([plan.seed, number]))
        capacity = self.batches_per_epoch * plan.batch_size
        ids, sentences = self._ids, self._sentences
        if plan.sample > 0:
            kept = np.flatnonzero(generator.random(len(ids), np.float32) < self._keep[ids])[
                : capacity * plan.row_len
            ]
            ids, sentences = ids[kept], sentences[kept]
        num_rows = -(-len(ids) // plan.row_len)
        order = np.arange(
            capacity
        )  # rows without words last: the order of the others is that of any batch size
        if plan.shuffles:
            order[:num_rows] = generator.permutation(num_rows)
        # At the end one place more than the margin: what lies behind it is clipped to padding.
        margins = (plan.window, plan.window + 1)
        return _Epoch(
            words=np.pad(ids, margins),
            sentences=np.pad(sentences + 1, margins),
            order=order,
            num_rows=num_rows,
        )

    def _drawn(self, epoch: int, first: int) -> tuple[Ids, Ids | None]:
        """Radius and noise words of the rows at ``first`` and behind it in the order of an epoch."""
        plan = self.plan
        last = first + plan.batch_size
        blocks = range(first // _DRAWN_ROWS, -(-last // _DRAWN_ROWS))
        drawn = [self._drawn_block(epoch, block) for block in blocks]
        part = slice(first - blocks[0] * _DRAWN_ROWS, last - blocks[0] * _DRAWN_ROWS)
        radius = np.concatenate([one for one, _ in drawn])[part]
        if self._noise is None:
            return radius, None
        return radius, np.concatenate([one for _, one in drawn if one is not None])[part]

    def _drawn_block(self, epoch: int, block: int) -> tuple[Ids, Ids | None]:
        plan = self.plan
        generator = np.random.default_rng(np.random.SeedSequence([plan.seed, epoch, block]))
        radius = generator.integers(1, plan.window, (_DRAWN_ROWS, plan.row_len), np.int32, endpoint=True)
        noise = None if self._noise is None else self._noise.draw(generator, (_DRAWN_ROWS, plan.num_noise))
        return radius, noise


def abstract_word_batch(
    plan: WindowPlan, rows: int, *, depth: int | None = None, num_subwords: int | None = None
) -> WordBatch:
    """A batch of a plan's shape without content, which takes no memory.

    Args:
      plan: How rows and windows are cut.
      rows: Rows of the batch.
      depth: Longest path of the Huffman tree; None without hierarchical softmax.
      num_subwords: Most n-grams of a word; None without them.

    Example:
      >>> abstract_word_batch(WindowPlan(window=2, row_len=8, batch_size=4), 4).words.shape
      (4, 12)
    """

    num_words = plan.row_len + 2 * plan.window
    return WordBatch(
        words=planned_integers(rows, num_words),
        segments=planned_integers(rows, num_words),
        radius=planned_integers(rows, plan.row_len),
        example_ids=planned_integers(rows),
        noise=planned_integers(rows, plan.num_noise) if plan.num_noise else None,
        nodes=None if depth is None else planned_integers(rows, plan.row_len, depth),
        signs=None if depth is None else planned_integers(rows, plan.row_len, depth),
        subwords=None if num_subwords is None else planned_integers(rows, num_words, num_subwords),
    )


class _Alias(NamedTuple):
    """Tables from which a distribution over integers is drawn at one look-up a draw (Walker 1977; Vose 1991)."""

    threshold: npt.NDArray[np.float32]
    other: Ids

    @classmethod
    def of(cls, rates: npt.NDArray[np.float64]) -> "_Alias":
        scaled = rates * len(rates)
        threshold, other = np.ones(len(rates), np.float32), np.arange(len(rates), dtype=np.int32)
        small, large = list(np.flatnonzero(scaled < 1.0)), list(np.flatnonzero(scaled >= 1.0))
        while small and large:
            less, more = small.pop(), large[-1]
            threshold[less], other[less] = scaled[less], more
            scaled[more] -= 1.0 - scaled[less]
            if scaled[more] < 1.0:
                small.append(large.pop())
        return cls(threshold, other)

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Ids:
        places = generator.integers(0, len(self.other), shape, np.int32)
        stays = generator.random(shape, np.float32) < self.threshold[places]
        return np.where(stays, places, self.other[places]).astype(np.int32)
