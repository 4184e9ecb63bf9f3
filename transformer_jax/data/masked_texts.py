"""Texts of a masked language model: pieces of documents with their marks, and batches of them with hidden tokens."""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from transformer_jax.data.batches import BOS_ID, EOS_ID, PAD_ID
from transformer_jax.data.masking import MaskedVocabulary, Masking, draw_numbers, mask_tokens, unit_interval
from transformer_jax.data.sequence_pipeline import SequenceBatches
from transformer_jax.data.text_batches import IGNORED, IntArray, MaskedBatch, row_values

_EXCHANGE, _CUT = 4, 5  # purposes of draws beside those of masking

Indices = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class MaskedTexts:
    """Texts one after another in one array, hidden from one visit to the next at other places.

    Attributes:
      ids: Token ids of all texts, without marks.
      offsets: ``[texts + 1]``, where each text begins.
      masking: Which tokens are hidden.
      vocabulary: Facts of the tokenizer.
      sentence_order: Whether a text is two parts, which may be exchanged.
      starts_word: ``[vocab]``, whether a token begins a word, so that a part may begin with it.
      seed: Of all draws.
    """

    ids: IntArray
    offsets: Indices
    masking: Masking
    vocabulary: MaskedVocabulary
    sentence_order: bool
    starts_word: npt.NDArray[np.bool_]
    seed: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Indices:
        """Tokens of each text, marks included."""
        return np.diff(self.offsets) + (3 if self.sentence_order else 2)

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change when any token of a text, or their order, does."""
        digest = hashlib.sha256(np.ascontiguousarray(self.ids).tobytes())
        digest.update(np.ascontiguousarray(self.offsets).tobytes())
        return digest.hexdigest()[:12]

    def whole(
        self, indices: Indices, num_rows: int, length: int, visit: int
    ) -> tuple[IntArray, IntArray, IntArray]:
        """Texts with their marks, nothing hidden, as the first rows of a batch.

        Returns:
          Tokens ``[num_rows, length]``, lengths ``[num_rows]``, and whether the parts were exchanged ``[num_rows]``.
        """
        tokens = np.full((num_rows, length), PAD_ID, np.int32)
        exchanged = np.full(num_rows, IGNORED, np.int32)
        is_exchanged = unit_interval(draw_numbers(self.seed, visit, indices, _EXCHANGE)) < 0.5
        cuts = unit_interval(draw_numbers(self.seed, visit, indices, _CUT))
        for row, index in enumerate(indices.tolist()):
            text = self.ids[self.offsets[index] : self.offsets[index + 1]]
            if self.sentence_order:
                cut = self._cut(text, cuts[row])
                parts = [text[:cut], text[cut:]]
                if min(map(len, parts)):  # of one token there are no two parts
                    exchanged[row] = int(is_exchanged[row])
                if exchanged[row] == 1:
                    parts.reverse()
                text = np.concatenate([parts[0], [EOS_ID], parts[1]])
            tokens[row, : len(text) + 2] = [BOS_ID, *text, EOS_ID]
        return tokens, row_values(self.lengths[indices], num_rows, fill=0), exchanged

    def batch(self, indices: Indices, num_rows: int, length: int, visit: int) -> MaskedBatch:
        """Texts with hidden tokens as the first rows of a batch of a shape; no indices give padding alone.

        Args:
          indices: Which texts.
          num_rows: Rows.
          length: Tokens of a row.
          visit: How often the texts were seen before; each visit hides other tokens.
        """
        tokens, lengths, exchanged = self.whole(indices, num_rows, length, visit)
        example_ids = row_values(indices, num_rows)
        masked = mask_tokens(
            tokens,
            lengths,
            example_ids,
            masking=self.masking,
            vocabulary=self.vocabulary,
            seed=self.seed,
            visit=visit,
        )
        return MaskedBatch(
            tokens=masked.tokens,
            lengths=lengths,
            places=masked.places,
            targets=masked.targets,
            classes=exchanged if self.sentence_order else None,
            example_ids=example_ids,
        )

    def _cut(self, text: IntArray, share: float) -> int:
        """Where the second part begins: in the middle half, at the next start of a word if there is one."""
        first = max(1, int(len(text) * (0.25 + 0.5 * share)))
        starts = np.flatnonzero(self.starts_word[text[first:]])
        return first + (int(starts[0]) if len(starts) else 0)


class MaskedBatches(SequenceBatches[MaskedBatch]):
    """Training batches of masked texts: each text once an epoch, other tokens hidden in each.

    Args:
      texts: The texts.
      rows: Rows of every batch.
      num_buckets: Most lengths.
      seed: Of the order.

    Raises:
      DataError: If there is no text.
    """

    def __init__(self, texts: MaskedTexts, *, rows: int, num_buckets: int, seed: int) -> None:
        super().__init__(
            texts.lengths,
            lambda indices, num_rows, length: texts.batch(indices, num_rows, length, 0),
            rows=rows,
            num_buckets=num_buckets,
            seed=seed,
        )
        self.texts = texts

    def batch_at(self, step: int) -> MaskedBatch:
        """The batch of a training step, counted from 0 over all epochs."""
        bucket, indices = self.epochs.at(step)
        return self.texts.batch(indices, *self.shapes()[bucket], step // self.batches_per_epoch)

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change when any text does, see `MaskedTexts.fingerprint`."""
        return self.texts.fingerprint()


def cut_into_texts(
    documents: Sequence[IntArray], width: int, starts_word: npt.NDArray[np.bool_]
) -> tuple[IntArray, Indices]:
    """Documents cut into texts of at most ``width`` tokens that begin with the start of a word where they can.

    Args:
      documents: Token ids of each.
      width: Most tokens of a text.
      starts_word: ``[vocab]``, whether a token begins a word.

    Returns:
      Token ids of all texts, and where each of them begins, the end of the last one added.

    Example:
      >>> starts = np.array([True, True, False])
      >>> ids, offsets = cut_into_texts([np.array([1, 2, 1, 2, 2]), np.array([1])], 3, starts)
      >>> [ids[start:stop].tolist() for start, stop in zip(offsets, offsets[1:])]
      [[1, 2], [1, 2, 2], [1]]
    """
    offsets, done = [0], 0
    for ids in documents:
        begins, start = starts_word[ids], 0
        while start < len(ids):
            stop = min(start + width, len(ids))
            if stop < len(ids) and not begins[stop]:
                earlier = np.flatnonzero(begins[start + 1 : stop])
                stop = start + 1 + int(earlier[-1]) if len(earlier) else stop
            offsets.append(done + stop)
            start = stop
        done += len(ids)
    flat = (
        np.concatenate([np.asarray(ids, np.int32) for ids in documents])
        if documents
        else np.zeros(0, np.int32)
    )
    return flat, np.array(offsets, np.int64)
