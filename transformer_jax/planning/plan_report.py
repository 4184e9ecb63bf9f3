"""A plan as lines for a terminal, as a JSON document, and as a page that needs no network."""

import dataclasses
import html
from collections.abc import Sequence
from typing import Any

from transformer_jax.planning.experiment_plan import PlannedExperiment
from transformer_jax.planning.result import Plan
from transformer_jax.plot.html_page import PAGE_STYLE
from transformer_jax.plot.style import COLOURS
from transformer_jax.training.sharding import mesh_sizes

LIMITS = (
    "Not counted: latency, and what XLA moves beyond what the sharding needs. A batch's padding is counted as "
    "tokens. Activations are an estimate (no value that XLA would fuse away); the rest of the memory is exact."
)


def plan_lines(experiment: PlannedExperiment) -> list[str]:
    """The plan for people, in lines of at most 100 characters."""
    plan = experiment.plan
    lines = [*_head(experiment), "", *_table(["memory of a device", "", "of the device"], _memory_rows(plan))]
    if not plan.fits:
        lines.append(f"  DOES NOT FIT: {_bytes(plan.memory_bytes)} of {_bytes(plan.device.memory_bytes)}")
    lines += [f"  {line}" for line in _wrapped(f"largest arrays: {_largest(plan)}", 96)]
    lines += ["", *_table(["a step", "all devices", "a device"], _work_rows(plan))]
    if plan.traffic:
        titles = ["over the links, of a device", "times", "buffers", "sent", "time"]
        lines += ["", *_table(titles, _traffic_rows(plan))]
    lines += ["", *_table(["time of a step", ""], _time_rows(plan)), ""]
    for note in (*_notes(experiment), LIMITS):
        lines += _wrapped(f"note: {note}")
    return lines


def plan_document(experiment: PlannedExperiment) -> dict[str, Any]:
    """All numbers, for programs."""
    plan = experiment.plan
    fields = dataclasses.asdict(plan)
    fields["largest"] = [{"bytes": size, "array": name} for size, name in plan.largest]
    fields["device"]["peak_flops"] = dict(plan.device.peak_flops)
    best, worst = plan.step_seconds
    least, most = plan.share_of_peak
    return {
        "name": experiment.name,
        "rows": experiment.rows,
        "lengths": list(experiment.lengths),
        "vocab_sizes": list(experiment.vocab_sizes),
        "notes": list(_notes(experiment)),
        "plan": fields,
        "devices": plan.devices,
        "memory_bytes": plan.memory_bytes,
        "fits": plan.fits,
        "bound": plan.bound,
        "step_seconds": {"overlapped": best, "one_after_the_other": worst},
        "share_of_peak": {"overlapped": most, "one_after_the_other": least},
    }


def plan_html(experiment: PlannedExperiment) -> str:
    """The plan as a page: a bar of the memory and the tables."""
    plan = experiment.plan
    first, *rest = _head(experiment)
    verdict = "" if plan.fits else "<p class='wrong'><strong>It does not fit into the memory.</strong></p>"
    parts = [
        f"<header><h1>{html.escape(first)}</h1>{''.join(f'<p>{html.escape(one)}</p>' for one in rest)}</header>",
        f"<section><h2>Memory of a device</h2>{verdict}{_bar(plan)}"
        f"{_html_table(['', 'bytes', 'of the device'], _memory_rows(plan))}"
        f"<p class='note'>Largest arrays: {html.escape(_largest(plan))}</p></section>",
        f"<section><h2>A step</h2>{_html_table(['', 'all devices', 'a device'], _work_rows(plan))}</section>",
    ]
    if plan.traffic:
        titles = ["collective, mesh axes", "times", "buffers", "sent", "time"]
        parts.append(
            f"<section><h2>Over the links, of a device</h2>{_html_table(titles, _traffic_rows(plan))}</section>"
        )
    parts.append(f"<section><h2>Time of a step</h2>{_html_table(['', ''], _time_rows(plan))}</section>")
    notes = "".join(f"<p class='note'>{html.escape(note)}</p>" for note in (*_notes(experiment), LIMITS))
    parts.append(f"<section><h2>Notes</h2>{notes}</section>")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>transformer-jax plan: {html.escape(experiment.name)}</title>\n<style>{PAGE_STYLE}</style>\n"
        f"</head>\n<body>\n<main>\n{''.join(parts)}\n</main>\n</body>\n</html>\n"
    )


def _head(experiment: PlannedExperiment) -> list[str]:
    plan, lengths = experiment.plan, [f"{length:,}" for length in experiment.lengths]
    tokens = (
        f"{lengths[0]} source and {lengths[-1]} target tokens"
        if experiment.is_pair
        else f"{lengths[0]} tokens"
    )
    sizes = " x ".join(f"{axis} {size}" for axis, size in mesh_sizes(plan.mesh).items() if size > 1)
    count = f"{plan.devices:,} x " if plan.devices > 1 else ""
    vocabulary = ""
    if experiment.vocab_sizes:  # series have none
        sizes_text = " and ".join(f"{size:,}" for size in experiment.vocab_sizes)
        vocabulary = f"; vocabulary {sizes_text}, from {experiment.vocab_source}"
    return [
        f"{experiment.name} on {count}{plan.device.title}{f' ({sizes})' if sizes else ''}",
        f"{plan.parameters:,} parameters{vocabulary}",
        f"a batch of {experiment.rows:,} rows of {tokens}: {plan.tokens:,} tokens",
    ]


