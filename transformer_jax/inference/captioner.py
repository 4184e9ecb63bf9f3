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
from transformer_jax.decode.searcher import SearchConfig
from transformer_jax.errors import DataError
from transformer_jax.inference.attention_maps import END_TEXT
from transformer_jax.inference.batch_search import (
    GROUP_LINES,
    BatchSearcher,
    Hypothesis,
    batch_rows,
)
from transformer_jax.inference.feature_predictor import FeaturePredictor, naming
from transformer_jax.inference.line_report import LineReport
from transformer_jax.inference.requested_search import RequestedSearch, search_of
from transformer_jax.inference.source_rows import rows_of_items
from transformer_jax.nn.parameters import parameter_count

__all__ = ["Caption", "CaptionAttention", "Captioner", "Drawing", "frame_lengths", "read_item"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Caption:
    """The text of a drawing.

    Attributes:
      text: Its tokens, with spaces between.
      tokens: The tokens.
      token_ids: Their ids.
      score: What the search ranks by: log-probability in nats, or that over the length penalty; ``-inf`` where the
        search found nothing.
      finished: False where the caption was cut off at the longest output.
      alternatives: The next best captions, where the search gives several.

    Example:
      >>> caption = Caption(text="x ^ 2", tokens=("x", "^", "2"), token_ids=(4, 5, 6), score=-0.5, finished=True)
      >>> caption.alternatives
      ()
    """

    text: str
    tokens: tuple[str, ...]
    token_ids: tuple[int, ...]
    score: float
    finished: bool
    alternatives: tuple["Caption", ...] = ()


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class CaptionAttention:
    """Attention weights of each token of a caption.

    Attributes:
      tokens: The tokens, and the end if the search came to it.
      frames: Frames of the drawing, or columns of the image.
      weights: ``[tokens, frames]``, or ``[tokens, height, width]`` of an image, of sum 1 for each token: the mean of
        the last attention's heads. A vector of the encoder shares its weight among what it stands for.
    """

    tokens: tuple[str, ...]
    frames: InkFrames | ImageFrames
    weights: npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Drawing:
    """A drawing or an image as a model reads it.

    Attributes:
      frames: Its frames.
      name: What messages call it.
      remark: What was done to it, for people; empty for nothing.
    """

    frames: InkFrames | ImageFrames
    name: str
    remark: str = ""


def frame_lengths(max_frames: int) -> PaddedLengths:
    """The few lengths that drawings are padded to.

    Args:
      max_frames: Most frames of a drawing.

    Example:
      >>> frame_lengths(96).longest
      96
    """
    return PaddedLengths.in_steps(max_frames)


def read_item(item: Any) -> Ink | Pixels:
    """Strokes or an image, from what stands for them.

    Args:
      item: An `Ink`, an image ``[height, width]`` of bytes, the path of an InkML or image file, or a list of strokes
        ``[points, 2]``.

    Raises:
      DataError: If it is a list and no strokes, or a file is missing, damaged or neither.
      TypeError: If it is something else.

    Example:
      >>> read_item([[[0, 0], [3, 4]], [[5, 0]]]).num_points
      3
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
class Captioner(FeaturePredictor):
    """A trained model that reads drawings, as `Captioning` makes it; methods take and give lists.

    A drawing of more than ``max_frames`` frames is read at a wider spacing, or made narrower as an image.

    Attributes:
      features: Of strokes or of images; the others are those of `FeaturePredictor`.

    Source: attention over handwriting: Zhang et al. 2017, https://doi.org/10.1016/j.patcog.2017.06.017.
    """

    verbs: ClassVar[tuple[str, ...]] = ("caption", "attend")

    features: ItemFeatures

    def caption(
        self,
        items: Sequence[Any],
        *,
        search: RequestedSearch | None = None,
        seed: int = 0,
        num_devices: int = 1,
        on_progress: Callable[[int], None] | None = None,
    ) -> list[Caption]:
        """The text of each drawing; it does not depend on the drawings beside it.

        Args:
          items: Drawings: `Ink`, paths of InkML files, lists of strokes ``[points, 2]``, or what `read` made of them;
            for a model of images also their paths, or arrays ``[height, width]`` of bytes.
          search: How to search, such as ``BeamSearch(num_beams=4)``; None for the run's own search.
          seed: Of the draws, where the search draws.
          num_devices: Devices that search side by side.
          on_progress: Called with the number of drawings done so far.

        Raises:
          ConfigError: If the search is impossible.
          DataError: If an item is no drawing, or a file is missing or damaged; says which.
          TypeError: If ``items`` is one text, an item is something else, or ``search`` is none.
        """
        chosen = search_of(search, self.search)
        drawings = self._drawings(items)
        searcher = self._searcher(chosen, num_devices)
        searcher.set_seed(seed)
        state, num_best = self.state, getattr(chosen if search is None else search, "num_best", 1)
        found: list[Caption] = []
        best: list[Hypothesis] = []
        for first in range(0, len(drawings), GROUP_LINES):
            group = [one.frames.features for one in drawings[first : first + GROUP_LINES]]
            outputs = searcher(state, group, row_ids=range(first, first + len(group)))
            found += [self._captions(hypotheses[:num_best]) for hypotheses in outputs]
            best += [hypotheses[0] for hypotheses in outputs]
            if on_progress is not None:
                on_progress(len(found))
        self._remark_not_found([one.name for one in drawings], best)
        return found

    def attend(
        self,
        items: Sequence[Any],
        *,
        search: RequestedSearch | None = None,
        captions: Sequence[Caption] | None = None,
    ) -> list[CaptionAttention]:
        r"""Attention weights of each token of a drawing's caption, by teacher forcing.

        .. math:: w_{tj} = \frac{1}{H} \sum_h \alpha_{h t r(j)} / n_{r(j)}

        of the last layer with :math:`H` heads, where vector :math:`r(j)` of the encoder stands for
        :math:`n_{r(j)}` frames or pixels.

        Args:
          items: Drawings, as `caption` takes them.
          search: How to search for the captions; None for the run's own search.
          captions: The captions, where they are known, one for each item; None searches for them.

        Raises:
          ConfigError: If the search is impossible.
          DataError: If an item is no drawing, or a file is missing or damaged; says which. If there are not as many
            captions as items.
          TypeError: If ``items`` is one text, an item is something else, or ``search`` is none.
        """
        drawings = self._drawings(items)
        if captions is None:
            captions = self.caption(drawings, search=search)
        if len(captions) != len(drawings):
            raise DataError(
                f"there are {len(drawings):,} drawings and {len(captions):,} captions: give as many"
            )
        lengths, form = frame_lengths(self.max_frames), rows_of_items(self.features)
        maps, state = self._kept("maps", self._make_maps), self.state
        max_len = max(search_of(search, self.search).max_len, *(len(one.token_ids) for one in captions), 0)
        found = []
        for drawing, caption in zip(drawings, captions, strict=True):
            features = drawing.frames.features
            inputs = form.make([features], num_rows=1, length=lengths.of(len(features)))
            read, _ = pad_rows([[BOS_ID, *caption.token_ids]], num_rows=1, length=max_len + 1)
            by_name = maps(state, *jax.device_put((inputs, read)))
            last = list(by_name)[-1]  # of the last layer
            tokens = (*caption.tokens, *[END_TEXT] * caption.finished)
            weights = np.asarray(by_name[last])[0, :, : len(tokens)].mean(axis=0)
            found.append(self._attention(drawing.frames, tokens, weights))
        return found

    def _attention(
        self, frames: InkFrames | ImageFrames, tokens: tuple[str, ...], weights: npt.NDArray[Any]
    ) -> CaptionAttention:
        """Weights of vectors as weights of frames."""
        reduction = int(self.model.config.encoder.reduction)
        groups = np.arange(len(frames.features)) // reduction
        if isinstance(frames, ImageFrames):  # vectors column by column
            height = frames.features.shape[1]
            rows = np.arange(height) // reduction
            groups = rows[:, None] + (rows[-1] + 1) * groups[None, :]
        sizes = np.bincount(groups.ravel())
        shared = weights[:, groups] / sizes[groups]  # of the drawing's shape, a map for each token
        return CaptionAttention(tokens=tokens, frames=frames, weights=shared.astype(np.float32))

    def _make_maps(self) -> Any:
        graph = nnx.split(self.model)[0]

        def maps(state: Any, inputs: Any, target_inputs: Any) -> Any:
            return nnx.merge(graph, state).attention_maps(inputs, target_inputs)

        return jax.jit(maps)

    def read(self, item: Any, *, name: str | None = None) -> Drawing:
        """A drawing as `caption` takes it, read and made frames of.

        Args:
          item: See `caption`.
          name: What messages call it; None takes the path.

        Raises:
          DataError: If it is no drawing, has more strokes than ``max_frames``, or is an image and the model reads
            strokes.
          TypeError: If it is something else.
        """
        if isinstance(item, Drawing):
            return item
        where = name or (str(item) if isinstance(item, str | os.PathLike) else "the drawing")
        with naming(where):
            content = read_item(item)
            if isinstance(self.features, StrokeFeatures) and not isinstance(content, Ink):
                raise DataError(f"an image, and {self.name} reads strokes: take InkML, or a model of images")
            features: Any = self.features
            frames = features.frames(content, max_frames=self.max_frames)
        remark = (
            f"{where}: {_narrowed(content)}, to fit {self.max_frames} frames" if frames.is_downsampled else ""
        )
        return Drawing(frames=frames, name=where, remark=remark)

    def _drawings(self, items: Sequence[Any]) -> list[Drawing]:
        if isinstance(items, str | os.PathLike | Ink):
            raise TypeError("items must be a list of drawings, got one: write [...] around it")
        self.report = LineReport()
        found = [
            self.read(item, name=None if isinstance(item, str | os.PathLike) else f"drawing {place}")
            for place, item in enumerate(items, 1)
        ]
        remarks = [one.remark for one in found if one.remark]
        if remarks:
            self.report.remark(remarks[0])
        if len(remarks) > 1:
            self.report.remark(f"the same for {len(remarks) - 1:,} of {len(found):,} drawings behind it")
        return found

    def _searcher(self, search: SearchConfig, num_devices: int) -> BatchSearcher:
        def make() -> BatchSearcher:
            return BatchSearcher(
                self.model,
                search,
                batch_size=batch_rows(search, parameters=parameter_count(self.model)),
                lengths=frame_lengths(self.max_frames),
                num_devices=num_devices,
                form=rows_of_items(self.features),
            )

        return self._kept(("search", search, num_devices), make)

    def _captions(self, hypotheses: Sequence[Hypothesis]) -> Caption:
        found = [
            Caption(
                text=self.tokenizer.decode_line(one.tokens),
                tokens=tuple(self.tokenizer.pieces(one.tokens)),
                token_ids=tuple(one.tokens),
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
