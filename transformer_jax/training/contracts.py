"""Protocols of objectives and of training data.

Losses and metrics are sums with their counts, divided once over the whole batch, so that micro-batches and devices add
up to the same gradient. An objective that changes during training also has ``at(update)``, which returns the objective
of that update.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

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


@runtime_checkable
class RowObjective(Protocol):
    """An objective that reads some parameters only at rows that the batch names; see `RowAdagrad`.

    It draws nothing, and its model has no variables but parameters.
    """

    def rows(self, batch: Any) -> Mapping[str, Int[Array, " uses"]]:
        """Rows that a batch reads, by the dotted path of their parameter, once for each use; all in its bounds."""
        ...

    def on_rows(self, tables: Mapping[str, Array], batch: Any) -> tuple[LossSum, dict[str, LossSum]]:
        """Loss and metrics from the rows that `rows` named, in that order, and from the other parameters whole."""
        ...


@runtime_checkable
class BatchSource(Protocol):
    """Training batches without end, from any step on.

    A batch is a pytree of arrays whose axis 0 is the row, axis 1 the position where there is one. Where it has an
    attribute ``example_ids``, a report of a non-finite loss names those of its batch that are not negative.
    """

    def abstract_batches(self) -> Sequence[Any]:
        """A batch for each shape that will come; only shapes and dtypes of the leaves are read."""
        ...

    def iterate(self, start_step: int) -> Iterator[Any]:
        """Batches, the first being the one that follows ``start_step`` batches."""
        ...

    def count_tokens(self, batch: Any) -> int:
        """Real tokens of a batch, padding apart."""
        ...
