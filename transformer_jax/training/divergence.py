"""Non-finite losses and gradients: detected on the device at every update, reported when the host next reads them."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from transformer_jax.errors import RunError
from transformer_jax.training.metrics import Row
from transformer_jax.typing import Array, Bool, Int

KEPT = 8
"""Updates whose numbers are kept between two looks; of more, only the count."""

_EXAMPLES_SHOWN = 4


def no_divergence() -> dict[str, Array]:
    """Nothing seen yet; made without a computation, so nothing compiles in the loop."""
    return {
        "count": jax.device_put(np.zeros((), np.int32)),
        "updates": jax.device_put(np.zeros(KEPT, np.int32)),
    }


def note_divergence(
    seen: dict[str, Array], is_finite: Bool[Array, ""], update: Int[Array, ""]
) -> dict[str, Array]:
    """Divergences after an update, on the device.

    Args:
      seen: Before: ``count``, and ``updates`` ``[KEPT]``, the first of them.
      is_finite: Whether the update's loss and gradient are numbers.
      update: Its number, from 1.

    Example:
      >>> seen = note_divergence(no_divergence(), jnp.bool_(True), jnp.int32(1))
      >>> seen = note_divergence(seen, jnp.bool_(False), jnp.int32(2))
      >>> seen["count"].item(), seen["updates"].tolist()[:2]
      (1, [2, 0])
    """
    place = jnp.where(is_finite, KEPT, seen["count"])  # beyond the end: dropped
    return {
        "count": seen["count"] + jnp.where(is_finite, 0, 1).astype(jnp.int32),
        "updates": seen["updates"].at[place].set(update, mode="drop"),
    }


@dataclasses.dataclass(frozen=True)
class Diverged:
    """Updates since the last look whose loss or gradient was no number.

    Attributes:
      count: How many.
      updates: The first of them, rising; at most `KEPT`.
      examples: The ids of the examples in the batch of each; empty where the batches have none.
    """

    count: int
    updates: tuple[int, ...]
    examples: tuple[tuple[int, ...], ...] = ()

    @classmethod
    def fetched(cls, seen: dict[str, Array]) -> "Diverged | None":
        """Of the device's note; None where all was finite."""
        count = int(seen["count"])
        if not count:
            return None
        return cls(count, tuple(int(update) for update in np.asarray(seen["updates"])[: min(count, KEPT)]))

    def row(self, update: int, policy: str) -> Row:
        """The log's row, seen at ``update``."""
        return {
            "kind": "divergence",
            "update": update,
            "policy": policy,
            "count": self.count,
            "updates": list(self.updates),
            "examples": [list(ids) for ids in self.examples],
        }

    def told(self, means: dict[str, float]) -> str:
        """``"loss is nan at update 37 (examples 12, 845, 3, 9, ... of the training data)"``."""
        bad = [name for name in ("loss", "gradient_norm") if not math.isfinite(means[name])]
        what = f"{bad[0]} is {means[bad[0]]}" if bad else "the loss or its gradient is no number"
        ids = self.examples[0] if self.examples else ()
        some = ", ".join(str(number) for number in ids[:_EXAMPLES_SHOWN])
        more = ", ..." if len(ids) > _EXAMPLES_SHOWN else ""
        where = f" (its batch: examples {some}{more}; all of them in metrics.jsonl)" if ids else ""
        others = f" and at {self.count - 1} more" if self.count > 1 else ""
        return f"{what} at update {self.updates[0]}{where}{others}"


def example_ids(batch: Any) -> tuple[int, ...]:
    """The ids of a batch's examples, dummy rows left out; none where the batches carry none."""
    ids = getattr(batch, "example_ids", None)
    return () if ids is None else tuple(int(number) for number in np.asarray(ids).ravel() if number >= 0)


def diverged_error(told: str, *, policy: str, limit: int) -> RunError:
    """The end of a run that diverged."""
    again = "start again (`overwrite=True`) with a lower learning rate, a longer warm-up, or clip_norm"
    if policy == "stop":
        past = "go on past it with `resume=True` and `train.on_divergence=skip` (or rollback)"
        return RunError(f"training diverged: {told}", hint=f"{past}, or {again}")
    return RunError(
        f"training diverged: {told}; that is more than train.max_divergences ({limit})", hint=again
    )
