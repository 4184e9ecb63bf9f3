"""Stage 2: attention in bfloat16 by every implementation, in JAX; then PyTorch's, in a process of its own.

Each group of cases has a process of its own. All of them compile beside each other; when all have, they take turns
(see :mod:`benchmarks.device.turns`), so that what is timed is alone. Beside each time stands the greatest difference of
the outputs (and gradients) from the reference in float32, for the first row's first group of heads, as a share of the
greatest entry. One group times the ``mosaic_gpu`` kernels by other block sizes.
"""

import functools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

from benchmarks.device.attention_cases import MODES, Case, groups, measured, record
from benchmarks.device.turns import Turns
from benchmarks.device.watch import Event, Job, Parts, emit, one_line, serve

IMPLEMENTATIONS = ("mosaic_gpu", "cudnn", "xla", "blockwise", "tokamax")
BLOCKS = "block sizes"
LARGEST_SCORES = 12e9
"""Bytes of float32 scores up to which `xla`, which may hold them all, takes part."""

COMPILERS, COMPILE_SECONDS = 3, 50.0
"""Programs that each process compiles at a time; after so many seconds what is not compiled is left out."""


def jobs(*, dry: bool) -> Parts:
    """JAX first, then PyTorch: never both at a time."""
    names = list(groups(dry=dry))
    flags = ["--dry-run"] if dry else []
    ours = []
    ordered = [*names[:3], BLOCKS, *names[3:]]
    folder = tempfile.mkdtemp(prefix="device-turns-")
    until = time.time() + (300.0 if dry else COMPILE_SECONDS)
    for rank, name in enumerate(ordered):
        turns = Turns(folder, rank, len(ordered), until).words()
        item = json.dumps({"group": name, "without": []})
        ours.append(Job(__name__, [*flags, *turns], [item], 45.0, restarts=4, after_loss=without_the_lost))
    theirs = Job("benchmarks.device.attention_torch", flags, names, item_seconds=60.0, restarts=3)
    if dry:
        for job in (*ours, theirs):
            job.item_seconds = 300.0
    if find_spec("torch") is None:
        return [(1.0, ours)]
    return [(0.72, ours), (1.0, [theirs])]


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
    """``(query, key, value, cotangent) -> outputs`` of a mode, as ``implementation=None`` would run it."""
    import jax

    from transformer_jax import functional as F
    from transformer_jax.functional.attention.choice import named, with_every_derivative
    from transformer_jax.functional.attention.contract import make_call

    def attend(query: Any, key: Any, value: Any) -> Any:
        call = make_call(query, key, value, F.ScaledDot(), mask, None, None)
        return with_every_derivative(named(implementation, call)).attend(call)

    def forward(query: Any, key: Any, value: Any, cotangent: Any) -> Any:
        del cotangent
        return (attend(query, key, value),)

    def both(query: Any, key: Any, value: Any, cotangent: Any) -> Any:
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
        return list(attend_by("reference", MODES[1], mask)(*narrow))


def first_heads(case: Case, arrays: Any) -> list[Any]:
    """Of arrays with query heads or key heads the first row and what belongs to its first head of keys."""
    group = case.heads // case.kv_heads
    return [array[:1, :, : group if array.shape[2] == case.heads else 1] for array in arrays]


def difference_of(case: Case, got: Any, wanted: Any) -> Any:
    """The greatest difference of an array from the wanted, as a share of the greatest wanted entry."""
    import jax.numpy as jnp

    pairs = zip(first_heads(case, got), wanted)
    shares = [jnp.abs(one.astype(jnp.float32) - want).max() / jnp.abs(want).max() for one, want in pairs]
    return jnp.stack(shares).max()


