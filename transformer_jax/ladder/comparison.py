"""Every rung trained, scored and timed alike, then one report."""

import dataclasses
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from transformer_jax.config_json import load_document
from transformer_jax.data.prepare import PreparedData
from transformer_jax.decode.searcher import BeamConfig
from transformer_jax.environment import environment_table
from transformer_jax.errors import ConfigError, RunError
from transformer_jax.files import read_text, write_json
from transformer_jax.inference.attention_maps import AttentionReader
from transformer_jax.inference.batch_search import BatchSearcher, Hypothesis
from transformer_jax.ladder.comparison_report import write_report
from transformer_jax.ladder.rungs import (
    PresetName,
    check_rungs,
    rung_config,
)
from transformer_jax.notes import note
from transformer_jax.runs.building import build_checked
from transformer_jax.runs.experiment import ExperimentConfig, with_overrides
from transformer_jax.runs.experiment_runner import ExperimentResult, begin_or_resume, run_experiment
from transformer_jax.runs.folder import interruptible
from transformer_jax.tasks.pair_metrics import bleu_tokenizer, percentages, token_errors
from transformer_jax.tasks.pairs import PairTask, encoded_sources
from transformer_jax.training.run_folder import check_run_folder, remove_run

MARKER_NAME = "comparison.json"
RUNGS_NAME = "rungs"
RUNG_RESULT_NAME = "comparison_row.json"

NUM_ALIGNED_WORDS = 3
NUM_SAMPLE_WORDS = 8
TIMED_PASSES = 3
TIMED_SECONDS = 20.0


