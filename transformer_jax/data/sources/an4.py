"""AN4: spoken letters, numbers and names, as features with transcripts.

The waveforms are not at hand; the frames were computed by the Sphinx front end from sound at 16 kHz: 40 mel filters
from 130 to 6,800 Hz, 13 cepstra, 100 frames a second.
"""

from pathlib import Path

import numpy as np

from transformer_jax.data.sources.dataset import Dataset, dataset_files
from transformer_jax.data.sources.stored_arrays import read_arrays
from transformer_jax.data.sources.stored_files import locate_file
from transformer_jax.data.utterances import SpeechSplits, Utterance, hold_out_speakers
from transformer_jax.errors import DataError


def read_frames(path: Path) -> list[Utterance]:
    """Utterances of a file of arrays.

    Args:
      path: A ``.npz`` file with ``features [total, 13]``, ``lengths``, ``names`` (``set/speaker/recording``) and
        ``texts``.

    Raises:
      DataError: If they are missing, hold objects, or do not fit together.
    """
    features, lengths, names, texts = read_arrays(
        path, ("features", "lengths", "names", "texts"), what="utterances"
    )
    if lengths.sum() != len(features) or not len(lengths) == len(names) == len(texts):
        raise DataError(f"{path}: its arrays do not fit together; take a copy that is whole")
    found, end = [], np.cumsum(lengths)
    for name, text, first, last in zip(
        names.tolist(), texts.tolist(), (end - lengths).tolist(), end.tolist(), strict=True
    ):
        found.append(
            Utterance(text=text, frames=features[first:last], name=name, speaker=name.split("/")[-2])
        )
    return found


def _read(test_speaker: str | None) -> SpeechSplits:
    if test_speaker is not None:
        raise DataError("an4 has a test set of speakers of its own: leave test_speaker out")
    train, development = hold_out_speakers(read_frames(locate_file(AN4, "an4_train.npz")))
    speakers = len({one.speaker for one in development})
    return SpeechSplits(
        train=train,
        development=development,
        test=read_frames(locate_file(AN4, "an4_test.npz")),
        notes=(
            f"{speakers} speakers of the training set are held out as development set",
            "frames are stored cepstra; the waveforms are not here",
        ),
    )


AN4 = Dataset(
    name="an4",
    description="CMU AN4 speech: 948 and 130 utterances of different speakers, 13 MFCC at 100 frames a second",
    licence="BSD-like (Carnegie Mellon University)",
    citation="Acero and Stern 1990, Environmental Robustness in Automatic Speech Recognition",
    homepage="https://github.com/cphazen/Machine-Learning-Project-ASR/tree/5e478f0e",
    files=dataset_files(
        None,
        ("an4_train.npz", 6176883, "ab71ccae9d85145740aa1642fe2602cc6d6251368ef5ca6224604e3facf64a61"),
        ("an4_test.npz", 867593, "84774c67a68cb729707e4e4de157c894dcea6a2654404fd8e653fe9f739e38ef"),
        ("LICENSE", 1914, "065196b947a2a8b9b351e4d06d9f582955150e4c628ef0b48ea10488a28d8e57"),
        ("README", 860, "08a46fb477406a48ff79b179a1d2353d8299223d769091c4db5a27ccbb9c5cf1"),
    ),
    readers={"speech": _read},
)
