"""Scores of a transcriber: on the development set during training, and of a trained one."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from flax import nnx

from transformer_jax.data.feature_texts import limited_items
from transformer_jax.data.prepare_speech import PreparedSpeech, spoken_text
from transformer_jax.data.sources.speech_files import read_speech_list
from transformer_jax.data.utterances import Utterance
from transformer_jax.decode.searcher import GreedyConfig
from transformer_jax.environment import environment_table
from transformer_jax.errors import ConfigError, DataError, shortened
from transformer_jax.evaluate.error_rates import character_errors, word_errors
from transformer_jax.inference.search_change import SearchChange
from transformer_jax.inference.speech_searcher import SpeechSearcher
from transformer_jax.inference.transcriber import Transcriber
from transformer_jax.tasks.evaluation_source import EvaluationSource

SHOWN_MISTAKES = 8
"""Texts that the lines for people show beside what was said."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechEvaluation(EvaluationSource):
    """Options of a transcriber's evaluation.

    Attributes:
      beam: Beams of the search, 1 is greedy; None for the task's own search.
      num_devices: Devices that search side by side.
    """

    file_form: ClassVar[str] = "a list of recordings with their texts"

    beam: int | None = None
    num_devices: int = 1


def speech_scores(texts: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Error rates of characters, spaces included, and of words, and recordings without any error, in percent.

    Args:
      texts: What was written.
      references: What is said.

    Raises:
      DataError: If the references have no character.

    Example:
      >>> speech_scores(["one two", "four"], ["one two", "for"])
      {'cer': 10.0, 'wer': 33.33333333333333, 'exact': 50.0}
    """
    exact = sum(text == reference for text, reference in zip(texts, references, strict=True))
    return {
        "cer": 100.0 * character_errors(texts, references).rate(),
        "wer": 100.0 * word_errors(texts, references).rate(),
        "exact": 100.0 * exact / len(texts),
    }


class SpeechEvaluator:
    """Scores of the development set by greedy search.

    Args:
      task: The task.
      model: The model; only its structure is kept.
      prepared: Its data.
      num_devices: Devices that search side by side.
    """

    notes: Sequence[str] = ()
    settings: Mapping[str, str] = {}
    record: Mapping[str, Any] = {}

    def __init__(self, task: Any, model: Any, prepared: PreparedSpeech, *, num_devices: int = 1) -> None:
        part = prepared.development
        self._sources = [part.frames[index] for index in range(len(part))]
        self._references = part.texts
        self._tokenizer = prepared.tokenizer
        self._state = nnx.split(model)[1]
        self._searcher = SpeechSearcher(
            model,
            GreedyConfig(max_len=task.search.max_len, forbidden_ids=task.search.forbidden_ids),
            feature_dim=task.data.features.feature_dim,
            max_frames=task.data.max_frames,
            num_devices=num_devices,
        )

    @property
    def compile_seconds(self) -> float:
        """Seconds spent on compiling the search so far."""
        return self._searcher.compile_seconds

    def check(self) -> None:
        """Raise what the search of the longest recordings would raise, without compiling it."""
        longest, limit = max(map(len, self._sources), default=0), self._searcher.lengths.longest
        if longest > limit:
            raise ConfigError(
                f"the development set has a recording of {longest:,} frames, at most {limit:,} are taken: "
                "raise data.max_frames, or the encoder's positions"
            )
        self._searcher.check(self._state)

    def __call__(self, state: Any) -> dict[str, float]:
        """Scores by name, from the model's state as of ``nnx.split(model)[1]``."""
        found = self._searcher(state, self._sources)
        texts = [self._tokenizer.decode_line(one[0].hypothesis.tokens) for one in found]
        return speech_scores(texts, self._references)


def evaluate_speech(task: Any, transcriber: Transcriber, options: SpeechEvaluation) -> dict[str, Any]:
    """Score a transcriber.

    Args:
      task: The task that it was trained for.
      transcriber: The trained model with its front end and tokenizer.
      options: What to score it on.

    Returns:
      The scores by name (percent); ``"lines"``, ``"task"``, ``"speakers"`` (scores of each speaker, where they are
      known), ``"search"`` and ``"environment"``; ``"text"`` and ``"remarks"`` are for people; ``"against"`` where it
      was asked for.

    Raises:
      DataError: If the data have no such part, or a file is missing or damaged.
      ConfigError: If the other run is no transcriber.
    """
    items = _items(task, transcriber.name, options)
    references = [spoken_text(one.text, task.data) for one in items]
    search = SearchChange(beam=options.beam).of(transcriber.search)
    texts = _texts(transcriber, items, search, options)
    scores = speech_scores(texts, references)
    found: dict[str, Any] = {"task": task.kind, "lines": len(items), **scores}
    lines = [f"{len(items):,} recordings of the {options.where}", _line(scores)]
    by_speaker: dict[str, list[int]] = {}
    for place, one in enumerate(items):
        by_speaker.setdefault(one.speaker, []).append(place)
    if "" not in by_speaker and len(by_speaker) > 1:
        found["speakers"] = {
            speaker: speech_scores([texts[i] for i in places], [references[i] for i in places])
            for speaker, places in sorted(by_speaker.items())
        }
        lines += [f"  {speaker}: {_line(each)}" for speaker, each in found["speakers"].items()]
    if options.against is not None:
        name, other = options.against
        if not isinstance(other, Transcriber):
            raise ConfigError(f"{name} does not transcribe recordings; {transcriber.name} does")
        beside = speech_scores(_texts(other, items, search, options), references)
        found["against"] = {"run": name, **beside}
        lines.append(f"against {name}: {_line(beside)}")
    mistakes = [pair for pair in zip(texts, references, strict=True) if pair[0] != pair[1]]
    for text, reference in mistakes[:SHOWN_MISTAKES]:
        lines += [f"  said    {shortened(reference, 100)}", f"  written {shortened(text, 100)}"]
    systems = [transcriber] if options.against is None else [transcriber, options.against[1]]
    remarks = [remark for one in systems for remark in (*one.report.take_remarks(), *one.report.lines())]
    return {
        **found,
        "search": dataclasses.asdict(search),
        "environment": environment_table(),
        "text": lines,
        "remarks": remarks,
    }


def _texts(
    transcriber: Transcriber, items: Sequence[Utterance], search: Any, options: SpeechEvaluation
) -> list[str]:
    found = transcriber.transcribe(
        [one.content for one in items], search=search, num_devices=options.num_devices
    )
    return [one.text for one in found]


def _line(scores: Mapping[str, float]) -> str:
    return (
        f"character error rate {scores['cer']:.2f} %, word error rate {scores['wer']:.2f} %, exact "
        f"{scores['exact']:.2f} %"
    )


def _items(task: Any, name: str, options: SpeechEvaluation) -> list[Utterance]:
    if options.source is not None:
        return read_speech_list(options.source)
    items = getattr(limited_items(task.data.dataset.load(), task.data), str(options.split))
    if not items:
        raise DataError(f"the data of {name} have no {options.split} set: name `source`")
    return list(items)
