"""One update as a pure function of (state, batch), compiled ahead of time for each batch shape."""

import concurrent.futures
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional.losses import LossSum
from transformer_jax.memory import program_bytes
from transformer_jax.pytree import replace
from transformer_jax.training.config import RowAdagrad, TrainConfig
from transformer_jax.training.contracts import Objective, RowObjective, ScheduledObjective
from transformer_jax.training.divergence import note_divergence
from transformer_jax.training.metrics import add_metrics
from transformer_jax.training.optimizers import build_optimizer
from transformer_jax.training.router_losses import routing_terms
from transformer_jax.training.row_updates import change_rows
from transformer_jax.training.schedules import Schedule, build_schedule
from transformer_jax.training.state import (
    ModelStructure,
    NamedArrays,
    TrainState,
    create_state,
    named_arrays,
    split_model,
)
from transformer_jax.typing import Array, Float, Int, Key, PyTree

StepFunction = Callable[..., TrainState]
BatchKey = tuple[tuple[tuple[int, ...], str], ...]


class _Update(NamedTuple):
    """What an update changes, with its loss and the norm of the gradient of its mean loss."""

    params: Any
    model_state: Any
    optimizer_state: Any
    loss: LossSum
    metrics: dict[str, LossSum]
    norm: Float[Array, ""]


def build_step(structure: ModelStructure, objective: Objective, config: TrainConfig) -> StepFunction:
    r"""The function that does one update.

    The gradient is that of the summed loss, divided once by the count of the whole batch:

    .. math:: g = \nabla \sum_m \ell_m \big/ \sum_m n_m, \quad g \leftarrow g \min(1, c / \lVert g \rVert)

    over the micro-batches :math:`m`, so that ``accumulation`` changes the memory needed and nothing else.
    (Dropout draws other masks, and batch normalisation sees each micro-batch by itself.)

    Args:
      structure: The static half of the model.
      objective: Gives the summed loss of the model on a batch.
      config: Optimiser, schedule, clipping, accumulation, and what a divergence does.

    Returns:
      ``(state, batch, updates=None) -> state``, pure; the metrics of the update are added to ``state.metrics``, and an
      update with a non-finite loss or gradient is recorded in ``state.divergence``. ``updates`` is the run's length
      as an array: what is compiled then serves a run that is made longer; None takes the config's as a constant.

    Raises:
      ShapeError: When traced, if the rows of the batch do not divide by ``accumulation``.
    """

    def gradient_for(state: TrainState, batch: Any, rng_key: Key[Array, ""]) -> Any:
        """The gradient's function for batches of this shape."""
        arguments = (state.params, state.model_state, batch, rng_key, state.update)
        return loss_gradient(
            structure.for_program(lambda one: loss_gradient(one, objective), *arguments), objective
        )

    def accumulated(state: TrainState, batch: Any, rng_key: Key[Array, ""]) -> tuple[Any, Any]:
        """Gradient of the sum over micro-batches, and what the objective returned, summed."""

        def micro_step(carry: Any, inputs: Any) -> tuple[Any, None]:
            gradient, loss, metrics, model_state = carry
            micro_batch, index = inputs
            key = jax.random.fold_in(rng_key, index)
            new_gradient, (new_loss, new_metrics, model_state) = gradient_of_sum(
                state.params, model_state, micro_batch, key, state.update
            )
            gradient = jax.tree.map(jnp.add, gradient, new_gradient)
            return (gradient, loss + new_loss, add_metrics(metrics, new_metrics), model_state), None

        micro_batches = _split_rows(batch, config.accumulation)
        first = jax.tree.map(lambda array: array[0], micro_batches)
        gradient_of_sum = gradient_for(state, first, rng_key)
        shapes = jax.eval_shape(
            gradient_of_sum, state.params, state.model_state, first, rng_key, state.update
        )
        gradient, (loss, metrics, _) = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        carry = (gradient, loss, metrics, state.model_state)
        indices = jnp.arange(config.accumulation)
        (gradient, *auxiliary), _ = jax.lax.scan(micro_step, carry, (micro_batches, indices))
        return gradient, tuple(auxiliary)

    def updated_by_gradient(state: TrainState, batch: Any, schedule: Schedule) -> _Update:
        optimizer = build_optimizer(config.optimizer, schedule)
        rng_key = jax.random.fold_in(state.rng_key, state.update)
        if config.accumulation > 1:
            gradient, (loss, metrics, model_state) = accumulated(state, batch, rng_key)
        else:
            gradient, (loss, metrics, model_state) = gradient_for(state, batch, rng_key)(
                state.params, state.model_state, batch, rng_key, state.update
            )
        count = jnp.where(loss.count > 0, loss.count, 1.0)
        norm = _global_norm(gradient) / count
        scale = 1.0 / count
        if config.clip_norm is not None:
            scale = scale * jnp.minimum(1.0, config.clip_norm / jnp.maximum(norm, 1e-12))
        gradient = jax.tree.map(lambda leaf: leaf * scale.astype(leaf.dtype), gradient)
        with jax.numpy_dtype_promotion(
            "standard"
        ):  # optax mixes dtypes, which a user's "strict" would refuse
            changes, optimizer_state = optimizer.update(gradient, state.optimizer_state, state.params)
        params = optax.apply_updates(state.params, changes)
        return _Update(params, model_state, optimizer_state, loss, metrics, norm)

    def updated_by_rows(state: TrainState, batch: Any, schedule: Schedule) -> _Update:
        changed = change_rows(by_rows, state.params, state.optimizer_state, batch, schedule=schedule)
        norm = changed.norm / jnp.where(changed.loss.count > 0, changed.loss.count, 1.0)
        return _Update(
            changed.params, state.model_state, changed.optimizer_state, changed.loss, changed.metrics, norm
        )

    chooses_rows = isinstance(config.optimizer, RowAdagrad) and isinstance(objective, RowObjective)
    by_rows: Any = objective if chooses_rows else None
    if by_rows is not None:
        _check_updates_by_rows(config)
    updated = updated_by_gradient if by_rows is None else updated_by_rows

    def step(state: TrainState, batch: Any, updates: Int[Array, ""] | None = None) -> TrainState:
        schedule = build_schedule(config.schedule, updates=config.updates if updates is None else updates)
        found = updated(state, batch, schedule)
        own_metrics = {
            "loss": found.loss,
            "gradient_norm": LossSum.of(found.norm, 1.0),
            "learning_rate": LossSum.of(schedule(state.update), 1.0),
        }
        after = replace(
            state,
            params=found.params,
            average=moved_average(state.average, found.params, state.update, config.average_decay),
            model_state=found.model_state,
            optimizer_state=found.optimizer_state,
            metrics=add_metrics(state.metrics, found.metrics | own_metrics),
        )
        is_finite = jnp.isfinite(found.loss.sum) & jnp.isfinite(found.norm)
        if config.on_divergence == "skip":
            after = jax.tree.map(lambda new, old: jnp.where(is_finite, new, old), after, state)
        update = state.update + 1
        return replace(after, update=update, divergence=note_divergence(state.divergence, is_finite, update))

    return step


