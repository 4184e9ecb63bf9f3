"""The contract of sequence-to-sequence models, as functions that any library can call on its own model.

A model has the call ``model(source_tokens, source_lengths, target_inputs, *, rng_key=None)`` (teacher
forcing), ``hidden`` and ``output_projection`` of the same, ``start`` and ``step`` (search) and
``attention_maps``. Each check raises ``AssertionError`` with what was found; :data:`CHECKS` holds all.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from transformer_jax.decode.protocol import TokenInputs
from transformer_jax.typing import Array

__all__ = ["CHECKS", "SOURCE_VOCAB_SIZE", "TARGET_VOCAB_SIZE", "StepModelBatch", "make_batch"]

SOURCE_VOCAB_SIZE = 11
TARGET_VOCAB_SIZE = 9
SOURCE_LEN = 6
TARGET_LEN = 5
MAX_SOURCE_LEN = 9  # the longest source that a check feeds, for models that must know it
TOLERANCE = 1e-5

_FIRST_WORD_ID = 4
_FIVE_ROWS = (0, 1, 2, 3, 1)  # what becomes of the four rows of the batch where one of them is repeated


class StepModelBatch(NamedTuple):
    """Sources of several lengths (one of them empty) and targets."""

    source_tokens: Any
    source_lengths: Any
    target_inputs: Any


def make_batch(seed: int = 0) -> StepModelBatch:
    """A batch of four rows: a full, a shorter, a one-token and an empty source."""
    generator = np.random.default_rng(seed)
    lengths = np.array([SOURCE_LEN, 3, 1, 0], np.int32)
    source = generator.integers(_FIRST_WORD_ID, SOURCE_VOCAB_SIZE, (4, SOURCE_LEN), dtype=np.int32)
    source = np.where(np.arange(SOURCE_LEN)[None, :] < lengths[:, None], source, 0)
    target = generator.integers(_FIRST_WORD_ID, TARGET_VOCAB_SIZE, (4, TARGET_LEN), dtype=np.int32)
    target[:, 0] = 2
    return StepModelBatch(jnp.asarray(source), jnp.asarray(lengths), jnp.asarray(target))


# The checks spend nearly all their time on compiling, so the compiler's optimisations are off.
_COMPILER_OPTIONS = {"xla_backend_optimization_level": 0}


@functools.partial(
    jax.jit, static_argnums=(0, 1), static_argnames=("max_len",), compiler_options=_COMPILER_OPTIONS
)
def _run_compiled(graphdef: nnx.GraphDef, method: str, params: Any, *arguments: Any, **options: Any) -> Any:
    return getattr(nnx.merge(graphdef, params), method)(*arguments, **options)


def _run(model: nnx.Module, method: str, *arguments: Any, **options: Any) -> Any:
    """Call a method, compiled; equal models share the compilation."""
    graphdef, params = nnx.split(model)
    return _run_compiled(graphdef, method, params, *arguments, **options)


class _WholeCall(NamedTuple):
    """Outputs of one program for a batch, in NumPy; ``None`` for those that the model does not have."""

    logits: Any
    logits_with_dropout: Any
    gradients: Any
    hidden: Any
    attention_maps: dict[str, Any] | None


def _whole_call(model: nnx.Module, batch: StepModelBatch, *, seed: int = 1) -> _WholeCall:
    """All that teacher forcing gives, in one program that the checks share; ``seed`` is dropout's."""
    return jax.device_get(_compiled_whole_call(*nnx.split(model), batch, jax.random.key(seed)))


