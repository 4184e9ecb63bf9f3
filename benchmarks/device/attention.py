"""Stage 2: attention in bfloat16 by every implementation, in JAX; then PyTorch's, in a process of its own.

A group's programs are lowered and compiled first, beside each other, then its cases are timed with nothing else on the
GPU. Beside each time stands the greatest difference of the outputs (and gradients) from the reference in float32, for
the first row's first group of heads, as a share of the greatest entry. The last group times the ``mosaic_gpu`` kernels
by other block sizes.
"""

import functools
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

from benchmarks.device.attention_cases import MODES, Case, groups, measured, record
from benchmarks.device.watch import Event, Job, Parts, emit, one_line, serve

IMPLEMENTATIONS = ("mosaic_gpu", "cudnn", "xla", "blockwise", "tokamax")
BLOCKS = "block sizes"
LARGEST_SCORES = 12e9
"""Bytes of float32 scores up to which `xla`, which may hold them all, takes part."""

COMPILERS = 12


def jobs(*, dry: bool) -> Parts:
    """JAX first, then PyTorch: never both at a time."""
    names = list(groups(dry=dry))
    flags = ["--dry-run"] if dry else []
    items = [json.dumps({"group": name, "without": []}) for name in [*names[:3], BLOCKS, *names[3:]]]
    ours = Job(__name__, flags, items, item_seconds=60.0, restarts=8, after_loss=without_the_lost)
    theirs = Job("benchmarks.device.attention_torch", flags, names, item_seconds=60.0, restarts=3)
    if dry:
        ours.item_seconds = theirs.item_seconds = 300.0
    if find_spec("torch") is None:
        return [(1.0, [ours])]
    return [(0.72, [ours]), (1.0, [theirs])]


def without_the_lost(item: str, side: str | None) -> str | None:
    """The item again without the implementation in which a process was lost."""
    asked = json.loads(item)
    if side is None or side in asked["without"]:
        return None
    return json.dumps({**asked, "without": [*asked["without"], side]})


def mask_of(case: Case) -> Any:
    """Our mask of a case."""
    import jax.numpy as jnp

    from transformer_jax.functional import AttentionMask

    if case.mask == "causal":
        return AttentionMask.causal()
    if case.mask == "window":
        return AttentionMask.causal() & AttentionMask.window(case.window, 0)
    if case.mask == "padded":
        return AttentionMask.from_lengths(jnp.asarray(case.lengths()), case.length)
    return AttentionMask()


def attend_by(implementation: str, mode: str, mask: Any) -> Any:
    """``(query, key, value, cotangent) -> outputs`` of a mode."""
    import jax

    from transformer_jax import functional as F

    def forward(query: Any, key: Any, value: Any, cotangent: Any) -> Any:
        del cotangent
        return (F.attention(query, key, value, mask=mask, implementation=implementation),)

    def both(query: Any, key: Any, value: Any, cotangent: Any) -> Any:
        attend = functools.partial(F.attention, mask=mask, implementation=implementation)
        output, pull_back = jax.vjp(attend, query, key, value)
        return output, *pull_back(cotangent)

    return forward if mode == MODES[0] else both


def arrays_of(case: Case) -> list[Any]:
    """Query, key, value and cotangent, on the device."""
    import jax

    shapes = [case.heads, case.kv_heads, case.kv_heads, case.heads]
    return [
        jax.random.normal(key, (case.batch, case.length, heads, case.head_dim), "bfloat16")
        for key, heads in zip(jax.random.split(jax.random.key(0), 4), shapes)
    ]


def wanted_of(case: Case, mask: Any, arrays: list[Any]) -> list[Any]:
    """Output and gradients of the first row's first group of heads, by the reference in float32."""
    import jax
    import jax.numpy as jnp

    narrow = [array.astype(jnp.float32) for array in first_heads(case, arrays)]
    if case.mask == "padded":
        mask = type(mask).from_lengths(jnp.asarray(case.lengths()[:1]), case.length)
    with jax.default_matmul_precision("highest"):
        return list(jax.jit(attend_by("reference", MODES[1], mask))(*narrow))


