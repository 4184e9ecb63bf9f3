"""Free Spoken Digit Dataset: recordings of ten words."""

import io
import re
import zipfile
from pathlib import Path

from transformer_jax.data.sound import mixed
from transformer_jax.data.sources.dataset import Dataset, dataset_files
from transformer_jax.data.sources.stored_files import locate_file
from transformer_jax.data.utterances import SpeechSplits, Utterance
from transformer_jax.errors import DataError

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NUM_TEST = 5
"""Recordings of each digit by each speaker that are the official test set, the first ones."""

_NAME = re.compile(r"recordings/(\d)_([a-z]+)_(\d+)\.wav")


def read_recordings(path: Path) -> list[tuple[int, Utterance]]:
    """Recordings of the archive with their numbers, by digit, speaker and number.

    Raises:
      DataError: If it is no archive, or holds no recordings.
    """
    from scipy.io import wavfile

    found = []
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                match = _NAME.fullmatch(name)
                if match is None:
                    continue
                digit, speaker, number = int(match[1]), match[2], int(match[3])
                rate, samples = wavfile.read(io.BytesIO(archive.read(name)))
                said = Utterance(
                    text=WORDS[digit], sound=mixed(samples, rate), name=Path(name).name, speaker=speaker
                )
                found.append((digit, number, said))
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: no archive of recordings, or damaged: {error}") from None
    if not found:
        raise DataError(f"{path}: no recording named DIGIT_SPEAKER_NUMBER.wav is in it")
    found.sort(key=lambda one: (one[0], one[2].speaker, one[1]))
    return [(number, said) for _, number, said in found]


def _read(test_speaker: str | None) -> SpeechSplits:
    recordings = read_recordings(locate_file(SPOKEN_DIGITS, "recordings.zip"))
    speakers = sorted({said.speaker for _, said in recordings})
    if test_speaker is None:
        return SpeechSplits(
            train=[said for number, said in recordings if number >= 2 * NUM_TEST],
            development=[said for number, said in recordings if NUM_TEST <= number < 2 * NUM_TEST],
            test=[said for number, said in recordings if number < NUM_TEST],
            notes=(
                "test set: recordings 0 to 4 of each digit by each speaker, the official ones; development set: 5 to 9",
            ),
        )
    if test_speaker not in speakers:
        raise DataError(f"spoken-digits has no speaker {test_speaker!r}; it has {', '.join(speakers)}")
    others = [(number, said) for number, said in recordings if said.speaker != test_speaker]
    return SpeechSplits(
        train=[said for number, said in others if number >= 2 * NUM_TEST],
        development=[said for number, said in others if number < 2 * NUM_TEST],
        test=[said for _, said in recordings if said.speaker == test_speaker],
        notes=(
            f"test set: all recordings of {test_speaker}, of whom nothing is trained on; development set: 0 to 9 of "
            "the others",
        ),
    )


SPOKEN_DIGITS = Dataset(
    name="spoken-digits",
    description="Free Spoken Digit Dataset: 3,000 recordings at 8 kHz by six speakers, in one archive",
    licence="CC BY-SA 4.0",
    citation="Jackson et al. 2018, Free Spoken Digit Dataset, https://doi.org/10.5281/zenodo.1342401",
    homepage="https://github.com/Jakobovski/free-spoken-digit-dataset/tree/26eb9aaf/recordings",
    files=dataset_files(
        None,
        ("recordings.zip", 16157653, "771cbb3de55a38eccfb76792f0e731ec43b16009d6d8709422cb3f40bfffdb71"),
    ),
    readers={"speech": _read},
)
