"""``report.html`` of a race and its figures: one page that needs no network."""

import html
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from transformer_jax.plot.curves import learning_curves
from transformer_jax.plot.html_page import PAGE_STYLE, Figure, environment_section, figure_section
from transformer_jax.plot.roofline import roofline
from transformer_jax.plot.style import COLOURS
from transformer_jax.plot.throughput import throughput_over_length

MODES = {"forward": "forward pass", "training_step": "training step"}


def lines_of(
    records: Sequence[Mapping[str, Any]], mode: str, batch: int | None = None
) -> dict[str, dict[str, list]]:
    """Contestant to columns of length, median, quartiles: tokens a second, or milliseconds of generation."""
    lines: dict[str, dict[str, list]] = {}
    for one in records:
        extra = one["extra"]
        if extra["mode"] != mode or one["median_ms"] is None or batch not in (None, extra["batch"]):
            continue
        columns = lines.setdefault(one["implementation"], {"length": [], "median": [], "low": [], "high": []})
        columns["length"].append(extra["length"])
        values = [one["median_ms"], one["q25_ms"], one["q75_ms"]]
        if mode in MODES:
            tokens = extra["batch"] * extra["length"] * 1e3
            values = [tokens / one["median_ms"], tokens / one["q75_ms"], tokens / one["q25_ms"]]
        for key, value in zip(("median", "low", "high"), values, strict=True):
            columns[key].append(value)
    return lines


def memory_of(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list]]:
    """Contestant to columns of length and the training step's peak megabytes, where it is known."""
    lines: dict[str, dict[str, list]] = {}
    for one in records:
        if one["extra"]["mode"] == "training_step" and one["peak_bytes"] is not None:
            columns = lines.setdefault(one["implementation"], {"length": [], "median": []})
            columns["length"].append(one["extra"]["length"])
            columns["median"].append(one["peak_bytes"] / 1e6)
    return lines


