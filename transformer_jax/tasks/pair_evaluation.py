"""Outputs of a translator against references, and beside those of another one."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from transformer_jax.data.examples import EvaluationItem
from transformer_jax.data.pairs_config import PairsConfig
from transformer_jax.data.prepare import limited_splits
from transformer_jax.data.readers import read_parallel
from transformer_jax.data.text_forms import text_form
from transformer_jax.decode.searcher import SearchConfig
from transformer_jax.environment import environment_table
from transformer_jax.errors import ConfigError, DataError, check_choice
from transformer_jax.evaluate.text import bleu, paired_bootstrap
from transformer_jax.files import require_other_file, write_whole
from transformer_jax.inference.batch_search import Hypothesis, not_found_note
from transformer_jax.inference.line_report import LineReport
from transformer_jax.inference.search_change import SearchChange
from transformer_jax.inference.translator import TooLong, Translator
from transformer_jax.tasks.pair_metrics import bleu_tokenizer, percentages
from transformer_jax.tasks.sentence_page import Sentence, render_sentences

SHOWN = 20
"""Sentences of each end that a page shows."""

LENGTH_EDGES = (0, 10, 20, 30)
"""Most words of a source in each class of ``by_length`` but the last, which has no end."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairEvaluation:
    """Options of a translator's evaluation.

    Attributes:
      split: Part of the task's own data; None where two files are named.
      source: Sources, one a line.
      reference: References, one a line.
      beam: Beams of the search, 1 is greedy; None for the task's own search.
      too_long: What to do with sources over the limit of training.
      by_length: Also score classes of source length apart (translation).
      against: Another translator to compare with by paired bootstrap (translation), and what to call it.
      page: Write the worst and the best sentences with their attention there.
      num_devices: Devices that search side by side.
      bleu_tokenizer: How BLEU cuts words, by sacrebleu's name; None for that of the data.
    """

    split: Literal["development", "test"] | None = None
    source: Path | None = None
    reference: Path | None = None
    beam: int | None = None
    too_long: TooLong = "whole"
    by_length: bool = False
    against: tuple[str, Any] | None = None
    page: Path | None = None
    num_devices: int = 1
    bleu_tokenizer: str | None = None

    def __post_init__(self) -> None:
        for name in ("source", "reference", "page"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else Path(value))
        if self.split is not None:
            check_choice("split", self.split, ("development", "test"))
        check_choice("too_long", self.too_long, get_args(TooLong))
        files = (self.source, self.reference)
        if (self.split is None) == (None in files) or (self.split is not None and files != (None, None)):
            raise ConfigError(
                "wanted two files, `source` and `reference`, or `split` of the run's data (development or test)"
            )


def evaluate_pairs(task: Any, translator: Translator, options: PairEvaluation) -> dict[str, Any]:
    """Score a translator.

    Args:
      task: The task that it was trained for.
      translator: The trained model with its tokenizers.
      options: What to score it on, and how.

    Returns:
      The scores by name (percent); ``"lines"``, ``"task"``, ``"unknown"`` and ``"too_long"`` say what they were taken
      on, ``"details"`` has the counts and signatures, ``"text"`` and ``"remarks"`` are for people; ``"against"`` and
      ``"by_length"`` where they were asked for; ``"environment"`` names machine and versions.

    Raises:
      DataError: If a file is missing, empty, binary, not UTF-8, or the two differ in their numbers of lines.
      ConfigError: If an option is not for the task.
    """
    translator = dataclasses.replace(translator, report=LineReport())
    other = None if options.against is None else _comparable(task, translator, *options.against)
    if options.by_length:
        _require_texts(task, "`by_length`", translator.name)
    require_other_file("`page`", options.page, [options.source, options.reference])
    items = _items(task.data, translator.name, options)
    where = f"{options.split} set" if options.source is None else str(options.source)
    lines = [item.source for item in items]
    references = [tuple(map(translator.reference, item.references)) for item in items]
    tokenize = bleu_tokenizer(task.data, references, name=options.bleu_tokenizer)
    systems = [
        (
            one,
            SearchChange(beam=options.beam).of(one.search),
            one.encode(lines, too_long=options.too_long, where=where),
        )
        for one in (translator, other)
        if one is not None
    ]
    hypotheses = [
        [
            found[0]
            for found in one.with_copied_words(
                lines,
                sources,
                one.searcher(search, num_devices=options.num_devices)(one.state, sources),
            )
        ]
        for one, search, sources in systems
    ]
    outputs, *others = [
        [one.scored_text(best) for best in chosen]
        for (one, _, _), chosen in zip(systems, hypotheses, strict=True)
    ]
    report = task.scores_of(outputs, references, tokenize=tokenize, with_ter=True)
    remarks: list[str] = []
    for (one, _, _), chosen in zip(systems, hypotheses, strict=True):
        remarks += [*one.report.take_remarks(), *one.report.lines()]
        not_found = [index for index, best in enumerate(chosen, 1) if not best.found]
        if not_found:
            remarks.append(not_found_note(len(not_found), not_found[0]))
    found: dict[str, Any] = {
        "task": task.kind,
        "lines": len(items),
        "unknown": sum(translator.report.unknown.values()),
        "too_long": translator.report.num_too_long,
        **percentages(report),
        "details": report.to_json(),
    }
    text = report.lines()
    if options.split is not None:
        for score in task.scores_apart(items, outputs, references):
            found[score.name] = score.score
            text.append(f"{score.name:<5} {score.score:6.2f}    ({score.signature})")
    if options.by_length:
        found["by_length"] = _by_length(items, outputs, references, tokenize.name)
        text += ["", "words in the source   lines    BLEU"]
        text += [f"{one['words']:<19} {one['lines']:>7,} {one['bleu']:>7.2f}" for one in found["by_length"]]
    if options.against is not None:
        compared = paired_bootstrap(outputs, others[0], references, tokenize=tokenize.name)
        against = options.against[0]
        found["against"] = {"run": against, "metrics": [dataclasses.asdict(one) for one in compared]}
        text += ["", f"against {against}, paired bootstrap:"]
        for pair in compared:
            verdict = "a difference" if pair.p_value < 0.05 else "no difference that could not be chance"
            text.append(
                f"{pair.metric:<5} {pair.score:.2f} against {pair.other_score:.2f}, p {pair.p_value:.4f}: {verdict}"
            )
    found["search"] = dataclasses.asdict(systems[0][1])
    found["environment"] = environment_table()
    if options.page is not None:
        _write_page(
            options.page, task, translator.name, systems[0], items, hypotheses[0], outputs, references, text,
            found["environment"],
        )  # fmt: skip
    return {**found, "text": text, "remarks": remarks}


