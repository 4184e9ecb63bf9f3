"""Write the documents' tables from ``benchmarks/results/*.json`` and the code, so that each number has its source.

    python benchmarks/document_tables.py            rewrites the pages with tables
    python benchmarks/document_tables.py --check    says whether they are up to date (exit status 1 if not)

A table stands between ``<!-- table NAME -->`` and ``<!-- end -->``.
"""

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import performance_table
from benchmarks.device import tables as device_tables
from transformer_jax.race.timing import interval_text

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
EXPERIMENTS = ROOT / "experiments" / "results"
PAGES = [
    ROOT / "README.md",
    ROOT / "docs" / "attention.md",
    ROOT / "docs" / "language-models.md",
    ROOT / "docs" / "performance.md",
    ROOT / "docs" / "recurrence.md",
    ROOT / "docs" / "reliability.md",
    ROOT / "docs" / "scaling.md",
    ROOT / "docs" / "translation.md",
    ROOT / "docs" / "words-and-sentences.md",
    ROOT / "experiments" / "RESULTS.md",
]


def _document(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / name).read_text())


def _table(titles: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; the first column to the left, the others to the right."""
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def compare_table(name: str) -> str:
    """The comparison: error rates as the mean over seeds and half of their range, speeds of the first seed."""
    document = _document(name)

    def rate(values: list[float]) -> str:
        spread = f" ± {(max(values) - min(values)) / 2:.1f}" if len(values) > 1 else ""
        return f"{statistics.mean(values):.1f}{spread}"

    rows = [
        [
            row["name"],
            f"{row['parameters']:,}",
            rate(row["per"]),
            rate(row["wer"]),
            f"{row['tokens_per_second']:,.0f}",
            f"{row['words_per_second']:,.0f}",
            f"{row['train_seconds']:.0f}",
            f"{row['compile_seconds']:.0f}",
        ]
        for row in document["models"]
    ]
    titles = ["model", "parameters", "PER %", "WER %", "trained tokens/s", "decoded words/s", "training s"]
    return _table([*titles, "compile s"], rows)


def standard_table(name: str) -> str:
    """Sizes and error rates alone: the rungs shared their cores, so that their times say little."""
    rows = [
        [
            row["name"],
            f"{row['parameters']:,}",
            f"{row['updates']:,}",
            f"{row['per'][0]:.1f}",
            f"{row['wer'][0]:.1f}",
        ]
        for row in _document(name)["models"]
    ]
    return _table(["model", "parameters", "updates", "PER %", "WER %"], rows)


def _machine(document: dict[str, Any]) -> str:
    """The processor, without the makers' marks."""
    return re.sub(r"\(R\)|\(TM\)| Processor", "", document["environment"]["processor"])


def race_machine(name: str) -> str:
    """Where and with what the race was run, in a line."""
    document = _document(name)
    versions = document["environment"]["versions"]
    return (
        f"{_machine(document)}, {document['environment']['cores']} cores, JAX {versions['jax']}, PyTorch "
        f"{versions['torch'].partition('+')[0]}; preset `{document['preset']}`."
    )


def race_table(name: str, key: str, unit: float, digits: int) -> str:
    """A measure of the training step, a row for each contestant and a column for each length."""
    records = [one for one in _document(name)["records"] if one["extra"]["mode"] == "training_step"]
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
    return _table(["contestant", *(f"{length:,} tokens" for length in lengths)], rows)


def generation_table(name: str) -> str:
    """Milliseconds for each further token, a row for each contestant and a column for each batch and context."""
    records = [one for one in _document(name)["records"] if one["extra"]["mode"] == "next_token"]
    places = list(dict.fromkeys((one["extra"]["batch"], one["extra"]["length"]) for one in records))
    times = {
        (one["implementation"], one["extra"]["batch"], one["extra"]["length"]): one["median_ms"]
        for one in records
    }
    rows = [
        [one, *(f"{times[(one, *place)]:.3f}" for place in places)]
        for one in dict.fromkeys(one["implementation"] for one in records)
    ]
    return _table(["contestant", *(f"batch {batch}, context {length:,}" for batch, length in places)], rows)


def race_quality_table(name: str) -> str:
    """Held-out loss after the same seconds of training, and the updates made in them."""
    curves = _document(name)["curves"]
    titles, rows = ["contestant"], {one: [one] for one in next(iter(curves.values()))}
    for task, lines in curves.items():
        titles += [f"{task}: loss", "updates"]
        for one, curve in lines.items():
            rows[one] += [f"{curve['loss'][-1]:.3f}", f"{curve['updates'][-1]:,.0f}"]
    return _table(titles, list(rows.values()))


def crossover_lines(name: str) -> str:
    """Of the training step every crossing of a pair that has an interval, a line each."""
    found = [one["text"] for one in _document(name)["crossovers"]["training_step"] if one["low"] is not None]
    return "\n".join(f"- {text}" for text in found) or "- no pair crosses"


def recurrence_table(name: str, part: str) -> str:
    """Milliseconds of each contestant of a part, with the time over scan's behind those of the others."""
    records = [one for one in _document(name)["records"] if one["extra"]["part"] == part]
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
    return _table(["case", *(f"{side}, ms" for side in names)], rows)


def decoding_table(name: str) -> str:
    """Tokens out a second of each side, the peer's time over ours, and memory where it was measured."""
    rows, records = [], _document(name)["records"]
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
    return _table([*columns, *(["peak memory, MB"] if has_memory else [])], rows)


def translation_training_table(name: str) -> str:
    """Real tokens a second of each way to make batches, and PyTorch's time for a real token over its."""
    records = _document(name)["records"]
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
    return _table(["batches", "programs", "padding", "real tokens/s", "PyTorch's time / its"], rows)


def int8_table(name: str) -> str:
    """Time of products with int8 over float32's, a row for each shape."""
    cases: dict[str, list[str]] = {}
    for one in _document(name)["records"]:
        if one["implementation"] != "float32":
            cases.setdefault(one["case"], [one["case"]]).append(
                interval_text(one["extra"]["time_over_float32"])
            )
    return _table(["rows x matrix", "int8 weights / float32", "int8 both / float32"], list(cases.values()))


def decoding_run_table(name: str) -> str:
    """Tokens out a second over the test set to its ends, line by line too, and the times over ours."""
    rows = []
    for one in _document(name)["records"]:
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
    return _table(["case", "who", "tokens out/s", "its time / ours", "outputs as ours"], rows)


def ended_line(name: str) -> str:
    """Which share of the rows of all steps was of sentences that had ended, in our batches and in those of 32."""
    found = []
    for search, shares in _document(name)["ended_share"].items():
        told = ", ".join(f"{share:.1%} in batches of {size}" for size, share in shares.items())
        found.append(f"{search}: {told}")
    return f"Rows computed for sentences that had ended: {'; '.join(found)}"


def train_step_table(*names: str) -> str:
    """Milliseconds of both sides and the ratio with its interval, a row for each case, machine and allocator."""
    runs = []
    for document in map(_document, names):
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
                _machine(document),
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
    return _table(titles, rows)


def attention_time_table(name: str, *, shapes: bool = False) -> str:
    """Milliseconds of each implementation and PyTorch's time over that of the chosen one, a row for each case.

    Args:
      name: Of the results.
      shapes: Take the shapes of work, and not those over length.
    """
    document = _document(name)
    of_work = set(document.get("shapes_of_work", ()))
    cases = {
        case: found for case, found in performance_table.by_case(document) if (case in of_work) == shapes
    }
    known = ("reference", "xla", "blockwise", "native_cpu", "torch")
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
    return _table(titles, rows)


def hot_paths() -> str:
    """Every hot path beside its peers."""
    rows = []
    for path, sources in performance_table.SOURCES.items():
        for name, rows_of in sources:
            if not (RESULTS / name).exists():
                continue
            document = _document(name)
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
    return _table(["path", "case", "peer", "its time / ours", "our share of the floor", "machine"], rows)


def attention_memory_table(name: str) -> str:
    """Temporary memory of forward and backward in megabytes, and the reference's over blockwise's."""
    records = [one for one in _document(name)["records"] if one["case"].startswith("memory: ")]
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
    return _table(["case", "reference, MB", "blockwise, MB", "reference / blockwise"], rows)


def classification_table(name: str) -> str:
    """Accuracies of poolings as means over runs and half of their range, and those of the baseline."""
    document = _document(name)
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in document["rows"]:
        groups.setdefault((row["subset"], row["pooling"]), []).append(row)

    def accuracy(rows: list[dict[str, Any]], split: str) -> str:
        values = [100 * row[split]["accuracy"] for row in rows if split in row]
        if not values:
            return ""
        return f"{statistics.mean(values):.2f} ± {(max(values) - min(values)) / 2:.2f}"

    cells = []
    for (subset, pooling), rows in groups.items():
        seconds = statistics.mean(row["train_seconds"] for row in rows)
        scores = [accuracy(rows, split) for split in ("development", "test")]
        cells.append(
            [subset, pooling, f"{rows[0]['parameters']:,}", f"{len(rows)}", *scores, f"{seconds:,.0f}"]
        )
    for subset, found in document["baselines"].items():
        if found is not None:
            scores = [f"{100 * found[part]:.2f}" if part in found else "" for part in ("development", "test")]
            cells.append([subset, "TF-IDF, logistic regression", "", "1", *scores, ""])
    order = list(document["baselines"])
    cells.sort(key=lambda row: order.index(row[0]))
    titles = ["set", "pooling", "parameters", "runs", "development %", "test %", "training s"]
    return _table(titles, cells)


def experiments_table() -> str:
    """A row for each file that ``transformer-jax evaluate --json`` wrote."""
    rows = []
    for path in sorted(EXPERIMENTS.glob("*.json")):
        document = json.loads(path.read_text())
        if document["task"] not in ("pronunciation", "translation"):
            continue
        training = document["training"]
        machine = training.get("machine") or document["environment"]
        names = ("per", "wer") if document["task"] == "pronunciation" else ("bleu", "chrf", "ter")
        rows.append(
            [
                path.stem,
                f"{training['parameters']:,}",
                f"{training['updates']:,}{' (truncated)' if training.get('truncated') else ''}",
                f"{training['train_seconds']:,.0f}",
                "greedy"
                if document["search"]["kind"] == "greedy"
                else f"beam {document['search']['num_beams']}",
                ", ".join(f"{name.upper()} {document[name]:.2f}" for name in names),
                f"{machine['cores']} cores, {machine['device'].removesuffix(' (cpu)')}",
            ]
        )
    titles = ["run", "parameters", "updates", "training s", "search", "test scores"]
    return _table([*titles, "hardware"], rows)


def language_table() -> str:
    """A row for each language model that was evaluated; files that differ by ``-seedN`` alone are one row.

    Losses of several seeds are their mean and half of their range, seconds are the mean.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(EXPERIMENTS.glob("*.json")):
        document = json.loads(path.read_text())
        if document["task"] == "language_modelling":
            groups.setdefault(re.sub(r"-seed\d+$", "", path.stem), []).append(document)
    rows = []
    for name, documents in groups.items():
        first = documents[0]["training"]
        machine = first.get("machine") or documents[0]["environment"]

        def scores(key: str, documents: list[dict[str, Any]] = documents) -> str:
            values = [document[key] for document in documents]
            spread = f" ± {(max(values) - min(values)) / 2:.4f}" if len(values) > 1 else ""
            return f"{statistics.mean(values):.4f}{spread}"

        seconds = statistics.mean(document["training"]["train_seconds"] for document in documents)
        rows.append(
            [
                name,
                f"{first['parameters']:,}",
                f"{first['updates']:,}{' (truncated)' if first.get('truncated') else ''}",
                f"{len(documents)}",
                f"{seconds:,.0f}",
                scores("nats"),
                scores("bits_per_character"),
                f"{machine['cores']} cores, {machine['device'].removesuffix(' (cpu)')}",
            ]
        )
    titles = ["run", "parameters", "updates", "seeds", "training s", "nats a token", "bits a character"]
    return _table([*titles, "hardware"], rows)


def chaos_table(name: str) -> str:
    """What broke, how often, and what the runs ended with."""
    document = _document(name)
    rows = [[fault, f"{count:,}"] for fault, count in sorted(document["faults"].items())]
    table = _table(["fault", "places"], [*rows, ["together", f"{document['points']:,}"]])
    ends = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(document["outcomes"].items()))
    runs = f"{document['identical']} of {document['runs']} runs ended with the bits of the one that was left alone"
    lost = f"{document['lost']} said that their only checkpoint was damaged and began again"
    return f"{table}\n\nThe broken processes: {ends}. {runs}; {lost}."


def checkpointing_table(name: str) -> str:
    """What a save takes of the training, and a restore of the memory."""
    document = _document(name)
    rows = []
    for row in document["rows"]:
        lost, share = row["lost_seconds"], row["share"]
        ways = [f"{1000 * lost[way][1]:,.0f} ({share[way]:.2%})" for way in lost]
        rows.append(
            [row["model"], f"{row['state_bytes'] / 1e6:,.0f}", f"{1000 * row['update_seconds']:,.0f}", *ways]
        )
    interval = document["rows"][0]["interval"]
    ways = [f"{way}: ms lost (share of {interval} updates)" for way in document["rows"][0]["lost_seconds"]]
    table = _table(["model", "state, MB", "an update, ms", *ways], rows)
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
        for kind, found in _document(name)["loaders"].items()
    ]
    return _table(["kind", "files", "refused", "anything else", "slowest, ms", "memory above, MB"], rows)


def scaling_table(name: str) -> str:
    """Of a device what the program holds, does and sends, each with its ratio to the plan in brackets."""
    parts = [("argument_bytes", 1e3), ("temporary_bytes", 1e3), ("device_flops", 1e6), ("sent_bytes", 1e3)]
    rows = []
    for record in _document(name)["records"]:
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
    return _table(titles, rows)


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
        for record in _document(name)["records"]
        for one in record["extra"]["collectives"]
        if max(one["sent_bytes"], one["planned_bytes"]) >= 1e5
    ]
    return _table(["model", "mesh", "collective", "times", "sent, kB", "by the plan, kB"], rows)


def language_models_table(name: str) -> str:
    """Loss after the same tokens and after the same seconds, mean over seeds and half of their range."""
    from benchmarks.language_table import spread

    rows = []
    for model, found in _document(name)["models"].items():
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
    return _table([*titles, "tokens in them"], rows)


def language_peers_table() -> str:
    """Training and generation beside the peers, a row for each case."""
    rows = []
    for name, what in (
        ("language_training-cpu.json", "training"),
        ("language_generation-cpu.json", "generation"),
    ):
        document = _document(name)
        for case, found in performance_table.by_case(document):
            ours = found.pop("transformer_jax")
            for one in found.values():
                speeds = [f"{side['tokens_per_s']:,.0f}" for side in (ours, one)]
                ratio = interval_text(one["extra"]["time_over_ours"])
                rows.append([f"{what}, {case}", document["peer"].replace("+cpu", ""), *speeds, ratio])
    return _table(["case", "peer", "our tokens/s", "its tokens/s", "its time / ours"], rows)


def device_section(stage: str, heading: str, text: str) -> str:
    """What a stage of ``benchmarks/device`` found, a part for each device; nothing where none is committed."""
    parts = []
    for path in sorted(RESULTS.glob(f"device-{stage}-*.json")):
        document = json.loads(path.read_text())
        source = f"[all of it](../benchmarks/results/{path.name})"
        table = device_tables.markdown(*device_tables.TABLES[stage](document))
        parts += [f"{heading}: {device_tables.machine(document)}", f"{text} ({source}).", table]
        if stage == "attention":
            titles, rows = device_tables.blocks(document)
            if rows:
                parts += [
                    "The `mosaic_gpu` kernels by their block sizes:",
                    device_tables.markdown(titles, rows),
                ]
    return "\n" + "\n\n".join(parts) + "\n" if parts else ""


def support() -> str:
    """Which implementation of attention serves which case, as the code lists it."""
    from transformer_jax.testing.support_matrix import support_table

    return support_table().rstrip("\n")


TABLES: dict[str, Callable[[], str]] = {
    "chaos": lambda: chaos_table("chaos-cpu.json"),
    "checkpointing": lambda: checkpointing_table("checkpointing-cpu.json"),
    "fuzz": lambda: fuzz_table("fuzz-cpu.json"),
    "attention-memory": lambda: attention_memory_table("attention-memory-cpu.json"),
    "attention-shapes": lambda: attention_time_table("attention-cpu.json", shapes=True),
    "attention-time": lambda: attention_time_table("attention-cpu.json"),
    "attention-shapes-newest-jax": lambda: attention_time_table(
        "attention_shapes-cpu-newest-jax.json", shapes=True
    ),
    "attention-time-newest-jax": lambda: attention_time_table("attention-cpu-newest-jax.json"),
    "hot-paths": hot_paths,
    "compare-quick": lambda: compare_table("compare-quick-cpu.json"),
    "compare-standard": lambda: standard_table("compare-standard-cpu.json"),
    "experiments": experiments_table,
    "language": language_table,
    "language-models": lambda: language_models_table("language_table-cpu.json"),
    "language-peers": language_peers_table,
    "race": lambda: race_table("race-cpu.json", "tokens_per_s", 1e3, 1),
    "race-memory": lambda: race_table("race-cpu.json", "peak_bytes", 1e6, 0),
    "race-machine": lambda: race_machine("race-cpu.json"),
    "race-crossovers": lambda: crossover_lines("race-cpu.json"),
    "race-generation": lambda: generation_table("race-cpu.json"),
    "race-quality": lambda: race_quality_table("race-cpu.json"),
    "recurrence-newton": lambda: recurrence_table("recurrence-newton-cpu.json", "newton"),
    "recurrence-linear": lambda: recurrence_table("recurrence-cpu.json", "linear"),
    "recurrence-peers": lambda: recurrence_table("recurrence-cpu.json", "peers"),
    "scaling": lambda: scaling_table("scaling-cpu.json"),
    "scaling-collectives": lambda: scaling_collectives_table("scaling-cpu.json"),
    "support": support,
    "device-contract": lambda: device_section(
        "contract", "### The contract on a GPU", "Checks of the contract suite by how they ended"
    ),
    "device-attention": lambda: device_section(
        "attention",
        "### On a GPU",
        "bfloat16, batch x length x heads x width; milliseconds, in brackets the greatest difference from the "
        "reference in float32 as a share of the greatest entry; PyTorch's backends ran in a process of their own",
    ),
    "device-recurrence": lambda: device_section(
        "recurrence",
        "### On a GPU",
        "Batch x time x hidden; milliseconds, in brackets the time over that of `scan`",
    ),
    "device-race": lambda: device_section(
        "race",
        "### The race on a GPU",
        "Next-token models of one number of parameters; training and generation",
    ),
    "device-training": lambda: device_section(
        "training",
        "### On a GPU",
        "A training step and a beam search of the base Transformer beside PyTorch's",
    ),
    "decoding": lambda: decoding_table("decoding-cpu.json"),
    "decoding-memory": lambda: decoding_table("decoding-memory-cpu.json"),
    "int8": lambda: int8_table("int8_products-cpu.json"),
    "decoding-run": lambda: decoding_run_table("decoding_run-cpu.json"),
    "decoding-run-ended": lambda: ended_line("decoding_run-cpu.json"),
    "translation-training": lambda: translation_training_table("translation_training-cpu.json"),
    "train-step": lambda: train_step_table(
        "train_step-cpu.json",
        "train_step-cpu-kept.json",
        "train_step-cpu-xeon.json",
        "train_step-cpu-xeon-kept.json",
    ),
}


def filled_in(text: str) -> str:
    """``text`` with every marked table written anew.

    Raises:
      KeyError: If a marker names no table.
    """

    def table(match: re.Match[str]) -> str:
        found = TABLES[match[1]]()
        return (
            f"<!-- table {match[1]} -->\n{found}\n<!-- end -->"
            if found
            else f"<!-- table {match[1]} -->\n<!-- end -->"
        )

    return re.sub(r"<!-- table (\S+) -->\n.*?<!-- end -->", table, text, flags=re.DOTALL)


def rewrite(*, check: bool = False) -> None:
    """Write every page's tables anew, or only look whether they would change.

    Raises:
      SystemExit: If ``check`` is set and a page would change.
    """
    for page in PAGES:
        before = page.read_text()
        after = filled_in(before)
        if check:
            if before != after:
                raise SystemExit(
                    f"{page.name} is not what the results say: run python benchmarks/document_tables.py"
                )
            continue
        page.write_text(after)
        print(
            f"{page.name}: " + ("tables written" if after != before else "nothing changed"), file=sys.stderr
        )


def main() -> None:
    """Parse the command line; rewrite or check."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing, only say")
    rewrite(check=parser.parse_args().check)


if __name__ == "__main__":
    main()
