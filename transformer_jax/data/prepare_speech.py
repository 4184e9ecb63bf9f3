"""From a `SpeechConfig` to everything that training and evaluating a transcriber read."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from transformer_jax.data.feature_batches import FrameStore
from transformer_jax.data.feature_texts import (
    FeatureTextPart,
    FeatureTextReport,
    PreparedFeatureTexts,
    count_unknown,
    limited_items,
)
from transformer_jax.data.sound import Sound
from transformer_jax.data.speech_config import SpeechConfig
from transformer_jax.data.speech_features import SpeechFeatures
from transformer_jax.data.tokenizer_training import train_tokenizer
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.data.utterances import Utterance, at_speed
from transformer_jax.errors import DataError


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechPart(FeatureTextPart):
    """One part of the data as frames and token ids.

    Attributes:
      texts: What is said in each recording.
      num_resampled: Recordings of another rate than the front end's.
    """

    texts: list[str]
    num_resampled: int


PreparedSpeech = PreparedFeatureTexts[SpeechPart]


def spoken_text(text: str, config: SpeechConfig) -> str:
    """A text as the tokenizer reads it and as scores are taken of it: single spaces, lower case where that is wanted.

    Example:
      >>> spoken_text(" Two  dogs ", SpeechConfig(lowercase=True))
      'two dogs'
    """
    text = " ".join(text.split())
    return text.lower() if config.lowercase else text


def prepare_speech(config: SpeechConfig, *, tokenizer: Tokenizer | None = None) -> PreparedSpeech:
    """Read, make frames, tokenise and plan.

    Args:
      config: What to prepare.
      tokenizer: A trained tokenizer to use, as of a run to resume; None trains one on the training texts.

    Raises:
      DataError: If a file is missing or bad, or no training recording is left.
    """
    splits = limited_items(config.dataset.load(), config)
    if not splits.train:
        raise DataError("the data set has no training recording")
    if tokenizer is None:
        tokenizer = train_tokenizer(config.tokenizer, [spoken_text(one.text, config) for one in splits.train])
    copies = [at_speed(one, speed) for speed in config.speeds for one in splits.train]
    train = encode_speech([*splits.train, *copies], tokenizer, config, name="train")
    if not len(train):
        raise DataError("no training recording is left: all are longer than max_frames or max_target_len")
    development = encode_speech(splits.development, tokenizer, config, name="development")
    batches = train.batches(config)
    num_frames = int(train.frames.lengths.sum())
    hours = num_frames * config.features.step_ms / 3_600_000
    report = FeatureTextReport(
        unit="recordings",
        num_items={"training": len(train), "development": len(development), "test": len(splits.test)},
        vocab_size=tokenizer.vocab_size,
        feature_dim=config.features.feature_dim,
        frames=f"training part: {hours:.2f} hours, {num_frames:,} frames of {config.features.feature_dim} numbers",
        batches=batches.describe(),
        batches_per_epoch=batches.batches_per_epoch,
        padding_share=batches.padding_share(),
        notes=(*splits.notes, *_notes({"training": train, "development": development}, config)),
    )
    return PreparedFeatureTexts(
        config=config, tokenizer=tokenizer, train=batches, development=development, report=report
    )


def frames_of(content: Any, features: SpeechFeatures) -> npt.NDArray[np.float32]:
    """Frames of a sound, or of static frames ``[frames, static_dim]`` that were stored.

    Raises:
      DataError: If stored frames have another width than the front end's, or are non-finite.
    """
    return features.frames(content) if isinstance(content, Sound) else features.from_static(content)


def encode_speech(
    items: Sequence[Utterance], tokenizer: Tokenizer, config: SpeechConfig, *, name: str
) -> SpeechPart:
    """Recordings as frames and token ids.

    Args:
      items: The recordings.
      tokenizer: Of the texts.
      config: Front end and limits; only recordings of ``"train"`` are ever left out.
      name: Of the part.

    Raises:
      DataError: If stored frames do not suit the front end; says which.
    """
    texts = [spoken_text(one.text, config) for one in items]
    kept: list[str] = []
    targets: list[list[int]] = []
    arrays: list[npt.NDArray[np.float32]] = []
    num_too_long = num_resampled = 0
    for item, text, ids in zip(items, texts, tokenizer.encode_batch(texts), strict=True):
        try:
            frames = frames_of(item.content, config.features)
        except DataError as error:
            raise DataError(f"{name}, {item.name}: {error}") from None
        is_too_long = len(frames) > config.max_frames or len(ids) + 1 > config.max_target_len
        num_too_long += is_too_long
        if is_too_long and name == "train":
            continue
        num_resampled += item.sound is not None and item.sound.rate != config.features.sample_rate
        kept.append(text)
        targets.append(ids)
        arrays.append(frames)
    return SpeechPart(
        texts=kept,
        frames=FrameStore.of(arrays, dim=config.features.feature_dim),
        targets=targets,
        num_too_long=num_too_long,
        num_resampled=num_resampled,
        num_unknown=count_unknown(targets, tokenizer, name=name),
    )


def _notes(parts: dict[str, SpeechPart], config: SpeechConfig) -> list[str]:
    notes = []
    for name, part in parts.items():
        if part.num_unknown:
            notes.append(f"{name}: {part.num_unknown:,} tokens are unknown")
        if part.num_resampled:
            notes.append(
                f"{name}: {part.num_resampled:,} recordings are resampled to {config.features.sample_rate:,} samples a "
                "second"
            )
        if part.num_too_long:
            verb = "are left out, being" if name == "training" else "are"
            notes.append(
                f"{name}: {part.num_too_long:,} recordings {verb} longer than max_frames, {config.max_frames}, or "
                f"max_target_len, {config.max_target_len}"
            )
    if config.speeds:
        notes.append(
            f"training: each recording, and again at {len(config.speeds)} other speed(s): "
            f"{', '.join(f'{speed:g}' for speed in config.speeds)}"
        )
    return notes
