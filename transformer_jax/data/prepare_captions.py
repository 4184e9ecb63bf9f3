"""From a `CaptionsConfig` to everything that training and evaluating a captioner read."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from transformer_jax.data.captioned import Captioned
from transformer_jax.data.captions_config import CaptionsConfig, ItemFeatures
from transformer_jax.data.distortion import distorted_image
from transformer_jax.data.feature_batches import FloatArray, FrameStore, IntArray
from transformer_jax.data.feature_texts import (
    FeatureTextPart,
    FeatureTextReport,
    PreparedFeatureTexts,
    count_unknown,
    limited_items,
)
from transformer_jax.data.images import ImageFeatures
from transformer_jax.data.ink import Ink, distorted
from transformer_jax.data.tokenizer_training import train_tokenizer
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.errors import DataError


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaptionPart(FeatureTextPart):
    """One part of the data as frames and token ids.

    Attributes:
      items: The drawings with their captions.
      features: What the frames are.
      num_downsampled: Drawings that were read at a wider spacing.
    """

    items: list[Captioned]
    features: ItemFeatures
    num_downsampled: int

    def inputs(
        self, indices: npt.NDArray[np.int64], num_rows: int, length: int
    ) -> tuple[FloatArray, IntArray]:
        """The frames of some of the drawings as the inputs of a model, and their sizes."""
        return item_inputs(self.features, *super().inputs(indices, num_rows, length))


PreparedCaptions = PreparedFeatureTexts[CaptionPart]


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


def prepare_captions(config: CaptionsConfig, *, tokenizer: Tokenizer | None = None) -> PreparedCaptions:
    """Read, make frames, tokenise and plan.

    Args:
      config: What to prepare.
      tokenizer: A trained tokenizer to use, as of a run to resume; None trains one on the training captions.

    Raises:
      DataError: If a file is missing or bad, or no training drawing is left.
    """
    splits = limited_items(config.dataset.load(), config)
    if not splits.train:
        raise DataError("the data set has no training drawing")
    if tokenizer is None:
        tokenizer = train_tokenizer(config.tokenizer, [one.caption for one in splits.train])
    train = encode_captions(_with_copies(splits.train, config), tokenizer, config, name="train")
    if not len(train):
        raise DataError("no training drawing is left: all captions are longer than max_target_len; raise it")
    development = encode_captions(splits.development, tokenizer, config, name="development")
    batches = train.batches(config)
    mean_frames = float(np.mean(train.frames.lengths))
    report = FeatureTextReport(
        unit="drawings",
        num_items={"training": len(train), "development": len(development), "test": len(splits.test)},
        vocab_size=tokenizer.vocab_size,
        feature_dim=config.features.column_dim,
        frames=f"frames: {mean_frames:.0f} of {config.features.column_dim} numbers a drawing",
        batches=batches.describe(),
        batches_per_epoch=batches.batches_per_epoch,
        padding_share=batches.padding_share(),
        notes=(*splits.notes, *_notes({"training": train, "development": development}, config)),
    )
    return PreparedFeatureTexts(
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
    num_downsampled = num_too_long = 0
    for item, ids in zip(items, encoded, strict=True):
        if name == "train" and len(ids) + 1 > config.max_target_len:
            num_too_long += 1
            continue
        try:
            frames = config.features.frames(item.item, max_frames=config.max_frames)
        except DataError as error:
            raise DataError(f"{name}, {item.name}: {error}") from None
        num_downsampled += frames.is_downsampled
        kept.append(item)
        targets.append(ids)
        arrays.append(frames.features)
    return CaptionPart(
        items=kept,
        features=config.features,
        frames=FrameStore.of(arrays, dim=config.features.column_dim),
        targets=targets,
        num_downsampled=num_downsampled,
        num_too_long=num_too_long,
        num_unknown=count_unknown(targets, tokenizer, name=name),
    )


def _with_copies(items: Sequence[Captioned], config: CaptionsConfig) -> list[Captioned]:
    """The drawings, and behind them their distorted copies."""
    generator = np.random.default_rng(config.seed)
    background = 0 if isinstance(config.features, ImageFeatures) and config.features.ink == "light" else 255

    def copy(item: Any) -> Any:
        if isinstance(item, Ink):
            return distorted(item, generator)
        return distorted_image(item, generator, background=background)

    copies = [
        dataclasses.replace(one, item=copy(one.item)) for _ in range(config.distorted_copies) for one in items
    ]
    return [*items, *copies]


def _notes(parts: dict[str, CaptionPart], config: CaptionsConfig) -> list[str]:
    notes = []
    for name, part in parts.items():
        if part.num_unknown:
            notes.append(f"{name}: {part.num_unknown:,} tokens are unknown")
        if part.num_downsampled:
            notes.append(
                f"{name}: {part.num_downsampled:,} drawings are read at a wider spacing, to fit "
                f"{config.max_frames} frames"
            )
        if part.num_too_long:
            notes.append(
                f"{name}: {part.num_too_long:,} drawings are left out, their captions being over max_target_len, "
                f"{config.max_target_len}"
            )
    if config.distorted_copies:
        notes.append(f"training: each drawing and {config.distorted_copies} distorted copies of it")
    return notes
