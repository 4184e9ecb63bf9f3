"""``report.html`` of a comparison: one file that needs no network, drawn from ``report.json``'s document."""

import dataclasses
import html
from collections.abc import Mapping, Sequence
from typing import Any

from transformer_jax.ladder.rungs import RUNGS
from transformer_jax.plot.html_page import PAGE_STYLE, Figure, environment_section, figure_section
from transformer_jax.plot.style import COLOURS


def rung_colour(name: str) -> str:
    """The colour of a rung in every figure."""
    return COLOURS[RUNGS.index(name) if name in RUNGS else -1]


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of the result table; ``best`` says which value is printed in bold."""

    key: str
    title: str
    template: str
    explanation: str
    best: str | None = None


COLUMNS = (
    Column("name", "model", "{}", "the rung of the ladder"),
    Column("parameters", "parameters", "{:,}", "trained numbers"),
    Column("per", "PER\n%", "{:.2f}", "phoneme error rate on held-out words", "min"),
    Column("wer", "WER\n%", "{:.2f}", "words with at least one wrong phoneme", "min"),
    Column("tokens_per_second", "trained\ntokens/s", "{:,.0f}", "without padding, compilation apart", "max"),
    Column("words_per_second", "decoded\nwords/s", "{:,.0f}", "search alone, compilation apart", "max"),
    Column("train_seconds", "training\ns", "{:,.0f}", "updates alone"),
    Column("compile_seconds", "compiling\ns", "{:,.1f}", "training steps and search"),
)


def best_values(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The best value of each column that has one."""
    pick = {"min": min, "max": max}
    return {one.key: pick[one.best](row[one.key] for row in rows) for one in COLUMNS if one.best and rows}


