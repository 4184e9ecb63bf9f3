"""Pairs of lines as token ids: encoded once, then cut into batches by index."""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from transformer_jax.data.batches import BOS_ID, DUMMY_EXAMPLE_ID, EOS_ID, PAD_ID, BatchShape, Seq2SeqBatch
from transformer_jax.data.copied_words import CopiedWords
from transformer_jax.data.line_pairs import EvaluationItem, Pair
from transformer_jax.data.pairs_config import TooLong
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.errors import DataError, ShapeError


@dataclasses.dataclass(frozen=True)
class EncodedExamples:
    """Token ids of many examples in two flat arrays; example ``i`` is ``ids[offsets[i]:offsets[i + 1]]``.

    Targets are stored without start and end tokens; batches add them.
    """

    source_ids: npt.NDArray[np.int32]
    source_offsets: npt.NDArray[np.int64]
    target_ids: npt.NDArray[np.int32]
    target_offsets: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.source_offsets) - 1

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change when any example, or their order, does."""
        digest = hashlib.sha256()
        for array in (self.source_ids, self.source_offsets, self.target_ids, self.target_offsets):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:12]

    def check_ids(self, *, source_vocab_size: int, target_vocab_size: int, name: str = "examples") -> None:
        """Check that every id is in its vocabulary; a model has no row of an embedding for another one.

        Args:
          source_vocab_size: Ids of the source vocabulary.
          target_vocab_size: Ids of the target vocabulary.
          name: What to call the examples in messages.

        Raises:
          DataError: If one is not; it says which, and in which example.

        Example:
          >>> examples = EncodedExamples(
          ...     np.array([4, 9], np.int32), np.array([0, 2]), np.array([5], np.int32), np.array([0, 1]))
          >>> examples.check_ids(source_vocab_size=10, target_vocab_size=6)
        """
        sides = (
            ("source", self.source_ids, self.source_offsets, source_vocab_size),
            ("target", self.target_ids, self.target_offsets, target_vocab_size),
        )
        for side, ids, offsets, size in sides:
            wrong = np.flatnonzero((ids < 0) | (ids >= size))
            if wrong.size:
                example = int(np.searchsorted(offsets, wrong[0], side="right"))
                raise DataError(
                    f"{name}, example {example}: {side} id {ids[wrong[0]]} is not in the vocabulary, whose ids are 0 "
                    f"to {size - 1}: the tokenizer is not the one that the model is made for, or is damaged"
                )

    def source_lengths(self) -> npt.NDArray[np.int64]:
        """Source tokens of each example."""
        return np.diff(self.source_offsets)

    def target_lengths(self) -> npt.NDArray[np.int64]:
        """Target tokens of each example, the end token included."""
        return np.diff(self.target_offsets) + 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncodingReport:
    """Counts of an encoding.

    Attributes:
      num_examples: Examples kept.
      num_source_tokens: Their source tokens.
      num_target_tokens: Their target tokens, end tokens included.
      num_source_unknown: Source tokens that are not in the vocabulary.
      num_target_unknown: Target tokens that are not in the vocabulary.
      too_long: Treatment of examples over the limits.
      num_too_long: How many there were.
      first_too_long: The first of them and its lengths; empty if there was none.
    """

    num_examples: int
    num_source_tokens: int
    num_target_tokens: int
    num_source_unknown: int
    num_target_unknown: int
    too_long: TooLong
    num_too_long: int
    first_too_long: str


def encode_examples(
    pairs: Sequence[Pair | EvaluationItem],
    source_tokenizer: Tokenizer,
    target_tokenizer: Tokenizer,
    *,
    max_source_len: int,
    max_target_len: int,
    too_long: TooLong,
    name: str = "examples",
    copies_unknown: bool = False,
) -> tuple[EncodedExamples, EncodingReport]:
    """Tokenise every pair once.

    Args:
      pairs: What to encode; of an `EvaluationItem` the first reference is the target.
      source_tokenizer: Turns sources into ids.
      target_tokenizer: Turns targets into ids.
      max_source_len: Most source tokens of an example.
      max_target_len: Most target tokens of an example, the end token included.
      too_long: What to do with examples over a limit: leave them out, cut them, or raise.
      name: What to call the examples in messages, such as ``"training pairs of cmudict"``.
      copies_unknown: Whether unknown words have ids of their own in each row, see `CopiedWords`; counts of unknown
        tokens are of those that have none.

    Raises:
      DataError: If an example is over a limit and ``too_long`` is ``"fail"``, or a tokenizer gives an id that is not in
        its vocabulary.
    """
    sources = source_tokenizer.encode_batch([pair.source for pair in pairs])
    targets = target_tokenizer.encode_batch(
        [pair.target if isinstance(pair, Pair) else pair.references[0] for pair in pairs]
    )
    copied = CopiedWords(source_tokenizer) if copies_unknown else None
    num_too_long, first_too_long = 0, ""
    kept_sources: list[list[int]] = []
    kept_targets: list[list[int]] = []
    for index, (source, target) in enumerate(zip(sources, targets)):
        if len(source) > max_source_len or len(target) >= max_target_len:
            line = pairs[index].line
            where = f"line {line}" if line else f"example {index + 1} ({pairs[index].source[:40]!r})"
            message = (
                f"{name}, {where}: {len(source)} source and {len(target) + 1} target tokens (end token "
                f"included); max_source_len is {max_source_len}, max_target_len is {max_target_len}"
            )
            if too_long == "fail":
                raise DataError(f"{message}; raise the limits, or choose too_long 'skip' or 'truncate'")
            num_too_long += 1
            first_too_long = first_too_long or message
            if too_long == "skip":
                continue
            source, target = source[:max_source_len], target[: max_target_len - 1]
        if copied is not None:
            pair = pairs[index]
            source = copied.source(source, pair.source)
            text = pair.target if isinstance(pair, Pair) else pair.references[0]
            target = copied.target(target, text, copied.words(source, pair.source))
        kept_sources.append(source)
        kept_targets.append(target)
    source_ids, source_offsets = _flatten(kept_sources)
    target_ids, target_offsets = _flatten(kept_targets)
    report = EncodingReport(
        num_examples=len(kept_sources),
        num_source_tokens=len(source_ids),
        num_target_tokens=len(target_ids) + len(kept_targets),
        num_source_unknown=source_tokenizer.count_unknown(source_ids),
        num_target_unknown=target_tokenizer.count_unknown(target_ids),
        too_long=too_long,
        num_too_long=num_too_long,
        first_too_long=first_too_long,
    )
    examples = EncodedExamples(source_ids, source_offsets, target_ids, target_offsets)
    more = max_source_len if copies_unknown else 0
    examples.check_ids(
        source_vocab_size=source_tokenizer.vocab_size + more,
        target_vocab_size=target_tokenizer.vocab_size + more,
        name=name,
    )
    return examples, report


def _flatten(rows: list[list[int]]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    flat = np.fromiter((token for row in rows for token in row), np.int32, count=int(offsets[-1]))
    return flat, offsets


def make_batch(
    examples: EncodedExamples, indices: Sequence[int] | npt.NDArray[np.int64], shape: BatchShape
) -> Seq2SeqBatch:
    """Batch of the examples at ``indices``, padded to ``shape`` with `PAD_ID` and dummy rows.

    Raises:
      ShapeError: If there are more indices than rows, or an example is longer than the shape.
    """
    chosen = np.asarray(indices, np.int64)
    if len(chosen) > shape.batch_size:
        raise ShapeError(f"{len(chosen)} examples do not fit in a batch of {shape.batch_size} rows")
    sources, source_lengths = _padded(
        examples.source_ids, examples.source_offsets, chosen, shape.source_len, "source"
    )
    # One place is left free for the start token in the inputs and the end token in the outputs.
    targets, target_lengths = _padded(
        examples.target_ids, examples.target_offsets, chosen, shape.target_len - 1, "target"
    )
    rows = np.arange(len(chosen))
    batch = Seq2SeqBatch(
        source_tokens=np.full((shape.batch_size, shape.source_len), PAD_ID, np.int32),
        source_lengths=np.zeros(shape.batch_size, np.int32),
        target_inputs=np.full((shape.batch_size, shape.target_len), PAD_ID, np.int32),
        target_outputs=np.full((shape.batch_size, shape.target_len), PAD_ID, np.int32),
        target_lengths=np.zeros(shape.batch_size, np.int32),
        example_ids=np.full(shape.batch_size, DUMMY_EXAMPLE_ID, np.int32),
    )
    batch.source_tokens[rows] = sources
    batch.source_lengths[rows] = source_lengths
    batch.target_inputs[rows, 0] = BOS_ID
    batch.target_inputs[rows, 1:] = targets
    batch.target_outputs[rows, :-1] = targets
    batch.target_outputs[rows, target_lengths] = EOS_ID
    batch.target_lengths[rows] = target_lengths + 1
    batch.example_ids[rows] = chosen
    return batch


def _padded(
    ids: npt.NDArray[np.int32],
    offsets: npt.NDArray[np.int64],
    chosen: npt.NDArray[np.int64],
    length: int,
    side: str,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    starts = offsets[chosen]
    lengths = offsets[chosen + 1] - starts
    if len(chosen) and lengths.max() > length:
        raise ShapeError(f"an example has {lengths.max()} {side} tokens; the batch has room for {length}")
    columns = np.arange(length)[None, :]
    inside = columns < lengths[:, None]  # [rows, length]
    places = np.where(inside, starts[:, None] + columns, 0)
    tokens = ids[places] if len(ids) else np.zeros(places.shape, np.int32)
    return np.where(inside, tokens, np.int32(PAD_ID)), lengths