@functools.partial(jax.jit, static_argnums=0, compiler_options=_COMPILER_OPTIONS)
def _compiled_whole_call(
    graphdef: nnx.GraphDef, params: Any, batch: StepModelBatch, rng_key: jax.Array
) -> _WholeCall:
    model: Any = nnx.merge(graphdef, params)

    def loss(params: Any) -> Array:
        log_probs = jax.nn.log_softmax(nnx.merge(graphdef, params)(*batch))
        labels = jnp.roll(batch.target_inputs, -1, axis=1)
        return -jnp.mean(jnp.take_along_axis(log_probs, labels[..., None], axis=-1))

    return _WholeCall(
        logits=model(*batch),
        # Training may write running statistics: a model of its own.
        logits_with_dropout=nnx.merge(graphdef, params, copy=True)(*batch, rng_key=rng_key),
        gradients=jax.grad(loss)(params),
        hidden=model.hidden(*batch) if hasattr(model, "hidden") else None,
        attention_maps=model.attention_maps(*batch) if hasattr(model, "attention_maps") else None,
    )


def teacher_forced_logits(
    model: nnx.Module, batch: StepModelBatch, *, rng_key: jax.Array | None = None
) -> Array:
    """Logits ``[batch, target_len, vocab]`` by the whole call."""
    return _run(model, "__call__", *batch, rng_key=rng_key)


def stepwise_logits(
    model: nnx.Module,
    batch: StepModelBatch,
    *,
    spare_room: int = 0,
    rows: Any = None,
    order: Any = None,
) -> Array:
    """Logits ``[rows, target_len, vocab]`` by ``start`` and a compiled loop of ``step``.

    Args:
      model: The model.
      batch: What to feed.
      spare_room: How much larger than the number of steps ``max_len`` is.
      rows: The rows of the batch to continue with after ``start``; all when ``None``.
      order: Into which order of ``rows`` the state is brought after the first step; as they are when ``None``.
    """
    batch_size, target_len = batch.target_inputs.shape
    taken = np.arange(batch_size) if rows is None else np.asarray(rows)
    as_they_are = np.arange(len(taken))
    reordered = as_they_are if order is None else np.asarray(order)
    targets = np.asarray(batch.target_inputs)
    tokens = np.concatenate([targets[taken, :1], targets[taken[reordered], 1:]], axis=1)
    orders = np.tile(as_they_are, (target_len, 1))
    orders[1] = reordered
    return _compiled_steps(
        *nnx.split(model), batch.source_tokens, batch.source_lengths, taken, orders, tokens,
        max_len=target_len + spare_room,
    )  # fmt: skip


@functools.partial(jax.jit, static_argnums=0, static_argnames="max_len", compiler_options=_COMPILER_OPTIONS)
def _compiled_steps(
    graphdef: nnx.GraphDef,
    params: Any,
    source_tokens: Array,
    source_lengths: Array,
    rows: Array,
    orders: Array,
    tokens: Array,
    *,
    max_len: int,
) -> Array:
    model: Any = nnx.merge(graphdef, params)

    def step(state: Any, at_time: tuple[Array, Array]) -> tuple[Any, Array]:
        order, tokens = at_time
        logits, state = model.step(jax.tree.map(lambda leaf: leaf[order], state), tokens)
        return state, logits

    state = model.start(TokenInputs(source_tokens, source_lengths), max_len=max_len)
    state = jax.tree.map(lambda leaf: leaf[rows], state)
    _, logits = jax.lax.scan(step, state, (orders, tokens.T))
    return logits.swapaxes(0, 1)


def check_stepwise_equals_teacher_forced(model: nnx.Module) -> None:
    """``step`` by ``step`` gives the logits of the whole call, also when the state has room to spare."""
    batch = make_batch()
    wanted = _whole_call(model, batch).logits
    _assert_shape("logits", wanted, (4, TARGET_LEN, TARGET_VOCAB_SIZE))
    assert wanted.dtype == jnp.float32, f"logits must be float32, got {wanted.dtype}"
    _check_that_a_loop_can_carry_the_state(model)
    _assert_close("stepwise logits", stepwise_logits(model, batch, spare_room=3), wanted)


