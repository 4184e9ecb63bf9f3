"""Report of a grid: ``results.json``, ``table.md``, figures, and ``ablation.html``, a page that needs no network."""

import html
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformer_jax.ablation.grid_table import cells, markdown, remarks, score_digits, titles
from transformer_jax.files import write_json, write_whole
from transformer_jax.plot.curves import learning_curves
from transformer_jax.plot.html_page import (
    DARK_STYLE,
    PAGE_STYLE,
    Figure,
    environment_section,
    figure_section,
)
from transformer_jax.plot.member_intervals import interval_beside, interval_rows
from transformer_jax.plot.style import finish, line_style, on_dark_ground, svg_bytes
from transformer_jax.tasks.spoken_scores import metric_title, spoken

RESULTS_NAME = "results.json"
PAGE_NAME = "ablation.html"
TABLE_NAME = "table.md"

_FIGURES = ("quality", "speed", "curves")

REPORT_ENTRIES = (RESULTS_NAME, TABLE_NAME, PAGE_NAME, *(f"{name}.png" for name in _FIGURES))
"""Files of the report."""


def write_grid_report(run_dir: Path, document: Mapping[str, Any]) -> None:
    """Write all files of the report.

    Args:
      run_dir: Where to.
      document: ``results.json``'s content.
    """
    write_json(run_dir / RESULTS_NAME, document)
    write_whole(run_dir / TABLE_NAME, markdown(document))
    figures = []
    for name, (drawn, title, sentence, alternative) in _drawn(document).items():
        finish(drawn, run_dir / f"{name}.png")
        image = svg_bytes(drawn)
        figures.append(Figure(title, sentence, alternative, image, dark_image=on_dark_ground(image)))
    write_whole(run_dir / PAGE_NAME, grid_page(document, figures))


def grid_page(document: Mapping[str, Any], figures: Sequence[Figure]) -> str:
    """The whole page.

    Args:
      document: What ``results.json`` holds.
      figures: In order.
    """
    title = f"Ideas measured on {document['experiment']}"
    body = "\n".join(
        [
            f"<header><h1>{html.escape(title)}</h1><p>{html.escape(_summary(document))}</p></header>",
            _table(document),
            *(figure_section(figure) for figure in figures),
            environment_section(document),
        ]
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n"
        f"<style>{PAGE_STYLE}{DARK_STYLE}{_STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


_STYLE = """
figure img { max-width: 640px; }
table { font-size: 0.92rem; }
th, td { padding: 7px 8px; }
tbody th { position: relative; padding-left: 22px; white-space: normal; min-width: 10em; text-align: left; }
tbody th .dot { position: absolute; left: 4px; top: 0.95em; }
thead th { white-space: normal; vertical-align: bottom; }
thead th:nth-child(4), td:nth-child(4) { text-align: left; }
.remarks { padding-left: 1.2em; margin: 12px 0 0; }
"""


def _summary(document: Mapping[str, Any]) -> str:
    """The best member and what its difference from the base is worth, in a sentence or two."""
    digits = score_digits(document["members"])
    best = next((one for one in document["members"] if one["folder"] == document["best"]), None)
    varied = "; ".join(f"{one['path']}: {', '.join(one['values'])}" for one in document["varied"])
    if best is None:
        return f"Varied: {varied}. No member ended with every seed."
    what = f"Best: {best['name']}, {spoken({document['metric']: best['quality']['mean']})}"
    if best["is_base"]:
        what += "; no idea is better than the base"
    elif best["verdict"] == "better":
        what += f", {best['difference']['mean']:+.{digits}f} from the base, more than the spread over seeds"
    elif best["verdict"] is not None:
        what += ", which is within the spread over seeds of the base"
    else:
        what += "; one seed says nothing of the spread"
    return f"Varied: {varied}. {what}."


def _table(document: Mapping[str, Any]) -> str:
    head = "".join(
        f'<th scope="col">{html.escape(one).replace(chr(10), " ")}</th>' for one in titles(document)
    )
    coloured = [place for place, one in enumerate(document["members"]) if one["quality"] is not None]
    lines = []
    for place, (member, row) in enumerate(zip(document["members"], cells(document), strict=True)):
        dot = ""
        if place in coloured:
            colour = line_style(coloured.index(place))["color"]
            dot = f'<span class="dot" style="background:{colour}"></span>'
        name = html.escape(row[0])
        name = f"<strong>{name}</strong> (best)" if member["folder"] == document["best"] else name
        kind = {"better": "right", "worse": "wrong"}.get(member["verdict"] or "", "")
        texts = [
            f'<td class="{kind}">{html.escape(cell)}</td>'
            if column == 2 and kind
            else f"<td>{html.escape(cell)}</td>"
            for column, cell in enumerate(row[1:])
        ]
        lines.append(f'<tr><th scope="row">{dot}{name}</th>{"".join(texts)}</tr>')
    notes = "".join(f"<li>{html.escape(text)}</li>" for text in remarks(document))
    return (
        f"<section><h2>Results</h2><div class='scroll'><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div><ul class='note remarks'>{notes}</ul></section>"
    )


def _drawn(document: Mapping[str, Any]) -> dict[str, tuple[Any, str, str, str]]:
    """Figure, title, sentence and alternative text by the name of the file."""
    members = [one for one in document["members"] if one["quality"] is not None]
    spreads = {one["name"]: (*(one["quality"][end] for end in ("mean", "low", "high")),) for one in members}
    digits, metric = score_digits(members), metric_title(document["metric"])
    heard = ", ".join(f"{name} {mean:.{digits}f}" for name, (mean, _, _) in spreads.items())
    base = next((one["quality"]["mean"] for one in members if one["is_base"]), None)
    better = "left" if document["metric_mode"] == "min" else "right"
    found = {
        "quality": (
            interval_rows(
                spreads,
                {one["name"]: [run["score"] for run in one["runs"]] for one in members},
                x_label=metric,
                reference=base,
            ),
            "Quality",
            "Mean over seeds and its 95 % interval; faint dots are single runs, the dashed line is the base's mean. "
            f"Better is {better}. Whether a member differs from the base is said by the table, by pairs of runs with "
            "the same seed: two intervals may overlap although the pairs differ.",
            f"Rows of means with intervals: {heard}.",
        ),
        "speed": (
            interval_beside(
                spreads,
                {one["name"]: one["tokens_per_second"] for one in members},
                x_label="trained tokens a second",
                y_label=metric,
            ),
            "Quality beside speed",
            "Right is faster; tokens a second are of the updates alone, on this machine.",
            "Points of quality over speed: "
            + ", ".join(f"{one['name']} {one['tokens_per_second']:,.0f} tokens a second" for one in members)
            + ".",
        ),
    }
    curves = {one["name"]: _mean_curve(one["runs"]) for one in members}
    if all(curve["updates"] for curve in curves.values()):
        found["curves"] = (
            learning_curves(curves, metric="score", y_label=metric, across=("updates",), names_below=True),
            "Learning, update by update",
            "Mean over seeds on the development set after each number of updates.",
            f"Line chart, a line for each member; at the end: {heard}.",
        )
    return found


def _mean_curve(runs: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Mean score at the updates that all runs of a member were scored at."""
    scores = [{point["update"]: point["score"] for point in run["curve"]} for run in runs]
    shared = sorted(set.intersection(*(set(one) for one in scores)))
    means = {
        update: statistics.fmean(one[update] for one in scores)
        for update in shared
        if all(one[update] is not None for one in scores)
    }
    return {"updates": list(means), "score": list(means.values())}
