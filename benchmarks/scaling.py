"""The training step over meshes of devices: tokens a second, bytes and operations a device, traffic beside the plan.

    python benchmarks/scaling.py                                  all of it; eight virtual devices where there is a CPU
    python benchmarks/scaling.py --models transformer --meshes data fsdp --seconds 1
    python benchmarks/scaling.py --width 1024 --rows 512 --length 256 --vocab-size 32000          on several GPUs
    python benchmarks/scaling.py --json benchmarks/results/scaling-cpu.json

Each mesh is compiled as a trainer would, and its program is read: the products, the collectives with their bytes, loops
multiplied out. Beside them stands what ``transformer-jax plan`` calculates. Then the meshes of a model take turns. The
loss after one update is first held to one device's, to 1e-4.

Virtual devices share the cores of one processor: their tokens a second show what the partitioning costs, never a
speed-up; bytes, operations and traffic of a device are those of real devices, as far as XLA's passes for CPUs go.
"""

import argparse
import os
import subprocess
import sys
import time
from collections import Counter
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

VIRTUAL = "--xla_force_host_platform_device_count"
MODELS = ("transformer", "transformer, in blocks", "recurrent")
MESHES = ("one", "data", "fsdp", "tensor", "data-fsdp-tensor")
BLOCKS = 16
"""Blocks of rows that the loss is computed in, in the case of that name: as many as a large vocabulary needs."""

TOLERANCE = 1e-4


