"""Generation of a GPT-2 with random weights beside `transformers`' GPT-2 with the same ones.

The shape of the smallest GPT-2 (124 million parameters, float32); prompts of 32 tokens, exactly 64 new ones, greedy,
batches of 1 and of 32. First both must give the same tokens, then they take turns. `roof_share` is the time that the
weights of all steps take at the memory's bandwidth, and the products at a matmul's speed, over the time that it took.
"""

import argparse
import dataclasses
import sys
from typing import Any

import numpy as np
from flax import nnx
from rich.console import Console
from rich.table import Table

from transformer_jax.allocator import keep_freed_memory, run_in_calling_thread
from transformer_jax.decode.protocol import TokenInputs
from transformer_jax.decode.search_config import GreedyConfig
from transformer_jax.decode.search_options import RowOptions, SearchIds
from transformer_jax.decode.searcher import make_searcher
from transformer_jax.models.build import build_model
from transformer_jax.models.decoder_only import DecoderOnlyConfig
from transformer_jax.models.presets import gpt2
from transformer_jax.models.sizes import Sizes
from transformer_jax.nn.parameters import named_parameters, parameter_count
from transformer_jax.race.timing import (
    Record,
    interleave,
    interval_text,
    matmul_peak,
    memory_bandwidth,
    paired_ratio,
    quartiles,
    write_json,
)

TINY = {"model_dim": 64, "num_heads": 4, "num_kv_heads": 4, "feed_forward_dim": 256, "num_layers": 2}
SHAPES = {"gpt2-small": (gpt2(), 50_257), "tiny": (dataclasses.replace(gpt2(), **TINY), 512)}
END_ID = 0


class OurSide:
    """The compiled search, its prompts read in one pass."""

    name = "transformer_jax"

    def __init__(self, model: Any, *, max_len: int) -> None:
        self._params = nnx.split(model)[1]
        config = GreedyConfig(max_len=max_len, forbidden_ids=(END_ID,))
        self.searcher = make_searcher(model, config, SearchIds(bos_id=END_ID, eos_id=END_ID))

    def __call__(self, prompts: np.ndarray) -> np.ndarray:
        """Exactly ``max_len`` tokens behind each prompt of ``[batch, len]``."""
        before = prompts[:, :-1]
        inputs = TokenInputs(before, np.full(len(before), before.shape[1], np.int32))
        output: Any = self.searcher(self._params, inputs, RowOptions(first_tokens=prompts[:, -1]))
        return np.asarray(output.tokens)


def random_model(config: DecoderOnlyConfig, vocab_size: int) -> Any:
    """A model whose outputs differ from prompt to prompt: biases and norms are drawn too, matrices are wider."""
    model = build_model(config, Sizes(vocab_size=vocab_size), seed=0)
    generator = np.random.default_rng(0)
    for name, parameter in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        array = np.asarray(parameter[...])
        centre = 1.0 if name[-1] == "scale" else 0.0
        width = 0.02 if array.ndim > 1 and "embedding" in name else 0.05
        parameter[...] = (centre + width * generator.standard_normal(array.shape)).astype(array.dtype)
    return model


def roof_seconds(model: Any, config: DecoderOnlyConfig, vocab_size: int, options: Any, batch: int) -> float:
    """The least seconds that reading the weights at each step takes, or computing the products, whichever is more."""
    inner = config.feed_forward_dim
    a_layer = 4 * config.model_dim**2 + 2 * config.model_dim * inner
    read = config.num_layers * a_layer + vocab_size * config.model_dim
    step = max(4 * read / options.bandwidth, 2.0 * batch * read / options.peak)
    prefill = 2.0 * batch * (options.prompt_len - 1) * config.num_layers * a_layer / options.peak
    return prefill + options.new_tokens * step