def charts_of(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The interactive charts: title, sentence, axes and lines."""
    records, charts = document["records"], []
    for mode, title in MODES.items():
        charts.append(
            {
                "title": f"Speed of the {title}",
                "sentence": "Each line is one model; higher is faster. Every batch holds the same number of tokens, "
                "so a flat line means that a token costs the same in a long sequence as in a short one. A scan falls "
                "where its batch gets too small to fill the machine, softmax attention where the pairs of tokens "
                "outnumber the rest.",
                "x": "sequence length (tokens)", "y": "real tokens per second", "log": True,
                "lines": lines_of(records, mode),
            }
        )  # fmt: skip
    charts.append(
        {
            "title": "Peak memory of the training step",
            "sentence": "The most memory that parameters, optimiser state and everything kept for the backward pass "
            "take at one time; lower is better. Attention that holds every weight grows with the length, although "
            "the number of tokens stays; a scan and attention in blocks do not.",
            "x": "sequence length (tokens)", "y": "megabytes", "log": True, "lines": memory_of(records),
        }
    )  # fmt: skip
    for batch in dict.fromkeys(one["extra"]["batch"] for one in records if "token" in one["extra"]["mode"] and
                               one["extra"]["mode"] != "training_step"):  # fmt: skip
        for mode, title, sentence in (
            ("first_token", "Time to the first token", "The whole context is read, then one token is written; "
             "lower is faster. This is where reading all at once pays."),
            ("next_token", "Time for each further token", "Lower is faster. A recurrent model keeps a state of one "
             "size, so its line is flat; a Transformer reads the keys of all that came before, so its line rises."),
        ):  # fmt: skip
            charts.append(
                {
                    "title": f"{title}, {batch} sequence{'s' if batch > 1 else ''} at once", "sentence": sentence,
                    "x": "context (tokens)", "y": "milliseconds", "log": True, "lines": lines_of(records, mode, batch),
                }
            )  # fmt: skip
    for task, curves in document["curves"].items():
        charts.append(
            {
                "title": f"What a second of training buys: {task}",
                "sentence": "Loss on text that no model has seen, over each model's own seconds of training; lower is "
                "better. A fast model makes more updates in a second, a good one learns more from each.",
                "x": "seconds of training", "y": "held-out loss (nats)", "log": False,
                "lines": {
                    name: {"length": curve["seconds"], "median": curve["loss"]}
                    for name, curve in curves.items()
                },
            }
        )  # fmt: skip
    return [chart for chart in charts if chart["lines"]]


def write_figures(document: Mapping[str, Any], folder: Path) -> list[Figure]:
    """Draw what is there as PNG files into the folder; the roofline is given back for the page as well."""
    records = document["records"]
    panels = {title: lines for mode, title in MODES.items() if (lines := lines_of(records, mode))}
    if panels:
        throughput_over_length(panels, y_label="real tokens per second", path=folder / "speed.png")
    batches = dict.fromkeys(one["extra"]["batch"] for one in records if one["extra"]["mode"] == "next_token")
    panels = {
        f"{title}, batch {batch}": lines
        for batch in batches
        for mode, title in (("first_token", "first token"), ("next_token", "each further token"))
        if (lines := lines_of(records, mode, batch))
    }
    if panels:
        throughput_over_length(
            panels, x_label="context (tokens)", y_label="milliseconds", path=folder / "generation.png"
        )
    for task, curves in document["curves"].items():
        learning_curves(
            curves, metric="loss", y_label="held-out loss (nats)", across=("seconds",),
            x_labels={"seconds": "seconds of training"}, title=task, path=folder / f"quality-{task}.png",
        )  # fmt: skip
    points = roofline_points(records)
    if not points:
        return []
    roofline(
        points,
        peak=document["matmul_peak"],
        bandwidth=document["memory_bandwidth"],
        path=folder / "roofline.png",
    )
    return [
        Figure(
            title="How near the machine's limits",
            sentence="Each dot is a training step at one length: how many operations it makes for each byte that "
            "it must move (across), and how many a second it reached (up). The slanted line is what the memory "
            "allows, the flat one what the multipliers do; both were measured here. A dot far below both lines "
            "waits for something else: the steps of a loop, one after the other. One above the slanted line "
            "has its numbers in a cache.",
            alternative="Roofline: operations a second over operations a byte, a dot for each contestant and length.",
            image=(folder / "roofline.png").read_bytes(),
            media_type="image/png",
        )
    ]


def roofline_points(records: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Contestant to (operations a byte, operations a second) of its training steps."""
    points: dict[str, list[tuple[float, float]]] = {}
    for one in records:
        if one["extra"]["mode"] == "training_step" and one["median_ms"]:
            points.setdefault(one["implementation"], []).append(
                (one["flops"] / one["extra"]["bytes"], one["flops"] / one["median_ms"] * 1e3)
            )
    return points


def render_race(document: Mapping[str, Any], figures: Sequence[Figure]) -> str:
    """The whole page."""
    settings = document["settings"]
    charts = charts_of(document)
    names = list(dict.fromkeys(name for chart in charts for name in chart["lines"]))
    head = (
        f"<header><h1>Scanning against seeing all at once</h1><p>{len(names)} next-token models of equal "
        f"{html.escape(settings['equal'])}, the Transformer {settings['width']} wide; "
        f"{settings['tokens_a_batch']:,} tokens a batch, medians of up to {settings['calls']} calls in turns. "
        f"Matmul peak {document['matmul_peak'] / 1e9:,.0f} GFLOP/s, memory "
        f"{document['memory_bandwidth'] / 1e9:,.0f} GB/s."
        "</p><p>Click a name to hide or show its line; hover over a point to read it.</p></header>"
    )
    missing = document["missing"]
    warning = (
        f"<section><p><strong>Not complete:</strong> broken off before the end of {', '.join(missing)}.</p></section>"
        if missing
        else ""
    )
    notes = "".join(f"<section><p>{html.escape(note)}</p></section>" for note in document["notes"])
    sections = [
        f"<section><h2>{html.escape(chart['title'])}</h2><p>{html.escape(chart['sentence'])}</p>"
        f'<div class="chart" data-chart="{index}"></div>{_values(chart)}</section>'
        for index, chart in enumerate(charts)
    ]
    data = json.dumps({"charts": charts, "names": names, "colours": COLOURS}).replace("<", "\\u003c")
    script = resources.files("transformer_jax.race").joinpath("race_charts.js").read_text("utf-8")
    body = "\n".join(
        [
            head,
            warning,
            notes,
            *sections,
            *map(figure_section, figures),
            _crossovers(document),
            environment_section(document),
        ]
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>transformer-jax race: {html.escape(document['preset'])}</title>\n"
        f"<style>{PAGE_STYLE}{_CHART_STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n"
        f'<script type="application/json" id="data">{data}</script>\n<script>{script}</script>\n</body>\n</html>\n'
    )


def _values(chart: Mapping[str, Any]) -> str:
    """A chart's medians as a table, for reading without the chart."""
    places = sorted({x for line in chart["lines"].values() for x in line["length"]})
    if not chart["log"]:
        rows = "".join(
            f"<tr><th scope='row'>{html.escape(name)}</th><td>{line['length'][-1]:.1f}</td>"
            f"<td>{line['median'][-1]:.4f}</td></tr>"
            for name, line in chart["lines"].items()
        )
        top = f"<th></th><th>{html.escape(chart['x'])}</th><th>{html.escape(chart['y'])}</th>"
    else:
        top = "<th></th>" + "".join(f"<th>{place:,}</th>" for place in places)
        rows = ""
        for name, line in chart["lines"].items():
            found = dict(zip(line["length"], line["median"], strict=True))
            cells = "".join(
                f"<td>{found[place]:,.4g}</td>" if place in found else "<td></td>" for place in places
            )
            rows += f"<tr><th scope='row'>{html.escape(name)}</th>{cells}</tr>"
    return (
        f"<details><summary>The numbers ({html.escape(chart['y'])})</summary><div class='scroll'><table><thead>"
        f"<tr>{top}</tr></thead><tbody>{rows}</tbody></table></div></details>"
    )


def _crossovers(document: Mapping[str, Any]) -> str:
    blocks = []
    for mode, found in document["crossovers"].items():
        crossing = [one["text"] for one in found if one["length"] is not None]
        if crossing:
            items = "".join(f"<li>{html.escape(text)}</li>" for text in crossing)
            blocks.append(f"<h3>{html.escape(mode.replace('_', ' '))}</h3><ul>{items}</ul>")
    if not blocks:
        return ""
    return (
        "<section><h2>Who overtakes whom</h2><p>Where two lines of time over length cross, with the interval that the "
        "spread between rounds allows. Pairs that are not listed did not cross in the lengths measured.</p>"
        f"{''.join(blocks)}</section>"
    )


_CHART_STYLE = """
.chart svg { display: block; width: 100%; height: auto; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 14px; margin: 6px 0; }
.legend button { border: 0; background: none; font: inherit; font-size: 0.85rem; cursor: pointer; padding: 2px 0;
  color: var(--ink); }
.legend button[aria-pressed="false"] { opacity: 0.35; text-decoration: line-through; }
.tip { min-height: 1.5em; color: var(--soft); font-size: 0.9rem; font-variant-numeric: tabular-nums; }
h3 { margin: 12px 0 4px; font-size: 1rem; }
details { margin-top: 8px; } summary { cursor: pointer; color: var(--soft); }
"""
