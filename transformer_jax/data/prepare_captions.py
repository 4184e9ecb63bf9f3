"""From a `CaptionsConfig` to everything that training and evaluating a captioner read."""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from transformer_jax.data.captioned import Captioned, CaptionSplits
from transformer_jax.data.captions_config import CaptionsConfig, ItemFeatures
from transformer_jax.data.feature_batches import ColumnBatches, FeatureBatch, FrameStore, text_columns
from transformer_jax.data.images import ImageFeatures
from transformer_jax.data.ink import Ink, distorted
from transformer_jax.data.limited_parts import limited_parts
from transformer_jax.data.prepare_text import check_token_ids
from transformer_jax.data.tokenizer_training import train_tokenizer
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.errors import DataError


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaptionPart:
    """One part of the data as frames and token ids.

    Attributes:
      items: The drawings with their captions.
      features: What the frames are.
      frames: Frames of each drawing.
      targets: Token ids of each caption, without start and end.
      num_coarser: Drawings that were read at a wider spacing.
      num_too_long: Captions over the limit, whose drawings were left out.
      num_unknown: Tokens that the tokenizer has no id for.
    """

    items: list[Captioned]
    features: ItemFeatures
    frames: FrameStore
    targets: list[list[int]]
    num_coarser: int
    num_too_long: int
    num_unknown: int

    def __len__(self) -> int:
        return len(self.items)

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change when any frame or token, or their order, does."""
        digest = hashlib.sha256()
        for index, ids in enumerate(self.targets):
            digest.update(np.ascontiguousarray(self.frames[index]).tobytes())
            digest.update(np.array([len(ids), *ids], np.int32).tobytes())
        return digest.hexdigest()[:12]

    def columns(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Frames and target tokens, the end included, of each drawing."""
        target_lens = np.array([len(ids) + 1 for ids in self.targets], np.int64)
        return np.asarray(self.frames.lengths, np.int64), target_lens

    def collate(self, indices: npt.NDArray[np.int64], num_rows: int, shape: tuple[int, ...]) -> FeatureBatch:
        """Some of the drawings as the first rows of a batch."""
        inputs = item_inputs(self.features, *self.frames.padded(indices, num_rows, shape[0]))
        return FeatureBatch(inputs, *text_columns(self.targets, indices, num_rows, shape[1]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaptionsReport:
    """Sizes and remarks of prepared data.

    Attributes:
      num_items: Drawings of each part, by its name.
      vocab_size: Ids, special ones included.
      feature_dim: Numbers of a frame.
      mean_frames: Of the training drawings.
      batches: Shapes of the training batches, in words.
      batches_per_epoch: Training batches of an epoch.
      padding_share: Share of an epoch's positions that is padding.
      notes: Remarks, for reports.
    """

    num_items: dict[str, int]
    vocab_size: int
    feature_dim: int
    mean_frames: float
    batches: str
    batches_per_epoch: int
    padding_share: float
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """The report for people, a few lines."""
        parts = " and ".join(f"{count:,} {name}" for name, count in self.num_items.items())
        return [
            f"data: {parts} drawings; vocabulary: {self.vocab_size:,} ids",
            f"frames: {self.mean_frames:.0f} of {self.feature_dim} numbers a drawing",
            f"batches: {self.batches_per_epoch:,} an epoch, {self.padding_share:.1%} padding; {self.batches}",
            *(f"note: {note}" for note in self.notes),
        ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreparedCaptions:
    """Everything that training and evaluating a captioner read.

    Attributes:
      config: What it was prepared from.
      tokenizer: Of the captions.
      train: Training batches.
      development: The development set.
      report: Sizes and remarks.
      artifacts: The tokenizer by its name.
    """

    config: CaptionsConfig
    tokenizer: Tokenizer
    train: ColumnBatches
    development: CaptionPart
    report: CaptionsReport

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
        """Whether there is a development drawing."""
        return len(self.development) > 0


def item_inputs(
    features: ItemFeatures, frames: npt.NDArray[np.float32], lengths: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Padded frames as the inputs of a model: as they are, or columns as images with their sizes.

    Args:
      features: What the frames are.
      frames: ``[batch, frames, dim]``.
      lengths: ``[batch]``.

    Example:
      >>> pixels, sizes = item_inputs(ImageFeatures(height=4), np.zeros((2, 6, 4), np.float32), np.array([6, 0]))
      >>> pixels.shape, sizes.tolist()
      ((2, 4, 6, 1), [[4, 6], [0, 0]])
    """
    if not isinstance(features, ImageFeatures):
        return frames, lengths
    heights = np.where(lengths > 0, features.height, 0)
    return frames.transpose(0, 2, 1)[..., None], np.stack([heights, lengths], axis=1).astype(np.int32)


def limited_captions(splits: CaptionSplits, config: CaptionsConfig) -> CaptionSplits:
    """The parts of a set, cut to the numbers of items that a config allows."""
    return limited_parts(
        splits,
        train=config.max_train_items,
        development=config.max_development_items,
        test=config.max_test_items,
    )


def prepare_captions(config: CaptionsConfig, *, tokenizer: Tokenizer | None = None) -> PreparedCaptions:
    """Read, make frames, tokenise and plan.

    Args:
      config: What to prepare.
      tokenizer: A trained tokenizer to use, as of a run to resume; None trains one on the training captions.

    Raises:
      DataError: If a file is missing or bad, or no training drawing is left.
    """
    splits = limited_captions(config.dataset.load(), config)
    if not splits.train:
        raise DataError("the data set has no training drawing")
    if tokenizer is None:
        tokenizer = train_tokenizer(config.tokenizer, [one.caption for one in splits.train])
    train = encode_captions(_with_copies(splits.train, config), tokenizer, config, name="train")
    if not len(train):
        raise DataError("no training drawing is left: all captions are longer than max_target_len; raise it")
    development = encode_captions(splits.development, tokenizer, config, name="development")
    batches = ColumnBatches(
        train.columns(),
        train.collate,
        names=("frames", "target"),
        batch_tokens=config.batch_tokens,
        rows=config.batch_size if config.batch_tokens is None else None,
        num_buckets=config.num_buckets,
        seed=config.seed,
    )
    report = CaptionsReport(
        num_items={
            "training": len(train),
            "development": len(development),
            "test": len(splits.test),
        },
        vocab_size=tokenizer.vocab_size,
        feature_dim=config.features.column_dim,
        mean_frames=float(np.mean(train.frames.lengths)),
        batches=batches.describe(),
        batches_per_epoch=batches.batches_per_epoch,
        padding_share=batches.padding_share(),
        notes=(*splits.notes, *_notes({"training": train, "development": development}, config)),
    )
    return PreparedCaptions(
        config=config, tokenizer=tokenizer, train=batches, development=development, report=report
    )


def encode_captions(
    items: Sequence[Captioned], tokenizer: Tokenizer, config: CaptionsConfig, *, name: str
) -> CaptionPart:
    """Captioned drawings as frames and token ids.

    Args:
      items: The drawings.
      tokenizer: Of the captions.
      config: Features and limits; only drawings of ``"train"`` are ever left out.
      name: Of the part.

    Raises:
      DataError: If a drawing has more strokes than frames; says which.
    """
    encoded = tokenizer.encode_batch([one.caption for one in items])
    kept: list[Captioned] = []
    targets: list[list[int]] = []
    arrays: list[npt.NDArray[np.float32]] = []
    num_coarser = num_too_long = 0
    for item, ids in zip(items, encoded, strict=True):
        if name == "train" and len(ids) + 1 > config.max_target_len:
            num_too_long += 1
            continue
        try:
            frames = config.features.frames(item.item, max_frames=config.max_frames)
        except DataError as error:
            raise DataError(f"{name}, {item.name}: {error}") from None
        num_coarser += frames.is_coarser
        kept.append(item)
        targets.append(ids)
        arrays.append(frames.features)
    flat = np.array([token for ids in targets for token in ids], np.int32)
    check_token_ids(flat, tokenizer.vocab_size, name=name)
    return CaptionPart(
        items=kept,
        features=config.features,
        frames=FrameStore.of(arrays, dim=config.features.column_dim),
        targets=targets,
        num_coarser=num_coarser,
        num_too_long=num_too_long,
        num_unknown=tokenizer.count_unknown(flat),
    )


def _with_copies(items: Sequence[Captioned], config: CaptionsConfig) -> list[Captioned]:
    """The drawings, and behind them their distorted copies."""
    generator = np.random.default_rng(config.seed)
    found = list(items)
    for _ in range(config.distorted_copies):
        found += [
            dataclasses.replace(one, item=distorted(one.item, generator))
            for one in items
            if isinstance(one.item, Ink)
        ]
    return found


def _notes(parts: dict[str, CaptionPart], config: CaptionsConfig) -> list[str]:
    notes = []
    for name, part in parts.items():
        if part.num_unknown:
            notes.append(f"{name}: {part.num_unknown:,} tokens are unknown")
        if part.num_coarser:
            notes.append(
                f"{name}: {part.num_coarser:,} drawings are read at a wider spacing, to fit {config.max_frames} frames"
            )
        if part.num_too_long:
            notes.append(
                f"{name}: {part.num_too_long:,} drawings are left out, their captions being over max_target_len, "
                f"{config.max_target_len}"
            )
    if config.distorted_copies:
        notes.append(f"training: each drawing and {config.distorted_copies} distorted copies of it")
    return notes
