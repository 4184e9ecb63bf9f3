"""Tables of the device run's results, for the terminal and for the documents; nothing here needs JAX or a GPU."""

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.device.contract import verdicts

Rows = tuple[list[str], list[list[str]]]
Document = dict[str, Any]


def machine(document: Document) -> str:
    """Device and versions, in a line."""
    found = document.get("environment")
    if found is None:
        return "a machine that could not be asked"
    torch = document.get("torch") or found["versions"].get("torch")
    peers = f", PyTorch {torch.partition('+')[0]}" if torch else ""
    return f"{found['device']}, JAX {found['versions']['jax']}{peers}"


def counts(document: Document) -> str:
    """How much a stage measured and lost, in a line."""
    lost = f", {len(document['lost'])} items lost" if document["lost"] else ""
    return f"{len(document['records'])} records{lost} in {document['seconds']:.0f} s"


def lost_lines(document: Document) -> list[str]:
    """Of each lost item what became of it."""
    return [f"{one['item']}: {one['outcome']}: {one['message']}" for one in document["lost"]]


def contract(document: Document) -> Rows:
    """Of each implementation how many checks ended how, and the first that failed."""
    rows = []
    everything = [*document["records"], *document["lost"]]
    for family, implementations in verdicts(everything).items():
        for name, verdict in implementations.items():
            mine = [one for one in everything if _is_of(one["item"], family, name)]
            failed = [one for one in mine if one["outcome"] not in ("passed", "refused")]
            found = verdict["counts"]
            first = f"{failed[0]['item'].partition('|')[2]} {failed[0]['outcome']}" if failed else ""
            other = sum(count for outcome, count in found.items() if outcome not in ("passed", "refused"))
            cells = [str(found.get("passed", 0)), str(found.get("refused", 0)), str(other), first]
            rows.append([f"{family}: {name}", *cells])
    return ["implementation", "passed", "refused", "failed, hung or not run", "the first of these"], rows


def _is_of(item: str, family: str, name: str) -> bool:
    head = item.split("|")[0]
    own = "recurrence" if head.startswith("lstm") else "attention"
    return item.count("|") == 2 and own == family and head.split()[-1] == name


def _by_case(
    records: Sequence[dict[str, Any]], key: Callable[[dict[str, Any]], str], cell: Callable[[dict[str, Any]], str],
    first: str = "case",
) -> Rows:  # fmt: skip
    names = list(dict.fromkeys(one["implementation"] for one in records))
    cases: dict[str, dict[str, str]] = {}
    for one in records:
        cases.setdefault(key(one), {})[one["implementation"]] = cell(one)
    names = [name for name in names if any(found.get(name) for found in cases.values())]
    return [first, *names], [
        [case, *(found.get(name, "") for name in names)] for case, found in cases.items()
    ]


def attention(document: Document) -> Rows:
    """Milliseconds with the difference from the reference in brackets; an empty cell was refused or left out."""

    def cell(one: dict[str, Any]) -> str:
        if one["median_ms"] is None:
            return ""
        return f"{one['median_ms']:.3f} ({one['difference']:.0e})"

    records = [one for one in document["records"] if "blocks" not in one]
    short = {"forward": "forward", "forward and backward": "both"}
    return _by_case(records, lambda one: f"{one['case']}, {short[one['mode']]}", cell)


def blocks(document: Document) -> Rows:
    """Milliseconds of the ``mosaic_gpu`` kernels by block sizes."""
    rows = [
        [f"{one['case']}, {one['mode']}", " / ".join(map(str, one["blocks"])), f"{one['median_ms']:.3f}"]
        for one in document["records"]
        if "blocks" in one and one["median_ms"] is not None
    ]
    return ["case", "keys forward / keys backward / queries backward", "ms"], rows


def recurrence(document: Document) -> Rows:
    """Milliseconds, and the time over that of ``scan``."""

    def cell(one: dict[str, Any]) -> str:
        if one["median_ms"] is None:
            return "no memory" if one["note"].startswith("out of memory") else "failed"
        ratio = one["extra"].get("time_over_scan")
        told = f" ({ratio['median']:.2f})" if ratio and one["implementation"] != "scan" else ""
        return f"{one['median_ms']:,.2f}{told}"

    return _by_case(document["records"], lambda one: one["case"], cell)


def race(document: Document) -> Rows:
    """Thousand tokens a second of training by length, and milliseconds for each further token; a row a contestant."""
    columns: dict[str, dict[str, str]] = {}
    for one in document["records"]:
        extra = one["extra"]
        if extra["mode"] == "training_step":
            value = f"{one['tokens_per_s'] / 1e3:,.0f}" if one["tokens_per_s"] else "no memory"
            columns.setdefault(f"training, {extra['length']:,}: k tokens/s", {})[one["implementation"]] = (
                value
            )
        elif extra["mode"] == "next_token":
            title = f"batch {extra['batch']}, context {extra['length']:,}: ms"
            columns.setdefault(title, {})[one["implementation"]] = (
                f"{one['median_ms']:.3f}" if one["median_ms"] else "no memory"
            )
    names = list(dict.fromkeys(one["implementation"] for one in document["records"]))
    return ["contestant", *columns], [
        [name, *(found.get(name, "") for found in columns.values())] for name in names
    ]


def training(document: Document) -> Rows:
    """Milliseconds, tokens a second, the time over ours, and how far the sides agree."""
    rows = []
    for one in document["records"]:
        if one["median_ms"] is None:
            rows.append([one["case"], one["implementation"], one["note"], "", "", ""])
            continue
        ratio = one.get("time_over_ours")
        agreed = ""
        if one["implementation"] != "transformer_jax":
            if "agreement" in one:
                agreed = f"{one['agreement']:.0%} of the outputs"
            elif "largest_loss_difference" in one:
                agreed = f"losses within {one['largest_loss_difference']:.1e}"
        told = "" if ratio is None else f"{ratio:.2f}"
        rows.append(
            [
                one["case"],
                one["implementation"],
                f"{one['median_ms']:,.2f}",
                f"{one['tokens_per_s']:,.0f}",
                told,
                agreed,
            ]
        )
    return ["case", "who", "ms", "tokens/s", "its time / ours", "agreement"], rows


TABLES: dict[str, Callable[[Document], Rows]] = {
    "contract": contract, "attention": attention, "recurrence": recurrence, "race": race, "training": training,
}  # fmt: skip


def plain(titles: list[str], rows: list[list[str]]) -> str:
    """A table for the terminal."""
    lines = [titles, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines
    )


def markdown(titles: list[str], rows: list[list[str]]) -> str:
    """A table for a document."""
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', ' ') for cell in line)} |" for line in lines)
