"""Recordings in, text out: a trained model that reads frames of speech, with its front end, tokenizer and search."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from transformer_jax.data.prepare_speech import frames_of
from transformer_jax.data.sound import Sound, read_sound
from transformer_jax.data.speech_features import SpeechFeatures
from transformer_jax.decode.searcher import SearchConfig
from transformer_jax.errors import ConfigError, DataError
from transformer_jax.inference.feature_predictor import FeaturePredictor, naming
from transformer_jax.inference.line_report import LineReport
from transformer_jax.inference.requested_search import RequestedSearch, search_of
from transformer_jax.inference.speech_searcher import (
    BestPaths,
    SpeechHypothesis,
    SpeechSearcher,
    speech_lengths,
)

__all__ = ["Recording", "Transcriber", "Transcript", "read_recording"]

FRAME_SUFFIX = ".npy"
"""End of the names of files of stored frames."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Transcript:
    """The text of a recording.

    Attributes:
      text: The text.
      score: What the search ranks by: log-probability in nats, or that over the length penalty; ``-inf`` where the
        search found nothing, 0 where there is nothing to hear.
      finished: False where the text was cut off at the longest output.
      seconds: Length of the recording.
      tokens: The tokens of the text.
      starts: Where each token begins, in seconds; empty unless CTC's best path found the text.
      alternatives: The next best texts, where the search gives several.

    Example:
      >>> Transcript(text="yes", score=-0.2, finished=True, seconds=0.8).starts
      ()
    """

    text: str
    score: float
    finished: bool
    seconds: float
    tokens: tuple[str, ...] = ()
    starts: tuple[float, ...] = ()
    alternatives: tuple["Transcript", ...] = ()


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Recording:
    """A recording as the model reads it.

    Attributes:
      name: What messages call it.
      seconds: Its length.
      frames: ``[frames, feature_dim]``; none where there is nothing to hear.
      content: The sound, or the stored frames.
      remarks: What was done to the sound, for people.
    """

    name: str
    seconds: float
    frames: npt.NDArray[np.float32]
    content: Any = None
    remarks: tuple[str, ...] = ()


def read_recording(item: Any) -> Any:
    """A recording, from any form that `Transcriber.transcribe` takes.

    Args:
      item: A `Sound`, the path of a sound file or of a ``.npy`` file of static frames, or such frames
        ``[frames, dim]``.

    Returns:
      A `Sound`, or an array of frames.

    Raises:
      DataError: If a file is missing, damaged or no recording.
      TypeError: If it is something else.

    Example:
      >>> read_recording(np.zeros((20, 13), np.float32)).shape
      (20, 13)
    """
    if isinstance(item, Sound | np.ndarray):
        return item
    if not isinstance(item, str | os.PathLike):
        raise TypeError(f"a recording is a Sound, a path or an array of frames; got {type(item).__name__}")
    path = Path(item)
    if path.suffix != FRAME_SUFFIX:
        return read_sound(path)
    try:
        frames = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: no array of frames, or damaged: {error}") from None
    if not isinstance(frames, np.ndarray) or not np.issubdtype(frames.dtype, np.number):
        raise DataError(f"{path}: wanted one array of numbers [frames, dim]")
    return frames


