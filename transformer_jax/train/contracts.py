"""What the trainer needs of an objective.

Losses and metrics are sums with their counts, divided once over the whole batch, so that micro-batches and devices add
up to the same gradient. An objective that changes during training also has ``at(update)``, which returns the objective
of that update.
"""

from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from transformer_jax.data.batches import Seq2SeqBatch
from transformer_jax.functional.losses import LossSum
from transformer_jax.typing import Array, Int, Key, PyTree


@runtime_checkable
class Objective(Protocol):
    """The loss of a model on a batch; ``rng_key`` None means evaluation, without dropout."""

    def __call__(
        self, model: Any, batch: Any, rng_key: Key[Array, ""] | None
    ) -> tuple[LossSum, dict[str, LossSum], PyTree]:
        """Loss, metrics by name (``"loss"`` is the trainer's), and the variables that are no parameters."""
        ...


@runtime_checkable
class ScheduledObjective(Protocol):
    """An objective that depends on how far training has come."""

    def at(self, update: Int[Array, ""]) -> Objective:
        """The objective of the update that follows ``update`` updates."""
        ...


def count_tokens(batch: Any) -> int:
    """Real tokens of a ``Seq2SeqBatch`` or ``PackedBatch``, source and target, padding apart; read on the host."""
    return int(np.sum(batch.source_lengths) + np.sum(batch.target_lengths))


def abstract_batch(batch_size: int, source_len: int, target_len: int) -> Any:
    """A ``Seq2SeqBatch`` of shapes without data, to compile for."""

    def ints(*shape: int) -> Any:
        return jax.ShapeDtypeStruct(shape, jnp.int32)

    return Seq2SeqBatch(
        source_tokens=ints(batch_size, source_len),
        source_lengths=ints(batch_size),
        target_inputs=ints(batch_size, target_len),
        target_outputs=ints(batch_size, target_len),
        target_lengths=ints(batch_size),
        example_ids=ints(batch_size),
    )
