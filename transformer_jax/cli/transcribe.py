"""``transformer-jax transcribe``: recordings in, what is said in them out."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import tyro

from transformer_jax.cli.flags import BEAMS

DESCRIPTION = """Write what is said in recordings with a trained model: one line out for each recording in, in order.

Recordings are WAV files (FLAC, OGG and AIFF with the package soundfile), or .npy files of the frames that the model's
data are stored as; of a folder all of them are taken, in order of their names, and without files their names are read
from standard input. Another rate is resampled and several channels are mixed, which is said on standard error; a silent
recording has an empty line. A file that cannot be read, or is too long, is named on standard error, its line is empty,
the rest goes on, and the exit status is 2.

Examples:
  transformer-jax transcribe runs/digits recording.wav
  transformer-jax transcribe runs/digits recordings --output texts.txt
  transformer-jax transcribe runs/digits recordings --figures pictures
  ls recordings/*.wav | transformer-jax transcribe runs/digits --beam 8 --json

--json writes an object for each recording: file, text, score, seconds, tokens and, where the most probable path of a
model with CTC alone is taken (--beam 1), the second at which each token begins.
--figures FOLDER draws each recording as a spectrogram, or the frames that are stored of it, with its tokens where
they begin.

A recording's text does not depend on the recordings beside it."""


@dataclasses.dataclass(frozen=True)
class Command:
    run_dir: tyro.conf.Positional[Annotated[Path | None, tyro.conf.arg(metavar="RUN_DIR")]] = None
    """Folder of a trained run, or of an exported model."""

    files: tyro.conf.Positional[Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE")]] = ()
    """Sound files, or folders of them; without any their names come from standard input, one a line."""

    output: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where the texts go; without it standard output."""

    beam: Annotated[int | None, tyro.conf.arg(metavar="N"), BEAMS] = None
    """Beams of the search, 1 is greedy; without it the run's own search."""

    figures: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER", aliases=["--attention"])] = None
    """Draw each recording's spectrogram and tokens there, as NAME.png."""

    json: bool = False
    """Write a JSON object for each recording."""

    def run(self) -> int:
        # Loaded here, not above: they bring jax, and --help does without.
        from transformer_jax.cli.item_files import PictureNames, item_paths, predict_items
        from transformer_jax.cli.line_groups import note_remarks
        from transformer_jax.cli.loaded import load_for
        from transformer_jax.data.sound import SUFFIXES
        from transformer_jax.inference.search_change import SearchChange
        from transformer_jax.inference.transcriber import FRAME_SUFFIX, Transcriber

        transcriber: Transcriber = load_for("transcribe", Transcriber, self.run_dir).predictor
        search = SearchChange(beam=self.beam).of(transcriber.search)
        pictures = None if self.figures is None else PictureNames(self.figures)
        if pictures is not None:
            transcriber.require_head()

        def predict(paths: list[Path], items: list[Any]) -> list[str]:
            found = transcriber.transcribe(items, search=search)
            note_remarks(transcriber.report)
            if pictures is not None:
                is_aligned = all(one.starts for one in found if one.tokens)
                draw(transcriber, paths, items, found if is_aligned else transcriber.align(items), pictures)
            return [self._written(*one) for one in zip(paths, found, strict=True)]

        paths = item_paths(self.files, [*SUFFIXES, FRAME_SUFFIX]) if self.files else None
        return predict_items(transcriber.read, predict, paths, output_path=self.output, unit="recordings")

    def _written(self, path: Path, found: Any) -> str:
        from transformer_jax.config_json import finite_json

        if not self.json:
            return str(found.text)
        row = {
            "file": str(path),
            "text": found.text,
            "score": found.score,
            "seconds": round(found.seconds, 3),
            "finished": found.finished,
            "tokens": list(found.tokens),
            "starts": list(found.starts),
        }
        return json.dumps(finite_json(row), allow_nan=False)


def draw(transcriber: Any, paths: list[Path], items: list[Any], aligned: list[Any], pictures: Any) -> None:
    """Draw recordings with the tokens where they begin; of one without sound a note says that there is no picture."""
    from transformer_jax.data.sound import Sound
    from transformer_jax.notes import note
    from transformer_jax.plot.speech import speech_figure

    for path, item, found in zip(paths, items, aligned, strict=True):
        is_sound = isinstance(item.content, Sound)
        frames = transcriber.features.spectrogram(item.content) if is_sound else item.content
        if not len(frames):
            note(f"note: {path}: of no length, so there is no picture")
            continue
        speech_figure(
            frames,
            found.tokens,
            found.starts,
            seconds=item.seconds,
            is_spectrogram=is_sound,
            title=path.name,
            path=pictures.of(path),
        )