def _comparable(task: Any, translator: Translator, name: str, other: Any) -> Translator:
    """The other translator, if its outputs can be compared with this one's."""
    _require_texts(task, "`against`", translator.name)
    if not isinstance(other, Translator):
        raise ConfigError(f"{name} does not translate lines; {translator.name} does")
    forms = _scored_form(other.data), _scored_form(translator.data)
    if forms[0] != forms[1]:
        raise ConfigError(f"{name} and {translator.name} are scored on unlike text: {forms[0]}, {forms[1]}")
    return other


def _require_texts(task: Any, option: str, name: str) -> None:
    """Raise ``ConfigError`` unless a task's outputs are texts."""
    if not task.compares_texts:
        raise ConfigError(f"{option} is for translation; {name} is for {task.kind}")


def _items(data: PairsConfig, name: str, options: PairEvaluation) -> list[EvaluationItem]:
    if options.source is not None and options.reference is not None:
        return _items_of_files(options.source, options.reference)
    items = getattr(limited_splits(data.dataset.load(), data), str(options.split))
    if not items:
        raise DataError(f"the data of {name} have no {options.split} set: name `source` and `reference`")
    return items


def _write_page(
    path: Path,
    task: Any,
    title: str,
    system: tuple[Translator, SearchConfig, list[list[int]]],
    items: Sequence[EvaluationItem],
    hypotheses: Sequence[Hypothesis],
    outputs: Sequence[str],
    references: Sequence[tuple[str, ...]],
    lines: Sequence[str],
    machine: dict[str, Any],
) -> None:
    """The worst and the best sentences, with their attention."""
    translator, search, sources = system
    scores = [task.sentence_score(*pair) for pair in zip(outputs, references, strict=True)]
    order = sorted(range(len(items)), key=lambda index: (scores[index], index))
    num_worst = min(SHOWN, (len(order) + 1) // 2)
    chosen = [*order[:num_worst], *order[num_worst:][::-1][:SHOWN]]
    reader = translator.attention_reader(search)
    alignments = reader(
        translator.state,
        [sources[index] for index in chosen],
        [hypotheses[index] for index in chosen],
        translator.source_tokenizer,
        translator.target_tokenizer,
        texts=translator.copied_texts([items[index].source for index in chosen]),
    )
    sentences = [
        Sentence(
            number=index + 1, source=items[index].source, references=references[index], output=outputs[index],
            score=scores[index], alignment=alignment if alignment.maps else None,
        )
        for index, alignment in zip(chosen, alignments, strict=True)
    ]  # fmt: skip
    text = render_sentences(
        sentences[:num_worst], sentences[num_worst:], title=f"Sentences of {title}",
        measure=task.sentence_measure, lines=lines, environment=machine,
    )  # fmt: skip
    write_whole(path, text)


def _items_of_files(source: Path, reference: Path) -> list[EvaluationItem]:
    return [
        EvaluationItem(pair.source, (pair.target,), pair.line) for pair in read_parallel(source, reference)
    ]


def _scored_form(data: PairsConfig) -> str:
    form = text_form(data)
    return "plain text" if form is None else form.description


def _by_length(
    items: Sequence[EvaluationItem],
    outputs: Sequence[str],
    references: Sequence[Sequence[str]],
    tokenize: str,
) -> list[dict[str, Any]]:
    found = []
    lengths = [count_words(item.source) for item in items]
    for low, high in zip(LENGTH_EDGES, [*LENGTH_EDGES[1:], None]):
        chosen = [i for i, words in enumerate(lengths) if words > low and (high is None or words <= high)]
        if chosen:
            score = bleu([outputs[i] for i in chosen], [references[i] for i in chosen], tokenize=tokenize)
            words = f"{low + 1} to {high}" if high is not None else f"{low + 1} and more"
            found.append({"words": words, "lines": len(chosen), "bleu": score.score})
    return found


_CHARACTERS = "\\u3040-\\u30ff\\u3400-\\u4dbf\\u4e00-\\u9fff\\uf900-\\ufaff"
_WORD = re.compile(f"[{_CHARACTERS}]|[^\\s{_CHARACTERS}]+")


def count_words(line: str) -> int:
    """Words between white space; a Chinese or Japanese character, of scripts without spaces, counts as one.

    Example:
      >>> count_words("two dogs ."), count_words("\\u4f60\\u597d\\u3002")
      (3, 3)
    """
    return len(_WORD.findall(line))