def first_heads(case: Case, arrays: Any) -> list[Any]:
    """Of arrays with query heads or key heads the first row and what belongs to its first head of keys."""
    group = case.heads // case.kv_heads
    return [array[:1, :, : group if array.shape[2] == case.heads else 1] for array in arrays]


def difference(case: Case, got: Any, wanted: Any) -> float:
    """The greatest difference of an array from the wanted, as a share of the greatest wanted entry."""
    import jax.numpy as jnp

    worst = 0.0
    for one, want in zip(first_heads(case, got), wanted):
        worst = max(worst, float(jnp.abs(one.astype(jnp.float32) - want).max() / jnp.abs(want).max()))
    return worst


class Programs:
    """The compiled programs of a group, or why there is none."""

    def __init__(self, cases: list[Case], names: list[str]) -> None:
        import jax

        self.notes: dict[tuple[str, str, str], str] = {}
        self.ready: dict[tuple[str, str, str], Any] = {}
        lowered = {}
        for case in cases:
            shapes = jax.eval_shape(lambda case=case: arrays_of(case))
            for name in names:
                for mode in MODES:
                    key = (case.name, name, mode)
                    emit({"side": name})
                    scores = 4.0 * case.batch * case.heads * case.length**2
                    if name == "xla" and scores > LARGEST_SCORES:
                        self.notes[key] = f"left out: it may hold scores of {scores / 1e9:.0f} GB"
                        continue
                    try:
                        lowered[key] = jax.jit(attend_by(name, mode, mask_of(case))).lower(*shapes)
                    except Exception as error:
                        self.notes[key] = one_line(error)
        with ThreadPoolExecutor(COMPILERS) as pool:
            waiting = {key: pool.submit(program.compile) for key, program in lowered.items()}
            for key, future in waiting.items():
                emit({"side": key[1]})
                try:
                    self.ready[key] = future.result()
                except Exception as error:
                    self.notes[key] = one_line(error)


def run_group(name: str, without: list[str], *, dry: bool) -> Iterator[Event]:
    """Compile a group, compare, then time case by case."""
    import jax

    from benchmarks.device.timing import Queued, in_turns

    cases = groups(dry=dry)[name]
    names = [one for one in IMPLEMENTATIONS if one not in without]
    programs = Programs(cases, names)
    for case in cases:
        arrays = arrays_of(case)
        wanted = wanted_of(case, mask_of(case), arrays)
        for mode in MODES:
            sides: dict[str, Queued] = {}
            differences: dict[str, float] = {}
            for one in names:
                key = (case.name, one, mode)
                if key not in programs.ready:
                    yield record(case, one, mode, note=programs.notes[key])
                    continue
                emit({"side": one})
                run = functools.partial(programs.ready[key], *arrays)
                try:
                    differences[one] = difference(case, jax.block_until_ready(run()), wanted)
                except jax.errors.JaxRuntimeError as error:
                    if "RESOURCE_EXHAUSTED" not in str(error):
                        raise
                    yield record(case, one, mode, note=one_line(error))
                    continue
                sides[one] = Queued(run, jax.block_until_ready)
            times = in_turns(sides, samples=3 if dry else 9, seconds=1.5)
            for one, milliseconds in times.items():
                found = measured(milliseconds, case.flops(mode))
                yield record(case, one, mode, **found, difference=differences[one])


