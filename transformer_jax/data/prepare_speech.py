"""From a `SpeechConfig` to everything that training and evaluating a transcriber read."""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from transformer_jax.data.feature_batches import ColumnBatches, FeatureBatch, FrameStore, text_columns
from transformer_jax.data.limited_parts import limited_parts
from transformer_jax.data.prepare_text import check_token_ids
from transformer_jax.data.sound import Sound
from transformer_jax.data.speech_config import SpeechConfig
from transformer_jax.data.speech_features import SpeechFeatures
from transformer_jax.data.tokenizer_training import train_tokenizer
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.data.utterances import SpeechSplits, Utterance, at_speed
from transformer_jax.errors import DataError


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechPart:
    """One part of the data as frames and token ids.

    Attributes:
      texts: What is said in each recording.
      frames: Frames of each recording.
      targets: Token ids of each text, without start and end.
      num_too_long: Recordings over a limit; those of the training part are left out.
      num_resampled: Recordings of another rate than the front end's.
      num_unknown: Tokens that the tokenizer has no id for.
    """

    texts: list[str]
    frames: FrameStore
    targets: list[list[int]]
    num_too_long: int
    num_resampled: int
    num_unknown: int

    def __len__(self) -> int:
        return len(self.texts)

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change when any frame or token, or their order, does."""
        digest = hashlib.sha256()
        for index, ids in enumerate(self.targets):
            digest.update(np.ascontiguousarray(self.frames[index]).tobytes())
            digest.update(np.array([len(ids), *ids], np.int32).tobytes())
        return digest.hexdigest()[:12]

    def columns(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Frames and target tokens, the end included, of each recording."""
        return self.frames.lengths, np.array([len(ids) + 1 for ids in self.targets], np.int64)

    def collate(self, indices: npt.NDArray[np.int64], num_rows: int, shape: tuple[int, ...]) -> FeatureBatch:
        """Some of the recordings as the first rows of a batch."""
        inputs = self.frames.padded(indices, num_rows, shape[0])
        return FeatureBatch(inputs, *text_columns(self.targets, indices, num_rows, shape[1]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechReport:
    """Sizes and remarks of prepared data.

    Attributes:
      num_items: Recordings of each part, by its name.
      vocab_size: Ids, special ones included.
      feature_dim: Numbers of a frame.
      num_frames: Frames of the training part.
      hours: Its duration.
      batches: Shapes of the training batches, in words.
      batches_per_epoch: Training batches of an epoch.
      padding_share: Share of an epoch's positions that is padding.
      notes: Remarks, for reports.
    """

    num_items: dict[str, int]
    vocab_size: int
    feature_dim: int
    num_frames: int
    hours: float
    batches: str
    batches_per_epoch: int
    padding_share: float
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """The report for people, a few lines."""
        parts = " and ".join(f"{count:,} {name}" for name, count in self.num_items.items())
        return [
            f"data: {parts} recordings; vocabulary: {self.vocab_size:,} ids",
            f"training part: {self.hours:.2f} hours, {self.num_frames:,} frames of {self.feature_dim} numbers",
            f"batches: {self.batches_per_epoch:,} an epoch, {self.padding_share:.1%} padding; {self.batches}",
            *(f"note: {note}" for note in self.notes),
        ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreparedSpeech:
    """Everything that training and evaluating a transcriber read.

    Attributes:
      config: What it was prepared from.
      tokenizer: Of the texts.
      train: Training batches.
      development: The development set.
      report: Sizes and remarks.
    """

    config: SpeechConfig
    tokenizer: Tokenizer
    train: ColumnBatches[FeatureBatch]
    development: SpeechPart
    report: SpeechReport

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
        """Whether there is a development recording."""
        return len(self.development) > 0


def limited_speech(splits: SpeechSplits, config: SpeechConfig) -> SpeechSplits:
    """The parts of a set, cut to the numbers of recordings that a config allows."""
    return limited_parts(
        splits,
        train=config.max_train_items,
        development=config.max_development_items,
        test=config.max_test_items,
    )


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
    splits = limited_speech(config.dataset.load(), config)
    if not splits.train:
        raise DataError("the data set has no training recording")
    if tokenizer is None:
        tokenizer = train_tokenizer(config.tokenizer, [spoken_text(one.text, config) for one in splits.train])
    copies = [at_speed(one, speed) for speed in config.speeds for one in splits.train]
    train = encode_speech([*splits.train, *copies], tokenizer, config, name="train")
    if not len(train):
        raise DataError("no training recording is left: all are longer than max_frames or max_target_len")
    development = encode_speech(splits.development, tokenizer, config, name="development")
    batches: ColumnBatches[FeatureBatch] = ColumnBatches(
        train.columns(),
        train.collate,
        names=("frames", "target"),
        batch_tokens=config.batch_tokens,
        rows=config.batch_size if config.batch_tokens is None else None,
        num_buckets=config.num_buckets,
        seed=config.seed,
    )
    num_frames = int(train.frames.lengths.sum())
    report = SpeechReport(
        num_items={"training": len(train), "development": len(development), "test": len(splits.test)},
        vocab_size=tokenizer.vocab_size,
        feature_dim=config.features.feature_dim,
        num_frames=num_frames,
        hours=num_frames * config.features.step_ms / 3_600_000,
        batches=batches.describe(),
        batches_per_epoch=batches.batches_per_epoch,
        padding_share=batches.padding_share(),
        notes=(*splits.notes, *_notes({"training": train, "development": development}, config)),
    )
    return PreparedSpeech(
        config=config, tokenizer=tokenizer, train=batches, development=development, report=report
    )


def frames_of(content: Any, features: SpeechFeatures) -> npt.NDArray[np.float32]:
    """Frames of a sound, or of static frames ``[frames, static_dim]`` that were stored.

    Raises:
      DataError: If stored frames have another width than the front end's, or are non-finite.
    """
    return features.frames(content) if isinstance(content, Sound) else features.finished(content)


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
    flat = np.array([token for ids in targets for token in ids], np.int32)
    check_token_ids(flat, tokenizer.vocab_size, name=name)
    return SpeechPart(
        texts=kept,
        frames=FrameStore.of(arrays, dim=config.features.feature_dim),
        targets=targets,
        num_too_long=num_too_long,
        num_resampled=num_resampled,
        num_unknown=tokenizer.count_unknown(flat),
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