def mesh_shape(name: str, devices: int) -> Any:
    """The mesh of a name over all devices; None for one device, and for one that they do not divide into."""
    from transformer_jax.training.config import MeshShape

    if name == "data-fsdp-tensor":
        return MeshShape(data=devices // 4, fsdp=2, tensor=2) if devices % 4 == 0 else None
    return None if name == "one" else MeshShape(**{name: devices})


def make_model(name: str, width: int, vocab_size: int) -> Any:
    """A model of two layers: one to read, one to write."""
    from transformer_jax.models.build import build_model
    from transformer_jax.models.encoder_decoder import EncoderDecoderConfig
    from transformer_jax.models.recurrent_config import Bahdanau, RecurrentSeq2SeqConfig
    from transformer_jax.models.sizes import Sizes

    config: Any
    if name == "recurrent":
        config = RecurrentSeq2SeqConfig(
            embedding_dim=width, hidden_dim=width, cell="lstm", num_encoder_layers=1, num_decoder_layers=1,
            bidirectional=True, attention=Bahdanau(attention_dim=width), dropout_rate=0.0, residual=False,
        )  # fmt: skip
    else:
        config = EncoderDecoderConfig(
            model_dim=width, num_heads=8, num_kv_heads=8, feed_forward_dim=4 * width, num_encoder_layers=1,
            num_decoder_layers=1, dropout_rate=0.0, share_embeddings="target",
        )  # fmt: skip
    return build_model(config, Sizes.of_pairs(vocab_size), seed=0)


def compile_case(name: str, mesh_name: str, mesh: Any, arguments: argparse.Namespace) -> Any:
    """The compiled step of a model over a mesh."""
    from transformer_jax.data.batches import empty_batch
    from transformer_jax.functional import projected_logsumexp
    from transformer_jax.functional.attention import choice
    from transformer_jax.planning import find_device
    from transformer_jax.testing.sharded_step import compile_sharded_step
    from transformer_jax.training.config import AdamW, Constant, TrainConfig

    rows, length, vocab_size = arguments.rows, arguments.length, arguments.vocab_size
    config = TrainConfig(
        updates=10**6, optimizer=AdamW(), schedule=Constant(peak_learning_rate=1e-3), sharding=mesh
    )
    before = projected_logsumexp.BLOCK_ELEMENTS, choice.BLOCKWISE_FROM_PAIRS
    if name.endswith("in blocks"):  # of the loss, and of attention
        projected_logsumexp.BLOCK_ELEMENTS = rows * length * vocab_size // BLOCKS
        choice.BLOCKWISE_FROM_PAIRS = 1
    try:
        return compile_sharded_step(
            lambda: make_model(name, arguments.width, vocab_size),
            PairCrossEntropy(label_smoothing=0.1),
            config,
            empty_batch(rows, length, length),
            device=find_device(arguments.plan_for),
        )
    finally:
        projected_logsumexp.BLOCK_ELEMENTS, choice.BLOCKWISE_FROM_PAIRS = before


def collectives_of(costs: Any, plan: Any) -> list[dict[str, Any]]:
    """By kind and whether in a loop: how often, and bytes sent, of the program and of the plan."""
    program: Counter[tuple[str, bool]] = Counter()
    counts: Counter[tuple[str, bool]] = Counter()
    planned: Counter[tuple[str, bool]] = Counter()
    for one in costs.collectives:
        program[one.kind, one.in_loop] += one.sent_bytes
        counts[one.kind, one.in_loop] += one.times
    for one in plan.traffic:
        planned[one.kind, one.in_loop] += one.sent_bytes
    return [
        {
            "kind": kind,
            "in_loop": in_loop,
            "times": counts[kind, in_loop],
            "sent_bytes": program[kind, in_loop],
            "planned_bytes": planned[kind, in_loop],
        }
        for kind, in_loop in sorted(set(program) | set(planned))
    ]


class Runner:
    """Does updates on the same batch, one a call.

    Args:
      step: The compiled step.
      batch: Of the host.
    """

    def __init__(self, step: Any, batch: Any) -> None:
        self._step, self._state = step, step.state
        self._batch = step.placement.batch(batch)

    def __call__(self) -> None:
        """One update, to its end."""
        import jax

        self._state = self._step.executable(self._state, self._batch)
        jax.block_until_ready(self._state.update)

    def mean_loss(self) -> float:
        """Of all updates so far."""
        return float(self._state.metrics["loss"].mean())


def run_model(name: str, meshes: dict[str, Any], arguments: argparse.Namespace) -> list[Any]:
    """Records of a model over all meshes."""
    from transformer_jax.race.timing import Record, interleave, quartiles
    from transformer_jax.testing.tiny_training import SequenceTask

    length = arguments.length
    task = SequenceTask(
        task="reverse", vocab_size=arguments.vocab_size, min_len=length - 1, max_lens=(length - 1,),
        batch_size=arguments.rows,
    )  # fmt: skip
    import numpy as np

    batch = next(task.iterate(0))
    batch = batch._replace(source_tokens=np.pad(batch.source_tokens, ((0, 0), (0, 1))))
    steps, runners, losses = {}, {}, {}
    for mesh_name, mesh in meshes.items():
        start = time.perf_counter()
        steps[mesh_name] = compile_case(name, mesh_name, mesh, arguments)
        runners[mesh_name] = Runner(steps[mesh_name], batch)
        runners[mesh_name]()
        losses[mesh_name] = runners[mesh_name].mean_loss()
        print(f"{name}, {mesh_name}: compiled in {time.perf_counter() - start:.0f} s", file=sys.stderr)
    first = losses[next(iter(losses))]
    for mesh_name, loss in losses.items():
        if abs(loss - first) > TOLERANCE * abs(first):
            raise SystemExit(f"{name}: the loss over {mesh_name} is {loss:.6f}, over one device {first:.6f}")
    times = interleave(runners, calls=arguments.calls, max_seconds=arguments.seconds * len(runners))
    tokens = int(batch.source_lengths.sum() + batch.target_lengths.sum())
    records = []
    for mesh_name, step in steps.items():
        low, middle, high = quartiles(times[mesh_name])
        plan, costs = step.plan, step.costs
        planned = sum(one.sent_bytes for one in plan.traffic)
        records.append(
            Record(
                case=name, implementation=mesh_name, compile_s=step.compile_seconds, median_ms=middle, q25_ms=low,
                q75_ms=high, peak_bytes=step.argument_bytes + step.temporary_bytes,
                tokens_per_s=tokens / middle * 1e3, flops=plan.total_flops,
                max_abs_err=abs(losses[mesh_name] - first),
                extra={
                    "argument_bytes": step.argument_bytes, "planned_argument_bytes": plan.argument_bytes,
                    "temporary_bytes": step.temporary_bytes,
                    "planned_temporary_bytes": plan.memory_bytes - plan.argument_bytes,
                    "device_flops": costs.dot_flops, "planned_device_flops": plan.device_flops,
                    "sent_bytes": costs.sent_bytes(), "planned_sent_bytes": planned,
                    "collectives": collectives_of(costs, plan),
                    "loops_of_unknown_length": costs.loops_of_unknown_length,
                },
            )
        )  # fmt: skip
    return records


def table_of(records: list[Any]) -> Any:
    """What was found, for a terminal."""
    from rich.table import Table

    table = Table(title="a training step over a mesh; of a device, and in brackets over the plan's")
    titles = ("model", "mesh", "tokens/s", "arguments kB", "work space kB", "MFLOP", "sent kB")
    for column in titles:
        table.add_column(column, justify="left" if column in ("model", "mesh") else "right", no_wrap=True)
    pairs = [("argument_bytes", 1e3), ("temporary_bytes", 1e3), ("device_flops", 1e6), ("sent_bytes", 1e3)]
    for record in records:
        cells = []
        for key, unit in pairs:
            planned = record.extra[f"planned_{key}"]
            ratio = f" ({record.extra[key] / planned:.2f})" if planned else ""
            cells.append(f"{record.extra[key] / unit:,.0f}{ratio}")
        table.add_row(record.case, record.implementation, f"{record.tokens_per_s:,.0f}", *cells)
    return table


def measure(arguments: argparse.Namespace) -> None:
    """All models over all meshes that the devices divide into."""
    import jax
    from rich.console import Console

    from transformer_jax.race.timing import write_json

    devices = jax.device_count()
    meshes = {
        name: shape for name in arguments.meshes if (shape := mesh_shape(name, devices)) or name == "one"
    }
    for name in arguments.meshes:
        if name not in meshes:
            print(f"{name}: {devices} devices do not divide into it, left out", file=sys.stderr)
    print(f"{devices} devices: {jax.devices()[0].device_kind}", file=sys.stderr)
    records = []
    for name in arguments.models:
        few = {mesh: meshes[mesh] for mesh in meshes if mesh in ("one", "data")}
        records += run_model(name, few if name.endswith("in blocks") else meshes, arguments)
    Console(width=130).print(table_of(records))
    if arguments.json:
        keys = ("width", "rows", "length", "vocab_size", "seconds", "calls")
        header = {key: getattr(arguments, key) for key in keys}
        write_json(arguments.json, records, benchmark="scaling", blocks=BLOCKS, **header)


def main() -> None:
    """Parse the command line; measure here, or where there is a CPU alone in a process of virtual devices."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="(default: all)")
    parser.add_argument("--meshes", nargs="+", choices=MESHES, default=list(MESHES), help="(default: all)")
    parser.add_argument("--devices", type=int, default=8, help="virtual devices of a CPU (default 8)")
    parser.add_argument("--width", type=int, default=64, help="of the models, a multiple of 8 (default 64)")
    parser.add_argument("--rows", type=int, default=64, help="of a batch (default 64)")
    parser.add_argument("--length", type=int, default=16, help="of sources and targets (default 16)")
    parser.add_argument("--vocab-size", type=int, default=512, help="of both (default 512)")
    parser.add_argument(
        "--seconds", type=float, default=5, help="of timing for each mesh, at most (default 5)"
    )
    parser.add_argument("--calls", type=int, default=20, help="timed updates for each mesh (default 20)")
    parser.add_argument("--plan-for", default="cpu", help="device of the plan's times (default cpu)")
    parser.add_argument("--json", help="write the records here")
    arguments = parser.parse_args()
    import jax

    if jax.default_backend() != "cpu" or VIRTUAL in os.environ.get("XLA_FLAGS", ""):
        measure(arguments)
        return
    flags = f"{os.environ.get('XLA_FLAGS', '')} {VIRTUAL}={arguments.devices}".strip()
    child = [sys.executable, os.path.abspath(__file__), *sys.argv[1:]]
    sys.exit(subprocess.run(child, env={**os.environ, "XLA_FLAGS": flags}).returncode)


if __name__ == "__main__":
    main()
