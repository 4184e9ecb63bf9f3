"""One table of the hot paths: their peers' times over ours and the share of the floor, from the committed results."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

Document = Mapping[str, Any]
Records = Mapping[str, Mapping[str, Any]]


class Row(NamedTuple):
    """One case of a path, beside one peer.

    Attributes:
      case: As the benchmark names it.
      peer: Who else did it in the same run.
      ratio: The peer's time over ours with its interval, or ``None``.
      share: Of the floor, that is of the least time that the case can take, in ours; or ``None``.
    """

    case: str
    peer: str
    ratio: Mapping[str, float] | None
    share: float | None


def by_case(document: Document) -> Iterator[tuple[str, Records]]:
    """The records of each case by implementation."""
    cases: dict[str, dict[str, Any]] = {}
    for record in document["records"]:
        cases.setdefault(record["case"], {})[record["implementation"]] = record
    yield from cases.items()


def share_of_peak(record: Mapping[str, Any], document: Document) -> float:
    """Multiplications that cannot be left out, at the speed of a matrix product measured in the run."""
    return record["flops"] / document["matmul_peak"] / (record["median_ms"] / 1e3)


def attention_rows(document: Document) -> Iterator[Row]:
    """What ``None`` chooses, beside PyTorch's scaled_dot_product_attention."""
    for case, found in by_case(document):
        ours = found.get("None")
        if ours is not None and "torch" in found:
            ratio = ours["extra"]["torch_time_over_this"]
            yield Row(case, "PyTorch", ratio, share_of_peak(ours, document))


def step_rows(document: Document) -> Iterator[Row]:
    """Training steps beside PyTorch eager."""
    for case, found in by_case(document):
        ours = found["transformer_jax"]
        share = share_of_peak(ours, document) if ours["flops"] and "matmul_peak" in document else None
        yield Row(case, "PyTorch eager", found["torch_eager"]["extra"]["time_over_ours"], share)


def search_rows(document: Document) -> Iterator[Row]:
    """Searches and generation beside each peer."""
    for case, found in by_case(document):
        ours = found["transformer_jax"]["extra"]
        share = ours.get("floor_share", ours.get("roof_share"))
        for name, one in found.items():
            if name != "transformer_jax":
                yield Row(case, name, one["extra"]["time_over_ours"], share)


def recurrence_rows(document: Document) -> Iterator[Row]:
    """What ``None`` chooses, beside PyTorch's layers."""
    for case, found in by_case(document):
        if case.startswith("peers: ") and "torch" in found:
            # A single row goes through the scan: see NATIVE_FROM_ROWS.
            is_native = "native_cpu" in found and found["scan"]["extra"]["batch"] > 1
            ours = found["native_cpu" if is_native else "scan"]["extra"]
            ratio, share = ours["torch_time_over_this"], ours["share_of_matmul_peak"]
            yield Row(case.removeprefix("peers: "), "PyTorch", ratio, share)


SOURCES: dict[str, list[tuple[str, Callable[[Document], Iterator[Row]]]]] = {
    "attention": [
        ("attention-cpu.json", attention_rows),
        ("attention_shapes-cpu-newest-jax.json", attention_rows),
        ("attention_shapes-cpu-pure-jax.json", attention_rows),
    ],
    "training step": [
        ("train_step-cpu.json", step_rows),
        ("train_step-cpu-kept.json", step_rows),
        ("train_step-cpu-xeon.json", step_rows),
        ("train_step-cpu-xeon-kept.json", step_rows),
        ("language_training-cpu.json", step_rows),
    ],
    "decoding": [
        ("decoding-cpu.json", search_rows),
        ("decoding-cpu-xeon.json", search_rows),
        ("language_generation-cpu.json", search_rows),
    ],
    "recurrence": [("recurrence-cpu.json", recurrence_rows)],
}


def machine_of(document: Document) -> str:
    """Processor, load, version of JAX, and what else the times depend on."""
    environment = document["environment"]
    processor = re.sub(r"\(R\)|\(TM\)| Processor", "", environment["processor"])
    load = environment.get("load")
    library = "" if environment.get("native", "none") == "none" else ", native library"
    kept = ", freed memory kept" if document.get("keep_memory") else ""
    said = "" if load is None else f", load {load:g}"
    return f"{processor}{said}, JAX {environment['versions']['jax']}{library}{kept}"