def _check_updates_by_rows(config: TrainConfig) -> None:
    """Raise ``ConfigError`` for what needs the gradient of whole parameters."""
    if config.accumulation > 1:
        raise ConfigError(
            f"train.accumulation is {config.accumulation}, but optimizer 'row_adagrad' changes the rows of a batch at "
            "once: set it to 1, and choose data.batch_size instead"
        )
    if config.clip_norm is not None:
        raise ConfigError(
            f"train.clip_norm is {config.clip_norm}, but optimizer 'row_adagrad' scales each row by itself: set it to "
            "null"
        )


def loss_gradient(structure: ModelStructure, objective: Objective) -> Callable[..., tuple[Any, Any]]:
    """The gradient of an objective's summed loss, as every update takes it.

    Args:
      structure: The static half of the model.
      objective: Gives the summed loss of the model on a batch.

    Returns:
      ``(params, model_state, batch, rng_key, update) -> (gradient, (loss, metrics, new model state))``. Losses of
      routers are in the gradient, not in the loss, and stand among the metrics.
    """

    def summed_loss(
        params: NamedArrays, model_state: NamedArrays, batch: Any, rng_key: Key[Array, ""], update: Array
    ) -> tuple[Array, tuple[LossSum, dict[str, LossSum], NamedArrays]]:
        at_update = objective.at(update) if isinstance(objective, ScheduledObjective) else objective
        model = structure.merge(params, model_state)
        loss, metrics, new_model_state = at_update(model, batch, rng_key)
        auxiliary, of_routing = routing_terms(model)
        total = loss.sum + auxiliary * loss.count if of_routing else loss.sum
        return total, (loss, metrics | of_routing, named_arrays(new_model_state))

    return jax.grad(summed_loss, has_aux=True)


def moved_average(
    average: NamedArrays, params: NamedArrays, update: Array, average_decay: float
) -> NamedArrays:
    r"""The moving average after an update, :math:`a \leftarrow \delta a + (1 - \delta) p`; an empty one stays empty.

    Args:
      average: Before, by name.
      params: After the update, by the same names.
      update: Updates done before, :math:`t`.
      average_decay: :math:`d`; early on :math:`\delta = (1 + t) / (10 + t)` where that is less.

    Example:
      >>> moved_average({"w": jnp.zeros(())}, {"w": jnp.ones(())}, jnp.int32(0), 0.999)["w"].item()
      0.8999999761581421

    Source: Polyak and Juditsky 1992; the start is that of ``tf.train.ExponentialMovingAverage``.
    """
    done = update.astype(jnp.float32)
    decay = jnp.minimum(average_decay, (1.0 + done) / (10.0 + done))
    return {
        name: old + ((1.0 - decay) * (params[name] - old)).astype(old.dtype) for name, old in average.items()
    }


