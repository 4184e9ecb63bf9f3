"""The work of ``transformer-jax plot``: a run's curves and its attention as PNG files."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from transformer_jax.cli.experiment_config import saved_config
from transformer_jax.cli.loaded_run import LoadedRun, load_run
from transformer_jax.cli.run_folder import require_config
from transformer_jax.decode.searcher import GreedyConfig
from transformer_jax.errors import RunError
from transformer_jax.plot.attention import attention_heads
from transformer_jax.plot.curves import learning_curves
from transformer_jax.train.metrics import learning_curve
from transformer_jax.train.trackers import read_rows


def plot_run(run_dir: Path, lines: Sequence[str], output: Path) -> Iterator[Path]:
    """Draw a run and yield each picture's path when it is written.

    Args:
      run_dir: Run folder.
      lines: Lines to translate and to draw the attention of.
      output: Folder for the pictures; made if it is not there.

    Raises:
      RunError: If the folder holds no run, or nothing was logged yet, or the model has no attention.
    """
    require_config(run_dir)
    config = saved_config(run_dir)
    points = learning_curve(read_rows(run_dir))
    if not points and not lines:
        raise RunError(
            f"{run_dir}: nothing was logged yet; draw it after the first {config.train.log_every} updates"
        )
    output.mkdir(parents=True, exist_ok=True)
    for metric in ("loss", config.train.metric):
        columns = _columns(points, metric)
        if columns["updates"]:
            path = output / f"{metric}.png"
            learning_curves(
                {config.name: columns}, metric=metric, title=f"{config.name}: {metric}", path=path
            )
            yield path
    if lines:
        yield from _draw_attention(load_run(run_dir), lines, output)


def _columns(points: Sequence[dict[str, Any]], metric: str) -> dict[str, list[float]]:
    kept = [point for point in points if point.get(metric) is not None]
    return {
        "updates": [point["update"] for point in kept],
        "seconds": [point["seconds"] for point in kept],
        metric: [point[metric] for point in kept],
    }


def _draw_attention(run: LoadedRun, lines: Sequence[str], output: Path) -> Iterator[Path]:
    sources = run.encode(lines, too_long="fail", where="--line")
    for line, source in zip(lines, sources):
        if not source:
            raise RunError(f"--line '{line}': has no token to look at")
    state = run.state
    search = GreedyConfig(max_len=run.config.search.max_len)
    reader = run.attention_reader(search, batch_size=len(lines))
    reader.require_attention(state, name=run.config.name, option="--line")
    found = run.searcher(search)(state, sources)
    outputs = [hypotheses[0] for hypotheses in found]
    aligned = reader(state, sources, outputs, run.source_tokenizer, run.target_tokenizer)
    for number, (line, one) in enumerate(zip(lines, aligned), start=1):
        path = output / f"attention_{number}_{re.sub(r'[^A-Za-z0-9]+', '_', line)[:40]}.png"
        attention_heads(one.maps, one.source, one.target, title=line, path=path)
        yield path
    run.report_lines()