def render_html(
    document: Mapping[str, Any],
    *,
    figures: Sequence[Figure],
    samples: Mapping[str, Sequence[Mapping[str, Any]]],
    alignments: Mapping[str, Sequence[Mapping[str, Any]]],
) -> str:
    """The whole page.

    Args:
      document: What ``report.json`` holds.
      figures: Learning curves and the like, in order.
      samples: For each model the same words: ``{"source", "reference", "prediction", "errors"}``.
      alignments: For each model that attends the same words: ``{"source", "target", "weights"}``, weights
        ``[target][source]`` between 0 and 1.
    """
    rows = document["models"]
    best = min(rows, key=lambda row: row["per"]) if rows else None
    summary = (
        f"Lowest phoneme error rate: <strong>{html.escape(best['name'])}</strong>, {best['per']:.2f} % "
        f"after {best['updates']:,} updates of {document.get('batch_words', 256)} words."
        if best
        else ""
    )
    sections = [
        f"<header><h1>From the vanilla RNN to the Transformer</h1><p>{html.escape(_subtitle(document))}</p>"
        f"<p>{summary}</p></header>",
        _table(rows),
        *(figure_section(figure) for figure in figures),
        _alignments(alignments),
        _samples(samples),
        environment_section(document),
    ]
    body = "\n".join(section for section in sections if section)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>transformer-jax compare: {html.escape(str(document.get('preset', '')))}</title>\n"
        f"<style>{PAGE_STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _subtitle(document: Mapping[str, Any]) -> str:
    scored = (
        f"{document['scored_words']:,} held-out words" if "scored_words" in document else "held-out words"
    )
    parts = [
        f"preset {document.get('preset', '?')}",
        f"data set {document.get('dataset', '?')}",
        f"seed {document.get('seed', '?')}",
        f"scored on {scored} by {document.get('search', 'greedy search')}",
    ]
    return (
        "Letters in, phonemes out; same batches, same number of updates, same optimiser: "
        + ", ".join(parts)
        + "."
    )


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    best = best_values(rows)
    head = "".join(
        f'<th scope="col" title="{html.escape(one.explanation)}">{_on_one_line(one.title)}</th>'
        for one in COLUMNS
    )
    lines = []
    for row in rows:
        cells = []
        for one in COLUMNS:
            text = html.escape(one.template.format(row[one.key]))
            if one.key == "name":
                dot = f'<span class="dot" style="background:{rung_colour(row["name"])}"></span>'
                cells.append(f'<th scope="row">{dot}{text}</th>')
            else:
                strong = one.best and row[one.key] == best[one.key]
                cells.append(f"<td>{'<strong>' + text + '</strong>' if strong else text}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    notes = "; ".join(f"{_on_one_line(one.title)}: {one.explanation}" for one in COLUMNS[1:])
    return (
        "<section><h2>Results</h2><div class='scroll'><table><thead><tr>"
        f"{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
        f"<p class='note'>{html.escape(notes)}. The best value of a column is bold.</p></section>"
    )


def _on_one_line(title: str) -> str:
    return html.escape(title.replace("\n", " "))


def _alignments(alignments: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    if not alignments:
        return ""
    names = list(alignments)
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in names)
    lines = []
    for index in range(min(len(maps) for maps in alignments.values())):
        cells = "".join(f"<td>{alignment_svg(alignments[name][index], name)}</td>" for name in names)
        lines.append(f"<tr>{cells}</tr>")
    return (
        "<section><h2>What each attention looked at</h2><div class='scroll'><table class='maps'>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
        "<p>Each row is a phoneme that the model wrote, each column a letter that it had read: the darker "
        "the square, the larger that letter's share of the attention. The Transformer's is the mean over the "
        "heads of its last decoder layer; models without attention see only the encoder's last state.</p>"
        "</section>"
    )


def alignment_svg(alignment: Mapping[str, Any], name: str, cell: int = 22) -> str:
    """One word's attention as inline SVG: letters across, phonemes down, darkness is weight."""
    source, target, weights = alignment["source"], alignment["target"], alignment["weights"]
    left, top = 34, 24
    width, height = left + cell * len(source) + 2, top + cell * len(target) + 2
    word = html.escape("".join(source))
    parts = [
        f'<svg role="img" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'aria-label="Attention of {html.escape(name)} on {word}"><title>{html.escape(name)}: {word}</title>'
    ]
    for column, letter in enumerate(source):
        x = left + cell * column + cell / 2
        parts.append(f'<text x="{x:.0f}" y="{top - 8}" text-anchor="middle">{html.escape(letter)}</text>')
    for row, phoneme in enumerate(target):
        y = top + cell * row
        middle = y + cell / 2 + 4
        parts.append(f'<text x="{left - 6}" y="{middle:.0f}" text-anchor="end">{html.escape(phoneme)}</text>')
        for column in range(len(source)):
            weight = min(max(float(weights[row][column]), 0.0), 1.0)
            parts.append(
                f'<rect x="{left + cell * column}" y="{y}" width="{cell - 1}" height="{cell - 1}" '
                f'fill="{rung_colour(name)}" fill-opacity="{weight:.2f}"><title>{weight:.2f}</title></rect>'
            )
    edge = f'width="{cell * len(source)}" height="{cell * len(target)}"'
    parts.append(f'<rect x="{left - 0.5}" y="{top - 0.5}" {edge} fill="none" stroke="#c8ccd2"/></svg>')
    return "".join(parts)


def _samples(samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    if not samples:
        return ""
    names = list(samples)
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in ("word", "reference", *names))
    lines = []
    for index, first in enumerate(samples[names[0]]):
        cells = [
            f'<th scope="row">{html.escape(first["source"])}</th><td>{html.escape(first["reference"])}</td>'
        ]
        for name in names:
            sample = samples[name][index]
            kind = "right" if sample["errors"] == 0 else "wrong"
            count = "" if sample["errors"] == 0 else f' <span class="note">({sample["errors"]} wrong)</span>'
            cells.append(f'<td class="{kind}">{html.escape(sample["prediction"]) or "&empty;"}{count}</td>')
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return (
        "<section><h2>The same words from every model</h2>"
        "<div class='scroll'><table class='samples'><thead><tr>"
        f"{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
        "<p>Words that no model has seen; the number counts phonemes to insert, delete or replace.</p>"
        "</section>"
    )
