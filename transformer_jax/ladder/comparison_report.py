"""Report of a comparison: a table for the terminal, ``report.json``, ``report.html`` and PNG figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformer_jax.files import write_json, write_whole
from transformer_jax.ladder.comparison_page import COLUMNS, best_values, render_html, rung_colour
from transformer_jax.ladder.rungs import RUNGS
from transformer_jax.plot.attention import alignment_maps
from transformer_jax.plot.curves import learning_curves
from transformer_jax.plot.html_page import Figure
from transformer_jax.plot.style import INK, finish, new_figure, svg_bytes

if TYPE_CHECKING:
    from rich.table import Table

REPORT_NAME = "report.json"
PAGE_NAME = "report.html"


def result_table(document: Mapping[str, Any]) -> "Table":
    """The results as a table of rich; the best value of a column is bold on a terminal."""
    from rich.table import Table
    from rich.text import Text

    rows = document["models"]
    best = best_values(rows)
    table = Table(title=_caption(document), title_justify="left")
    for one in COLUMNS:
        table.add_column(
            one.title, justify="left" if one.key == "name" else "right", no_wrap=one.key == "name"
        )
    for row in rows:
        cells = []
        for one in COLUMNS:
            strong = one.key in best and row[one.key] == best[one.key]
            cells.append(Text(one.template.format(row[one.key]), style="bold" if strong else ""))
        table.add_row(*cells)
    return table


def _caption(document: Mapping[str, Any]) -> str:
    return (
        f"{document['preset']}: {document['dataset']}, {document['models'][0]['updates']:,} updates of "
        f"{document['batch_words']} words, seed {document['seed']}; {document['scored_words']:,} held-out "
        f"words, {document['search']}"
    )


def write_report(
    run_dir: Path,
    document: Mapping[str, Any],
    *,
    samples: Mapping[str, Sequence[Mapping[str, Any]]],
    alignments: Mapping[str, Sequence[Mapping[str, Any]]],
) -> list[Path]:
    """Write all files of the report.

    Args:
      run_dir: Where to.
      document: ``report.json``'s content.
      samples: See `render_html`.
      alignments: See `render_html`.

    Returns:
      The files, the page first.
    """
    write_json(run_dir / REPORT_NAME, document)
    paths = [run_dir / PAGE_NAME, run_dir / REPORT_NAME]
    figures = []
    for name, build, title, sentence, alternative in _FIGURES:
        drawn = build(document)
        if drawn is not None:
            paths.append(run_dir / f"{name}.png")
            finish(drawn, paths[-1])
            figures.append(Figure(title, sentence, alternative.format(**_spoken(document)), svg_bytes(drawn)))
    for index in range(min((len(maps) for maps in alignments.values()), default=0)):
        one = {name: maps[index] for name, maps in alignments.items()}
        source = next(iter(one.values()))["source"]
        paths.append(run_dir / f"alignment_{index + 1}.png")
        alignment_maps(
            {name: alignment["weights"] for name, alignment in one.items()},
            source,
            {name: alignment["target"] for name, alignment in one.items()},
            title=f"What each attention looked at: {''.join(source)}",
            path=paths[-1],
        )
    write_whole(
        run_dir / PAGE_NAME, render_html(document, figures=figures, samples=samples, alignments=alignments)
    )
    return paths


def _spoken(document: Mapping[str, Any]) -> dict[str, str]:
    """The numbers of the figures as words, for readers who do not see them."""
    rows = document["models"]
    return {
        "per": ", ".join(f"{row['name']} {row['per']:.1f} %" for row in rows),
        "tokens": ", ".join(f"{row['name']} {row['tokens_per_second']:,.0f}" for row in rows),
        "words": ", ".join(f"{row['name']} {row['words_per_second']:,.0f}" for row in rows),
    }


def _curve_figure(document: Mapping[str, Any], across: str, label: str) -> Any:
    curves = {
        row["name"]: {column: [point[column] for point in row["curve"]] for column in (across, "per")}
        for row in document["models"]
        if row["curve"]
    }
    if not curves:
        return None
    return learning_curves(
        curves,
        metric="per",
        y_label="phoneme error rate, %",
        across=(across,),
        x_labels={across: label},
        order=[*RUNGS, *(name for name in curves if name not in RUNGS)],
    )


def _updates_figure(document: Mapping[str, Any]) -> Any:
    return _curve_figure(document, "update", "updates")


def _seconds_figure(document: Mapping[str, Any]) -> Any:
    return _curve_figure(document, "seconds", "seconds of training, compilation apart")


def _speed_figure(document: Mapping[str, Any]) -> Any:
    rows = document["models"]
    names = [row["name"] for row in rows]
    figure, grid = new_figure(1, 2, width=9, height=0.9 + 0.42 * len(rows))
    panels = (
        ("tokens_per_second", "trained tokens per second"),
        ("words_per_second", "decoded words per second"),
    )
    for axes, (key, title) in zip(grid[0], panels):
        bars = axes.barh(names, [row[key] for row in rows], color=[rung_colour(name) for name in names])
        axes.bar_label(bars, fmt="{:,.0f}", padding=4, color=INK, fontsize=9.5)
        axes.set_title(title, loc="left", fontsize=10.5, color=INK)
        axes.tick_params(length=0, labelcolor=INK)
        axes.margins(x=0.18)
        axes.invert_yaxis()
        axes.xaxis.set_visible(False)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
    return figure


_FIGURES = (
    (
        "curves_updates",
        _updates_figure,
        "Learning, update by update",
        "Phoneme error rate on development words after each number of updates; all models saw the same "
        "batches in the same order, so lower at the same place means more learned from the same words.",
        "Line chart of the phoneme error rate over updates, a line for each model; at the end: {per}.",
    ),
    (
        "curves_seconds",
        _seconds_figure,
        "Learning, second by second",
        "The same error rates over the time that the updates took on this machine, compilation and scoring "
        "apart: a line that ends early belongs to a model whose updates are quick.",
        "Line chart of the phoneme error rate over seconds of training, one line a model; at the end: {per}.",
    ),
    (
        "speed",
        _speed_figure,
        "Speed",
        "Real tokens (no padding) that training went through in a second, and held-out words that search "
        "wrote in a second; longer bars are faster.",
        "Bar charts: trained tokens per second: {tokens}; decoded words per second: {words}.",
    ),
)
