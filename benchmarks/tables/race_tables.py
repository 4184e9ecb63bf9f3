"""Tables of the race."""

from collections.abc import Callable

from benchmarks.tables.result_files import markdown_table, processor_of, read_results


def race_machine(name: str) -> str:
    """Where and with what the race was run, in a line."""
    document = read_results(name)
    versions = document["environment"]["versions"]
    return (
        f"{processor_of(document)}, {document['environment']['cores']} cores, JAX {versions['jax']}, PyTorch "
        f"{versions['torch'].partition('+')[0]}; preset `{document['preset']}`."
    )


def race_table(name: str, key: str, unit: float, digits: int) -> str:
    """A measure of the training step, a row for each contestant and a column for each length."""
    records = [one for one in read_results(name)["records"] if one["extra"]["mode"] == "training_step"]
    found = {(one["implementation"], one["extra"]["length"]): one[key] for one in records}
    lengths = list(dict.fromkeys(one["extra"]["length"] for one in records))
    rows = [
        [
            one,
            *(
                f"{value / unit:.{digits}f}" if (value := found[one, length]) else "no memory"
                for length in lengths
            ),
        ]
        for one in dict.fromkeys(one["implementation"] for one in records)
    ]
    return markdown_table(["contestant", *(f"{length:,} tokens" for length in lengths)], rows)


def generation_table(name: str) -> str:
    """Milliseconds for each further token, a row for each contestant and a column for each batch and context."""
    records = [one for one in read_results(name)["records"] if one["extra"]["mode"] == "next_token"]
    places = list(dict.fromkeys((one["extra"]["batch"], one["extra"]["length"]) for one in records))
    times = {
        (one["implementation"], one["extra"]["batch"], one["extra"]["length"]): one["median_ms"]
        for one in records
    }
    rows = [
        [one, *(f"{times[(one, *place)]:.3f}" for place in places)]
        for one in dict.fromkeys(one["implementation"] for one in records)
    ]
    return markdown_table(
        ["contestant", *(f"batch {batch}, context {length:,}" for batch, length in places)], rows
    )


def race_quality_table(name: str) -> str:
    """Held-out loss after the same seconds of training, and the updates made in them."""
    curves = read_results(name)["curves"]
    titles, rows = ["contestant"], {one: [one] for one in next(iter(curves.values()))}
    for task, lines in curves.items():
        titles += [f"{task}: loss", "updates"]
        for one, curve in lines.items():
            rows[one] += [f"{curve['loss'][-1]:.3f}", f"{curve['updates'][-1]:,.0f}"]
    return markdown_table(titles, list(rows.values()))


def crossover_lines(name: str) -> str:
    """Of the training step every crossing of a pair that has an interval, a line each."""
    found = [
        one["text"] for one in read_results(name)["crossovers"]["training_step"] if one["low"] is not None
    ]
    return "\n".join(f"- {text}" for text in found) or "- no pair crosses"


TABLES: dict[str, Callable[[], str]] = {
    "race": lambda: race_table("race-cpu.json", "tokens_per_s", 1e3, 1),
    "race-memory": lambda: race_table("race-cpu.json", "peak_bytes", 1e6, 0),
    "race-machine": lambda: race_machine("race-cpu.json"),
    "race-crossovers": lambda: crossover_lines("race-cpu.json"),
    "race-generation": lambda: generation_table("race-cpu.json"),
    "race-quality": lambda: race_quality_table("race-cpu.json"),
}
