"""Tables of attention, recurrence and every hot path."""

from collections.abc import Callable
from typing import Any

from benchmarks import performance_table
from benchmarks.tables import result_files
from benchmarks.tables.result_files import markdown_table, read_results
from transformer_jax.race.timing import interval_text


def recurrence_table(name: str, part: str) -> str:
    """Milliseconds of each contestant of a part, with the time over scan's behind those of the others."""
    records = [one for one in read_results(name)["records"] if one["extra"]["part"] == part]
    names = list(dict.fromkeys(one["implementation"] for one in records))
    cases: dict[str, dict[str, Any]] = {}
    for one in records:
        cases.setdefault(one["case"], {})[one["implementation"]] = one
    rows = []
    for case, found in cases.items():
        cells = []
        for side in names:
            one = found.get(side)
            ratio = one["extra"].get("time_over_scan") if one else None
            text = (
                "" if one is None else one["note"] if one["median_ms"] is None else f"{one['median_ms']:,.2f}"
            )
            cells.append(f"{text} ({ratio['median']:.2f})" if ratio and side != "scan" else text)
        rows.append([case, *cells])
    return markdown_table(["case", *(f"{side}, ms" for side in names)], rows)


def attention_time_table(name: str, *, shapes: bool = False) -> str:
    """Milliseconds of each implementation and PyTorch's time over that of the chosen one, a row for each case.

    Args:
      name: Of the results.
      shapes: Take the shapes of work, and not those over length.
    """
    document = read_results(name)
    of_work = set(document.get("shapes_of_work", ()))
    cases = {
        case: found for case, found in performance_table.by_case(document) if (case in of_work) == shapes
    }
    known = ("reference", "batched", "xla", "blockwise", "native_cpu", "torch")
    sides = [side for side in known if any(side in found for found in cases.values())]
    rows = []
    for case, found in cases.items():
        cells = [f"{found[side]['median_ms']:,.1f}" if side in found else "" for side in sides]
        # Results from before None was timed have PyTorch's time over that of blockwise.
        ours = found.get("None", found["blockwise"])
        if "None" in found:
            ratio = ours["extra"].get("torch_time_over_this")
        else:
            ratio = found["torch"]["extra"]["time_over_blockwise"] if "torch" in found else None
        share = performance_table.share_of_peak(ours, document)
        rows.append([case, *cells, interval_text(ratio), f"{share:.2f}"])
    is_timed = all("None" in found for found in cases.values())
    titles = ["case: batch x length x heads x width", *(f"{side}, ms" for side in sides)]
    titles += ["PyTorch's time / ours", "ours, share of peak"]
    if not is_timed:
        titles[-2:] = ["PyTorch's time / blockwise's", "blockwise, share of peak"]
    return markdown_table(titles, rows)


def attention_memory_table(name: str) -> str:
    """Temporary memory of forward and backward in megabytes, and the reference's over blockwise's."""
    records = [one for one in read_results(name)["records"] if one["case"].startswith("memory: ")]
    cases: dict[str, dict[str, float]] = {}
    for record in records:
        case = record["case"].removeprefix("memory: ").removesuffix(", forward and backward")
        cases.setdefault(case, {})[record["implementation"]] = record["peak_bytes"] / 1e6
    rows = [
        [
            case,
            f"{sides['reference']:,.0f}",
            f"{sides['blockwise']:,.1f}",
            f"{sides['reference'] / sides['blockwise']:,.0f}",
        ]
        for case, sides in cases.items()
    ]
    return markdown_table(["case", "reference, MB", "blockwise, MB", "reference / blockwise"], rows)


def hot_paths() -> str:
    """Every hot path beside its peers."""
    rows = []
    for path, sources in performance_table.SOURCES.items():
        for name, rows_of in sources:
            if not (result_files.RESULTS / name).exists():
                continue
            document = read_results(name)
            machine = performance_table.machine_of(document)
            rows += [
                [
                    path,
                    row.case,
                    row.peer,
                    interval_text(row.ratio),
                    "" if row.share is None else f"{row.share:.2f}",
                    machine,
                ]
                for row in rows_of(document)
            ]
    return markdown_table(
        ["path", "case", "peer", "its time / ours", "our share of the floor", "machine"], rows
    )


def support() -> str:
    """Which implementation of attention serves which case, as the code lists it."""
    from transformer_jax.testing.support_matrix import support_table

    return support_table().rstrip("\n")


TABLES: dict[str, Callable[[], str]] = {
    "attention-memory": lambda: attention_memory_table("attention-memory-cpu.json"),
    "attention-shapes": lambda: attention_time_table("attention-cpu.json", shapes=True),
    "attention-shapes-pure-jax": lambda: attention_time_table(
        "attention_shapes-cpu-pure-jax.json", shapes=True
    ),
    "attention-time": lambda: attention_time_table("attention-cpu.json"),
    "attention-shapes-newest-jax": lambda: attention_time_table(
        "attention_shapes-cpu-newest-jax.json", shapes=True
    ),
    "attention-time-newest-jax": lambda: attention_time_table("attention-cpu-newest-jax.json"),
    "hot-paths": hot_paths,
    "recurrence-newton": lambda: recurrence_table("recurrence-newton-cpu.json", "newton"),
    "recurrence-linear": lambda: recurrence_table("recurrence-cpu.json", "linear"),
    "recurrence-peers": lambda: recurrence_table("recurrence-cpu.json", "peers"),
    "support": support,
}
