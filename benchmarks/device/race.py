"""Stage 4: the race with the contestants of its preset ``full``, PyTorch's beside them, over fewer lengths.

Generation comes first, then one length after the other. A contestant that fails its check is left out with a note.
"""

import dataclasses
import json
import sys
from collections.abc import Iterator

from benchmarks.device.watch import Event, Job, Parts, serve

LEFT_OUT = ("lstm:plain", "min_lstm:associative", "diagonal")
"""Of the preset: what the others tell already."""

CONTEXTS, BATCHES, LENGTHS = (1024, 8192), (1, 64), (1024, 128, 4096)
COMPILERS = 14


def jobs(*, dry: bool) -> Parts:
    """One process; the items are parts of the race."""
    contexts, lengths = ((8,), (8,)) if dry else (CONTEXTS, LENGTHS)
    items = [f"generation {contexts[0]}", *(f"length {length}" for length in lengths)]
    items += [f"generation {context}" for context in contexts[1:]]
    # An item of many programs: the limit is for what hangs.
    return [(1.0, [Job(__name__, ["--dry-run"] if dry else [], items, 300.0 if dry else 80.0, restarts=1)])]


def main() -> None:
    """The child: the items are the last argument."""
    from transformer_jax.environment import environment
    from transformer_jax.race.contestants import PEERS
    from transformer_jax.race.generation import race_over_contexts
    from transformer_jax.race.run import PRESETS, VOCAB_SIZE, crossovers
    from transformer_jax.race.speed import make_contestants, race_over_lengths
    from transformer_jax.race.timing import matmul_peak, memory_bandwidth
    from transformer_jax.race.torch_contestants import is_installed

    dry = "--dry-run" in sys.argv
    items = json.loads(sys.argv[-1])
    full = PRESETS["full"]
    names = ("lstm", "lstm:cudnn", "min_gru:associative", "transformer") if dry else full.contestants
    names = tuple(name for name in names if name not in LEFT_OUT)
    if is_installed():
        names += PEERS[:1] if dry else PEERS
    settings = dataclasses.replace(
        full, contestants=names, lengths=LENGTHS, contexts=CONTEXTS, batches=BATCHES, calls=12, max_seconds=1.5,
        width=32 if dry else full.width, tokens_a_batch=64 if dry else full.tokens_a_batch,
    )  # fmt: skip
    compilers = 1 if dry else COMPILERS
    notes: dict[str, str] = {}
    contestants = make_contestants(
        names, width=settings.width, vocab_size=VOCAB_SIZE, equal_parameters=True,
        longest=max(int(item.split()[1]) for item in items), compilers=compilers, failed=notes,
    )  # fmt: skip
    kept: list[dict] = []

    def run(item: str) -> Iterator[Event]:
        if item == items[0]:
            rulers = {
                "matmul_peak": matmul_peak(256 if dry else 8192),
                "memory_bandwidth": memory_bandwidth(8 if dry else 2048),
            }
            yield {"environment": environment()}
            yield {
                "header": {
                    **rulers,
                    "settings": dataclasses.asdict(settings),
                    "notes": notes,
                    "preset": "full, reduced",
                }
            }
        part, size = item.split()
        timed = {
            "calls": 5 if dry else settings.calls,
            "max_seconds": settings.max_seconds,
            "compilers": compilers,
        }
        if part == "generation":
            batches = BATCHES[:1] if dry else BATCHES
            groups = race_over_contexts(contestants, [int(size)], batches, **timed)
        else:
            groups = race_over_lengths(
                contestants, [int(size)], tokens_a_batch=settings.tokens_a_batch, **timed
            )
        for records in groups:
            for record in map(dataclasses.asdict, records):
                kept.append(record)
                yield record
        yield {"header": {"crossovers": crossovers(kept)}}

    serve(run, items)


if __name__ == "__main__":
    main()