def _memory_rows(plan: Plan) -> list[list[str]]:
    whole = plan.device.memory_bytes
    rows = [[name, _bytes(size), f"{size / whole:.2%}"] for name, size in plan.memory.items() if size]
    return [*rows, ["at its fullest", _bytes(plan.memory_bytes), f"{plan.memory_bytes / whole:.2%}"]]


def _largest(plan: Plan) -> str:
    """Distinct arrays of the fullest moment, whole shapes, with what a device holds of them."""
    found: dict[str, list[float]] = {}
    for size, name in plan.largest:
        found.setdefault(name, []).append(size)
    told = [f"{len(sizes)} x {name} {_bytes(sizes[0])}" for name, sizes in list(found.items())[:3]]
    return ", ".join(told) or "none"


def _work_rows(plan: Plan) -> list[list[str]]:
    return [
        ["products of the model", f"{_number(plan.total_flops)}FLOP", f"{_number(plan.device_flops)}FLOP"],
        ["done by several devices or again", "", f"{_shared(plan):.1%}"],
        ["memory traffic", "", _bytes(plan.memory_traffic)],
    ]


def _shared(plan: Plan) -> float:
    """Of a device's products the share that is done elsewhere too, or by itself before."""
    return max(0.0, 1.0 - plan.total_flops / max(plan.device_flops * plan.devices, 1.0))


def _traffic_rows(plan: Plan) -> list[list[str]]:
    return [
        [
            f"{one.kind} over {one.axes}{', in a loop' if one.in_loop else ''}",
            f"{one.count:,.0f}",
            _bytes(one.buffer_bytes),
            _bytes(one.sent_bytes),
            _seconds(one.seconds),
        ]
        for one in plan.traffic
    ]


def _time_rows(plan: Plan) -> list[list[str]]:
    best, worst = plan.step_seconds
    least, most = plan.share_of_peak
    return [
        ["products at the device's peak", _seconds(plan.compute_seconds)],
        ["memory traffic at its bandwidth", _seconds(plan.memory_seconds)],
        ["operation by operation the longer of both", _seconds(plan.device_seconds)],
        ["links at their bandwidth", _seconds(plan.link_seconds)],
        ["expected, links behind the rest or not", f"{_seconds(best)} to {_seconds(worst)}"],
        ["tokens a second", f"{plan.tokens / worst:,.0f} to {plan.tokens / best:,.0f}"],
        ["share of peak", f"{least:.1%} to {most:.1%}"],
        ["what bounds it", plan.bound],
    ]


def _notes(experiment: PlannedExperiment) -> tuple[str, ...]:
    plan, notes = experiment.plan, list(experiment.notes)
    again = _shared(plan)
    if again > 0.05:
        notes.append(
            f"{again:.0%} of a device's products are done by others too, or again: a recurrence whose rows do not "
            "divide over all devices (data x fsdp x tensor) is done by several; train.remat computes anew"
        )
    if plan.loop_steps:
        notes.append(
            f"{plan.loop_steps:,.0f} steps of loops that multiply (recurrences, blocks of attention or of the loss) "
            "follow one another: each starts anew, which takes longer than the bandwidths say"
        )
    if plan.unknown:
        notes.append(f"taken to need whole operands or to run once: {', '.join(plan.unknown)}")
    return tuple(notes)


def _bar(plan: Plan) -> str:
    """The parts of the memory side by side, and a line where the device's ends."""
    width, height = 960, 44
    scale = width / max(plan.memory_bytes, plan.device.memory_bytes)
    x, pieces, legend = 0.0, [], []
    for colour, (name, size) in zip([*COLOURS, *COLOURS], plan.memory.items()):
        pieces.append(
            f'<rect x="{x:.2f}" y="0" width="{size * scale:.2f}" height="{height}" fill="{colour}">'
            f"<title>{html.escape(name)}: {_bytes(size)}</title></rect>"
        )
        x += size * scale
        legend.append(f'<span class="dot" style="background:{colour}"></span>{html.escape(name)} ')
    end = plan.device.memory_bytes * scale
    pieces.append(f'<path d="M {end - 1:.2f} 0 v {height}" stroke="#1f2933" stroke-width="2"/>')
    label = f"{_bytes(plan.memory_bytes)} of {_bytes(plan.device.memory_bytes)}"
    return (
        f'<svg role="img" viewBox="0 0 {width} {height}" width="100%" aria-label="{label}">'
        f'<rect width="{width}" height="{height}" fill="#e1e5ea"/>{"".join(pieces)}</svg>'
        f'<p class="note">{"".join(legend)}</p>'
    )


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [list(titles), *([f"  {row[0]}", *row[1:]] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    first = max(widths[0], 44)
    return [
        (line[0].ljust(first) + "".join(f"  {cell:>{max(width, 11)}}" for cell, width in zip(line[1:], widths[1:])))
        .rstrip()
        for line in lines
    ]  # fmt: skip


def _html_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{html.escape(title)}</th>' for title in titles)
    body = "".join(
        f'<tr><th scope="row">{html.escape(row[0])}</th>'
        f"{''.join(f'<td>{html.escape(cell)}</td>' for cell in row[1:])}</tr>"
        for row in rows
    )
    return f"<div class='scroll'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _wrapped(text: str, width: int = 100) -> list[str]:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) + 1 > width:
            lines.append(" ")
        lines[-1] = f"{lines[-1]} {word}" if lines[-1] else word
    return lines


def _number(value: float) -> str:
    """Four digits and the prefix of the unit that follows."""
    for factor, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:,.4g} {prefix}"
    return f"{value:,.4g} "


def _bytes(value: float) -> str:
    return f"{_number(value)}B"


def _seconds(value: float) -> str:
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns" if value else "0"
