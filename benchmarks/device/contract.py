"""Stage 1: the contract suites of attention and of the recurrence, by the implementations made for a GPU.

Nothing is timed here, so as many processes as there are cores run beside each other. The implementations that take
16-bit numbers alone are held to the cases in bfloat16 and float16, the others in float32 with products in full
precision; then all to lengths of many blocks. What an implementation refuses before computing is kept as refused.
"""

import functools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from benchmarks.device.watch import Event, Job, Parts, is_device_lost, one_line, serve

ATTENTION = {"mosaic_gpu": 6, "cudnn": 6, "blockwise": 5, "xla": 4}
"""Implementations by name, each with its number of processes, some twenty for sixteen cores; the LSTM has one more."""

OF_16_BITS = ("mosaic_gpu", "cudnn")
FIRST = (
    "plain", "causal", "lengths", "grouped_heads", "window", "valid", "empty_rows", "odd_lengths", "multi_query",
    "causal_square", "causal_long_query", "one_query",
)  # fmt: skip
BLOCKS_FIRST = ("causal", "full")
CUDNN_WIDTH = 8
"""cuDNN takes widths that are multiples of it: narrower cases are handed over with zeros behind."""


def items_of(implementation: str) -> list[str]:
    """The items of an implementation of attention, the most telling first: ``implementation|case|detail``."""
    from transformer_jax.functional.attention import REFUSALS
    from transformer_jax.testing.attention_blocks import BLOCK_CASES
    from transformer_jax.testing.attention_suite import case_names

    served = [name for name in case_names() if name not in REFUSALS[implementation]]
    ordered = [*(name for name in FIRST if name in served), *(name for name in served if name not in FIRST)]
    in_16_bits = implementation in OF_16_BITS
    widths = (64, 128, 80) if in_16_bits else (64,)
    blocks = [
        f"{implementation}|blocks:{name}|{width}"
        for width in widths
        for name in (*BLOCKS_FIRST, *(name for name in BLOCK_CASES if name not in BLOCKS_FIRST))
    ]
    dtypes = ("bfloat16", "float16") if in_16_bits else ("float32",)
    tiny = [[f"{implementation}|{name}|{dtype}" for name in ordered] for dtype in dtypes]
    head = 4  # a few tiny cases, the widest of the block cases, then the rest
    return [
        *tiny[0][:head],
        *blocks[:2],
        *tiny[0][head:],
        *blocks[2:],
        *(item for items in tiny[1:] for item in items),
    ]


def recurrence_items() -> list[str]:
    """The checks of the LSTM of cuDNN."""
    from transformer_jax.testing.recurrence_suite import CHECKS

    return [f"lstm cudnn|{name}|float32" for name in CHECKS]


def jobs(*, dry: bool) -> Parts:
    """The processes of the stage."""
    lists = {name: items_of(name) for name in ATTENTION}
    recurrence = recurrence_items()
    if dry:
        some = [*(name for items in lists.values() for name in items[:1]), "blockwise|blocks:lengths|64"]
        return [(1.0, [Job(__name__, [], [*some, *recurrence[:1]], item_seconds=300.0, restarts=1)])]
    shards = [
        Job(__name__, [], items[shard::count], item_seconds=40.0)
        for name, count in ATTENTION.items()
        for items in [lists[name]]
        for shard in range(count)
    ]
    shards.append(Job(__name__, [], recurrence, item_seconds=40.0))
    # What PyTorch compiles for the last stage is kept in its cache; it has the cores while nothing is timed.
    if find_spec("torch") is not None:
        shards.append(Job("benchmarks.device.training_torch", [], ["warm"], item_seconds=110.0, restarts=0))
    return [(1.0, shards)]


