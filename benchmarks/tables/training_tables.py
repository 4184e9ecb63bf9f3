"""Tables of training steps, translation's batches and language models."""

import statistics
from collections.abc import Callable
from typing import Any

from benchmarks import performance_table
from benchmarks.tables.result_files import markdown_table, processor_of, read_results
from transformer_jax.race.timing import interval_text


def train_step_table(*names: str) -> str:
    """Milliseconds of both sides and the ratio with its interval, a row for each case, machine and allocator."""
    runs = []
    for document in map(read_results, names):
        cases: dict[str, dict[str, Any]] = {}
        for record in document["records"]:
            cases.setdefault(record["case"], {})[record["implementation"]] = record
        runs += [(case, document, sides) for case, sides in cases.items()]
    rows = []
    for case, document, sides in sorted(runs, key=lambda run: run[0], reverse=True):
        ours, peer = sides["transformer_jax"], sides["torch_eager"]
        ratio, peak = peer["extra"]["time_over_ours"], document["matmul_peak"]
        rows.append(
            [
                case,
                f"{ours['extra']['parameters'] / 1e6:.1f} M",
                processor_of(document),
                "kept" if document["keep_memory"] else "returned",
                f"{ours['median_ms']:,.0f}",
                f"{peer['median_ms']:,.0f}",
                interval_text(ratio),
                f"{ours['flops'] / ours['median_ms'] * 1e3 / peak:.2f}",
            ]
        )
    titles = [
        "case",
        "parameters",
        "processor",
        "freed memory",
        "ours, ms",
        "PyTorch eager, ms",
        "PyTorch's time / ours",
        "share of peak",
    ]
    return markdown_table(titles, rows)


def translation_training_table(name: str) -> str:
    """Real tokens a second of each way to make batches, and PyTorch's time for a real token over its."""
    records = read_results(name)["records"]
    ratios = records[-1]["extra"]
    rows = [
        [
            one["implementation"],
            str(one["extra"]["programs"] or ""),
            f"{one['extra']['padding_share_of_an_epoch']:.1%}",
            f"{one['tokens_per_s']:,.0f}",
            interval_text(ratios.get(f"time_over_{one['implementation']}")),
        ]
        for one in records
    ]
    return markdown_table(["batches", "programs", "padding", "real tokens/s", "PyTorch's time / its"], rows)


def language_models_table(name: str) -> str:
    """Loss after the same tokens and after the same seconds, mean over seeds and half of their range."""
    from benchmarks.language_table import spread

    rows = []
    for model, found in read_results(name)["models"].items():
        by_tokens, by_seconds = found["equal_tokens"], found["equal_seconds"]
        rows.append(
            [
                f"`{model}`",
                f"{by_tokens[0]['parameters']:,}",
                f"{max(row['tokens'] / row['train_seconds'] for row in by_tokens):,.0f}",
                spread(by_tokens),
                spread(by_seconds),
                f"{statistics.mean(row['tokens'] for row in by_seconds) / 1e6:.2f} M",
            ]
        )
    titles = ["model", "parameters", "trained tokens/s", "nats, equal tokens", "nats, equal seconds"]
    return markdown_table([*titles, "tokens in them"], rows)


def language_peers_table() -> str:
    """Training and generation beside the peers, a row for each case."""
    rows = []
    for name, what in (
        ("language_training-cpu.json", "training"),
        ("language_generation-cpu.json", "generation"),
    ):
        document = read_results(name)
        for case, found in performance_table.by_case(document):
            ours = found.pop("transformer_jax")
            for one in found.values():
                speeds = [f"{side['tokens_per_s']:,.0f}" for side in (ours, one)]
                ratio = interval_text(one["extra"]["time_over_ours"])
                rows.append([f"{what}, {case}", document["peer"].replace("+cpu", ""), *speeds, ratio])
    return markdown_table(["case", "peer", "our tokens/s", "its tokens/s", "its time / ours"], rows)


TABLES: dict[str, Callable[[], str]] = {
    "train-step": lambda: train_step_table(
        "train_step-cpu.json",
        "train_step-cpu-kept.json",
        "train_step-cpu-xeon.json",
        "train_step-cpu-xeon-kept.json",
    ),
    "translation-training": lambda: translation_training_table("translation_training-cpu.json"),
    "language-models": lambda: language_models_table("language_table-cpu.json"),
    "language-peers": language_peers_table,
}
