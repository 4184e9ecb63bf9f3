"""Recordings with the text that is said in them, and the three parts of a set of them."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from transformer_jax.data.hash_fraction import hash_fraction
from transformer_jax.data.sound import Sound

HELD_OUT_SHARE = 0.1
"""Share of the speakers held out as development set where a data set names none."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Utterance:
    """A recording and what is said in it.

    Attributes:
      text: What is said.
      sound: The sound; None where only frames are stored.
      frames: Stored frames ``[frames, static_dim]`` of a front end; None where there is sound.
      name: Of the recording, for messages.
      speaker: Who speaks; empty where nobody knows.
    """

    text: str
    sound: Sound | None = None
    frames: npt.NDArray[Any] | None = None
    name: str = ""
    speaker: str = ""

    @property
    def content(self) -> Any:
        """The sound, or the stored frames."""
        return self.frames if self.sound is None else self.sound


def at_speed(utterance: Utterance, speed: float) -> Utterance:
    """The same recording spoken faster or slower.

    Sound is resampled, so that its pitch goes with its speed; stored frames are interpolated in time.

    Args:
      utterance: The recording.
      speed: Above 1 is faster.

    Example:
      >>> faster = at_speed(Utterance(text="x", frames=np.arange(9.0)[:, None]), 2.0)
      >>> faster.frames.ravel().tolist()
      [0.0, 2.0, 4.0, 6.0, 8.0]

    Source: Ko et al. 2015, https://doi.org/10.21437/Interspeech.2015-711.
    """
    sound, frames = utterance.sound, utterance.frames
    if sound is not None:
        sped = dataclasses.replace(sound, rate=round(sound.rate * speed)).at_rate(sound.rate)
        return dataclasses.replace(utterance, sound=sped)
    if frames is None or len(frames) < 2:
        return utterance
    places = np.arange(0.0, len(frames) - 1 + 1e-9, speed)
    first = np.minimum(places.astype(np.int64), len(frames) - 2)
    share = (places - first)[:, None]
    values = frames.astype(np.float32)
    return dataclasses.replace(utterance, frames=values[first] * (1 - share) + values[first + 1] * share)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechSplits:
    """The three parts of a set of recordings.

    Attributes:
      train: Training recordings.
      development: Recordings to select checkpoints on.
      test: Recordings to report scores on.
      notes: Remarks on how the parts were made, for reports.
    """

    train: list[Utterance]
    development: list[Utterance]
    test: list[Utterance]
    notes: tuple[str, ...] = ()


def hold_out_speakers(
    utterances: Sequence[Utterance], *, share: float = HELD_OUT_SHARE
) -> tuple[list[Utterance], list[Utterance]]:
    """Hold a share of the speakers out by a hash of their names; where none is known, of the recordings' own names.

    Args:
      utterances: Recordings.
      share: Of the speakers, rounded up; one stays in any case.

    Returns:
      The recordings that are kept and those held out, each in the order given.

    Example:
      >>> said = [Utterance(text="x", speaker=f"s{n % 10}", frames=np.zeros((1, 1))) for n in range(30)]
      >>> kept, held_out = hold_out_speakers(said)
      >>> len(kept), {one.speaker for one in held_out}
      (27, {'s7'})
    """
    names = sorted({one.speaker or one.name for one in utterances}, key=hash_fraction)
    chosen = set(names[: min(math.ceil(share * len(names)), len(names) - 1)])
    return (
        [one for one in utterances if (one.speaker or one.name) not in chosen],
        [one for one in utterances if (one.speaker or one.name) in chosen],
    )
