"""Decoding of a trained Transformer on its own test sentences, to their real ends, beside other programs.

    python benchmarks/decoding_run.py runs/multi30k --json benchmarks/results/decoding_run-cpu.json

The run's (or model folder's) weights go into `transformers` and CTranslate2 too; its test sources, sorted by length,
are translated by greedy search and by a beam of 5 that ranks by log-probability: the peers in batches of 32, ours in
the batches of `translate`. The share of equal outputs is shown; then all take turns over the whole set. Then comes what
independence of the batch costs: ``filled up`` translates one line at a time in such a batch, as `translate --invariant`
does, ``alone`` in a batch of one row, whose numbers differ in their last bits. Last comes the share of rows that the
steps of a search computed for sentences that had ended already, in these batches and in batches of 32.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.decoding import BATCH, floor_flops, over_batches, peers_of
from transformer_jax.allocator import keep_freed_memory
from transformer_jax.data.batches import BOS_ID, EOS_ID, PAD_ID
from transformer_jax.data.padding import pad_rows
from transformer_jax.decode.protocol import TokenInputs
from transformer_jax.decode.search_options import SearchIds
from transformer_jax.decode.searcher import BeamConfig, GreedyConfig, SearchConfig, make_searcher
from transformer_jax.inference.attention_maps import padded_lengths
from transformer_jax.inference.translator import Translator
from transformer_jax.models.encoder_decoder import EncoderDecoder
from transformer_jax.race.timing import (
    Record,
    interleave,
    interval_text,
    matmul_peak,
    paired_ratio,
    quartiles,
    write_json,
)
from transformer_jax.runs.loading import load_run

BEAMS = (1, 5)


def search_of(run: Translator, beams: int) -> SearchConfig:
    """Greedy or beam search that ranks by log-probability."""
    max_len = run.search.max_len
    return GreedyConfig(max_len=max_len) if beams == 1 else BeamConfig(max_len=max_len, num_beams=beams)


class Ours:
    """Our search over lines, in batches of so many rows."""

    name = "transformer_jax"

    def __init__(self, run: Translator, beams: int, rows: int | None = None) -> None:
        self._state = run.state
        self.searcher = run.searcher(search_of(run, beams), rows=rows)

    def __call__(self, sources: Sequence[Sequence[int]]) -> list[list[int]]:
        """Outputs of all sources."""
        return [list(found[0].tokens) for found in self.searcher(self._state, sources)]


def record(case: str, name: str, milliseconds: list[float], *, tokens: int, **extra: Any) -> Record:
    """One contestant's times."""
    lower, middle, upper = quartiles(milliseconds)
    return Record(
        case=case, implementation=name, compile_s=extra.pop("compile_s", None), median_ms=middle, q25_ms=lower,
        q75_ms=upper, peak_bytes=None, tokens_per_s=tokens / middle * 1e3, flops=None, max_abs_err=None,
        extra={"calls": len(milliseconds), **extra},
    )  # fmt: skip


def whole_set(
    run: Translator, peers: dict[str, Any], sizes: dict[str, int], sources: Any, beams: int, options: Any
) -> list[Record]:
    """All programs over the whole set."""
    ours, max_len = Ours(run, beams), run.search.max_len

    def by(peer: Any) -> list[list[int]]:
        return over_batches(peer, sources, beams, max_len=max_len, exact=False)

    wanted = ours(sources)
    tokens = sum(map(len, wanted)) + len(wanted)  # the end of each is computed too
    agreement = {
        name: float(np.mean([row == one for row, one in zip(by(peer), wanted, strict=True)]))
        for name, peer in peers.items()
    }
    calls: dict[str, Any] = {ours.name: lambda: ours(sources)}
    calls |= {name: lambda peer=peer: by(peer) for name, peer in peers.items()}
    times = interleave(calls, calls=options.calls, warmup=1, max_seconds=options.max_seconds)
    peak, case, records = matmul_peak(), "greedy" if beams == 1 else f"beam-{beams}", []
    for name, values in times.items():
        extra: dict[str, Any] = {"beams": beams, "sentences": len(sources), "tokens_out": tokens}
        extra["floor_share"] = floor_flops(sizes, beams) * tokens / peak / (np.median(values) / 1e3)
        if name in agreement:
            median, low, high = paired_ratio(values, times[ours.name])
            extra |= {
                "agreement": agreement[name],
                "time_over_ours": {"median": median, "low": low, "high": high},
            }
        else:
            extra["compile_s"] = ours.searcher.compile_seconds
        records.append(record(case, name, values, tokens=tokens, **extra))
    return records


