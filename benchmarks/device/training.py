"""Stage 5: a training step and a beam search of the base Transformer in bfloat16; then PyTorch's, in its own process.

The training step is that of ``benchmarks/train_step.py``, parameters and Adam's state in float32, the forward and
backward pass in bfloat16; beside it stands PyTorch with ``autocast`` and fused Adam, eager and by ``torch.compile``.
The search is that of ``benchmarks/decoding.py`` beside `transformers`' MarianMT, both with weights in bfloat16. All
sides hold the same weights; their first losses and outputs are kept, and compared when both have run.
"""

import dataclasses
import json
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from benchmarks.device.watch import Event, Job, Parts, serve

BATCH, LENGTH, SENTENCES = 128, 64, 64
BEAMS = (4, 1)
LOSSES = 3
TORCH = "benchmarks.device.training_torch"


def jobs(*, dry: bool) -> Parts:
    """JAX first, then PyTorch, which is given JAX's model by building it anew on the CPU."""
    flags = ["--dry-run"] if dry else []
    decodes = [f"decode {beams}" for beams in (BEAMS[:1] if dry else BEAMS)]
    ours = Job(__name__, flags, ["train", *decodes], 300.0 if dry else 45.0, restarts=2)
    theirs = Job(
        TORCH, flags, ["train eager", decodes[0], "train compile", *decodes[1:]], 300.0 if dry else 45.0, restarts=3,
        environment={"JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    if find_spec("torch") is None:
        return [(1.0, [ours])]
    return [(0.45, [ours]), (1.0, [theirs])]


def train_case(*, dry: bool) -> Any:
    """The base model on full rows; tiny in a dry run."""
    from benchmarks import train_step

    tiny, base = train_step.cases(0.0)
    if dry:
        config = dataclasses.replace(
            tiny.config, num_encoder_layers=1, num_decoder_layers=1, model_dim=32, feed_forward_dim=64
        )
        return dataclasses.replace(tiny, config=config, vocab_size=100, batch=2, length=8)
    return dataclasses.replace(base, batch=BATCH, length=LENGTH)


def decode_sizes(*, dry: bool) -> tuple[dict[str, int], int]:
    """Sizes of the searched model, and how many sentences."""
    from benchmarks import decoding

    if dry:
        return {**decoding.SIZES["tiny"], "num_layers": 1, "vocab_size": 64}, 3
    return decoding.SIZES["base"], SENTENCES


def record(case: str, implementation: str, milliseconds: list[float], units: float, **extra: Any) -> Event:
    """Quartiles, and units (tokens) a second."""
    from transformer_jax.race.timing import quartiles

    lower, middle, upper = quartiles(milliseconds)
    return {
        "case": case, "implementation": implementation, "median_ms": middle, "q25_ms": lower, "q75_ms": upper,
        "samples": len(milliseconds), "tokens_per_s": units / middle * 1e3, "note": "", **extra,
    }  # fmt: skip


def run_training(*, dry: bool) -> Iterator[Event]:
    """Our step."""
    import jax

    from benchmarks import train_step
    from benchmarks.device.timing import Queued, in_turns

    case = train_case(dry=dry)
    ours = train_step.OurSide(case, train_step.random_batch(case), compute_dtype="bfloat16")
    losses = [ours() for _ in range(LOSSES)]

    def launch() -> Any:
        ours.state = ours.steps(ours.state, ours.batch)
        return ours.state.metrics["loss"]

    times = in_turns(
        {"transformer_jax": Queued(launch, jax.block_until_ready)}, samples=3 if dry else 15, seconds=5.0
    )
    yield record(
        f"train {case.name}, bfloat16", "transformer_jax", times["transformer_jax"], 2 * case.batch * case.length,
        compile_s=ours.steps.compile_seconds, parameters=ours.parameters, losses=losses,
        flops=train_step.step_flops(case), peak_bytes=ours.peak_bytes,
    )  # fmt: skip


def run_decoding(beams: int, *, dry: bool) -> Iterator[Event]:
    """Our search."""
    import jax
    from flax import nnx

    from benchmarks import decoding
    from transformer_jax.race.timing import interleave

    sizes, count = decode_sizes(dry=dry)
    model = decoding.make_model(sizes)
    graph, state = nnx.split(model)
    cast = jax.tree.map(lambda array: array.astype("bfloat16"), state)
    ours = decoding.Ours(nnx.merge(graph, cast), beams)
    sources = decoding.make_sources(sizes, count)
    outputs = ours(sources)
    times = interleave({"ours": lambda: ours(sources)}, calls=3 if dry else 15, warmup=1, max_seconds=4.0)
    yield record(
        f"beam {beams}, bfloat16", "transformer_jax", times["ours"], decoding.OUT * len(sources),
        compile_s=ours.searcher.compile_seconds, outputs=outputs, peak_bytes=ours.program_bytes(),
    )  # fmt: skip


def finish(document: dict[str, Any]) -> None:
    """Compare losses and outputs of a case's sides with ours, and leave the outputs themselves out."""
    ours = {one["case"]: one for one in document["records"] if one["implementation"] == "transformer_jax"}
    for one in document["records"]:
        base = ours.get(one["case"])
        if base is None or one["median_ms"] is None:
            continue
        one["time_over_ours"] = one["median_ms"] / base["median_ms"]
        if one.get("losses") and base.get("losses"):
            pairs = zip(one["losses"], base["losses"])
            one["largest_loss_difference"] = max(abs(theirs - own) / abs(own) for theirs, own in pairs)
        if one.get("outputs") and base.get("outputs"):
            pairs = list(zip(one["outputs"], base["outputs"]))
            one["agreement"] = sum(theirs == own for theirs, own in pairs) / len(pairs)
    for one in document["records"]:
        one.pop("outputs", None)


def main() -> None:
    """The child: the items are the last argument."""
    from transformer_jax.environment import environment
    from transformer_jax.race.timing import matmul_peak

    dry = "--dry-run" in sys.argv
    items = json.loads(sys.argv[-1])

    def run(item: str) -> Iterator[Event]:
        if item == items[0]:
            yield {"environment": environment()}
            peak = matmul_peak(256, dtype="float32") if dry else matmul_peak(8192, dtype="bfloat16")
            yield {"header": {"matmul_peak": peak}}
        what, _, beams = item.partition(" ")
        yield from run_training(dry=dry) if what == "train" else run_decoding(int(beams), dry=dry)

    serve(run, items)


if __name__ == "__main__":
    main()
