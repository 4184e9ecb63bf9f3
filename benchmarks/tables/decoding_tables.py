"""Tables of decoding."""

from collections.abc import Callable

from benchmarks.tables.result_files import markdown_table, read_results
from transformer_jax.race.timing import interval_text


def decoding_table(name: str) -> str:
    """Tokens out a second of each side, the peer's time over ours, and memory where it was measured."""
    rows, records = [], read_results(name)["records"]
    has_memory = any(record["peak_bytes"] for record in records)
    for record in records:
        ratio = record["extra"].get("time_over_ours")
        rows.append(
            [
                record["case"],
                record["implementation"],
                f"{record['tokens_per_s']:,.0f}",
                f"{record['extra']['floor_share']:.2f}",
                interval_text(ratio),
                "" if ratio is None else f"{record['extra']['agreement']:.0%}",
                *([f"{(record['peak_bytes'] or 0) / 1e6:,.0f}"] if has_memory else []),
            ]
        )
    columns = ["case", "who", "tokens out/s", "share of the floor", "its time / ours", "outputs as ours"]
    return markdown_table([*columns, *(["peak memory, MB"] if has_memory else [])], rows)


def int8_table(name: str) -> str:
    """Time of products with int8 over float32's, a row for each shape."""
    cases: dict[str, list[str]] = {}
    for one in read_results(name)["records"]:
        if one["implementation"] != "float32":
            cases.setdefault(one["case"], [one["case"]]).append(
                interval_text(one["extra"]["time_over_float32"])
            )
    return markdown_table(
        ["rows x matrix", "int8 weights / float32", "int8 both / float32"], list(cases.values())
    )


def decoding_run_table(name: str) -> str:
    """Tokens out a second over the test set to its ends, line by line too, and the times over ours."""
    rows = []
    for one in read_results(name)["records"]:
        share = one["extra"].get("agreement")
        rows.append(
            [
                one["case"],
                one["implementation"],
                f"{one['tokens_per_s']:,.0f}",
                interval_text(one["extra"].get("time_over_ours")),
                "" if share is None else f"{share:.0%}",
            ]
        )
    return markdown_table(["case", "who", "tokens out/s", "its time / ours", "outputs as ours"], rows)


def ended_line(name: str) -> str:
    """Which share of the rows of all steps was of sentences that had ended, in our batches and in those of 32."""
    found = []
    for search, shares in read_results(name)["ended_share"].items():
        told = ", ".join(f"{share:.1%} in batches of {size}" for size, share in shares.items())
        found.append(f"{search}: {told}")
    return f"Rows computed for sentences that had ended: {'; '.join(found)}"


TABLES: dict[str, Callable[[], str]] = {
    "decoding": lambda: decoding_table("decoding-cpu.json"),
    "decoding-xeon": lambda: decoding_table("decoding-cpu-xeon.json"),
    "int8": lambda: int8_table("int8_products-cpu.json"),
    "decoding-run": lambda: decoding_run_table("decoding_run-cpu.json"),
    "decoding-run-ended": lambda: ended_line("decoding_run-cpu.json"),
}
