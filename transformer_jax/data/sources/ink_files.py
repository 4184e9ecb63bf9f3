"""Folders of InkML files with their text: drawings of one's own as a data set."""

import dataclasses
from pathlib import Path
from typing import Literal

from transformer_jax.bounds import check_bounds
from transformer_jax.data.captioned import HELD_OUT_SHARE, Captioned, CaptionSplits, hold_out_captions
from transformer_jax.data.sources.inkml import latex_tokens, read_inkml
from transformer_jax.data.sources.part_files import PartFiles
from transformer_jax.errors import DataError


@dataclasses.dataclass(frozen=True, kw_only=True)
class InkFiles(PartFiles):
    """Folders of InkML files, each with an annotation ``truth``: a formula in LaTeX, or any text.

    Files are taken in order of their names, from folders below too. Those without a truth are left out of training and
    counted in the notes.

    Attributes:
      train: Folder of the training drawings.
      development: The same of the development set; None holds out a twentieth of the captions.
      test: The same of the test set; None for none.
      is_latex: Whether truths are cut into LaTeX tokens; otherwise tokens are what stands between spaces.

    Raises:
      ConfigError: If a path is empty.
    """

    kind: Literal["inkml"] = "inkml"
    is_latex: bool = True

    def __post_init__(self) -> None:
        check_bounds(self)
        super().__post_init__()

    def load(self) -> CaptionSplits:
        """Read the three parts.

        Raises:
          DataError: If a folder is missing or has no drawing with a truth, or a file is damaged; names it.
        """
        notes: list[str] = []
        train, development, test = (
            [] if path is None else self._read(path, notes)
            for path in (self.train, self.development, self.test)
        )
        if self.development is None:
            train, development = hold_out_captions(train)
            notes.append(f"about {HELD_OUT_SHARE:.0%} of the captions are held out as development set")
        return CaptionSplits(train=train, development=development, test=test, notes=tuple(notes))

    def _read(self, folder: str, notes: list[str]) -> list[Captioned]:
        paths = ink_paths(Path(folder).expanduser())
        found, num_without = [], 0
        for path in paths:
            file = read_inkml(path)
            if file.truth is None:
                num_without += 1
                continue
            caption = latex_tokens(file.truth) if self.is_latex else " ".join(file.truth.split())
            found.append(Captioned(item=file.ink, caption=caption, name=path.name))
        if not found:
            raise DataError(f"{folder}: no InkML file with an annotation 'truth'")
        if num_without:
            notes.append(f"{folder}: left out {num_without} drawing(s) without a truth")
        return found


def ink_paths(folder: Path) -> list[Path]:
    """The InkML files of a folder and those below it, in order of their names.

    Raises:
      DataError: If there is no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no folder; wanted one with InkML files")
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".inkml" and path.is_file())