@dataclasses.dataclass
class Transcriber(FeaturePredictor):
    """A trained model that writes what is said, as `Transcription` makes it; methods take and give lists.

    Recordings of up to eight times the ``max_frames`` of training are read, or as many frames as the
    model has learned positions for.

    Attributes:
      ctc_weight: Share of CTC in beam search, where the model has a decoder and a CTC head; the others are those of
        `FeaturePredictor`.

    Source: by CTC: Graves et al. 2006, https://doi.org/10.1145/1143844.1143891; jointly: Hori et al. 2017,
    https://doi.org/10.18653/v1/P17-1048.
    """

    verbs: ClassVar[tuple[str, ...]] = ("transcribe", "align")

    features: SpeechFeatures
    ctc_weight: float = 0.0

    def transcribe(
        self,
        items: Sequence[Any],
        *,
        search: RequestedSearch | None = None,
        num_devices: int = 1,
        on_progress: Callable[[int], None] | None = None,
    ) -> list[Transcript]:
        """The text of each recording; it does not depend on the recordings beside it.

        Sound of another rate is resampled, several channels are mixed, and the report says so. A silent recording has
        an empty text.

        Args:
          items: Recordings: `Sound`, paths of sound files, static frames ``[frames, dim]`` of the same front end, or
            what `read` made of them.
          search: How to search, such as ``BeamSearch(num_beams=8)``; None for the run's own search.
          num_devices: Devices that search side by side.
          on_progress: Called with the number of recordings done so far.

        Raises:
          ConfigError: If the search is impossible.
          DataError: If an item is no recording, or too long; says which.
          TypeError: If ``items`` is one recording, an item is something else, or ``search`` is none.
        """
        chosen = search_of(search, self.search)
        num_best = getattr(chosen if search is None else search, "num_best", 1)
        searcher = self._searcher(chosen, num_devices)
        recordings = self._recordings(items)
        found = [Transcript(text="", score=0.0, finished=True, seconds=one.seconds) for one in recordings]
        spoken = [place for place, one in enumerate(recordings) if len(one.frames)]
        hypotheses = searcher(self.state, [recordings[place].frames for place in spoken])
        self._remark_not_found(
            [recordings[place].name for place in spoken], [one[0].hypothesis for one in hypotheses]
        )
        for place, hypothesis in zip(spoken, hypotheses, strict=True):
            found[place] = self._transcribed(hypothesis[:num_best], recordings[place].seconds)
        if on_progress is not None:
            on_progress(len(found))
        return found

    def align(self, items: Sequence[Any]) -> list[Transcript]:
        """The text of each recording by the most probable path of the CTC head, which says where each token begins.

        Args:
          items: Recordings, as `transcribe` takes them.

        Returns:
          Texts with ``starts``: the seconds at which the vectors of the encoder begin that give the tokens first.

        Raises:
          ConfigError: If the model has no CTC head.
          DataError: If an item is no recording, or too long; says which.
          TypeError: If ``items`` is one recording, or an item is something else.
        """
        self.require_head()
        recordings = self._recordings(items)
        paths = self._kept(
            "path",
            lambda: BestPaths(
                self.model,
                lengths=speech_lengths(self.model, self.max_frames),
                feature_dim=self.features.feature_dim,
            ),
        )
        found = paths(self.state, [one.frames for one in recordings])
        return [
            self._transcribed(hypotheses, one.seconds)
            for hypotheses, one in zip(found, recordings, strict=True)
        ]

    def require_head(self) -> None:
        """Raise ``ConfigError`` unless the model has a CTC head, which says where tokens begin."""
        if not self.model.config.ctc:
            raise ConfigError(
                f"{self.name} has no CTC head, and nothing else says where a token begins: train with objective "
                "'joint_ctc'"
            )

    def read(self, item: Any, *, name: str | None = None) -> "Recording":
        """A recording as `transcribe` takes it, read and checked.

        Args:
          item: See `transcribe`.
          name: What messages call it; None takes the path.

        Raises:
          DataError: If it is no recording, or too long.
          TypeError: If it is something else.
        """
        if isinstance(item, Recording):
            return item
        where = name or (str(item) if isinstance(item, str | os.PathLike) else "the recording")
        with naming(where):
            content = read_recording(item)
            is_sound = isinstance(content, Sound)
            # Before any frame is computed: an hour of sound would take gigabytes.
            num_frames = self.features.num_frames(content.seconds) if is_sound else len(content)
            self._check_length(num_frames)
            frames = frames_of(content, self.features)
        seconds = content.seconds if is_sound else num_frames * self.features.step_ms / 1000
        remarks = tuple(f"{where}: {one}" for one in self._remarks(content)) if is_sound else ()
        is_silent = is_sound and content.is_silent
        return Recording(
            name=where,
            seconds=seconds,
            frames=frames[:0] if is_silent else frames,
            content=content,
            remarks=remarks,
        )

    def _recordings(self, items: Sequence[Any]) -> list[Recording]:
        """The recordings of a call, and their remarks in a new report."""
        if isinstance(items, str | os.PathLike | Sound | np.ndarray):
            raise TypeError("items must be a list of recordings, got one: write [...] around it")
        self.report = LineReport()
        found = [
            self.read(item, name=None if isinstance(item, str | os.PathLike) else f"recording {place}")
            for place, item in enumerate(items, 1)
        ]
        for one in found:
            for remark in one.remarks:
                self.report.remark(remark)
        return found

    def _check_length(self, num_frames: int) -> None:
        limit = speech_lengths(self.model, self.max_frames).longest
        if num_frames > limit:
            step = self.features.step_ms / 1000
            raise DataError(
                f"{num_frames:,} frames, {num_frames * step:,.2f} seconds; at most {limit:,}, {limit * step:,.2f} "
                "seconds, are taken: cut it into pieces"
            )

    def _remarks(self, sound: Sound) -> list[str]:
        found = []
        if sound.rate != self.features.sample_rate:
            found.append(f"{sound.rate:,} samples a second, resampled to {self.features.sample_rate:,}")
        if sound.num_channels > 1:
            found.append(f"{sound.num_channels} channels, mixed to one")
        if sound.is_silent:
            found.append("nothing is to be heard, so its text is empty")
        return found

    def _transcribed(self, found: Sequence[SpeechHypothesis], seconds: float) -> Transcript:
        step = int(self.model.config.encoder.reduction) * self.features.step_ms / 1000
        texts = [
            Transcript(
                text=self.tokenizer.decode_line(one.hypothesis.tokens),
                score=one.hypothesis.score,
                finished=one.hypothesis.finished,
                seconds=seconds,
                tokens=tuple(self.tokenizer.pieces(one.hypothesis.tokens)),
                starts=tuple(round(place * step, 4) for place in one.places),
            )
            for one in found
        ]
        return dataclasses.replace(texts[0], alternatives=tuple(texts[1:]))

    def _searcher(self, search: SearchConfig, num_devices: int) -> SpeechSearcher:
        def make() -> SpeechSearcher:
            return SpeechSearcher(
                self.model,
                search,
                feature_dim=self.features.feature_dim,
                max_frames=self.max_frames,
                ctc_weight=self.ctc_weight,
                num_devices=num_devices,
            )

        found: SpeechSearcher = self._kept(("search", search, num_devices), make)
        return found