def check_state_has_batch_axis(model: nnx.Module) -> None:
    """Every leaf of the state has the batch as axis 0: reordering leaves reorders what follows."""
    batch = make_batch()
    _check_that_a_loop_can_carry_the_state(model)
    wanted = _whole_call(model, batch).logits
    rows, order = np.array(_FIVE_ROWS), np.array([2, 0, 3, 4, 1])
    got = np.asarray(stepwise_logits(model, _with_more_source_padding(batch), rows=rows, order=order))
    _assert_close("logits of repeated rows", got[:, :1], wanted[rows, :1])
    _assert_close("logits of reordered rows", got[:, 1:], wanted[rows[order], 1:])


def _with_more_source_padding(batch: StepModelBatch, filler: int = 0) -> StepModelBatch:
    """Sources of ``MAX_SOURCE_LEN`` with ``filler`` in all that is padding."""
    is_token = np.arange(MAX_SOURCE_LEN)[None, :] < np.asarray(batch.source_lengths)[:, None]
    longer = np.pad(batch.source_tokens, ((0, 0), (0, MAX_SOURCE_LEN - SOURCE_LEN)))
    source_tokens = np.where(is_token, longer, np.int32(filler))
    return StepModelBatch(source_tokens, *map(np.asarray, batch[1:]))


def _check_that_a_loop_can_carry_the_state(model: Any) -> None:
    for state in _states(model, make_batch()):
        for path, leaf in jax.tree_util.tree_leaves_with_path(state):
            name = jax.tree_util.keystr(path)
            assert leaf.ndim >= 1, f"state{name} is a scalar; every leaf needs the batch as axis 0"
            assert leaf.shape[0] == 4, f"state{name} has shape {leaf.shape}; axis 0 must be the batch, 4"
    check_state_keeps_its_type(model)


def check_state_keeps_its_type(model: Any) -> None:
    """A step keeps the state's structure, shapes and dtypes, as ``lax.while_loop`` asks."""
    before, after = _states(model, make_batch())
    structures: list[Any] = [jax.tree.structure(before), jax.tree.structure(after)]
    assert structures[0] == structures[1], "a step changed the state's structure"
    for (path, old), new in zip(
        jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True
    ):
        same = old.shape == new.shape and old.dtype == new.dtype
        assert same, f"a step changed state{jax.tree_util.keystr(path)} from {old} to {new}"


def _states(model: Any, batch: StepModelBatch) -> tuple[Any, Any]:
    """Shapes and dtypes of the states before and after the first step."""

    def first_states() -> tuple[Any, Any]:
        state = model.start(TokenInputs(batch.source_tokens, batch.source_lengths), max_len=TARGET_LEN)
        return state, model.step(state, batch.target_inputs[:, 0])[1]

    return jax.eval_shape(first_states)


def check_half_precision(model: Any) -> None:
    """With parameters cast to 16 bits the model calls and steps: logits in float32, a state that keeps its type."""
    batch = make_batch()
    graphdef, params = nnx.split(model)
    for dtype in (jnp.bfloat16, jnp.float16):
        cast: Any = nnx.merge(graphdef, jax.tree.map(lambda leaf, dtype=dtype: leaf.astype(dtype), params))
        check_state_keeps_its_type(cast)

        def logits(cast: Any = cast) -> tuple[Any, Any]:
            state = cast.start(TokenInputs(batch.source_tokens, batch.source_lengths), max_len=TARGET_LEN)
            return cast(*batch), cast.step(state, batch.target_inputs[:, 0])[0]

        whole, of_step = jax.eval_shape(logits)
        _assert_shape("logits", whole, (4, TARGET_LEN, TARGET_VOCAB_SIZE))
        _assert_shape("logits of a step", of_step, (4, TARGET_VOCAB_SIZE))
        for found in (whole, of_step):
            assert found.dtype == jnp.float32, f"logits must be float32, got {found.dtype}"


