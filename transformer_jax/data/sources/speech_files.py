"""Lists of sound files of one's own: a path and what is said in it a row, separated by a tab."""

import dataclasses
import os
from pathlib import Path
from typing import Literal

from transformer_jax.data.readers import read_lines
from transformer_jax.data.sound import read_sound
from transformer_jax.data.sources.part_files import PartFiles
from transformer_jax.data.utterances import SpeechSplits, Utterance, hold_out_speakers
from transformer_jax.errors import DataError, shortened


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechFiles(PartFiles):
    """Your own lists of recordings, files of UTF-8 text: ``path<TAB>text`` a row, or ``path<TAB>text<TAB>speaker``.

    A path is relative to the folder of its list. Empty lines are left out.

    Attributes:
      train: List of the training recordings.
      development: The same of the development recordings; None holds a tenth of the speakers (of the recordings, where
        none is named) out of the training set.
      test: The same of the test recordings; None for none.

    Raises:
      ConfigError: If a path is empty.
    """

    kind: Literal["files"] = "files"

    def load(self) -> SpeechSplits:
        """Read the three parts.

        Raises:
          DataError: If a file is missing or bad, or a row has no tab; one line that says which.
        """
        train = read_speech_list(self.train)
        test = [] if self.test is None else read_speech_list(self.test)
        if self.development is not None:
            return SpeechSplits(train=train, development=read_speech_list(self.development), test=test)
        train, development = hold_out_speakers(train)
        return SpeechSplits(
            train=train,
            development=development,
            test=test,
            notes=(f"development set: {len(development)} recordings of the training set are held out",),
        )


def read_speech_list(path: str | os.PathLike[str]) -> list[Utterance]:
    """Recordings of a list, see `SpeechFiles`.

    Raises:
      DataError: If the list or a recording cannot be read, a row has no tab, or there is no row.
    """
    listing = Path(os.path.expanduser(path))
    found = []
    for number, line in enumerate(read_lines(listing), start=1):
        if not line.strip():
            continue
        fields = line.split("\t")
        if len(fields) not in (2, 3) or not fields[0].strip():
            raise DataError(
                f"{path}, line {number}: wanted a path and a text, and a speaker if known, separated by tabs; got "
                f"{len(fields)} field(s): {shortened(line, 40)!r}"
            )
        sound_path = listing.parent / fields[0].strip()
        try:
            sound = read_sound(sound_path)
        except DataError as error:
            raise DataError(f"{path}, line {number}: {error}") from None
        speaker = fields[2].strip() if len(fields) == 3 else ""
        found.append(Utterance(text=fields[1].strip(), sound=sound, name=fields[0].strip(), speaker=speaker))
    if not found:
        raise DataError(f"{path}: no row with a path and a text")
    return found
