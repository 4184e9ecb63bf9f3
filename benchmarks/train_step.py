"""One training step (forward, loss with label smoothing, backward, Adam) beside PyTorch eager, in one run.

    python benchmarks/train_step.py --json benchmarks/results/train_step-cpu.json

Cases: ``tiny``, the 4+4-layer Transformer of 128 wide with a vocabulary of 10,000 on 128 x 24 tokens, and
``base``, the paper's base model on 16 x 64 tokens. Both sides hold the same weights and must give the same loss
before anything is timed; then they take turns. PyTorch's time over ours above 1 means that ours is faster.
"""

import argparse
import dataclasses
import os
import sys
import time
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import jax
import numpy as np
from flax import nnx
from rich.console import Console
from rich.table import Table

from transformer_jax.allocator import keep_freed_memory, run_in_calling_thread
from transformer_jax.data.batches import Seq2SeqBatch
from transformer_jax.models.build import build_model
from transformer_jax.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from transformer_jax.models.presets import transformer_base
from transformer_jax.models.sizes import Sizes
from transformer_jax.nn.parameters import parameter_count
from transformer_jax.objectives import PairCrossEntropy
from transformer_jax.race.timing import (
    Record,
    interleave,
    interval_text,
    matmul_peak,
    paired_ratio,
    quartiles,
    write_json,
)
from transformer_jax.training.config import Adam, Constant, TrainConfig
from transformer_jax.training.step import CompiledSteps, build_step, first_state

LEARNING_RATE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Case:
    """One model and one batch shape."""

    name: str
    config: EncoderDecoderConfig
    vocab_size: int
    batch: int
    length: int


def cases(dropout_rate: float) -> list[Case]:
    """The two cases, with one dropout rate for both sides."""
    base = transformer_base()
    # PyTorch's layers have biases in attention, and drop attention weights and activations too.
    rates = dict.fromkeys(("dropout_rate", "attention_dropout_rate", "activation_dropout_rate"), dropout_rate)
    shared = {"attention_bias": True, "share_embeddings": "all", "norm_epsilon": 1e-5, **rates}
    tiny = {"model_dim": 128, "num_heads": 4, "num_kv_heads": 4, "feed_forward_dim": 256}
    layers = {"num_encoder_layers": 4, "num_decoder_layers": 4}
    return [
        Case(
            name="tiny", config=dataclasses.replace(base, **tiny, **layers, **shared),
            vocab_size=10_000, batch=128, length=24,
        ),
        Case(name="base", config=dataclasses.replace(base, **shared), vocab_size=37_000, batch=16, length=64),
    ]  # fmt: skip


def random_batch(case: Case) -> Seq2SeqBatch:
    """Full rows of random tokens: nothing is padding, so tokens a second are real."""
    generator = np.random.default_rng(0)
    source = generator.integers(4, case.vocab_size, (case.batch, case.length), dtype=np.int32)
    target = generator.integers(4, case.vocab_size, (case.batch, case.length), dtype=np.int32)
    inputs = np.concatenate([np.full((case.batch, 1), 2, np.int32), target[:, :-1]], axis=1)
    lengths = np.full(case.batch, case.length, np.int32)
    return Seq2SeqBatch(source, lengths, inputs, target, lengths, np.arange(case.batch, dtype=np.int32))


def step_flops(case: Case) -> float:
    """Multiply-adds of the matmuls twice, forward and backward (three times the forward), by formula."""
    config, tokens = case.config, case.batch * case.length
    width, inner = config.model_dim, config.feed_forward_dim
    encoder = 4 * width**2 + 2 * width * inner + 2 * case.length * width
    decoder = 8 * width**2 + 2 * width * inner + 4 * case.length * width
    per_token = (
        config.num_encoder_layers * encoder + config.num_decoder_layers * decoder + width * case.vocab_size
    )
    return 3 * 2.0 * tokens * per_token


