"""Decoding speed of the compiled search beside `transformers`' MarianMT and CTranslate2, with the same weights.

    pip install 'transformers>=5' 'ctranslate2>=4.8'
    python benchmarks/decoding.py --json benchmarks/results/decoding-cpu.json

The paper's base model (6 + 6 layers, width 512, vocabulary 8,000) with random weights; sources of 8 to 40 tokens,
sorted by length, in batches of 32; exactly 32 tokens out of each. First all must give the same outputs (greedy: each
one; beam: the share that agrees is shown), then they take turns over the whole set. Compiling is timed apart.

Peak memory is measured two ways: what each holds in a process of its own above its loaded libraries while it translates
the set once more, weights included (see `benchmarks/resident.py`; the same for all), and of ours what the largest
compiled program says of its arguments, results and temporary arrays. ``--no-memory`` leaves the first out.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import numpy as np
from flax import nnx
from rich.console import Console
from rich.table import Table

from benchmarks.resident import all_in_children
from transformer_jax.allocator import keep_freed_memory
from transformer_jax.data.batches import BOS_ID, EOS_ID, NUM_SPECIAL_IDS, PAD_ID, UNK_ID
from transformer_jax.decode.searcher import BeamConfig, GreedyConfig
from transformer_jax.inference.batch_search import BatchSearcher
from transformer_jax.memory import program_bytes
from transformer_jax.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from transformer_jax.nn.parameters import named_parameters
from transformer_jax.nn.position_encodings import Sinusoidal
from transformer_jax.race.timing import (
    Record,
    interleave,
    interval_text,
    matmul_peak,
    paired_ratio,
    quartiles,
    write_json,
)

BATCH, OUT, SHORTEST, LONGEST = 32, 32, 8, 40
LENGTHS = (LONGEST,)
SIZES = {
    "base": {"vocab_size": 8000, "model_dim": 512, "num_heads": 8, "feed_forward_dim": 2048, "num_layers": 6},
    "tiny": {"vocab_size": 600, "model_dim": 64, "num_heads": 4, "feed_forward_dim": 128, "num_layers": 2},
}
IDS = {"pad": PAD_ID, "unk": UNK_ID, "bos": BOS_ID, "eos": EOS_ID}


def make_model(sizes: dict[str, int]) -> EncoderDecoder:
    """Our model of these sizes, post-norm as the paper's, all projections with a bias as MarianMT has them."""
    config = EncoderDecoderConfig(
        model_dim=sizes["model_dim"], num_heads=sizes["num_heads"], num_kv_heads=sizes["num_heads"],
        feed_forward_dim=sizes["feed_forward_dim"], num_encoder_layers=sizes["num_layers"],
        num_decoder_layers=sizes["num_layers"], norm_placement="post", attention_bias=True,
        positions=Sinusoidal(), share_embeddings="all",
    )  # fmt: skip
    vocab = sizes["vocab_size"]
    return EncoderDecoder(config, source_vocab_size=vocab, target_vocab_size=vocab, rngs=nnx.Rngs(0))


def make_sources(sizes: dict[str, int], count: int) -> list[list[int]]:
    """Random sources of 8 to 40 tokens, by rising length."""
    generator = np.random.default_rng(0)
    lengths = np.sort(generator.integers(SHORTEST, LONGEST + 1, count))
    return [generator.integers(NUM_SPECIAL_IDS, sizes["vocab_size"], length).tolist() for length in lengths]


def floor_flops(sizes: dict[str, int], beams: int) -> float:
    """Operations of the products with weights for one token out of one source, its beams included."""
    dim, inner = sizes["model_dim"], sizes["feed_forward_dim"]
    a_layer = (
        4 * dim * dim + 2 * dim * dim + 2 * dim * inner
    )  # self-attention, cross-attention's query and output
    return 2.0 * beams * (sizes["num_layers"] * a_layer + dim * sizes["vocab_size"])


class Ours:
    """The compiled search over the whole set."""

    name = "transformer_jax"

    def __init__(self, model: EncoderDecoder, beams: int) -> None:
        forbidden = (EOS_ID,)  # exactly OUT tokens
        search = (
            GreedyConfig(max_len=OUT, forbidden_ids=forbidden)
            if beams == 1
            else BeamConfig(max_len=OUT, num_beams=beams, length_penalty=0.0, forbidden_ids=forbidden)
        )
        self._state = nnx.split(model)[1]
        self.searcher = BatchSearcher(model, search, batch_size=BATCH, lengths=LENGTHS)

    def __call__(self, sources: Sequence[Sequence[int]]) -> list[list[int]]:
        """Outputs of all sources."""
        return [list(found[0].tokens) for found in self.searcher(self._state, sources)]

    def program_bytes(self) -> int | None:
        """Bytes that the largest compiled search says it takes."""
        sizes = [program_bytes(one) for one in self.searcher.executables]
        return max((size for size in sizes if size is not None), default=None)


def arrays_of(model: EncoderDecoder) -> dict[str, np.ndarray]:
    """Our parameters by name."""
    return {name: np.asarray(array) for name, array in named_parameters(model).items()}


def peers_of(names: Sequence[str], model: EncoderDecoder, sizes: dict[str, int]) -> dict[str, Any]:
    """The peers that are installed, with our weights."""
    from benchmarks.peers import marian

    arrays = arrays_of(model)
    known = {"transformers": marian.Marian, "ctranslate2": marian.CTranslate}
    found = {}
    for name in names:
        try:
            found[name] = known[name](arrays, sizes, IDS)
        except ImportError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    return found


