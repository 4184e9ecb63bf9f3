"""Drawings in, text out: a trained model that reads features, with its tokenizer and its search."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
import numpy.typing as npt
from flax import nnx

from transformer_jax.data.batches import BOS_ID
from transformer_jax.data.buckets import PaddedLengths
from transformer_jax.data.captions_config import ItemFeatures
from transformer_jax.data.images import SUFFIXES, ImageFrames, Pixels, read_image
from transformer_jax.data.ink import Ink, InkFrames, StrokeFeatures
from transformer_jax.data.padding import pad_rows
from transformer_jax.data.sources.inkml import read_inkml
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.decode.searcher import SearchConfig
from transformer_jax.errors import DataError
from transformer_jax.inference.attention_maps import END_TEXT
from transformer_jax.inference.batch_search import (
    GROUP_LINES,
    BatchSearcher,
    Hypothesis,
    batch_rows,
)
from transformer_jax.inference.line_report import LineReport
from transformer_jax.inference.requested_search import RequestedSearch, search_of
from transformer_jax.inference.source_rows import rows_of_items
from transformer_jax.nn.parameters import parameter_count

__all__ = ["Caption", "CaptionAttention", "Captioner", "frame_lengths", "read_item"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Caption:
    """What a drawing says.

    Attributes:
      text: Its tokens, with spaces between.
      tokens: The tokens.
      score: What the search ranks by: log-probability, or that over the length penalty.
      finished: False where the caption was cut off at the longest output.
      alternatives: The next best captions, where the search gives several.
    """

    text: str
    tokens: tuple[str, ...]
    score: float
    finished: bool
    alternatives: tuple["Caption", ...] = ()


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class CaptionAttention:
    """Where each token of a caption looked.

    Attributes:
      tokens: The tokens, and the end if the search came to it.
      frames: Frames of the drawing, or columns of the image.
      weights: ``[tokens, frames]``, or ``[tokens, height, width]`` of an image, of sum 1 for each token: the mean of
        the last attention's heads. A vector of the encoder shares its weight among what it stands for.
    """

    tokens: tuple[str, ...]
    frames: InkFrames | ImageFrames
    weights: npt.NDArray[np.float32]


def frame_lengths(max_frames: int) -> PaddedLengths:
    """The few lengths that drawings are padded to."""
    return PaddedLengths.in_steps(max_frames)


def read_item(item: Any) -> Ink | Pixels:
    """Strokes or an image, from what stands for them.

    Args:
      item: An `Ink`, an image ``[height, width]`` of bytes, the path of an InkML or image file, or a list of strokes
        ``[points, 2]``.

    Raises:
      DataError: If it is neither.
      TypeError: If it is something else.
    """
    if isinstance(item, Ink | np.ndarray):
        return item
    if isinstance(item, str | os.PathLike):
        path = Path(item)
        return read_image(path) if path.suffix.lower() in SUFFIXES else read_inkml(path).ink
    if isinstance(item, Sequence):
        return Ink(tuple(item))
    raise TypeError(
        f"a drawing is an Ink, a path, a list of strokes or an array of an image; got {type(item).__name__}"
    )


@dataclasses.dataclass
class Captioner:
    """A trained model that reads drawings.

    Attributes:
      name: Of the run, for messages.
      model: The model with its trained parameters.
      tokenizer: Turns ids into text.
      features: How a drawing becomes frames.
      max_frames: Most frames of a drawing; one that has more is read at a wider spacing.
      search: Search that `caption` uses unless it is given another.
      target_limit: The longest caption that the model can write, the end included; None where it has no limit.
      report: Remarks on what was done to drawings so far.
    """

    verbs: ClassVar[tuple[str, ...]] = ("caption", "attend")

    name: str
    model: Any
    tokenizer: Tokenizer
    features: ItemFeatures
    max_frames: int
    search: SearchConfig
    target_limit: int | None = None
    report: LineReport = dataclasses.field(default_factory=LineReport)
    _programs: dict[Any, Any] = dataclasses.field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def state(self) -> nnx.State:
        """The model's state, as searches take it."""
        return nnx.split(self.model)[1]

    def caption(
        self,
        items: Sequence[Any],
        *,
        search: RequestedSearch | None = None,
        seed: int = 0,
        num_devices: int = 1,
        names: Sequence[str] | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> list[Caption]:
        """The text of each drawing; it does not depend on the drawings beside it.

        Args:
          items: Drawings: `Ink`, paths of InkML files, or lists of strokes ``[points, 2]``; for a model of images also
            their paths, or arrays ``[height, width]`` of bytes.
          search: How to search, such as ``BeamSearch(num_beams=4)``; None for the run's own search.
          seed: Of the draws, where the search draws.
          num_devices: Devices that search side by side.
          names: What to call the drawings in messages; None for their paths, or their numbers.
          on_progress: Called with the number of drawings done so far.

        Raises:
          ConfigError: If the search is impossible.
          DataError: If an item is no drawing, or a file is missing or damaged; says which.
          TypeError: If ``items`` is one text, an item is something else, or ``search`` is none.
        """
        chosen = search_of(search, self.search)
        frames = self._frames(items, names)
        searcher = self._searcher(chosen, num_devices)
        searcher.set_seed(seed)
        state, num_best = self.state, getattr(chosen if search is None else search, "num_best", 1)
        found: list[Caption] = []
        for first in range(0, len(frames), GROUP_LINES):
            group = [one.features for one in frames[first : first + GROUP_LINES]]
            outputs = searcher(state, group, row_ids=range(first, first + len(group)))
            found += [self._captions(hypotheses[:num_best]) for hypotheses in outputs]
            if on_progress is not None:
                on_progress(len(found))
        return found

    def attend(
        self, items: Sequence[Any], *, search: RequestedSearch | None = None
    ) -> list[CaptionAttention]:
        """Where each token of a drawing's caption looked, the captions being those of `caption`.

        Args:
          items: Drawings, as `caption` takes them.
          search: How to search; None for the run's own search.
        """
        chosen = search_of(search, self.search)
        frames = self._frames(items)
        sources, state = [one.features for one in frames], self.state
        outputs = [one[0] for one in self._searcher(chosen, 1)(state, sources)]
        lengths, form = frame_lengths(self.max_frames), rows_of_items(self.features)
        maps = self._kept("maps", self._make_maps)
        found = []
        for one, output in zip(frames, outputs, strict=True):
            inputs = form.make([one.features], num_rows=1, length=lengths.of(len(one.features)))
            read, _ = pad_rows([[BOS_ID, *output.tokens]], num_rows=1, length=chosen.max_len + 1)
            by_name = maps(state, *jax.device_put((inputs, read)))
            last = list(by_name)[-1]  # of the last layer
            num_tokens = len(output.tokens) + output.finished
            weights = np.asarray(by_name[last])[0, :, :num_tokens].mean(axis=0)
            found.append(self._attention(one, output, weights))
        return found

    def _attention(
        self, frames: InkFrames | ImageFrames, output: Hypothesis, weights: npt.NDArray[Any]
    ) -> CaptionAttention:
        """Weights of vectors as weights of frames."""
        reduction = int(self.model.config.encoder.reduction)
        groups = np.arange(len(frames.features)) // reduction
        if isinstance(frames, ImageFrames):  # vectors column by column
            height = frames.features.shape[1]
            rows = np.arange(height) // reduction
            groups = rows[:, None] + (rows[-1] + 1) * groups[None, :]
        sizes = np.bincount(groups.ravel())
        tokens = (*self.tokenizer.pieces(output.tokens), *[END_TEXT] * output.finished)
        shared = weights[:, groups] / sizes[groups]  # of the drawing's shape, a map for each token
        return CaptionAttention(tokens=tokens, frames=frames, weights=shared.astype(np.float32))

    def _make_maps(self) -> Any:
        graph = nnx.split(self.model)[0]

        def maps(state: Any, inputs: Any, target_inputs: Any) -> Any:
            return nnx.merge(graph, state).attention_maps(inputs, target_inputs)

        return jax.jit(maps)

    def frames(self, item: Ink | Pixels) -> InkFrames | ImageFrames:
        """A drawing as the model reads it.

        Raises:
          DataError: If there are more strokes than ``max_frames``, or it is an image and the model reads strokes.
        """
        if not isinstance(self.features, StrokeFeatures):
            return self.features.frames(item, max_frames=self.max_frames)
        if not isinstance(item, Ink):
            raise DataError(f"an image, and {self.name} reads strokes: take InkML, or a model of images")
        return self.features.frames(item, max_frames=self.max_frames)

    def _frames(
        self, items: Sequence[Any], names: Sequence[str] | None = None
    ) -> list[InkFrames | ImageFrames]:
        if isinstance(items, str | os.PathLike | Ink):
            raise TypeError("items must be a list of drawings, got one: write [...] around it")
        self.report = LineReport()
        found, num_coarser = [], 0
        for place, item in enumerate(items):
            where = f"{item}" if isinstance(item, str | os.PathLike) else f"drawing {place + 1}"
            where = where if names is None else names[place]
            try:
                drawing = read_item(item)
                frames = self.frames(drawing)
            except DataError as error:
                text = str(error)
                raise DataError(text if text.startswith(where) else f"{where}: {text}") from None
            if frames.is_coarser:
                num_coarser += 1
                if num_coarser == 1:
                    self.report.remark(f"{where}: {_narrowed(drawing)}, to fit {self.max_frames} frames")
            found.append(frames)
        if num_coarser > 1:
            self.report.remark(f"the same for {num_coarser - 1:,} of {len(found):,} drawings behind it")
        return found

    def _searcher(self, search: SearchConfig, num_devices: int) -> BatchSearcher:
        def make() -> BatchSearcher:
            return BatchSearcher(
                self.model,
                search,
                batch_size=batch_rows(search, parameters=parameter_count(self.model)),
                lengths=frame_lengths(self.max_frames),
                longest_output=self.target_limit,
                num_devices=num_devices,
                form=rows_of_items(self.features),
            )

        return self._kept(("search", search, num_devices), make)

    def _kept(self, key: Any, make: Callable[[], Any]) -> Any:
        """What was made for these options before, with its compiled programs, or now."""
        if key not in self._programs:
            self._programs[key] = make()
        return self._programs[key]

    def _captions(self, hypotheses: Sequence[Hypothesis]) -> Caption:
        found = [
            Caption(
                text=self.tokenizer.decode_line(one.tokens),
                tokens=tuple(self.tokenizer.pieces(one.tokens)),
                score=one.score,
                finished=one.finished,
            )
            for one in hypotheses
        ]
        return dataclasses.replace(found[0], alternatives=tuple(found[1:]))


def _narrowed(item: Ink | Pixels) -> str:
    if isinstance(item, Ink):
        counts = f"{item.num_points:,} points of {len(item.strokes):,} strokes"
        return f"{counts} are read at a wider spacing than in training"
    return f"an image of {item.shape[1]:,} by {item.shape[0]:,} pixels is made narrower"
