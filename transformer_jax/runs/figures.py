"""The work of ``transformer-jax plot``: a run's curves and its attention as PNG files."""

import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from transformer_jax.errors import RunError, shortened
from transformer_jax.inference.batch_search import ALONE
from transformer_jax.inference.translator import Translator
from transformer_jax.notes import note
from transformer_jax.plot.attention import attention_heads
from transformer_jax.plot.curves import learning_curves
from transformer_jax.plot.fonts import missing_characters
from transformer_jax.runs.experiment import saved_config
from transformer_jax.runs.folder import require_config
from transformer_jax.runs.loading import load_run
from transformer_jax.training.metrics import development_column, learning_curve
from transformer_jax.training.trackers import read_rows

MAX_TITLE_LEN = 90
"""Characters of a line in its picture's title."""

MAX_NAME_LEN = 100
"""Bytes of a line in its picture's file name."""


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
    translator = load_run(run_dir).predictor if lines else None
    if lines and not isinstance(translator, Translator):
        raise RunError(
            f"{run_dir} is for {config.task.kind}: there is no pair whose attention `line` could draw"
        )
    points = learning_curve(read_rows(run_dir))
    if not points and not lines:
        raise RunError(
            f"{run_dir}: nothing was logged yet; draw it after the first {config.train.log_every} updates"
        )
    output.mkdir(parents=True, exist_ok=True)
    for metric in dict.fromkeys(("loss", development_column(points, config.train.metric))):
        columns = _columns(points, metric)
        if columns["updates"]:
            path = output / f"{metric}.png"
            learning_curves(
                {config.name: columns}, metric=metric, title=f"{config.name}: {metric}", path=path
            )
            yield path
    if isinstance(translator, Translator):
        yield from _draw_attention(translator, lines, output)


def _columns(points: Sequence[dict[str, Any]], metric: str) -> dict[str, list[float]]:
    kept = [point for point in points if point.get(metric) is not None]
    return {
        "updates": [point["update"] for point in kept],
        "seconds": [point["seconds"] for point in kept],
        metric: [point[metric] for point in kept],
    }


def _draw_attention(translator: Translator, lines: Sequence[str], output: Path) -> Iterator[Path]:
    """Attention of the run's own search: for the same outputs as `translate` writes for these lines."""
    sources = translator.encode(lines, too_long="whole", where="`lines`")
    for line, source in zip(lines, sources):
        if not source:
            raise RunError(f"`lines='{shortened(line)}'`: has no token to look at")
    state, search = translator.state, translator.search
    reader = translator.attention_reader(search, batch_size=len(lines))
    reader.require_attention(state, name=translator.name, option="`lines`")
    searcher = translator.searcher(search, rows=1 if len(lines) <= ALONE else None)
    outputs = [hypotheses[0] for hypotheses in searcher(state, sources)]
    aligned = reader(state, sources, outputs, translator.source_tokenizer, translator.target_tokenizer)
    for number, (line, one) in enumerate(zip(lines, aligned), start=1):
        path = output / picture_name(number, line)
        attention_heads(one.maps, one.source, one.target, title=shortened(line, MAX_TITLE_LEN), path=path)
        yield path
    for remark in (*translator.report.take_remarks(), *translator.report.lines()):
        note(f"note: {remark}")
    texts = [text for line, one in zip(lines, aligned) for text in (line, *one.source, *one.target)]
    if missing := missing_characters(texts):
        note(
            f"note: no installed font has {shortened(missing, 40)!r}: drawn as code points such as "
            f"U+{ord(missing[0]):04X}; install one, for example Noto Sans CJK for Chinese, Japanese and Korean"
        )


def picture_name(number: int, line: str) -> str:
    """A file name made from the line, in any script: its letters and digits, shortened.

    Example:
      >>> picture_name(1, "To be, or not?"), picture_name(2, "\u6211\u559c\u6b22 tea"), picture_name(3, "?!")
      ('attention_1_To_be_or_not.png', 'attention_2_\u6211\u559c\u6b22_tea.png', 'attention_3.png')
    """
    kept = "".join(one if unicodedata.category(one)[0] in "LMN" else " " for one in line)
    words = "_".join(kept.split())
    while len(words.encode()) > MAX_NAME_LEN:
        words = words[:-1]
    try:
        os.fsencode(words)
    except UnicodeEncodeError:  # by the file system's encoding, as in a locale of old
        words = words.encode("ascii", "ignore").decode()
    return f"attention_{number}_{words.rstrip('_')}".rstrip("_") + ".png"