def compare(
    preset_name: PresetName,
    *,
    models: Sequence[str] = (),
    run_dir: Path,
    seed: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """Train, score and time the rungs, and write the report.

    Args:
      preset_name: Sizes and lengths, see `PRESETS`.
      models: Names of rungs; all six if empty (those of the folder's comparison when it is resumed).
      run_dir: Where rungs and report go.
      seed: Of parameters, batches and dropout.
      resume: Resume the folder's comparison: finished rungs are kept, a started one is resumed.
      overwrite: Remove the folder's comparison first.
      overrides: ``path=value`` texts for every rung's config.

    Returns:
      What ``report.json`` holds.

    Raises:
      ConfigError: If a rung or an override is wrong.
      RunError: If the folder does not fit ``resume`` and ``overwrite``.
    """
    names = check_rungs(tuple(models))
    if not 0 <= seed < 2**32:
        raise ConfigError(f"`seed` must be at least 0 and below 2**32, got {seed}")
    configs = {name: _rung(preset_name, name, seed, overrides) for name in names}
    started = {"preset": preset_name, "seed": seed, "overrides": list(overrides), "models": list(names)}
    jax.devices()  # without one, fail before the folder is begun
    check_run_folder(run_dir, resume=resume, overwrite=overwrite, entries=_ENTRIES)
    if resume:
        names = _same_comparison(run_dir, started, chosen=bool(models))
        configs = {name: _rung(preset_name, name, seed, overrides) for name in names}

    with interruptible(f"finished rungs are kept; go on with `resume=True` ({run_dir})"):
        data = _task(configs[names[0]]).prepare()
        note("\n".join(data.report.lines()))
        if overwrite:  # only when the new comparison is known to be possible may the old one go
            for config in configs.values():
                build_checked(config, data)
            remove_run(run_dir, _ENTRIES)
        run_dir.mkdir(parents=True, exist_ok=True)
        write_json(run_dir / MARKER_NAME, {**started, "models": list(names)})
        clock = _OverallClock(names, configs)
        rows = [_finished_or_run(config, run_dir, data, clock) for config in configs.values()]
    document = _document(preset_name, seed, data, configs, rows)
    write_report(
        run_dir,
        document,
        samples={row["row"]["name"]: row["samples"] for row in rows},
        alignments={row["row"]["name"]: row["alignments"] for row in rows if row["alignments"]},
    )
    return document


# What a comparison leaves in its folder; the marker goes first, as a run's config does.
_ENTRIES = (
    MARKER_NAME,
    RUNGS_NAME,
    "report.json",
    "report.html",
    "curves_updates.png",
    "curves_seconds.png",
    "speed.png",
    *(f"alignment_{index + 1}.png" for index in range(NUM_ALIGNED_WORDS)),
)


def _rung(preset_name: PresetName, name: str, seed: int, overrides: Sequence[str]) -> ExperimentConfig:
    config = rung_config(preset_name, name, seed=seed)
    return with_overrides(config, overrides) if overrides else config


def _task(config: ExperimentConfig) -> PairTask:
    """The task of a rung: on pairs of lines."""
    if not isinstance(config.task, PairTask):
        raise ConfigError(
            f"a comparison is of tasks on pairs of lines; {config.name} is for {config.task.kind}"
        )
    return config.task


def _same_comparison(run_dir: Path, started: dict[str, Any], *, chosen: bool) -> tuple[str, ...]:
    """The rungs of the comparison that is resumed; it must have been started with the same values."""
    path = run_dir / MARKER_NAME
    if not path.is_file():
        raise RunError(
            f"{run_dir} holds no whole comparison ('{MARKER_NAME}' is missing): use `overwrite=True`"
        )
    before = load_document(read_text(path), str(path))
    for name in ("preset", "seed", "overrides"):
        if before.get(name) != started[name]:
            raise RunError(
                f"{run_dir} holds a comparison with {name} {json.dumps(before.get(name))}, not "
                f"{json.dumps(started[name])}: give the same, another `run_dir`, or `overwrite=True`"
            )
    return check_rungs(tuple(started["models"] if chosen else before.get("models", ())))


def _finished_or_run(
    config: ExperimentConfig, run_dir: Path, data: PreparedData, clock: "_OverallClock"
) -> dict[str, Any]:
    """The rung's row, read if it was finished before."""
    rung_dir = run_dir / RUNGS_NAME / config.name
    finished = rung_dir / RUNG_RESULT_NAME
    if finished.is_file():
        clock.finish(config.name, trained_now=False)
        return load_document(read_text(finished, limit=10_000_000), str(finished))
    result = run_experiment(
        config,
        rung_dir,
        begin_or_resume(rung_dir, label=clock.label(config.name)),
        prepared=data,
        after_evaluation=clock.evaluated,
    )
    row = score_rung(result)
    write_json(finished, row)
    clock.finish(config.name, trained_now=True)
    return row


def score_rung(result: ExperimentResult) -> dict[str, Any]:
    """Final scores, speeds, sample outputs and alignments of a trained rung.

    Args:
      result: What `run_experiment` returned.
    """
    data, config, task = result.prepared, result.config, _task(result.config)
    state = nnx.split(result.model)[1]
    searcher = result.evaluator.searcher
    if isinstance(task.search, BeamConfig):
        lengths = [shape[0] for shape in data.plan.shapes]
        searcher = BatchSearcher(result.model, task.search, batch_size=task.data.batch_size, lengths=lengths)
    compiled_before = searcher.compile_seconds
    sources = encoded_sources(data.test)
    found = searcher(state, sources)  # compiles what is new; not timed
    outputs = [hypotheses[0] for hypotheses in found]
    texts = [data.target_tokenizer.decode_line(output.tokens) for output in outputs]
    scores = percentages(
        task.scores_of(
            texts,
            [item.references for item in data.test_items],
            tokenize=bleu_tokenizer(task.data, [item.references for item in data.test_items]),
        )
    )
    compile_seconds = result.compile_seconds + searcher.compile_seconds - compiled_before
    training = result.training
    row = {
        "name": config.name,
        "parameters": result.parameters,
        "updates": training.updates,
        "train_seconds": training.train_seconds,
        "compile_seconds": compile_seconds,
        "tokens_per_second": training.tokens_per_second,
        "words_per_second": len(sources) / _search_seconds(searcher, state, sources),
        "per": scores["per"],
        "wer": scores["wer"],
        "curve": _curve(training.curve),
    }
    samples = [_sample(data, texts, place) for place in _chosen_words(data, NUM_SAMPLE_WORDS)]
    return {"row": row, "samples": samples, "alignments": _alignments(result, state, sources, outputs)}


def _search_seconds(searcher: BatchSearcher, state: Any, sources: list[list[int]]) -> float:
    """Median time of searching for all sources: up to `TIMED_PASSES` passes, one if that takes long."""
    times: list[float] = []
    while not times or (len(times) < TIMED_PASSES and sum(times) < TIMED_SECONDS):
        before = searcher.search_seconds
        searcher(state, sources)
        times.append(searcher.search_seconds - before)
    return statistics.median(times)


def _curve(points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The evaluated points, with the names of the report."""
    names = ("update", "seconds", "loss", "per", "wer")
    return [{name: point.get(name) for name in names} for point in points if point.get("per") is not None]


def _chosen_words(data: PreparedData, count: int) -> list[int]:
    """Places of test words long enough to be interesting and short enough to print."""
    good = [place for place, item in enumerate(data.test_items) if 7 <= len(item.source) <= 11]
    rest = [place for place in range(len(data.test_items)) if place not in set(good[:count])]
    return (good + rest)[:count]


def _sample(data: PreparedData, texts: Sequence[str], place: int) -> dict[str, Any]:
    item = data.test_items[place]
    errors, reference = min((token_errors(texts[place], one), one) for one in item.references)
    return {"source": item.source, "reference": reference, "prediction": texts[place], "errors": errors}


def _alignments(
    result: ExperimentResult, state: Any, sources: list[list[int]], outputs: Sequence[Hypothesis]
) -> list[dict[str, Any]]:
    data, chosen = result.prepared, _chosen_words(result.prepared, NUM_ALIGNED_WORDS)
    reader = AttentionReader(
        result.model,
        batch_size=NUM_ALIGNED_WORDS,
        source_len=_task(result.config).data.max_source_len,
        target_len=_task(result.config).search.max_len,
    )
    tokenizers = (data.source_tokenizer, data.target_tokenizer)
    found = reader(state, [sources[i] for i in chosen], [outputs[i] for i in chosen], *tokenizers)
    return [
        {"source": one.source, "target": one.target, "weights": one.mean_of_last().round(4).tolist()}
        for one in found
        if one.maps
    ]


def _document(
    preset_name: PresetName,
    seed: int,
    data: PreparedData,
    configs: dict[str, ExperimentConfig],
    rows: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    first = next(iter(configs.values()))
    search = _task(first).search
    spoken = f"beam search ({search.num_beams} beams)" if isinstance(search, BeamConfig) else "greedy search"
    return {
        "environment": environment_table(),
        "models": [row["row"] for row in rows],
        "preset": preset_name,
        "seed": seed,
        "dataset": getattr(_task(first).data.dataset, "name", _task(first).data.dataset.kind),
        "batch_words": _task(first).data.batch_size,
        "padding_share": data.report.padding_share,
        "development_words": len(data.development_items),
        "scored_words": len(data.test_items),
        "search": spoken,
        "configs": {name: dataclasses.asdict(config) for name, config in configs.items()},
    }


class _OverallClock:
    """Time left for all rungs together, said at every evaluation."""

    def __init__(self, names: Sequence[str], configs: dict[str, ExperimentConfig]) -> None:
        self._names = list(names)
        self._evaluations = {
            name: max(1, -(-config.train.updates // config.train.evaluate_every))
            for name, config in configs.items()
        }
        self._start = time.monotonic()
        self._rungs_now = 0  # trained in this session
        self._rungs_left = len(self._names)
        self._evaluated = 0
        self._current = ""

    def label(self, name: str) -> str:
        """Name beside the rung's own progress; the rung begins."""
        self._current, self._evaluated = name, 0
        return f"[{self._names.index(name) + 1}/{len(self._names)}] {name}"

    def evaluated(self) -> None:
        """Another evaluation of the present rung is done."""
        self._evaluated += 1
        share = min(1.0, self._evaluated / self._evaluations[self._current])
        self._say(self._rungs_now + share, self._rungs_left - share)

    def finish(self, name: str, *, trained_now: bool) -> None:
        """A rung is done."""
        self._rungs_left -= 1
        if trained_now:
            self._rungs_now += 1
        else:
            note(f"{name}: finished before, kept")

    def _say(self, done: float, left: float) -> None:
        minutes = (time.monotonic() - self._start) / done * left / 60
        note(f"compare: about {max(1, round(minutes))} min left for all rungs")