def run_blocks(*, dry: bool) -> Iterator[Event]:
    """Times of ``mosaic_gpu`` by block sizes, at the sizes where it matters most."""
    import jax

    from benchmarks.device.timing import Queued, in_turns
    from transformer_jax import functional as F
    from transformer_jax.functional.attention import mosaic_gpu
    from transformer_jax.functional.attention.contract import make_call
    from transformer_jax.functional.attention.mosaic_gpu_plan import (
        SHARED_MEMORY_BYTES,
        BlockSizes,
        block_sizes,
        shared_memory,
    )

    reasons = mosaic_gpu.device_refusals()
    if reasons and not dry:
        return
    for case in [Case(length=4096, head_dim=width) for width in ((64,) if dry else (64, 128))]:
        width = case.head_dim
        plan = block_sizes(width, width)
        asked = [
            plan, plan._replace(forward_keys=64), plan._replace(backward_keys=64 if plan.backward_keys == 128 else 128),
            plan._replace(backward_queries=128), plan._replace(backward_queries=128, backward_keys=64),
        ]  # fmt: skip
        fitting = [
            sizes for sizes in dict.fromkeys(asked)
            if max(shared_memory(sizes, width, width).values()) <= SHARED_MEMORY_BYTES
        ]  # fmt: skip

        def attend(query: Any, key: Any, value: Any, sizes: BlockSizes) -> Any:
            call = make_call(query, key, value, F.ScaledDot(), F.AttentionMask.causal(), None, None)
            return mosaic_gpu.attend_in_blocks(call, sizes)

        def both(query: Any, key: Any, value: Any, cotangent: Any, sizes: BlockSizes) -> Any:
            output, pull_back = jax.vjp(functools.partial(attend, sizes=sizes), query, key, value)
            return output, *pull_back(cotangent)

        def forward(query: Any, key: Any, value: Any, cotangent: Any, sizes: BlockSizes) -> Any:
            return (attend(query, key, value, sizes),)

        shapes = jax.eval_shape(functools.partial(arrays_of, case))
        functions = {MODES[0]: forward, MODES[1]: both}
        if dry:  # a CPU can lower the kernels, and no more
            for mode, function in functions.items():
                traced = jax.jit(functools.partial(function, sizes=fitting[1])).trace(*shapes)
                kernels = traced.lower(lowering_platforms=("cuda",)).as_text().count("@mosaic_gpu_v2")
                note = reasons[0] if reasons else ""
                blocks = {"blocks": list(fitting[1]), "kernels": kernels}
                yield {**record(case, "mosaic_gpu", mode, note=note), **blocks}
            continue
        emit({"side": "mosaic_gpu"})
        arrays = arrays_of(case)
        wanted = wanted_of(case, mask_of(case), arrays)
        for mode, function in functions.items():
            with ThreadPoolExecutor(COMPILERS) as pool:
                lowered = [
                    (sizes, jax.jit(functools.partial(function, sizes=sizes)).lower(*shapes))
                    for sizes in fitting
                ]
                futures = [(sizes, pool.submit(program.compile)) for sizes, program in lowered]
            sides, differences = {}, {}
            for sizes, future in futures:
                name = " ".join(map(str, sizes))
                try:
                    run = functools.partial(future.result(), *arrays)
                    differences[name] = difference(case, jax.block_until_ready(run()), wanted)
                    sides[name] = Queued(run, jax.block_until_ready)
                except Exception as error:
                    if not isinstance(error, ValueError | NotImplementedError) and "RESOURCE" not in str(
                        error
                    ):
                        raise
                    yield {**record(case, "mosaic_gpu", mode, note=one_line(error)), "blocks": list(sizes)}
            for name, milliseconds in in_turns(sides, samples=7, seconds=1.5).items():
                found = measured(milliseconds, case.flops(mode))
                yield {**record(case, "mosaic_gpu", mode, **found, difference=differences[name]),
                       "blocks": [int(size) for size in name.split()]}  # fmt: skip


def rulers(*, dry: bool) -> Event:
    """Speed of a matmul and of the memory, that times can be held against."""
    from transformer_jax.race.timing import matmul_peak, memory_bandwidth

    size = 256 if dry else 8192
    return {
        "matmul_peak": matmul_peak(size, dtype="float32" if dry else "bfloat16"),
        "memory_bandwidth": memory_bandwidth(8 if dry else 2048),
    }


def main() -> None:
    """The child: the items are the last argument."""
    from transformer_jax.race.timing import environment

    dry = "--dry-run" in sys.argv
    items = json.loads(sys.argv[-1])

    def run(item: str) -> Iterator[Event]:
        if item == items[0]:
            yield {"environment": environment()}
            yield {"header": rulers(dry=dry)}
        asked = json.loads(item)
        if asked["group"] == BLOCKS:
            yield from run_blocks(dry=dry)
        else:
            yield from run_group(asked["group"], asked["without"], dry=dry)

    serve(run, items)


if __name__ == "__main__":
    main()
