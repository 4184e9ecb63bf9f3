"""``transformer-jax caption``: drawings in, their text out."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import tyro

from transformer_jax.cli.flags import BEAMS

DESCRIPTION = """Write what drawings say with a trained model: one line out for each drawing in, in order.

Drawings are InkML files, or images (PNG, JPEG, BMP ...) where the model reads those; of a folder all of them are taken,
in order of their names, and without files their names are read from standard input. A file that cannot be read is
named on standard error, its line is empty, the rest goes on, and the exit status is 2.

Examples:
  transformer-jax caption runs/formulas drawing.inkml
  transformer-jax caption runs/formulas drawings --output formulas.txt
  transformer-jax caption runs/formulas drawings --figures pictures
  ls drawings/*.inkml | transformer-jax caption runs/formulas --json

--figures FOLDER draws for each drawing where the model looked at each symbol, over the strokes.
--json writes an object for each drawing: file, text, score, and whether the text came to its end.

A drawing's text does not depend on the drawings beside it."""


@dataclasses.dataclass(frozen=True)
class Command:
    run_dir: tyro.conf.Positional[Annotated[Path | None, tyro.conf.arg(metavar="RUN_DIR")]] = None
    """Folder of a trained run, or of an exported model."""

    files: tyro.conf.Positional[Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE")]] = ()
    """InkML files or images, or folders of them; without any their names come from standard input, one a line."""

    output: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where the texts go; without it standard output."""

    beam: Annotated[int | None, tyro.conf.arg(metavar="N"), BEAMS] = None
    """Beams of the search, 1 is greedy; without it the run's own search."""

    figures: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER", aliases=["--attention"])] = None
    """Draw the attention of each drawing there, as NAME.png."""

    json: bool = False
    """Write a JSON object for each drawing."""

    def run(self) -> int:
        # Loaded here, not above: they bring jax, and --help does without.
        from transformer_jax.cli.item_files import PictureNames, item_paths, predict_items
        from transformer_jax.cli.line_groups import note_lines
        from transformer_jax.cli.loaded import load_for
        from transformer_jax.data.images import SUFFIXES, ImageFeatures
        from transformer_jax.inference.captioner import Captioner
        from transformer_jax.inference.search_change import SearchChange

        captioner: Captioner = load_for("caption", Captioner, self.run_dir).predictor
        search = SearchChange(beam=self.beam).of(captioner.search)

        pictures = None if self.figures is None else PictureNames(self.figures)

        def predict(paths: list[Path], items: list[Any]) -> list[str]:
            found = captioner.caption(items, search=search)
            note_lines(captioner.report)
            if pictures is not None:
                draw(captioner.attend(items, captions=found), paths, pictures)
            return [self._written(*one) for one in zip(paths, found, strict=True)]

        images = SUFFIXES if isinstance(captioner.features, ImageFeatures) else ()
        paths = item_paths(self.files, [".inkml", *images]) if self.files else None
        return predict_items(captioner.read, predict, paths, output_path=self.output, unit="drawings")

    def _written(self, path: Path, found: Any) -> str:
        if not self.json:
            return str(found.text)
        from transformer_jax.config_json import finite_json

        row = {"file": str(path), "text": found.text, "score": found.score, "finished": found.finished}
        return json.dumps(finite_json(row), allow_nan=False)


def draw(attention: list[Any], paths: list[Path], pictures: Any) -> None:
    """Draw where captions looked; of a drawing without a caption a note says that there is no picture."""
    from transformer_jax.data.images import ImageFrames
    from transformer_jax.notes import note
    from transformer_jax.plot.ink import image_attention, stroke_attention

    for path, seen in zip(paths, attention, strict=True):
        if not seen.tokens:
            note(f"note: {path}: no caption was found, no picture")
            continue
        where: Any = {"title": path.name, "path": pictures.of(path)}
        if isinstance(seen.frames, ImageFrames):
            image_attention(seen.frames.features.T, seen.weights, seen.tokens, **where)
        else:
            stroke_attention(seen.frames.points, seen.frames.strokes, seen.weights, seen.tokens, **where)
