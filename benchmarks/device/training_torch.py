"""PyTorch's part of stage 5; JAX, which builds the weights, sees the CPU alone here."""

import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.device.training import LOSSES, decode_sizes, record, train_case
from benchmarks.device.watch import Event, emit, serve


class TorchTraining:
    """Steps of PyTorch's Transformer with our weights: ``autocast`` to bfloat16, fused Adam."""

    def __init__(self, *, compiled: bool, dry: bool) -> None:
        import torch

        from benchmarks import train_step
        from benchmarks.peers.torch_transformer import TorchSizes, TorchTransformer
        from benchmarks.peers.torch_weights import load_from_ours
        from transformer_jax.models.build import build_model
        from transformer_jax.models.sizes import Sizes

        self.torch, self.case = torch, train_case(dry=dry)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.manual_seed(0)
        torch.set_float32_matmul_precision("high")
        config, vocab = self.case.config, self.case.vocab_size
        model = TorchTransformer(
            TorchSizes(
                vocab_size=vocab, model_dim=config.model_dim, num_heads=config.num_heads,
                feed_forward_dim=config.feed_forward_dim, num_layers=config.num_encoder_layers,
                dropout_rate=config.dropout_rate,
            )
        )  # fmt: skip
        load_from_ours(model, build_model(config, Sizes.of_pairs(vocab), seed=0))
        model = model.to(self.device)
        batch = train_step.random_batch(self.case)
        # Nothing is padding, so no mask of it is handed over: PyTorch may take its fastest kernels.
        self.arrays = [
            torch.as_tensor(array, dtype=torch.long, device=self.device)
            for array in (batch.source_tokens, batch.target_inputs, batch.target_outputs)
        ]
        model.embed(self.arrays[0])  # makes the table of positions, outside of what is compiled
        fused = {"fused": True} if self.device == "cuda" else {}
        self.optimizer = torch.optim.Adam(
            model.parameters(), lr=train_step.LEARNING_RATE, betas=(0.9, 0.98), eps=1e-9, **fused
        )
        # A CPU would take a minute to compile; the dry run goes the same way without.
        how = {"backend": "eager"} if dry else {}
        self.model = torch.compile(model, **how) if compiled else model

    def __call__(self) -> Any:
        """One update; the loss, not waited for."""
        torch = self.torch
        source, inputs, outputs = self.arrays
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device, torch.bfloat16):
            logits = self.model(source, None, inputs)
            loss = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), outputs.flatten(), label_smoothing=0.1, ignore_index=0
            )
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def wait(self, loss: Any) -> None:
        """Until a step has ended."""
        loss.item()


def run_training(how: str, *, dry: bool) -> Iterator[Event]:
    """One way to run PyTorch's step."""
    from benchmarks import train_step
    from benchmarks.device.timing import Queued, in_turns

    emit({"side": f"torch {how}"})
    began = time.perf_counter()
    side = TorchTraining(compiled=how == "compile", dry=dry)
    losses = [float(side()) for _ in range(LOSSES)]
    seconds = time.perf_counter() - began
    times = in_turns({"torch": Queued(side, side.wait)}, samples=3 if dry else 15, seconds=5.0)["torch"]
    case = side.case
    yield record(
        f"train {case.name}, bfloat16", f"torch {how}", times, 2 * case.batch * case.length,
        compile_s=seconds if how == "compile" else None, losses=losses, flops=train_step.step_flops(case),
    )  # fmt: skip


def run_decoding(beams: int, *, dry: bool) -> Iterator[Event]:
    """The search of `transformers`."""
    from benchmarks import decoding
    from transformer_jax.race.timing import interleave

    emit({"side": "transformers"})
    try:
        import torch

        from benchmarks.peers.marian import Marian

        device = "cuda" if torch.cuda.is_available() else "cpu"
        sizes, count = decode_sizes(dry=dry)
        arrays = decoding.arrays_of(decoding.make_model(sizes))
        peer = Marian(arrays, sizes, decoding.IDS, device=device, dtype="bfloat16")
    except ImportError as error:
        case = f"beam {beams}, bfloat16"
        yield {
            "case": case,
            "implementation": "transformers",
            "median_ms": None,
            "note": f"not installed: {error}",
        }
        return
    sources = decoding.make_sources(sizes, count)
    outputs = decoding.over_batches(peer, sources, beams)
    calls = {"theirs": lambda: decoding.over_batches(peer, sources, beams)}
    times = interleave(calls, calls=3 if dry else 15, warmup=1, max_seconds=6.0)["theirs"]
    yield record(
        f"beam {beams}, bfloat16",
        "transformers",
        times,
        decoding.OUT * len(sources),
        compile_s=None,
        outputs=outputs,
    )


def main() -> None:
    """The child: the items are the last argument."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    import torch

    dry = "--dry-run" in sys.argv
    items = json.loads(sys.argv[-1])

    def run(item: str) -> Iterator[Event]:
        what, _, how = item.partition(" ")
        if what == "warm":
            began = time.perf_counter()
            TorchTraining(compiled=True, dry=dry)().item()
            yield {"header": {"torch_compile_s": round(time.perf_counter() - began, 1)}}
            return
        yield {"header": {"torch": torch.__version__}}
        yield from run_training(how, dry=dry) if what == "train" else run_decoding(int(how), dry=dry)

    serve(run, items)


if __name__ == "__main__":
    main()
