"""The work of ``transformer-jax evaluate``: outputs of a run against references, and beside another run's."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from transformer_jax.data.moses import MosesSides
from transformer_jax.data.pairs import EvaluationItem
from transformer_jax.data.prepare import limited_splits
from transformer_jax.data.readers import read_parallel
from transformer_jax.decode.searcher import SearchConfig
from transformer_jax.environment import environment_table
from transformer_jax.errors import ConfigError, DataError
from transformer_jax.evaluate.error_rates import edit_distance
from transformer_jax.evaluate.text import bleu, chrf, paired_bootstrap
from transformer_jax.files import require_other_file, write_whole
from transformer_jax.inference.batch_search import Hypothesis, not_found_note
from transformer_jax.inference.search_change import SearchChange
from transformer_jax.inference.translator import TooLong, Translator
from transformer_jax.runs.loading import LoadedRun, load_run
from transformer_jax.runs.record import training_record
from transformer_jax.runs.sentence_page import Sentence, render_sentences
from transformer_jax.tasks.pair_metrics import bleu_tokenizer, percentages, score_outputs

SHOWN = 20
"""Sentences of each end that a page shows."""

MEASURES = {
    "translation": "sentence-level chrF",
    "pronunciation": "the share of phonemes that are right, against the nearest reference",
}

LENGTH_EDGES = (0, 10, 20, 30)
"""Most words of a source in each class of ``--by-length`` but the last, which has no end."""


def evaluate_run(
    run_dir: Path,
    *,
    source: Path | None,
    reference: Path | None,
    split: Literal["development", "test"] | None,
    beam: int | None,
    too_long: TooLong,
    against: Path | None,
    by_length: bool,
    page: Path | None = None,
    num_devices: int = 1,
    tokenizer: str | None = None,
) -> dict[str, Any]:
    """Scores of a run; see the command's help.

    Returns:
      The scores by name (percent); ``"lines"``, ``"task"``, ``"unknown"`` and ``"too_long"`` say what they
      were taken on, ``"details"`` has the counts and signatures, ``"text"`` and ``"remarks"`` are for people;
      ``"against"`` and ``"by_length"`` where they were asked for; ``"training"`` and ``"environment"`` what a figure
      needs beside it.

    Raises:
      DataError: If a file is missing, empty, binary, not UTF-8, or the two differ in their numbers of lines.
      RunError: If a folder holds no trained run.
      ConfigError: If neither two files nor a split are named, or the task does not have what is asked.
    """
    if (split is None) != (source is not None and reference is not None) or (split and (source or reference)):
        raise ConfigError("evaluate needs --source and --reference, or --split development or test")
    # Before anything long: what cannot be answered is refused.
    require_other_file("--page", page, [source, reference])
    items = None if source is None or reference is None else _items_of_files(source, reference)
    run = load_run(run_dir)
    other = None if against is None else load_run(against)
    if (other is not None or by_length) and run.config.task != "translation":
        raise ConfigError(
            f"--against and --by-length are for translation; {run_dir} is for {run.config.task}"
        )
    if other is not None and other.config.task != run.config.task:
        raise ConfigError(f"{against} is for {other.config.task}, {run_dir} for {run.config.task}")
    if other is not None and _scored_form(other) != _scored_form(run):
        raise ConfigError(
            f"{against} and {run_dir} are scored on unlike text: {_scored_form(other)}, {_scored_form(run)}"
        )
    if items is None:
        assert split is not None
        items = getattr(limited_splits(run.config.data.dataset.load(), run.config.data), split)
        if not items:
            raise DataError(f"the data of {run_dir} have no {split} set: name --source and --reference")
    where = f"{split} set" if source is None else str(source)
    training = training_record(run_dir, run)
    lines = [item.source for item in items]
    translator = run.predictor
    references = [tuple(map(translator.reference, item.references)) for item in items]
    tokenize = bleu_tokenizer(run.config.data, references, name=tokenizer)
    systems = [
        (
            one,
            SearchChange(beam=beam).of(one.search),
            one.encode(lines, too_long=too_long, where=where),
        )
        for one in (translator, None if other is None else other.predictor)
        if one is not None
    ]
    hypotheses = [
        [found[0] for found in one.searcher(search, num_devices=num_devices)(one.state, sources)]
        for one, search, sources in systems
    ]
    outputs, *others = [
        [one.scored_text(best) for best in chosen]
        for (one, _, _), chosen in zip(systems, hypotheses, strict=True)
    ]
    report = score_outputs(run.config.task, outputs, references, tokenize=tokenize, with_ter=True)
    remarks: list[str] = []
    for (one, _, _), chosen in zip(systems, hypotheses, strict=True):
        remarks += [*one.report.take_remarks(), *one.report.lines()]
        not_found = [index for index, best in enumerate(chosen, 1) if not best.found]
        if not_found:
            remarks.append(not_found_note(len(not_found), not_found[0]))
    found: dict[str, Any] = {
        "task": run.config.task,
        "lines": len(items),
        "unknown": sum(translator.report.unknown.values()),
        "too_long": translator.report.num_too_long,
        **percentages(report),
        "details": report.to_json(),
    }
    text = report.lines()
    if by_length:
        found["by_length"] = _by_length(items, outputs, references, tokenize.name)
        text += ["", "words in the source   lines    BLEU"]
        text += [f"{one['words']:<19} {one['lines']:>7,} {one['bleu']:>7.2f}" for one in found["by_length"]]
    if other is not None:
        compared = paired_bootstrap(outputs, others[0], references, tokenize=tokenize.name)
        found["against"] = {"run": str(against), "metrics": [dataclasses.asdict(one) for one in compared]}
        text += ["", f"against {against}, paired bootstrap:"]
        for pair in compared:
            verdict = "a difference" if pair.p_value < 0.05 else "no difference that could not be chance"
            text.append(
                f"{pair.metric:<5} {pair.score:.2f} against {pair.other_score:.2f}, p {pair.p_value:.4f}: {verdict}"
            )
    found["search"] = dataclasses.asdict(systems[0][1])
    found["training"] = training
    found["environment"] = environment_table()
    if page is not None:
        _write_page(
            page,
            run,
            run_dir.name,
            systems[0],
            items,
            hypotheses[0],
            outputs,
            references,
            text,
            found["environment"],
        )
    return {**found, "text": text, "remarks": remarks}


def _write_page(
    path: Path,
    run: LoadedRun,
    name: str,
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
    scores = [_sentence_score(run.config.task, *pair) for pair in zip(outputs, references, strict=True)]
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
    )
    sentences = [
        Sentence(
            number=index + 1, source=items[index].source, references=references[index], output=outputs[index],
            score=scores[index], alignment=alignment if alignment.maps else None,
        )
        for index, alignment in zip(chosen, alignments, strict=True)
    ]  # fmt: skip
    text = render_sentences(
        sentences[:num_worst], sentences[num_worst:], title=f"Sentences of {name}",
        measure=MEASURES[run.config.task], lines=lines, environment=machine,
    )  # fmt: skip
    write_whole(path, text)


def _sentence_score(task: str, output: str, references: tuple[str, ...]) -> float:
    """From 0 to 100, the more the better."""
    if task == "translation":
        return chrf([output], [list(references)]).score
    said = output.split()
    wanted = [reference.split() for reference in references]
    return max(100.0 * (1.0 - edit_distance(said, one) / max(len(one), len(said), 1)) for one in wanted)


def _items_of_files(source: Path, reference: Path) -> list[EvaluationItem]:
    return [
        EvaluationItem(pair.source, (pair.target,), pair.line) for pair in read_parallel(source, reference)
    ]


def _scored_form(run: LoadedRun) -> str:
    moses = MosesSides.of(run.config.data)
    if moses is None:
        return "plain text"
    return f"{moses.target_language} tokens{', lower case' if moses.lowercase else ''}"


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
