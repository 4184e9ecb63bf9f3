"""English novels of 1850 to 1927, one document each."""

import re

from transformer_jax.data.documents import Document, TextSplits
from transformer_jax.data.hash_fraction import hash_fraction
from transformer_jax.data.readers import read_text_file
from transformer_jax.data.sources.dataset import Dataset, dataset_files
from transformer_jax.data.sources.stored_files import locate_file

NUM_HELD_OUT = 3
"""Novels of the development set, and of the test set."""

_HEADING = re.compile(r"^=== (.+)\n+", re.MULTILINE)


def _read() -> TextSplits:
    """Hold out whole novels by SHA-256 of their names: the first three are the test set, three more for development."""
    text = read_text_file(locate_file(ENGLISH_NOVELS, "novels.txt.xz"))
    _, *parts = _HEADING.split(text)
    novels = {name: Document(name, body.rstrip("\n") + "\n") for name, body in zip(parts[::2], parts[1::2])}
    held_out = sorted(novels, key=hash_fraction)[: 2 * NUM_HELD_OUT]
    test, development = held_out[:NUM_HELD_OUT], held_out[NUM_HELD_OUT:]
    return TextSplits(
        train=[novel for name, novel in novels.items() if name not in held_out],
        development=[novels[name] for name in development],
        test=[novels[name] for name in test],
        notes=(
            f"whole novels held out by SHA-256 of their names: {', '.join(development)} for development, "
            f"{', '.join(test)} for the test; their authors may have other novels in the training set",
        ),
    )


ENGLISH_NOVELS = Dataset(
    name="english-novels",
    description="56 novels of 34 authors, 39 million characters",
    licence="public domain",
    citation="Computational Stylistics Group, 100 English Novels",
    homepage="https://github.com/computationalstylistics/100_english_novels/tree/143e6018",
    files=dataset_files(
        None,
        ("novels.txt.xz", 10838916, "d114cb3afe15b1e24acb6ce5f5fefc91acbd1e86b7eace0d0cddb42bd0092af6"),
    ),
    readers={"text": _read},
)
