"""Tables of interruptions, damaged files, checkpoints and scaling."""

from collections.abc import Callable

from benchmarks.tables.result_files import markdown_table, read_results


def chaos_table(name: str) -> str:
    """What broke, how often, and what the runs ended with."""
    document = read_results(name)
    rows = [[fault, f"{count:,}"] for fault, count in sorted(document["faults"].items())]
    table = markdown_table(["fault", "places"], [*rows, ["together", f"{document['points']:,}"]])
    ends = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(document["outcomes"].items()))
    runs = f"{document['identical']} of {document['runs']} runs ended with the bits of the one that was left alone"
    lost = f"{document['lost']} said that their only checkpoint was damaged and began again"
    return f"{table}\n\nThe broken processes: {ends}. {runs}; {lost}."


def checkpointing_table(name: str) -> str:
    """What a save takes of the training, and a restore of the memory."""
    document = read_results(name)
    rows = []
    for row in document["rows"]:
        lost, share = row["lost_seconds"], row["share"]
        ways = [f"{1000 * lost[way][1]:,.0f} ({share[way]:.2%})" for way in lost]
        rows.append(
            [row["model"], f"{row['state_bytes'] / 1e6:,.0f}", f"{1000 * row['update_seconds']:,.0f}", *ways]
        )
    interval = document["rows"][0]["interval"]
    ways = [f"{way}: ms lost (share of {interval} updates)" for way in document["rows"][0]["lost_seconds"]]
    table = markdown_table(["model", "state, MB", "an update, ms", *ways], rows)
    restore = document["restore"]
    size = f"{restore['state_bytes'] / 1e6:,.0f} MB"
    return f"{table}\n\nRestoring {size} held at most {restore['ratio']:.2f} times its bytes above the process before."


def fuzz_table(name: str) -> str:
    """Damaged files by kind."""
    rows = [
        [
            kind,
            f"{found['files']:,}",
            f"{found['refused']:,}",
            f"{found['wrong']:,}",
            f"{found['slowest_s'] * 1e3:,.0f}",
            f"{found['grown_mb']:,.0f}",
        ]
        for kind, found in read_results(name)["loaders"].items()
    ]
    return markdown_table(
        ["kind", "files", "refused", "anything else", "slowest, ms", "memory above, MB"], rows
    )


def scaling_table(name: str) -> str:
    """Of a device what the program holds, does and sends, each with its ratio to the plan in brackets."""
    parts = [("argument_bytes", 1e3), ("temporary_bytes", 1e3), ("device_flops", 1e6), ("sent_bytes", 1e3)]
    rows = []
    for record in read_results(name)["records"]:
        cells = []
        for key, unit in parts:
            planned = record["extra"][f"planned_{key}"]
            ratio = f" ({record['extra'][key] / planned:.2f})" if planned else ""
            cells.append(f"{record['extra'][key] / unit:,.0f}{ratio}")
        rows.append([record["case"], record["implementation"], f"{record['tokens_per_s']:,.0f}", *cells])
    titles = [
        "model",
        "mesh",
        "tokens/s",
        "state and batch, kB",
        "work space, kB",
        "products, MFLOP",
        "sent, kB",
    ]
    return markdown_table(titles, rows)


def scaling_collectives_table(name: str) -> str:
    """The collectives of each program of 100 kB and more, here or there, beside the plan's."""
    rows = [
        [
            record["case"],
            record["implementation"],
            f"{one['kind']}{', in a loop' if one['in_loop'] else ''}",
            f"{one['times']:,.0f}",
            f"{one['sent_bytes'] / 1e3:,.0f}",
            f"{one['planned_bytes'] / 1e3:,.0f}",
        ]
        for record in read_results(name)["records"]
        for one in record["extra"]["collectives"]
        if max(one["sent_bytes"], one["planned_bytes"]) >= 1e5
    ]
    return markdown_table(["model", "mesh", "collective", "times", "sent, kB", "by the plan, kB"], rows)


TABLES: dict[str, Callable[[], str]] = {
    "chaos": lambda: chaos_table("chaos-cpu.json"),
    "checkpointing": lambda: checkpointing_table("checkpointing-cpu.json"),
    "fuzz": lambda: fuzz_table("fuzz-cpu.json"),
    "scaling": lambda: scaling_table("scaling-cpu.json"),
    "scaling-collectives": lambda: scaling_collectives_table("scaling-cpu.json"),
}
