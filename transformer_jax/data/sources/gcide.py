"""The Collaborative International Dictionary of English as Debian's package dict-gcide has it, an entry a line."""

import gzip
import re
from pathlib import Path

from transformer_jax.data.documents import Document, TextSplits
from transformer_jax.data.hash_fraction import hash_fraction
from transformer_jax.data.sources.dataset import Dataset, dataset_files
from transformer_jax.data.sources.stored_files import check_file, locate_file
from transformer_jax.errors import DataError
from transformer_jax.files import user_cache

TEST_SHARE = 0.01
DEVELOPMENT_SHARE = 0.01

FILE = "gcide.dict.dz"
INSTALLED = Path("/usr/share/dictd") / FILE
"""Where the package puts it."""

_ENTRY = re.compile(r"^(?=\S)", re.MULTILINE)
_SOURCES = re.compile(r"\[(?:1913 Webster|Webster 1913 Suppl\.|WordNet [\d.]+|PJC)[^\]]*\]")
_PRONUNCIATION = re.compile(r"\\[^\\\n]*\\")


def parse_gcide(text: str) -> dict[str, str]:
    """Entries of the dictionary's file by their headword, each in one line without pronunciation and names of sources.

    Entries of one headword stand one behind the other; the notices at the beginning are left out.

    Example:
      >>> notices = "00-database-url\\n   ftp\\n\\n"
      >>> parse_gcide(notices + "Coag \\\\Coag\\\\, n.\\n   See {Coak}.\\n   [1913 Webster]\\n")
      {'Coag': 'Coag , n. See {Coak}.'}
    """
    found: dict[str, list[str]] = {}
    body = text[max(text.rfind("\n00-database"), 0) :]
    for entry in _ENTRY.split(body):
        lines = entry.split("\n")
        if entry.startswith("00-database") or not lines[1:] or "\\" not in lines[0]:
            continue  # notices, and headings of letters
        headword = lines[0].split("\\")[0].strip()
        words = " ".join(_SOURCES.sub(" ", _PRONUNCIATION.sub(" ", entry)).split())
        found.setdefault(headword, []).append(words)
    return {headword: " ".join(entries) for headword, entries in found.items()}


def _read() -> TextSplits:
    """Hold out the entries of one word in fifty by SHA-256 of the headword: half for development, half for the test."""
    path = locate_file(GCIDE, FILE)
    try:
        text = gzip.decompress(path.read_bytes()).decode("cp1252", "replace")  # ASCII but for three bytes
    except (EOFError, OSError):
        raise DataError(f"{path}: the compressed file is damaged or cut off; fetch it again") from None
    parts: dict[str, list[str]] = {"train": [], "development": [], "test": []}
    for headword, entry in parse_gcide(text).items():
        fraction = hash_fraction(headword)
        held_out = "test" if fraction < TEST_SHARE else "development"
        parts["train" if fraction >= TEST_SHARE + DEVELOPMENT_SHARE else held_out].append(entry)
    documents = {name: [Document("gcide", "\n".join(entries) + "\n")] for name, entries in parts.items()}
    note = "entries held out by SHA-256 of the headword: 1 % for development, 1 % for the test"
    return TextSplits(**documents, notes=(note,))


def _installed() -> Path:
    """The file in the user's cache, or as the package installed it."""
    for path in (user_cache() / "gcide" / FILE, INSTALLED):
        if path.exists():
            check_file(path, GCIDE.files[FILE])
            return path
    raise DataError(
        f"data set 'gcide': {FILE} is not there; run: apt-get install dict-gcide (Debian 12), or take it out of the "
        f"package with dpkg-deb and put it into {user_cache() / 'gcide'}"
    )


GCIDE = Dataset(
    name="gcide",
    description="Collaborative International Dictionary of English 0.48: definitions, 29 million characters",
    licence="GPL-2.0-or-later",
    citation="GNU Collaborative International Dictionary of English",
    homepage="https://packages.debian.org/bookworm/dict-gcide",
    files=dataset_files(
        None,
        (FILE, 13527370, "3e6b2cdcbc1b3664c2f1466e3c8e44012e815c4c67fa83fa61f39777cd6e8517"),
    ),
    readers={"text": _read},
    packaged=_installed,
)
