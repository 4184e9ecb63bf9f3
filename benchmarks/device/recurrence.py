"""Stage 3: recurrences beside ``torch.nn.LSTM`` and ``GRU``, by the cases and checks of ``benchmarks/recurrence.py``.

The sides of a case are compiled beside each other, compared with the plain loop, then take turns. One that differs or
fails has a note in the place of a time.
"""

import dataclasses
import json
import sys
from collections.abc import Iterator

from benchmarks.device.watch import Event, Job, Parts, serve

BOTH, FORWARD = "forward and backward", "forward"
COMPILERS = 8

# part, cell, batch, time, hidden, mode; the most telling first
CASES = (
    ("peers", "lstm", 64, 64, 512, BOTH),
    ("peers", "gru", 64, 64, 512, BOTH),
    ("peers", "lstm", 16, 512, 256, BOTH),
    ("peers", "lstm", 32, 32, 256, BOTH),
    ("linear", "min_gru", 4, 4096, 256, BOTH),
    ("peers", "gru", 16, 512, 256, BOTH),
    ("newton", "gru", 1, 512, 32, BOTH),
    ("linear", "min_lstm", 32, 512, 256, BOTH),
    ("peers", "lstm", 64, 64, 512, FORWARD),
    ("peers", "gru", 32, 32, 256, BOTH),
    ("newton", "lstm", 1, 2048, 32, FORWARD),
    ("linear", "diagonal", 4, 4096, 256, BOTH),
    ("peers", "lstm", 128, 32, 1024, BOTH),
    ("linear", "min_gru", 256, 64, 256, BOTH),
    ("peers", "lstm", 1, 128, 256, FORWARD),
)
TINY = (
    ("peers", "lstm", 2, 4, 8, BOTH),
    ("linear", "min_gru", 2, 8, 8, BOTH),
    ("newton", "gru", 1, 8, 4, FORWARD),
)


def jobs(*, dry: bool) -> Parts:
    """One process; PyTorch is in it, and shares the GPU's memory."""
    items = [json.dumps(case) for case in (TINY if dry else CASES)]
    return [(1.0, [Job(__name__, ["--dry-run"] if dry else [], items, 300.0 if dry else 40.0, restarts=4)])]


def main() -> None:
    """The child: the items are the last argument."""
    from importlib.util import find_spec

    from benchmarks import recurrence
    from transformer_jax.environment import environment
    from transformer_jax.race.timing import matmul_peak

    dry = "--dry-run" in sys.argv
    items = json.loads(sys.argv[-1])
    peak = matmul_peak(256 if dry else 8192)

    def run(item: str) -> Iterator[Event]:
        if item == items[0]:
            yield {"environment": environment()}
            yield {"header": {"matmul_peak": peak}}
        part, cell, batch, time, hidden, mode = json.loads(item)
        case = recurrence.Case(part=part, cell=cell, batch=batch, time=time, hidden=hidden, mode=mode)
        records = recurrence.run_case(
            case, calls=3 if dry else 15, seconds=2.0, with_torch=find_spec("torch") is not None, torch_python=None,
            peak=peak, compilers=1 if dry else COMPILERS, strict=False,
        )  # fmt: skip
        yield from map(dataclasses.asdict, records)

    serve(run, items)


if __name__ == "__main__":
    main()