def run_item(item: str) -> Iterator[Event]:
    """Run one check and say how it went."""
    implementation, case, detail = item.split("|")
    began = time.perf_counter()
    family = "recurrence" if implementation.startswith("lstm") else "attention"
    outcome, message, errors = "passed", "", {}
    try:
        errors = _check(implementation, case, detail) or {}
    except NotImplementedError as refusal:
        outcome, message = "refused", one_line(refusal)
    except AssertionError as failure:
        outcome, message = "failed", one_line(failure)
    except Exception as error:
        if is_device_lost(error):
            raise
        outcome, message = "failed", one_line(error)
    yield {
        "item": item, "family": family, "implementation": implementation.split()[-1], "case": case,
        "detail": detail, "outcome": outcome, "message": message, "errors": errors,
        "seconds": round(time.perf_counter() - began, 2),
    }  # fmt: skip


def _check(implementation: str, case: str, detail: str) -> dict[str, float] | None:
    import jax

    from transformer_jax import functional as F
    from transformer_jax.testing import attention_blocks, attention_suite, recurrence_suite

    if implementation.startswith("lstm"):
        with jax.default_matmul_precision("highest"):
            recurrence_suite.CHECKS[case](_cudnn_recurrence(), "lstm")
        return None
    attend: Any = functools.partial(F.attention, implementation=implementation)
    if implementation == "cudnn":
        attend = functools.partial(widened, attend)
    if case.startswith("blocks:"):
        name = case.removeprefix("blocks:")
        return attention_blocks.check_blocks(
            attend, name, int(detail), same_bits=implementation == "mosaic_gpu"
        )
    if detail != "float32":
        return attention_suite.check_case_in_16_bits(attend, case, getattr(jax.numpy, detail))
    with jax.default_matmul_precision("highest"):
        attention_suite.check_case(attend, case)
    return None


@functools.cache
def _cudnn_recurrence() -> Any:
    """One function for all checks, so that they share their programs."""
    from transformer_jax.functional.recurrent import recurrence

    return functools.partial(recurrence, implementation="cudnn")


def widened(attend: Any, query: Any, key: Any, value: Any, *, score: Any = None, **rest: Any) -> Any:
    """The same attention with zeros behind narrow heads, up to a multiple of :data:`CUDNN_WIDTH`."""
    import jax.numpy as jnp

    from transformer_jax import functional as F

    score = F.ScaledDot() if score is None else score
    more = -query.shape[-1] % CUDNN_WIDTH
    if not more:
        return attend(query, key, value, score=score, **rest)
    if isinstance(score, F.ScaledDot):
        score = F.ScaledDot(score.scale_for(query.shape[-1]))
    pad = [(0, 0), (0, 0), (0, 0), (0, more)]
    output = attend(*(jnp.pad(array, pad) for array in (query, key, value)), score=score, **rest)
    return output[..., : value.shape[-1]]


def verdicts(records: Sequence[Event]) -> dict[str, dict[str, dict[str, Any]]]:
    """By family and implementation: counts by outcome, what was refused, and whether it passed.

    It passed if something passed and everything else was refused before computing: one failure, hang, crash or check
    that was not run is enough against it.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for one in records:
        if one["item"].count("|") != 2:
            continue  # no check
        name, case, _ = one["item"].split("|")
        family = "recurrence" if name.startswith("lstm") else "attention"
        verdict = found.setdefault(family, {}).setdefault(name.split()[-1], {"counts": {}, "refused": []})
        counts = verdict["counts"]
        counts[one["outcome"]] = counts.get(one["outcome"], 0) + 1
        if one["outcome"] == "refused" and case not in verdict["refused"]:
            verdict["refused"].append(case)
    for implementations in found.values():
        for verdict in implementations.values():
            verdict["passed"] = bool(verdict["counts"].get("passed")) and set(verdict["counts"]) <= {
                "passed", "refused",
            }  # fmt: skip
    return found


def main() -> None:
    """The child: the items are the last argument."""
    from transformer_jax.environment import environment

    def run(item: str) -> Iterator[Event]:
        if item == items[0]:
            yield {"environment": environment()}
        yield from run_item(item)

    items = json.loads(sys.argv[-1])
    serve(run, items)


if __name__ == "__main__":
    main()