def over_batches(
    peer: Callable[..., list[list[int]]],
    sources: Sequence[Any],
    beams: int,
    *,
    max_len: int = OUT,
    exact: bool = True,
) -> list[list[int]]:
    """A peer's outputs of all sources, in batches of 32; ``exact``: of ``max_len`` tokens each."""
    rows: list[list[int]] = []
    for first in range(0, len(sources), BATCH):
        rows += peer(sources[first : first + BATCH], beams=beams, max_len=max_len, exact=exact, alpha=0.0)
    return rows


def run_case(
    model: EncoderDecoder, peers: dict[str, Any], sizes: dict[str, int], beams: int, options: Any, peak: float
) -> list[Record]:
    """Check, then time one beam width."""
    sources = make_sources(sizes, options.sentences)
    ours = Ours(model, beams)
    wanted = ours(sources)
    if any(len(row) != OUT for row in wanted):
        raise SystemExit(f"our outputs are not all of {OUT} tokens")
    agreement = {}
    for name, peer in peers.items():
        rows = over_batches(peer, sources, beams)
        agreement[name] = float(np.mean([row == one for row, one in zip(rows, wanted, strict=True)]))
        if beams == 1 and agreement[name] < options.agreement:
            raise SystemExit(
                f"{name} and ours agree on {agreement[name]:.0%} of the outputs only: not the same model"
            )
    calls: dict[str, Callable[[], Any]] = {ours.name: lambda: ours(sources)}
    for name, peer in peers.items():
        calls[name] = lambda peer=peer: over_batches(peer, sources, beams)
    times = interleave(calls, calls=options.calls, warmup=1, max_seconds=options.max_seconds)
    resident: dict[str, Any] = {}
    if options.memory:
        weights = arrays_of(model)
        child = {"sizes": options.sizes, "beams": beams, "sentences": options.sentences}
        resident = all_in_children(list(calls), weights, child)
    tokens, records = OUT * len(sources), []
    for name, milliseconds in times.items():
        lower, middle, upper = quartiles(milliseconds)
        extra: dict[str, Any] = {"beams": beams, "milliseconds": np.round(milliseconds, 2).tolist()}
        if name in agreement:
            median, low, high = paired_ratio(milliseconds, times[ours.name])
            extra |= {
                "agreement": agreement[name],
                "time_over_ours": {"median": median, "low": low, "high": high},
            }
        if name == ours.name:
            extra["program_bytes"] = ours.program_bytes()
        held = resident.get(name)
        if held is not None:
            extra["resident_bytes"] = held
        flops = floor_flops(sizes, beams) * tokens
        extra["floor_share"] = flops / peak / (middle / 1e3)
        records.append(
            Record(
                case="greedy" if beams == 1 else f"beam-{beams}", implementation=name,
                compile_s=ours.searcher.compile_seconds if name == ours.name else None,
                median_ms=middle, q25_ms=lower, q75_ms=upper, peak_bytes=None if held is None else held["pass"],
                tokens_per_s=tokens / middle * 1e3, flops=flops, max_abs_err=None, extra=extra,
            )
        )  # fmt: skip
    return records


def megabytes(size: int | None) -> str:
    """Bytes for the table; nothing where nobody tells."""
    return "" if size is None else f"{size / 1e6:,.0f}"


def main() -> None:
    """Parse the command line, run, print the table, write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", choices=list(SIZES), default="base")
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--peers", nargs="*", choices=["transformers", "ctranslate2"],
                        default=["transformers", "ctranslate2"])  # fmt: skip
    parser.add_argument("--sentences", type=int, default=64, help="sources in all (default 64)")
    parser.add_argument(
        "--calls", type=int, default=10, help="timed passes of each over the set (default 10)"
    )
    parser.add_argument(
        "--max-seconds", type=float, default=240, help="of a case, beyond five rounds (default 240)"
    )
    parser.add_argument("--agreement", type=float, default=0.95, help="least share of equal greedy outputs")
    parser.add_argument(
        "--no-memory", dest="memory", action="store_false", help="measure no process's resident memory"
    )
    parser.add_argument("--json", help="write the records here")
    options = parser.parse_args()
    keep_freed_memory()
    sizes = SIZES[options.sizes]
    began = time.perf_counter()
    model = make_model(sizes)
    peers = peers_of(options.peers, model, sizes)
    peak = matmul_peak()
    print(
        f"ready after {time.perf_counter() - began:.0f} s; matmul peak {peak / 1e9:.0f} GFLOP/s",
        file=sys.stderr,
    )
    records: list[Record] = []
    for beams in options.beams:
        records += run_case(model, peers, sizes, beams, options, peak)
    table = Table(title=f"{options.sizes}, {options.sentences} sources, {OUT} tokens out of each")
    columns = ("case", "who", "tokens out/s", "share of the floor", "its time / ours", "outputs as ours",
               "peak, MB", "program, MB")  # fmt: skip
    for column in columns:
        table.add_column(column, justify="left" if column in ("case", "who") else "right")
    for one in records:
        ratio = one.extra.get("time_over_ours")
        table.add_row(
            one.case,
            one.implementation,
            f"{one.tokens_per_s:,.0f}",
            f"{one.extra['floor_share']:.2f}",
            interval_text(ratio),
            "" if ratio is None else f"{one.extra['agreement']:.0%}",
            megabytes(one.peak_bytes),
            megabytes(one.extra.get("program_bytes")),
        )
    Console().print(table)
    if options.json:
        header = {"sizes": sizes, "sentences": options.sentences, "tokens_out": OUT, "matmul_peak": peak}
        write_json(options.json, records, benchmark="decoding", **header)


if __name__ == "__main__":
    main()