def metric_shapes(
    structure: ModelStructure, params: NamedArrays, model_state: NamedArrays, objective: Objective, batch: Any
) -> dict[str, LossSum]:
    """Shapes of all metrics that a step of this objective adds up, found without computing."""

    def traced(params: NamedArrays, model_state: NamedArrays, batch: Any, rng_key: Any) -> dict[str, LossSum]:
        model = structure.merge(params, model_state)
        loss, metrics, _ = objective(model, batch, rng_key)
        metrics = metrics | routing_terms(model)[1]
        return metrics | {"loss": loss, "gradient_norm": loss, "learning_rate": loss}

    return jax.eval_shape(traced, params, model_state, batch, jax.eval_shape(lambda: jax.random.key(0)))


def first_state(
    model: nnx.Module, objective: Objective, config: TrainConfig, batch: Any
) -> tuple[ModelStructure, TrainState]:
    """The state before the first update of a run.

    Args:
      model: Holds the initial parameters; left as it is.
      objective: Names the metrics that are added up.
      config: Optimiser, schedule, seed, and whether an average is kept.
      batch: One batch, or its shapes.

    Returns:
      ``(structure, state)``, see `create_state`.
    """
    structure, params, model_state = split_model(model)
    schedule = build_schedule(config.schedule, updates=config.updates)
    return create_state(
        model,
        build_optimizer(config.optimizer, schedule),
        seed=config.seed,
        metrics=metric_shapes(structure, params, model_state, objective, batch),
        averages=config.average_decay > 0,
    )


class CompiledSteps:
    """Executables of one step function, one a batch shape; state buffers are donated.

    Args:
      step: The function.
      on_unplanned: Called with a batch whose shape was not planned.
      updates: Length of the run, handed to ``step`` at each call; None where it has that as a constant.

    Attributes:
      compile_seconds: Time spent on tracing and compiling.
      unplanned: Shapes that came without having been planned, each compiled when it came, unless the callback that
        is told of it raises.
    """

    def __init__(
        self,
        step: StepFunction,
        on_unplanned: Callable[[Any], None] | None = None,
        *,
        updates: Int[Array, ""] | None = None,
    ) -> None:
        self._length = () if updates is None else (updates,)
        self._jitted = jax.jit(step, donate_argnums=0)
        self._executables: dict[BatchKey, Any] = {}
        self._on_unplanned = on_unplanned
        self.compile_seconds = 0.0
        self.unplanned = 0

    def __len__(self) -> int:
        return len(self._executables)

    def compile(self, state: TrainState, batches: Sequence[Any]) -> None:
        """Compile for the shapes of ``batches`` (arrays or ``ShapeDtypeStruct``) that are not compiled yet.

        XLA compiles a program for the CPU on one thread, so several are compiled side by side.
        """
        start = time.perf_counter()
        missing = {
            _batch_key(batch): batch for batch in batches if _batch_key(batch) not in self._executables
        }
        executor = concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count())
        try:
            compiled = {
                key: executor.submit(self._jitted.lower(state, batch, *self._length).compile)
                for key, batch in missing.items()
            }
            self._executables |= {key: future.result() for key, future in compiled.items()}
        finally:
            executor.shutdown(wait=False, cancel_futures=True)  # after Ctrl-C, do not begin the others
        if missing:
            self.compile_seconds += time.perf_counter() - start

    def peak_bytes(self) -> int | None:
        """The most bytes that a program takes: state, batch and temporary arrays; None where XLA does not tell."""
        sizes = [program_bytes(one) for one in self._executables.values()]
        return max((size for size in sizes if size is not None), default=None)

    def __call__(self, state: TrainState, batch: Any) -> TrainState:
        """Do one update; ``state``'s buffers are given up."""
        executable = self._executables.get(_batch_key(batch))
        if executable is None:
            self.unplanned += 1
            if self._on_unplanned is not None:
                self._on_unplanned(batch)
            self.compile(state, [batch])
            executable = self._executables[_batch_key(batch)]
        return executable(state, batch, *self._length)


def _global_norm(tree: PyTree) -> Float[Array, ""]:
    """Euclidean norm over all leaves, float32."""
    squares = [jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(tree)]
    return jnp.sqrt(jnp.sum(jnp.stack(squares)))


def _batch_key(batch: Any) -> BatchKey:
    return tuple((leaf.shape, leaf.dtype.name) for leaf in jax.tree.leaves(batch))


def _split_rows(batch: Any, parts: int) -> Any:
    """Every leaf ``[rows, ...]`` of ``batch`` as ``[parts, rows / parts, ...]``."""

    def split(array: Any) -> Any:
        if array.shape[0] % parts:
            raise ShapeError(
                f"accumulation ({parts}) must divide the rows of a batch ({array.shape[0]}): "
                "change accumulation or batch_size"
            )
        return array.reshape(parts, array.shape[0] // parts, *array.shape[1:])

    return jax.tree.map(split, batch)