class Programs:
    """Programs that are compiled before anything is timed; one that cannot be has a note in its place.

    Args:
      until: ``time.time()`` after which no further program is begun; ``None`` = all are compiled.
    """

    def __init__(self, until: float | None) -> None:
        self.until = until
        self.notes: dict[Any, str] = {}
        self.ready: dict[Any, Any] = {}
        self._pool = ThreadPoolExecutor(COMPILERS)
        self._waiting: dict[Any, Future[Any]] = {}

    def add(self, key: Any, function: Any, *shapes: Any) -> None:
        """Lower a function here, and have it compiled."""
        import jax

        if self._is_late():
            self.notes[key] = "not compiled in time"
            return
        try:
            self._waiting[key] = self._pool.submit(self._compile, jax.jit(function).lower(*shapes))
        except Exception as error:
            self.notes[key] = one_line(error)

    def _is_late(self) -> bool:
        return self.until is not None and time.time() > self.until

    def _compile(self, lowered: Any) -> Any:
        if self._is_late():
            raise TimeoutError("not compiled in time")
        return lowered.compile()

    def wait(self, side: Callable[[Any], str] = str) -> None:
        """Until every program is compiled or has a note."""
        for key, future in self._waiting.items():
            emit({"side": side(key)})
            try:
                self.ready[key] = future.result()
            except Exception as error:
                self.notes[key] = one_line(error)
        self._waiting.clear()


def compile_group(cases: list[Case], names: list[str], until: float | None) -> Programs:
    """Programs of a group by ``(what, case, mode)``."""
    import jax

    programs = Programs(until)
    for case in cases:
        mask = mask_of(case)
        shapes = jax.eval_shape(functools.partial(arrays_of, case))
        wanted = jax.eval_shape(functools.partial(wanted_of, case, mask), shapes)
        programs.add(("arrays", case.name, ""), functools.partial(arrays_of, case))
        programs.add(("wanted", case.name, ""), functools.partial(wanted_of, case, mask), shapes)
        for mode in MODES:
            outputs = tuple(shapes[place] for place in ((0,) if mode == MODES[0] else (0, 0, 1, 2)))
            compare = functools.partial(difference_of, case)
            programs.add(("difference", case.name, mode), compare, outputs, wanted)
        for name in names:
            emit({"side": name})
            scores = 4.0 * case.batch * case.heads * case.length**2
            for mode in MODES:
                key = (name, case.name, mode)
                if name == "xla" and scores > LARGEST_SCORES:
                    programs.notes[key] = f"left out: it may hold scores of {scores / 1e9:.0f} GB"
                else:
                    programs.add(key, attend_by(name, mode, mask), *shapes)
    programs.wait(lambda key: key[0])
    return programs


def run_group(name: str, without: list[str], turns: Turns, *, dry: bool) -> Iterator[Event]:
    """Compile a group; when it is this process's turn, compare, then time case by case."""
    cases = groups(dry=dry)[name]
    names = [one for one in IMPLEMENTATIONS if one not in without]
    if turns.is_late():  # a process begun anew: the others may be timing
        with turns.alone():
            yield from run_cases(cases, names, compile_group(cases, names, None), dry=dry)
        return
    programs = compile_group(cases, names, turns.until)
    with turns.alone():
        if turns.rank == 0:
            yield {"header": rulers(dry=dry)}
        yield from run_cases(cases, names, programs, dry=dry)


def run_cases(cases: list[Case], names: list[str], programs: Programs, *, dry: bool) -> Iterator[Event]:
    """Compare and time what is compiled."""
    import jax

    from benchmarks.device.timing import Queued, in_turns

    for case in cases:
        for what in ("arrays", "wanted"):
            if (what, case.name, "") in programs.notes:
                raise RuntimeError(f"{case.name}: {programs.notes[what, case.name, '']}")
        arrays = programs.ready["arrays", case.name, ""]()
        wanted = programs.ready["wanted", case.name, ""](arrays)
        for mode in MODES:
            sides: dict[str, Queued] = {}
            differences: dict[str, float] = {}
            for one in names:
                needed = ((one, case.name, mode), ("difference", case.name, mode))
                missing = [programs.notes[key] for key in needed if key in programs.notes]
                if missing:
                    yield record(case, one, mode, note=missing[0])
                    continue
                emit({"side": one})
                run = functools.partial(programs.ready[needed[0]], *arrays)
                try:
                    compare = programs.ready[needed[1]]
                    differences[one] = float(compare(tuple(run()), wanted))
                except jax.errors.JaxRuntimeError as error:
                    if "RESOURCE_EXHAUSTED" not in str(error):
                        raise
                    yield record(case, one, mode, note=one_line(error))
                    continue
                sides[one] = Queued(run, jax.block_until_ready)
            times = in_turns(sides, samples=3 if dry else 9, seconds=1.0)
            for one, milliseconds in times.items():
                found = measured(milliseconds, case.flops(mode))
                yield record(case, one, mode, **found, difference=differences[one])