def in_dtype(objective: Any, dtype: str) -> Any:
    """The objective of the model with its parameters in a dtype; gradients are of the parameters as they were."""
    if dtype == "float32":
        return objective

    def in_that_dtype(model: Any, batch: Any, rng_key: Any) -> Any:
        graph, parameters, rest = nnx.split(model, nnx.Param, ...)
        cast = jax.tree.map(lambda array: array.astype(dtype), parameters)
        return objective(nnx.merge(graph, cast, rest), batch, rng_key)

    return in_that_dtype


class OurSide:
    """The library's own step, state donated, as the trainer runs it.

    Args:
      case: Model and shape.
      batch: What it is trained on.
      compute_dtype: What the parameters are cast to before the forward pass; the optimiser's stay float32.
    """

    def __init__(self, case: Case, batch: Seq2SeqBatch, *, compute_dtype: str = "float32") -> None:
        model = build_model(case.config, Sizes.of_pairs(case.vocab_size), seed=0)
        self.model: EncoderDecoder = model
        self.parameters = parameter_count(model)
        objective = in_dtype(PairCrossEntropy(label_smoothing=0.1), compute_dtype)
        config = TrainConfig(
            updates=1000,
            optimizer=Adam(),
            schedule=Constant(peak_learning_rate=LEARNING_RATE),
            clip_norm=None,
        )
        structure, self.state = first_state(model, objective, config, batch)
        self.steps = CompiledSteps(build_step(structure, objective, config))
        self.batch = jax.device_put(batch)
        self.steps.compile(self.state, [self.batch])
        (executable,) = self.steps._executables.values()
        analysis = executable.memory_analysis()
        self.peak_bytes = int(analysis.temp_size_in_bytes + analysis.argument_size_in_bytes)

    def __call__(self) -> float:
        """One update; the loss is fetched, as PyTorch's is."""
        before = self.state.metrics["loss"]
        total, count = float(before.sum), float(before.count)
        self.state = self.steps(self.state, self.batch)
        after = self.state.metrics["loss"]
        return (float(after.sum) - total) / (float(after.count) - count)


class TorchSide:
    """PyTorch eager with the weights of ours."""

    def __init__(self, case: Case, batch: Seq2SeqBatch, ours: OurSide) -> None:
        import torch

        from benchmarks.peers.torch_transformer import TorchSizes, TorchTransformer, training_step
        from benchmarks.peers.torch_weights import load_from_ours

        torch.manual_seed(0)
        torch.set_num_threads(os.cpu_count() or 1)
        config = case.config
        self.model = TorchTransformer(
            TorchSizes(
                vocab_size=case.vocab_size,
                model_dim=config.model_dim,
                num_heads=config.num_heads,
                feed_forward_dim=config.feed_forward_dim,
                num_layers=config.num_encoder_layers,
                dropout_rate=config.dropout_rate,
            )
        )
        load_from_ours(self.model, ours.model)
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), eps=1e-9
        )
        as_tensor = lambda array: torch.tensor(np.asarray(array), dtype=torch.long)  # noqa: E731
        self.batch = {
            "source": as_tensor(batch.source_tokens),
            "source_padding": torch.zeros(batch.source_tokens.shape, dtype=torch.bool),
            "target_inputs": as_tensor(batch.target_inputs),
            "target_outputs": as_tensor(batch.target_outputs),
        }
        self.training_step = training_step

    def __call__(self) -> float:
        """One update; returns the loss."""
        return self.training_step(self.model, self.optimizer, self.batch)


