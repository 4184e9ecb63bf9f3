"""The result table of a grid: for the terminal and in Markdown."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from transformer_jax.tasks.spoken_scores import metric_title

if TYPE_CHECKING:
    from rich.table import Table

NONE = "–"
"""Where a member has no such number."""

_TEXTS = (0, 3)
"""Columns of words."""


def titles(document: Mapping[str, Any]) -> list[str]:
    """Titles of the columns, the member's first; a line end is where a terminal breaks them."""
    return [
        "member",
        metric_title(document["metric"]),
        "change\nfrom base",
        "verdict",
        "parameters",
        "tokens/s",
        "training\ns",
        "memory\nMB",
        "GFLOP an\nupdate",
    ]


def cells(document: Mapping[str, Any]) -> list[list[str]]:
    """The rows of the table as texts, in the order of the members."""
    digits = score_digits(document["members"])
    return [_cells_of(one, digits, document["num_seeds"]) for one in document["members"]]


def _cells_of(member: Mapping[str, Any], digits: int, num_seeds: int) -> list[str]:
    return [
        member["name"],
        _spread(member["quality"], f"z.{digits}f"),
        _spread(member["difference"], f"+z.{digits}f"),
        _verdict(member, num_seeds),
        _number(member["parameters"], ",.0f"),
        _number(member["tokens_per_second"], ",.0f"),
        _number(member["train_seconds"], ",.1f"),
        _number(member["peak_bytes"], ",.1f", 1e-6),
        _number(member["update_flops"], ",.3g", 1e-9),
    ]


def _verdict(member: Mapping[str, Any], num_seeds: int) -> str:
    if member["error"] is not None:
        return "cannot be built"
    failed, ended = len(member["failures"]), len(member["runs"])
    if failed:
        return f"{failed} of {num_seeds} failed" + (
            f"; {member['verdict']}" if ended and member["verdict"] else ""
        )
    if member["is_base"]:
        return "base"
    return member["verdict"] or "one seed"


def score_digits(members: Sequence[Mapping[str, Any]]) -> int:
    """Decimals that show two digits of the usual spread; of scores without spread four digits in all.

    Example:
      >>> score_digits([{"quality": {"mean": 2.345678, "low": 2.31, "high": 2.38}}])
      3
    """
    found = [one["quality"] for one in members if one["quality"] is not None]
    halves = [
        one["high"] - one["mean"] for one in found if one["high"] is not None and one["high"] > one["mean"]
    ]
    if halves:
        return min(6, max(0, 1 - math.floor(math.log10(statistics.median(halves)))))
    largest = max((abs(one["mean"]) for one in found), default=0.0)
    return min(6, max(0, 3 - math.floor(math.log10(largest)))) if largest > 0.0 else 2


def remarks(document: Mapping[str, Any]) -> list[str]:
    """Sentences below the table: what the columns are, and every member that is not whole."""
    seeds = document["num_seeds"]
    direction = "lower" if document["metric_mode"] == "min" else "higher"
    found = [
        f"{document['experiment']}: {document['metric']} of the development set after {document['updates']:,} updates "
        f"({direction} is better), mean over {seeds} {'seed' if seeds == 1 else 'seeds'}.",
    ]
    if seeds > 1:
        found.append(
            "After ± is half of Student's 95 % interval over the seeds; the change from the base is over pairs of runs "
            'with the same seed, and a verdict other than "within the spread" needs its interval to leave 0 out.'
        )
        number = sum(one["verdict"] is not None for one in document["members"])
        if number > 4:
            found.append(
                f"Of {number} comparisons at 95 % one in twenty leaves 0 out by chance: repeat what matters with "
                "more seeds."
            )
    found.append(
        "Tokens a second and seconds are of the updates alone. Memory is XLA's for the largest training step: state, "
        "batch and temporary arrays. Operations are those of the matrix products in the gradient of the largest batch, "
        "forward and backward; convolutions are not counted."
    )
    for one in document["members"]:
        if one["error"] is not None:
            found.append(f"{one['name']} cannot be built: {one['error']}")
        found += [f"{one['name']}, seed {each['seed']} failed: {each['error']}" for each in one["failures"]]
    return found


def grid_table(document: Mapping[str, Any]) -> "Table":
    """The results as a table of rich; the best member is bold on a terminal."""
    from rich.table import Table
    from rich.text import Text

    table = Table(caption="\n".join(remarks(document)), caption_justify="left")
    for place, title in enumerate(titles(document)):
        is_text = place in _TEXTS
        table.add_column(title, justify="left" if is_text else "right", no_wrap=not is_text, overflow="fold")
    for member, row in zip(document["members"], cells(document), strict=True):
        style = "bold" if member["folder"] == document["best"] else ""
        table.add_row(*(Text(cell, style=style) for cell in row))
    return table


def markdown(document: Mapping[str, Any]) -> str:
    """``table.md``; the best member is bold."""
    lines = [
        _markdown_row([title.replace("\n", " ") for title in titles(document)]),
        _markdown_row(["---" if place in _TEXTS else "---:" for place in range(len(titles(document)))]),
    ]
    for member, row in zip(document["members"], cells(document), strict=True):
        shown = [_escaped(cell) for cell in row]
        is_best = member["folder"] == document["best"]
        lines.append(_markdown_row([f"**{shown[0]}**" if is_best else shown[0], *shown[1:]]))
    return "\n".join([*lines, "", *(f"{_escaped(text)}\n" for text in remarks(document))])


def _markdown_row(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _escaped(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "|*_`<[\\" else letter for letter in text)


def _number(value: float | None, form: str, factor: float = 1.0) -> str:
    return NONE if value is None else format(value * factor, form)


def _spread(interval: Mapping[str, Any] | None, form: str) -> str:
    """Mean and half of the interval's length."""
    if interval is None:
        return NONE
    mean = format(interval["mean"], form)
    if interval["high"] is None:
        return mean
    return f"{mean} ± {format(interval['high'] - interval['mean'], form.lstrip('+'))}"