def run_blocks(turns: Turns, *, dry: bool) -> Iterator[Event]:
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
        turns.pass_on()
        return
    compiled = []
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
        functions: dict[str, Any] = {MODES[0]: forward, MODES[1]: both}
        if dry:  # a CPU can lower the kernels, and no more
            for mode, function in functions.items():
                traced = jax.jit(functools.partial(function, sizes=fitting[1])).trace(*shapes)
                kernels = traced.lower(lowering_platforms=("cuda",)).as_text().count("@mosaic_gpu_v2")
                note = reasons[0] if reasons else ""
                blocks = {"blocks": list(fitting[1]), "kernels": kernels}
                yield {**record(case, "mosaic_gpu", mode, note=note), **blocks}
            continue
        programs = Programs(turns.until)
        programs.add("arrays", functools.partial(arrays_of, case))
        wanted_shapes = jax.eval_shape(functools.partial(wanted_of, case, mask_of(case)), shapes)
        programs.add("wanted", functools.partial(wanted_of, case, mask_of(case)), shapes)
        for mode, function in functions.items():
            outputs = tuple(shapes[place] for place in ((0,) if mode == MODES[0] else (0, 0, 1, 2)))
            programs.add(("difference", mode), functools.partial(difference_of, case), outputs, wanted_shapes)
            for sizes in fitting:
                emit({"side": "mosaic_gpu"})
                programs.add((mode, sizes), functools.partial(function, sizes=sizes), *shapes)
        programs.wait(lambda key: "mosaic_gpu")
        compiled.append((case, fitting, programs))
    with turns.alone():
        for case, fitting, programs in compiled:
            emit({"side": "mosaic_gpu"})
            missing = [programs.notes[what] for what in ("arrays", "wanted") if what in programs.notes]
            if missing:
                yield {**record(case, "mosaic_gpu", MODES[0], note=missing[0]), "blocks": []}
                continue
            arrays = programs.ready["arrays"]()
            wanted = programs.ready["wanted"](arrays)
            for mode in MODES:
                sides, differences = {}, {}
                for sizes in fitting:
                    missing = [
                        programs.notes[key]
                        for key in ((mode, sizes), ("difference", mode))
                        if key in programs.notes
                    ]
                    if missing:
                        yield {
                            **record(case, "mosaic_gpu", mode, note=missing[0]),
                            "blocks": list(sizes),
                        }
                        continue
                    name = " ".join(map(str, sizes))
                    run = functools.partial(programs.ready[mode, sizes], *arrays)
                    differences[name] = float(programs.ready["difference", mode](tuple(run()), wanted))
                    sides[name] = Queued(run, jax.block_until_ready)
                for name, milliseconds in in_turns(sides, samples=7, seconds=1.0).items():
                    found = measured(milliseconds, case.flops(mode))
                    blocks = {"blocks": [int(size) for size in name.split()]}
                    yield {
                        **record(case, "mosaic_gpu", mode, **found, difference=differences[name]),
                        **blocks,
                    }


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
    from transformer_jax.environment import environment

    dry = "--dry-run" in sys.argv
    turns = Turns.of_words(sys.argv)
    items = json.loads(sys.argv[-1])

    def run(item: str) -> Iterator[Event]:
        yield {"environment": environment()}
        asked = json.loads(item)
        if asked["group"] == BLOCKS:
            yield from run_blocks(turns, dry=dry)
        else:
            yield from run_group(asked["group"], asked["without"], turns, dry=dry)

    serve(run, items)


if __name__ == "__main__":
    main()
