"""Files and folders as items of a command: one line out for each, a bad one named and the rest done."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from transformer_jax.cli.line_groups import opened_output, progress_bar, write_texts
from transformer_jax.cli.lines import arriving_lines
from transformer_jax.cli.streams import require_open
from transformer_jax.errors import DataError
from transformer_jax.files import require_other_file
from transformer_jax.notes import note

GROUP_ITEMS = 128
"""Items that are read and predicted together."""

UNREADABLE = 2
"""Exit status where an item could not be read."""


def item_paths(names: Sequence[Path], suffixes: Sequence[str]) -> list[Path]:
    """Files of a command line: those that are named, and of folders those with one of the suffixes, in order of names.

    Args:
      names: Files and folders.
      suffixes: In lower case, such as ``".inkml"``.

    Raises:
      DataError: If a folder holds no such file.

    Example:
      >>> item_paths([Path("one.inkml"), Path("missing")], [".inkml"])
      [PosixPath('one.inkml'), PosixPath('missing')]
    """
    found: list[Path] = []
    for name in names:
        if not name.is_dir():
            found.append(name)
            continue
        within = sorted(
            path for path in name.rglob("*") if path.suffix.lower() in suffixes and path.is_file()
        )
        if not within:
            raise DataError(f"{name}: no file with suffix {' or '.join(suffixes)} in the folder")
        found += within
    return found


class PictureNames:
    """Paths of pictures of items, one for each even where items of two folders have one name.

    Args:
      folder: Where the pictures go.

    Example:
      >>> names = PictureNames(Path("pictures"))
      >>> [str(names.of(Path(item))) for item in ("a/1.wav", "b/1.wav", "2.wav")]
      ['pictures/1.png', 'pictures/1-2.png', 'pictures/2.png']
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._taken = folder, set[str]()

    def of(self, item: Path) -> Path:
        """The path of an item's picture."""
        name, number = item.stem, 1
        while name in self._taken:
            number += 1
            name = f"{item.stem}-{number}"
        self._taken.add(name)
        return self._folder / f"{name}.png"


def predict_items(
    read: Callable[[Path], Any],
    predict: Callable[[list[Path], list[Any]], Sequence[str]],
    paths: Sequence[Path] | None,
    *,
    output_path: Path | None,
    unit: str,
) -> int:
    """Send files through a predictor, in order.

    Args:
      read: Reads one; raises ``DataError`` where it cannot.
      predict: A text without its line end for each of some paths and what was read of them.
      paths: The files; None reads their names from standard input, one a line.
      output_path: Where the texts go; None for standard output. An item that cannot be read has an empty line.
      unit: What an item is called, in the plural.

    Returns:
      Exit status: 0, or `UNREADABLE` where an item could not be read; each of these is named on standard error.
    """
    require_other_file("--output", output_path, [] if paths is None else paths)
    num_bad = done = 0
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(opened_output(output_path))
        progress = stack.enter_context(progress_bar(None if paths is None else len(paths), unit))
        for group in _groups(paths):
            good: list[tuple[int, Path, Any]] = []
            for place, path in enumerate(group):
                try:
                    good.append((place, path, read(path)))
                except DataError as error:
                    num_bad += 1
                    note(f"note: left out: {error}")
            texts = [""] * len(group)
            if good:
                predicted = predict([path for _, path, _ in good], [item for _, _, item in good])
                for (place, _, _), text in zip(good, predicted, strict=True):
                    texts[place] = text
            write_texts(out, [f"{text}\n" for text in texts], output_path)
            done += len(group)
            progress(done)
    if num_bad:
        note(f"note: {num_bad:,} of {done:,} {unit} could not be read; their lines are empty")
    return UNREADABLE if num_bad else 0


def _groups(paths: Sequence[Path] | None) -> Iterator[list[Path]]:
    if paths is None:
        require_open(0, "the names of files")
        import sys

        for lines in arriving_lines(sys.stdin.buffer, where="standard input", max_lines=GROUP_ITEMS):
            yield [Path(line) for line in lines]
        return
    for first in range(0, len(paths), GROUP_ITEMS):
        yield list(paths[first : first + GROUP_ITEMS])
