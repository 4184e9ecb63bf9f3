"""Recordings with the text that is said in them, and the three parts of a set of them."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

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