def check_empty_batches(model: Any) -> None:
    """A batch without rows, and sources of no length, give arrays of the usual shapes, and gradients."""
    graphdef, params = nnx.split(model)

    def decode(params: Any, *batch: Array) -> tuple[Any, ...]:
        own = nnx.merge(graphdef, params)
        next_logits, state = own.step(own.start(TokenInputs(*batch[:2]), max_len=TARGET_LEN), batch[1])

        def total(params: Any) -> tuple[Array, Array]:
            logits = nnx.merge(graphdef, params)(*batch)
            return logits.sum(), logits

        return jax.grad(total, has_aux=True)(params)[1], own.attention_maps(*batch), next_logits, state

    for rows, source_len in ((0, SOURCE_LEN), (2, 0)):
        shapes = ((rows, source_len), (rows,), (rows, TARGET_LEN))
        ints = [jax.ShapeDtypeStruct(shape, jnp.int32) for shape in shapes]
        logits, maps, next_logits, state = jax.eval_shape(decode, params, *ints)
        _assert_shape("logits", logits, (rows, TARGET_LEN, TARGET_VOCAB_SIZE))
        _assert_shape("logits of a step", next_logits, (rows, TARGET_VOCAB_SIZE))
        for name, weights in maps.items():
            _assert_shape(f"map {name}", weights, (rows, weights.shape[1], TARGET_LEN, source_len))
        for path, leaf in jax.tree_util.tree_leaves_with_path(state):
            name = jax.tree_util.keystr(path)
            assert leaf.shape[0] == rows, (
                f"state{name} has shape {leaf.shape}; axis 0 must be the batch, {rows}"
            )


def check_padding_changes_nothing(model: nnx.Module) -> None:
    """Neither more padding, nor its contents, nor neighbouring rows change a row's logits."""
    batch = make_batch()
    wanted = _whole_call(model, batch).logits
    _check_that_a_loop_can_carry_the_state(model)
    rows = np.array(_FIVE_ROWS)
    stepwise = stepwise_logits(model, _with_more_source_padding(batch), rows=rows)
    _assert_close("stepwise logits with more source padding", stepwise, wanted[rows])
    longer_target = batch._replace(target_inputs=np.pad(batch.target_inputs, ((0, 0), (0, 2))))
    for padding, filler in [("more source padding", 0), ("junk in the padding", SOURCE_VOCAB_SIZE - 1)]:
        padded = _with_more_source_padding(longer_target, filler)
        for row in range(len(wanted)):
            alone = StepModelBatch(*(part[row : row + 1] for part in padded))
            got = np.asarray(teacher_forced_logits(model, alone))[:, :TARGET_LEN]
            _assert_close(
                f"logits of row {row} alone, with target padding and {padding},", got, wanted[row : row + 1]
            )


def check_empty_sources_are_finite(model: nnx.Module) -> None:
    """A row without source tokens gives finite logits and gradients."""
    result = _whole_call(model, make_batch())
    assert np.isfinite(result.logits).all(), "logits are not finite"
    for path, gradient in jax.tree_util.tree_leaves_with_path(result.gradients):
        name = jax.tree_util.keystr(path)
        assert np.isfinite(gradient).all(), f"gradient of {name} is not finite"


def check_causality(model: nnx.Module) -> None:
    """A later target token does not change the logits before it, and changes those after."""
    batch = make_batch()
    changed_inputs = np.array(batch.target_inputs)
    changed_inputs[:, 3] = 1 + changed_inputs[:, 3] % 3
    wanted, got = (
        _whole_call(model, one).logits
        for one in (batch, batch._replace(target_inputs=jnp.asarray(changed_inputs)))
    )
    _assert_close("logits before the changed token", got[:, :3], wanted[:, :3])
    assert np.max(np.abs(got[:, 3:] - wanted[:, 3:])) > 1e-4, "target inputs change nothing"


def check_gradients_reach_every_parameter(model: nnx.Module) -> None:
    """No parameter is left out of the loss."""
    gradients = nnx.filter_state(_whole_call(model, make_batch()).gradients, nnx.Param)
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.max(np.abs(gradient)) > 0, f"no gradient reaches {jax.tree_util.keystr(path)}"


