"""The work of ``transformer-jax evaluate``: outputs of a run against a reference file."""

import json
from pathlib import Path
from typing import Any

from transformer_jax.cli.loaded_run import TooLong, choose_search, load_run
from transformer_jax.cli.scoring import bleu_tokenizer, percentages, score_outputs
from transformer_jax.data.readers import read_parallel


def evaluate_files(
    run_dir: Path, source: Path, reference: Path, *, beam: int | None, too_long: TooLong
) -> dict[str, Any]:
    """Scores of a run on two files aligned by line.

    Returns:
      The scores by name (percent); ``"lines"``, ``"task"``, ``"unknown"`` and ``"too_long"`` say what they
      were taken on, ``"details"`` has the counts and signatures, ``"text"`` is for people.

    Raises:
      DataError: If a file is missing, empty, binary, not UTF-8, or the two differ in their numbers of lines.
      RunError: If ``run_dir`` holds no trained run.
    """
    pairs = read_parallel(source, reference)
    run = load_run(run_dir)
    sources = run.encode([pair.source for pair in pairs], too_long=too_long, where=str(source))
    found = run.searcher(choose_search(run.config.search, beam=beam))(run.state, sources)
    outputs = [run.scored_text(hypotheses[0]) for hypotheses in found]
    report = score_outputs(
        run.config.task,
        outputs,
        [(run.reference(pair.target),) for pair in pairs],
        tokenize=bleu_tokenizer(run.config.data),
    )
    run.report_lines()
    counts = {"lines": len(pairs), "unknown": sum(run.unknown.values()), "too_long": run.num_too_long}
    return {
        "task": run.config.task,
        **counts,
        **percentages(report),
        "details": report.to_json(),
        "text": report.lines(),
    }


def print_scores(scores: dict[str, Any], *, as_json: bool) -> None:
    """One JSON object, or one line a score."""
    text = scores.pop("text")
    if as_json:
        print(json.dumps(scores, allow_nan=False))
        return
    print(f"{scores['lines']:,} lines, task {scores['task']}")
    print("\n".join(text))
