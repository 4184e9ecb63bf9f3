"""``results.json`` of a grid: means and intervals over seeds, and paired differences from the base."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from transformer_jax.ablation.grid import Grid, Member
from transformer_jax.ablation.member_checks import MemberCosts
from transformer_jax.environment import environment_table
from transformer_jax.evaluate.t_interval import Interval, t_interval

CONFIDENCE = 0.95

Rows = Mapping[tuple[str, int], Mapping[str, Any]]
"""What is kept of each run, by the member's folder and the number of its seed."""


def grid_document(
    grid: Grid,
    members: Sequence[Member],
    costs: Mapping[str, MemberCosts],
    rows: Rows,
    failures: Mapping[tuple[str, int], str],
) -> dict[str, Any]:
    """The document of a grid.

    Args:
      grid: What was trained.
      members: Its members, those that could not be built with their errors.
      costs: Of each member that could, by its folder.
      rows: Of the runs that ended.
      failures: Why the others did not, in one line.
    """
    base, train = members[0], grid.base.train
    found = [_member_document(grid, one, base, costs.get(one.folder), rows, failures) for one in members]
    whole = [one for one in found if len(one["runs"]) == grid.num_seeds]
    pick = min if train.metric_mode == "min" else max
    best = pick(whole, key=lambda one: one["quality"]["mean"]) if whole else None
    return {
        "environment": environment_table(),
        "experiment": grid.base.name,
        "task": grid.base.task.kind,
        "metric": train.metric,
        "metric_mode": train.metric_mode,
        "updates": train.updates,
        "num_seeds": grid.num_seeds,
        "first_seed": train.seed,
        "confidence": CONFIDENCE,
        "one_at_a_time": grid.one_at_a_time,
        "varied": [{"path": one.path, "values": list(one.values)} for one in grid.varied],
        "best": None if best is None else best["folder"],
        "members": found,
    }


def _member_document(
    grid: Grid,
    member: Member,
    base: Member,
    costs: MemberCosts | None,
    rows: Rows,
    failures: Mapping[tuple[str, int], str],
) -> dict[str, Any]:
    seeds = range(grid.num_seeds)
    runs = [
        {"seed": index + 1, **rows[member.folder, index]} for index in seeds if (member.folder, index) in rows
    ]
    paired = [
        rows[member.folder, index]["score"] - rows[base.folder, index]["score"]
        for index in seeds
        if (member.folder, index) in rows and (base.folder, index) in rows
    ]
    document: dict[str, Any] = {
        "name": member.name,
        "folder": member.folder,
        "settings": [f"{path}={value}" for path, value in member.settings],
        "is_base": member.is_base,
        "error": member.error,
        "failures": [
            {"seed": index + 1, "error": failures[member.folder, index]}
            for index in seeds
            if (member.folder, index) in failures
        ],
        "parameters": None if costs is None else costs.parameters,
        "update_flops": None if costs is None else costs.update_flops,
        "quality": _interval(t_interval([run["score"] for run in runs], confidence=CONFIDENCE))
        if runs
        else None,
        "difference": None,
        "verdict": None,
    }
    if paired and not member.is_base:
        difference = t_interval(paired, confidence=CONFIDENCE)
        document["difference"] = _interval(difference)
        document["verdict"] = verdict(difference, grid.base.train.metric_mode)
    for name in ("tokens_per_second", "train_seconds", "compile_seconds", "peak_bytes"):
        values = [run[name] for run in runs if run[name] is not None]
        document[name] = fmean(values) if values else None
    return document | {"runs": runs}


def verdict(difference: Interval, metric_mode: str) -> str | None:
    """What a member's paired difference from the base says; None where one seed says nothing of the spread.

    Example:
      >>> verdict(t_interval([-0.2, -0.21, -0.19]), "min"), verdict(t_interval([-0.2, 0.3, 0.1]), "min")
      ('better', 'within the spread')
    """
    if difference.low is None:
        return None
    if not difference.leaves_zero_out:
        return "within the spread"
    return "better" if (difference.mean < 0.0) == (metric_mode == "min") else "worse"


def _interval(found: Interval) -> dict[str, Any]:
    return {"mean": found.mean, "low": found.low, "high": found.high, "num_values": found.num_values}
