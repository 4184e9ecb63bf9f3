"""Features with texts as arrays, batches and reports: what captioners and transcribers are trained on alike."""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from transformer_jax.data.feature_batches import FeatureBatch, FloatArray, FrameStore, IntArray, text_columns
from transformer_jax.data.feature_text_config import FeatureTextConfig
from transformer_jax.data.limited_parts import limited_parts
from transformer_jax.data.prepare_text import check_token_ids
from transformer_jax.data.sequence_pipeline import ColumnBatches
from transformer_jax.data.tokenizers import Tokenizer

_Splits = TypeVar("_Splits")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureTextPart:
    """One part of the data as frames and token ids.

    Attributes:
      frames: Frames of each example.
      targets: Token ids of each text, without start and end.
      num_too_long: Examples over a limit; those of the training part are left out.
      num_unknown: Tokens that the tokenizer has no id for.
    """

    frames: FrameStore
    targets: list[list[int]]
    num_too_long: int
    num_unknown: int

    def __len__(self) -> int:
        return len(self.targets)

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change when any frame or token, or their order, does."""
        digest = hashlib.sha256()
        for index, ids in enumerate(self.targets):
            digest.update(np.ascontiguousarray(self.frames[index]).tobytes())
            digest.update(np.array([len(ids), *ids], np.int32).tobytes())
        return digest.hexdigest()[:12]

    def inputs(
        self, indices: npt.NDArray[np.int64], num_rows: int, length: int
    ) -> tuple[FloatArray, IntArray]:
        """The frames of some of the examples as the inputs of a model, and their sizes."""
        return self.frames.padded(indices, num_rows, length)

    def collate(self, indices: npt.NDArray[np.int64], num_rows: int, shape: tuple[int, ...]) -> FeatureBatch:
        """Some of the examples as the first rows of a batch."""
        inputs = self.inputs(indices, num_rows, shape[0])
        return FeatureBatch(inputs, *text_columns(self.targets, indices, num_rows, shape[1]))

    def batches(self, config: FeatureTextConfig) -> ColumnBatches[FeatureBatch]:
        """Training batches, by the numbers of frames and of target tokens, the end included.

        Raises:
          DataError: If there is no example.
        """
        return ColumnBatches(
            [self.frames.lengths, [len(ids) + 1 for ids in self.targets]],
            self.collate,
            names=("frames", "target"),
            batch_tokens=config.batch_tokens,
            rows=config.batch_size if config.batch_tokens is None else None,
            num_buckets=config.num_buckets,
            seed=config.seed,
        )


def count_unknown(targets: Sequence[Sequence[int]], tokenizer: Tokenizer, *, name: str) -> int:
    """Tokens of texts that a tokenizer has no id for.

    Args:
      targets: Token ids of each text.
      tokenizer: Where they come from.
      name: Of the part, for messages.

    Raises:
      DataError: If an id is not in the vocabulary.
    """
    flat = np.array([token for ids in targets for token in ids], np.int32)
    check_token_ids(flat, tokenizer.vocab_size, name=name)
    return tokenizer.count_unknown(flat)


def limited_items(splits: _Splits, config: FeatureTextConfig) -> _Splits:
    """The parts of a set, cut to the numbers of examples that a config allows."""
    return limited_parts(
        splits,
        train=config.max_train_items,
        development=config.max_development_items,
        test=config.max_test_items,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureTextReport:
    """Sizes and remarks of prepared data.

    Attributes:
      unit: What an example is called, in the plural.
      num_items: Examples of each part, by its name.
      vocab_size: Ids, special ones included.
      feature_dim: Numbers of a frame.
      frames: Of the training part, in words.
      batches: Shapes of the training batches, in words.
      batches_per_epoch: Training batches of an epoch.
      padding_share: Share of an epoch's positions that is padding.
      notes: Remarks.
    """

    unit: str
    num_items: dict[str, int]
    vocab_size: int
    feature_dim: int
    frames: str
    batches: str
    batches_per_epoch: int
    padding_share: float
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """The report for people, a few lines."""
        parts = " and ".join(f"{count:,} {name}" for name, count in self.num_items.items())
        return [
            f"data: {parts} {self.unit}; vocabulary: {self.vocab_size:,} ids",
            self.frames,
            f"batches: {self.batches_per_epoch:,} an epoch, {self.padding_share:.1%} padding; {self.batches}",
            *(f"note: {note}" for note in self.notes),
        ]


Part = TypeVar("Part", bound=FeatureTextPart)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreparedFeatureTexts(Generic[Part]):
    """Everything that training and evaluating a model from features to texts read.

    Attributes:
      config: What it was prepared from.
      tokenizer: Of the texts.
      train: Training batches.
      development: The development set.
      report: Sizes and remarks.
    """

    config: Any
    tokenizer: Tokenizer
    train: ColumnBatches[FeatureBatch]
    development: Part
    report: FeatureTextReport

    @property
    def artifacts(self) -> dict[str, Tokenizer]:
        """The tokenizer."""
        return {"tokenizer": self.tokenizer}

    @functools.cached_property
    def fingerprints(self) -> dict[str, str]:
        """Fingerprints of the training and the development set."""
        return {
            "training data": self.train.fingerprint(),
            "development data": self.development.fingerprint(),
        }

    @property
    def has_development(self) -> bool:
        """Whether there is a development example."""
        return len(self.development) > 0