def line_by_line(run: Translator, sources: Any, beams: int, options: Any) -> list[Record]:
    """What a line alone costs in a batch that is filled up."""
    chosen = sources[:: max(1, len(sources) // options.lines)][: options.lines]
    sides = {"filled up": Ours(run, beams), "alone": Ours(run, beams, 1)}
    tokens = sum(len(one) + 1 for one in sides["filled up"](chosen))
    calls = {name: lambda side=side: [side([one]) for one in chosen] for name, side in sides.items()}
    times = interleave(calls, calls=options.calls, warmup=1, max_seconds=options.max_seconds)
    ratio, low, high = paired_ratio(times["alone"], times["filled up"])
    case = f"a line at a time, {'greedy' if beams == 1 else f'beam-{beams}'}"
    return [
        record(
            case, name, values, tokens=tokens, lines=len(chosen),
            milliseconds_a_line=float(np.median(values)) / len(chosen),
            **({"time_over_ours": {"median": ratio, "low": low, "high": high}} if name == "alone" else {}),
        )
        for name, values in times.items()
    ]  # fmt: skip


def ended_share(run: Translator, sources: Any, beams: int, sizes: Sequence[int]) -> dict[int, float]:
    """For each size of a batch, the share of the rows of all steps that belonged to sentences whose search was over.

    How many steps a sentence needs is what a search for it alone takes.
    """
    search = search_of(run, beams)
    searcher = make_searcher(run.model, search, SearchIds(bos_id=BOS_ID, eos_id=EOS_ID, pad_id=PAD_ID))
    lengths, state = padded_lengths(run.data.max_source_len), run.state
    steps: dict[int, list[int]] = {}
    for source in sources:
        padded = next(length for length in lengths if length >= len(source))
        output = searcher(state, TokenInputs(*pad_rows([source], num_rows=1, length=padded)))
        steps.setdefault(padded, []).append(int(output.num_steps))
    shares = {}
    for size in sizes:
        batches = [
            counts[first : first + size] for counts in steps.values() for first in range(0, len(counts), size)
        ]
        computed = sum(max(batch) * len(batch) for batch in batches)
        shares[size] = 1.0 - sum(map(sum, batches)) / computed
    return shares


def main() -> None:
    """Parse the command line, run, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "run", type=Path, help="run or model folder of a Transformer with one shared vocabulary"
    )
    parser.add_argument("--peers", nargs="*", choices=["transformers", "ctranslate2"],
                        default=["transformers", "ctranslate2"])  # fmt: skip
    parser.add_argument("--sentences", type=int, default=1000, help="test sources at most (default 1000)")
    parser.add_argument("--lines", type=int, default=20, help="lines translated one at a time (default 20)")
    parser.add_argument("--calls", type=int, default=8, help="timed passes of each (default 8)")
    parser.add_argument(
        "--max-seconds", type=float, default=90, help="of a case, beyond five rounds (default 90)"
    )
    parser.add_argument("--json", help="write the records here")
    options = parser.parse_args()
    keep_freed_memory()
    run = load_run(options.run).predictor
    if not isinstance(run.model, EncoderDecoder) or run.model.config.share_embeddings != "all":
        parser.error("the run must be of an encoder-decoder Transformer whose embeddings are all one table")
    config = run.model.config
    sizes = {
        "vocab_size": run.target_tokenizer.vocab_size, "model_dim": config.model_dim, "num_heads": config.num_heads,
        "feed_forward_dim": config.feed_forward_dim, "num_layers": config.num_encoder_layers,
    }  # fmt: skip
    items = run.data.dataset.load().test[: options.sentences]
    encoded = run.encode([item.source for item in items], too_long="truncate", where="test set")
    sources = sorted((one for one in encoded if one), key=len)
    peers = peers_of(options.peers, run.model, sizes)
    records: list[Record] = []
    for beams in BEAMS:
        records += whole_set(run, peers, sizes, sources, beams, options)
        records += line_by_line(run, sources, beams, options)
    ended = {}
    for beams in BEAMS:
        own = Ours(run, beams).searcher.batch_size
        ended["greedy" if beams == 1 else f"beam-{beams}"] = ended_share(run, sources, beams, (own, BATCH))
    table = Table(title=f"{run.config.name}, {len(sources)} test sentences to their ends")
    for column in ("case", "who", "tokens out/s", "its time / ours", "outputs as ours"):
        table.add_column(column, justify="left" if column in ("case", "who") else "right")
    for one in records:
        share = one.extra.get("agreement")
        table.add_row(
            one.case,
            one.implementation,
            f"{one.tokens_per_s:,.0f}",
            interval_text(one.extra.get("time_over_ours")),
            "" if share is None else f"{share:.0%}",
        )
    Console().print(table)
    for name, shares in ended.items():
        told = ", ".join(f"{share:.1%} in batches of {size}" for size, share in shares.items())
        print(f"rows computed for sentences that had ended, {name}: {told}")
    if options.json:
        header = {"sizes": sizes, "run": run.config.name, "sentences": len(sources), "ended_share": ended}
        write_json(options.json, records, benchmark="decoding_run", **header)


if __name__ == "__main__":
    main()