def check_hidden_and_projection_give_the_logits(model: Any) -> None:
    """The loss may use ``hidden`` and ``output_projection`` in place of the logits."""
    batch = make_batch()
    embedding, bias = model.output_projection()
    result = _whole_call(model, batch)
    assert result.hidden is not None, "the model has no hidden"
    hidden = result.hidden
    _assert_shape("embedding", embedding, (TARGET_VOCAB_SIZE, hidden.shape[-1]))
    logits = hidden @ np.asarray(embedding).T
    if bias is not None:
        _assert_shape("bias", bias, (TARGET_VOCAB_SIZE,))
        logits = logits + np.asarray(bias)
    _assert_close("hidden @ embedding.T + bias", logits, result.logits)


def check_attention_maps(model: nnx.Module) -> None:
    """Maps sum to one over the source tokens and are zero on padding; an empty source gives zeros.

    Local attention sums to one at most: its window may lie outside, and its Gaussian takes from it.
    """
    batch = make_batch()
    config: Any = getattr(model, "config", None)
    is_local = getattr(getattr(config, "attention", None), "local", None) is not None
    lengths = np.asarray(batch.source_lengths)
    is_token = np.arange(SOURCE_LEN)[None, :] < lengths[:, None]
    maps = _whole_call(model, batch).attention_maps
    assert maps is not None, "the model has no attention_maps"
    for name, weights in maps.items():
        _assert_shape(f"map {name}", weights, (4, weights.shape[1], TARGET_LEN, SOURCE_LEN))
        on_padding = np.where(is_token[:, None, None, :], 0.0, weights)
        assert np.max(np.abs(on_padding)) == 0.0, f"map {name} attends to padding"
        sums = np.sum(weights, axis=-1)
        wanted = np.broadcast_to((lengths > 0)[:, None, None], sums.shape)
        if is_local:
            assert ((sums >= 0) & (sums <= wanted + 1e-5)).all(), f"sums of map {name} are not in [0, 1]"
            assert (sums > 0).any(), f"map {name} looks nowhere"
        else:
            _assert_close(f"sums of map {name}", sums, wanted.astype(np.float32))


def check_dropout_follows_the_key(model: nnx.Module) -> None:
    """A key draws dropout, the same key the same; no key draws none. The model must have a dropout rate."""
    batch = make_batch()
    once, twice = (_whole_call(model, batch) for _ in range(2))
    other = _whole_call(model, batch, seed=2)
    first = once.logits_with_dropout
    assert (first == twice.logits_with_dropout).all(), "the same key gave other logits"
    assert (first != other.logits_with_dropout).any(), "another key gave the same logits"
    assert (once.logits == other.logits).all(), "without a key two calls differ"
    assert (first != once.logits).any(), "a key drew no dropout"


def _assert_shape(name: str, array: Any, wanted: tuple[int, ...]) -> None:
    assert array.shape == wanted, f"{name} must have shape {wanted}, got {array.shape}"


def _assert_close(name: str, got: Any, wanted: Any) -> None:
    _assert_shape(name, got, wanted.shape)
    difference = float(np.max(np.abs(np.asarray(got) - np.asarray(wanted))))
    limit = TOLERANCE * max(1.0, float(np.max(np.abs(wanted))))
    assert difference <= limit, f"{name} differ by {difference:.2e}, more than {limit:.2e}"


CHECKS: dict[str, Callable[[nnx.Module], None]] = {
    "stepwise": check_stepwise_equals_teacher_forced,
    "batch_axis": check_state_has_batch_axis,
    "state_type": check_state_keeps_its_type,
    "half_precision": check_half_precision,
    "empty_batches": check_empty_batches,
    "padding": check_padding_changes_nothing,
    "empty_sources": check_empty_sources_are_finite,
    "causality": check_causality,
    "gradients": check_gradients_reach_every_parameter,
    "projection": check_hidden_and_projection_give_the_logits,
    "attention_maps": check_attention_maps,
    "dropout": check_dropout_follows_the_key,
}
