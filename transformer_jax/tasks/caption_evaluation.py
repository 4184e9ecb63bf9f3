"""Scores of a captioner: on the development set during training, and of a trained one."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from transformer_jax.data.captioned import Captioned
from transformer_jax.data.feature_texts import limited_items
from transformer_jax.data.prepare_captions import PreparedCaptions
from transformer_jax.data.sources.ink_files import InkFiles
from transformer_jax.decode.searcher import GreedyConfig
from transformer_jax.environment import environment_table
from transformer_jax.errors import DataError, shortened
from transformer_jax.evaluate.error_rates import edit_distance
from transformer_jax.inference.batch_search import BatchSearcher
from transformer_jax.inference.captioner import Captioner, frame_lengths
from transformer_jax.inference.search_change import SearchChange
from transformer_jax.inference.source_rows import rows_of_items
from transformer_jax.tasks.evaluation_source import EvaluationSource

SHOWN_MISTAKES = 8
"""Captions that the text for people shows beside what was wanted."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaptionEvaluation(EvaluationSource):
    """Options of a captioner's evaluation.

    Attributes:
      beam: Beams of the search, 1 is greedy; None for the task's own search.
      num_devices: Devices that search side by side.
    """

    file_form: ClassVar[str] = "a folder of drawings with their captions"

    beam: int | None = None
    num_devices: int = 1


def caption_scores(captions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Percentages of captions that are right in every token, and of token errors; tokens stand between spaces.

    Args:
      captions: What was read.
      references: What it says.

    Raises:
      DataError: If there is no caption, or the references have no token.

    Example:
      >>> caption_scores(["x + 1", "x ^ 2"], ["x + 1", "x ^ { 2 }"])
      {'exact': 50.0, 'token_error_rate': 25.0}
    """
    pairs = [(one.split(), other.split()) for one, other in zip(captions, references, strict=True)]
    total = sum(len(reference) for _, reference in pairs)
    if not total:
        raise DataError("there is no caption to score against")
    errors = sum(edit_distance(*pair) for pair in pairs)
    exact = sum(caption == reference for caption, reference in pairs)
    return {"exact": 100.0 * exact / len(pairs), "token_error_rate": 100.0 * errors / total}


class CaptionEvaluator:
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

    def __init__(self, task: Any, model: Any, prepared: PreparedCaptions, *, num_devices: int = 1) -> None:
        part = prepared.development
        self._sources = [part.frames[index] for index in range(len(part))]
        self._references = [one.caption for one in part.items]
        self._tokenizer = prepared.tokenizer
        self.searcher = BatchSearcher(
            model,
            GreedyConfig(max_len=task.search.max_len, forbidden_ids=task.search.forbidden_ids),
            batch_size=task.data.batch_size,
            lengths=frame_lengths(task.data.max_frames),
            num_devices=num_devices,
            form=rows_of_items(task.data.features),
        )

    @property
    def compile_seconds(self) -> float:
        """Seconds spent on compiling the search so far."""
        return self.searcher.compile_seconds

    def check(self) -> None:
        """Raise what the search of the longest drawings would raise, without compiling it."""
        self.searcher.check()

    def __call__(self, state: Any) -> dict[str, float]:
        """Scores by name, from the model's state as of ``nnx.split(model)[1]``."""
        found = self.searcher(state, self._sources)
        captions = [self._tokenizer.decode_line(one[0].tokens) for one in found]
        return caption_scores(captions, self._references)


def evaluate_captions(task: Any, captioner: Captioner, options: CaptionEvaluation) -> dict[str, Any]:
    """Score a captioner.

    Args:
      task: The task that it was trained for.
      captioner: The trained model with its tokenizer.
      options: What to score it on.

    Returns:
      The scores by name (percent); ``"lines"`` (drawings), ``"task"``, ``"seen"`` (those whose caption stands in the
      training set, and the exact matches of the others), ``"search"`` and ``"environment"``; ``"text"`` and
      ``"remarks"`` are for people; ``"against"`` where it was asked for.

    Raises:
      DataError: If the data have no such part, or a file is missing or damaged.
    """
    items, trained = _items(task, captioner.name, options)
    references = [one.caption for one in items]
    search = SearchChange(beam=options.beam).of(captioner.search)
    captions, *others = [
        [
            one.text
            for one in each.caption(
                [one.item for one in items], search=search, num_devices=options.num_devices
            )
        ]
        for each in (captioner, *(() if options.against is None else (options.against[1],)))
    ]
    found: dict[str, Any] = {"task": task.kind, "lines": len(items), **caption_scores(captions, references)}
    text = [
        f"{len(items):,} drawings of the {options.where}",
        f"exact {found['exact']:.2f} %, token error rate {found['token_error_rate']:.2f} %",
    ]
    new = [place for place, one in enumerate(references) if one not in trained]
    if trained and 0 < len(new) < len(items):
        of_new = caption_scores([captions[place] for place in new], [references[place] for place in new])
        found["seen"] = {"items": len(items) - len(new), "exact_of_others": of_new["exact"]}
        text.append(
            f"captions that training saw, in other drawings: {len(items) - len(new):,}; of the others exact "
            f"{of_new['exact']:.2f} %"
        )
    if options.against is not None:
        name, beside = options.against[0], caption_scores(others[0], references)
        found["against"] = {"run": name, **beside}
        text.append(
            f"against {name}: exact {beside['exact']:.2f} %, token error rate {beside['token_error_rate']:.2f} %"
        )
    mistakes = [
        (one, reference) for one, reference in zip(captions, references, strict=True) if one != reference
    ]
    for caption, reference in mistakes[:SHOWN_MISTAKES]:
        text += [f"  wanted {shortened(reference, 100)}", f"  read   {shortened(caption, 100)}"]
    systems = [captioner] if options.against is None else [captioner, options.against[1]]
    remarks = [remark for one in systems for remark in (*one.report.take_remarks(), *one.report.lines())]
    return {
        **found,
        "search": dataclasses.asdict(search),
        "environment": environment_table(),
        "text": text,
        "remarks": remarks,
    }


def _items(task: Any, name: str, options: CaptionEvaluation) -> tuple[list[Captioned], set[str]]:
    """The items to score, and the captions of the training set where they are of the same data."""
    if options.source is not None:
        dataset = task.data.dataset
        is_latex = dataset.is_latex if isinstance(dataset, InkFiles) else True
        folder = str(Path(options.source))
        return InkFiles(train=folder, development=folder, is_latex=is_latex).load().train, set()
    splits = limited_items(task.data.dataset.load(), task.data)
    items = getattr(splits, str(options.split))
    if not items:
        raise DataError(f"the data of {name} have no {options.split} set: name `source`")
    return items, {one.caption for one in splits.train}