def run_case(case: Case, *, calls: int, max_seconds: float, with_torch: bool) -> list[Record]:
    """Check that both sides give the same losses over three updates, then time them in turns."""
    batch = random_batch(case)
    begin = time.perf_counter()
    ours = OurSide(case, batch)
    contestants: dict[str, Any] = {"transformer_jax": ours}
    print(
        f"{case.name}: {ours.parameters:,} parameters, compiled in {time.perf_counter() - begin:.1f} s",
        flush=True,
    )
    difference = None
    if with_torch:
        contestants["torch_eager"] = TorchSide(case, batch, ours)
        losses = [(ours(), contestants["torch_eager"]()) for _ in range(3)]
        difference = max(abs(a - b) for a, b in losses)
        if case.config.dropout_rate == 0.0 and difference > 2e-3 * losses[0][1]:
            raise SystemExit(f"error: {case.name}: the sides disagree: losses (ours, PyTorch) {losses}")
    times = interleave(contestants, calls=calls, max_seconds=max_seconds)
    records = []
    tokens = 2 * case.batch * case.length
    for name, milliseconds in times.items():
        lower, middle, upper = quartiles(milliseconds)
        extra: dict[str, Any] = {"calls": len(milliseconds), "parameters": ours.parameters}
        if name != "transformer_jax":
            ratio, low, high = paired_ratio(milliseconds, times["transformer_jax"])
            extra["time_over_ours"] = {"median": ratio, "low": low, "high": high}
        records.append(
            Record(
                case=case.name,
                implementation=name,
                compile_s=ours.steps.compile_seconds if name == "transformer_jax" else None,
                median_ms=middle,
                q25_ms=lower,
                q75_ms=upper,
                peak_bytes=ours.peak_bytes if name == "transformer_jax" else None,
                tokens_per_s=tokens / middle * 1e3,
                flops=step_flops(case),
                max_abs_err=difference,
                extra=extra,
            )
        )
    return records


def main() -> None:
    """Parse the command line, run, print the table, write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", choices=["tiny", "base"], default=["tiny", "base"])
    parser.add_argument("--calls", type=int, default=20, help="timed calls of each side (default 20)")
    parser.add_argument(
        "--max-seconds", type=float, default=240, help="stop a case's timing after this (default 240)"
    )
    parser.add_argument(
        "--dropout-rate", type=float, default=0.0, help="same on both sides; 0 lets losses be compared"
    )
    parser.add_argument(
        "--keep-memory",
        action="store_true",
        help="keep freed memory in this process, for both sides, and run our programs in the calling thread, as the "
        "command line does for itself",
    )
    parser.add_argument("--json", help="write the records here")
    arguments = parser.parse_args()
    if arguments.keep_memory:
        if not keep_freed_memory():
            parser.error("--keep-memory needs glibc")
        run_in_calling_thread()
    try:
        import torch  # noqa: F401

        with_torch = True
    except ImportError:
        with_torch = False
        print("PyTorch is missing (pip install torch): only our side is timed", file=sys.stderr)
    peak = matmul_peak()
    records = []
    for case in cases(arguments.dropout_rate):
        if case.name in arguments.cases:
            records += run_case(
                case, calls=arguments.calls, max_seconds=arguments.max_seconds, with_torch=with_torch
            )
    table = Table(
        title=f"training step, dropout {arguments.dropout_rate}, {'keeping' if arguments.keep_memory else 'returning'} "
        f"freed memory, matmul peak {peak / 1e9:.0f} GFLOP/s"
    )
    for column in [
        "case",
        "side",
        "median ms",
        "quartiles",
        "tokens/s",
        "share of peak",
        "PyTorch's time / ours",
    ]:
        table.add_column(column, justify="left" if column in ("case", "side") else "right")
    for record in records:
        ratio = record.extra.get("time_over_ours")
        table.add_row(
            record.case,
            record.implementation,
            f"{record.median_ms:.0f}",
            f"{record.q25_ms:.0f}-{record.q75_ms:.0f}",
            f"{record.tokens_per_s:,.0f}",
            f"{record.flops / record.median_ms * 1e3 / peak:.2f}",
            interval_text(ratio),
        )
    Console().print(table)
    if arguments.json:
        write_json(
            arguments.json,
            records,
            benchmark="train_step",
            dropout_rate=arguments.dropout_rate,
            keep_memory=arguments.keep_memory,
            matmul_peak=peak,
        )


if __name__ == "__main__":
    main()
