"""The entry of a named data set: its files with sizes and checksums, its terms, and its readers by form."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

Form = Literal["pairs", "pronunciations", "text", "classes", "tags", "captions", "series", "speech"]
"""Form of examples: lines with their targets, words with all their pronunciations, documents of text, texts with a
class, words with a label each, drawings and images with captions, time series, or recordings with what is said in them.

The reader of ``pairs`` takes a source and a target language and returns `PairSplits`; that of ``pronunciations``
takes nothing and returns `PairSplits`; that of ``text`` takes nothing and returns `TextSplits`; that of ``classes``
takes a subset and a fold, where a set has such, and returns `ClassSplits`; that of ``tags`` takes the name of an
annotation or None and returns `TagSplits`; that of ``captions`` takes nothing and returns `CaptionSplits`; that of
``series`` takes nothing and returns `SeriesSet`; that of ``speech`` takes the name of a speaker to test on or None and
returns `SpeechSplits`.
"""

GITHUB = "https://raw.githubusercontent.com"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetFile:
    """One file of a set: its size in bytes, its SHA-256, and its address (None: it cannot be downloaded)."""

    size: int
    sha256: str
    url: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
    """A named set.

    Attributes:
      name: Name of the set and of its folder.
      description: Contents.
      licence: Terms of use.
      citation: Publication to cite.
      homepage: Where people find it.
      files: Its files by name; a name may hold a folder, as ``training/label`` does.
      languages: Languages of a set of translations: any of them can be source or target.
      readers: The function that reads the set, for each form of examples that it gives.
      packaged: Finds the only file inside an installed package; None for a set that has to be stored or downloaded.
    """

    name: str
    description: str
    licence: str
    citation: str
    homepage: str
    files: Mapping[str, DatasetFile]
    languages: tuple[str, ...] = ()
    readers: Mapping[Form, Callable[..., Any]] = dataclasses.field(default_factory=dict)
    packaged: Callable[[], Path] | None = None


def dataset_files(
    base: str | None, *entries: tuple[str, int, str], folder: str = ""
) -> dict[str, DatasetFile]:
    """Files of ``(name, size, sha256)``.

    Args:
      base: Address of the folder that holds them, with a slash at its end; None where they cannot be downloaded.
      *entries: Name, size in bytes and SHA-256 of each file.
      folder: Folder below ``base``, with a slash at its end, that is not part of the names.

    Example:
      >>> dataset_files("https://example.org/", ("a.txt", 3, "ab"), folder="raw/")
      {'a.txt': DatasetFile(size=3, sha256='ab', url='https://example.org/raw/a.txt')}
    """
    return {
        name: DatasetFile(size=size, sha256=sha256, url=None if base is None else f"{base}{folder}{name}")
        for name, size, sha256 in entries
    }