def run_case(model: Any, config: Any, vocab_size: int, peer: Any, batch: int, options: Any) -> list[Record]:
    """Check, then time one batch size."""
    prompts = (
        np.random.default_rng(batch).integers(1, vocab_size, (batch, options.prompt_len)).astype(np.int32)
    )
    ours = OurSide(model, max_len=options.new_tokens)
    wanted = ours(prompts)
    agreement = None
    calls: dict[str, Any] = {ours.name: lambda: ours(prompts)}
    if peer is not None:
        found = peer(prompts, max_len=options.new_tokens)
        agreement = float((found == wanted).all(axis=1).mean())
        if agreement < 0.9:
            raise SystemExit(f"the sides disagree: {agreement:.0%} of {batch} outputs are the same")
        calls[peer.name] = lambda: peer(prompts, max_len=options.new_tokens)
    times = interleave(calls, calls=options.calls, warmup=1, max_seconds=options.max_seconds)
    tokens, roof = batch * options.new_tokens, roof_seconds(model, config, vocab_size, options, batch)
    records = []
    for name, values in times.items():
        lower, middle, upper = quartiles(values)
        extra: dict[str, Any] = {"batch": batch, "calls": len(values), "roof_share": roof / (middle / 1e3)}
        if name != ours.name:
            ratio, low, high = paired_ratio(values, times[ours.name])
            extra |= {"agreement": agreement, "time_over_ours": {"median": ratio, "low": low, "high": high}}
        records.append(
            Record(
                case=f"batch {batch}", implementation=name,
                compile_s=ours.searcher.compile_seconds if name == ours.name else None,
                median_ms=middle, q25_ms=lower, q75_ms=upper, peak_bytes=None,
                tokens_per_s=tokens / middle * 1e3, flops=None, max_abs_err=None, extra=extra,
            )
        )  # fmt: skip
    return records


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this part."""
    parser.add_argument("--shape", choices=list(SHAPES), default="gpt2-small", help="default gpt2-small")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32], help="default 1 32")
    parser.add_argument("--prompt-len", type=int, default=32, help="default 32")
    parser.add_argument("--new-tokens", type=int, default=64, help="default 64")
    parser.add_argument("--calls", type=int, default=15, help="timed calls of each (default 15)")
    parser.add_argument(
        "--max-seconds", type=float, default=300, help="of a batch size, beyond five rounds (default 300)"
    )
    parser.add_argument("--json", help="write the records here")


def run(options: Any) -> None:
    """Run, print the table, write the JSON."""
    keep_freed_memory()
    run_in_calling_thread()
    config, vocab_size = SHAPES[options.shape]
    model = random_model(config, vocab_size)
    peer = None
    try:
        from benchmarks.peers.hugging_face_gpt2 import HuggingFaceGPT2

        arrays = {name: np.asarray(array) for name, array in named_parameters(model).items()}
        peer = HuggingFaceGPT2(arrays, config, vocab_size=vocab_size)
    except ImportError:
        print(
            "transformers is missing (pip install 'transformers>=5' torch): ours alone is timed",
            file=sys.stderr,
        )
    options.peak, options.bandwidth = matmul_peak(), memory_bandwidth()
    records: list[Record] = []
    for batch in options.batches:
        records += run_case(model, config, vocab_size, peer, batch, options)
    table = Table(
        title=f"{options.shape}, {parameter_count(model):,} parameters, {options.new_tokens} new tokens"
    )
    for column in ("batch", "who", "tokens/s", "share of the roof", "its time / ours", "outputs as ours"):
        table.add_column(column, justify="left" if column in ("batch", "who") else "right")
    for one in records:
        share = one.extra.get("agreement")
        table.add_row(
            one.case, one.implementation, f"{one.tokens_per_s:,.0f}", f"{one.extra['roof_share']:.2f}",
            interval_text(one.extra.get("time_over_ours")), "" if share is None else f"{share:.0%}",
        )  # fmt: skip
    Console().print(table)
    if options.json:
        header = {"shape": options.shape, "prompt_len": options.prompt_len, "new_tokens": options.new_tokens,
                  "peer": None if peer is None else peer.version, "matmul_peak": options.peak,
                  "memory_bandwidth": options.bandwidth}  # fmt: skip
        write_json(options.json, records, benchmark="language_generation", **header)
