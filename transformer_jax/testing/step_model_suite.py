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

from transformer_jax.typing import Array

__all__ = ["CHECKS", "SOURCE_VOCAB_SIZE", "TARGET_VOCAB_SIZE", "StepModelBatch", "make_batch"]

SOURCE_VOCAB_SIZE = 11
TARGET_VOCAB_SIZE = 9
SOURCE_LEN = 6
TARGET_LEN = 5
MAX_SOURCE_LEN = 9  # the longest source that a check feeds, for models that must know it
TOLERANCE = 1e-5

_FIRST_WORD_ID = 4


class StepModelBatch(NamedTuple):
    """Sources of several lengths (one of them empty) and targets."""

    source_tokens: Array
    source_lengths: Array
    target_inputs: Array


def make_batch(seed: int = 0) -> StepModelBatch:
    """A batch of four rows: a full, a shorter, a one-token and an empty source."""
    generator = np.random.default_rng(seed)
    lengths = np.array([SOURCE_LEN, 3, 1, 0], np.int32)
    source = generator.integers(_FIRST_WORD_ID, SOURCE_VOCAB_SIZE, (4, SOURCE_LEN), dtype=np.int32)
    source = np.where(np.arange(SOURCE_LEN)[None, :] < lengths[:, None], source, 0)
    target = generator.integers(_FIRST_WORD_ID, TARGET_VOCAB_SIZE, (4, TARGET_LEN), dtype=np.int32)
    target[:, 0] = 2
    return StepModelBatch(jnp.asarray(source), jnp.asarray(lengths), jnp.asarray(target))


# Compiling is nearly all that the checks cost, so the compiler is told not to optimise.
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


def teacher_forced_logits(
    model: nnx.Module, batch: StepModelBatch, *, rng_key: jax.Array | None = None
) -> Array:
    """Logits ``[batch, target_len, vocab]`` by the whole call."""
    return _run(model, "__call__", *batch, rng_key=rng_key)


def stepwise_logits(model: nnx.Module, batch: StepModelBatch, *, spare_room: int = 0) -> Array:
    """Logits ``[batch, target_len, vocab]`` by ``start`` and one compiled ``step`` a token."""
    target_len = batch.target_inputs.shape[1]
    max_len = target_len + spare_room
    state = _run(model, "start", batch.source_tokens, batch.source_lengths, max_len=max_len)
    logits = []
    for index in range(target_len):
        step_logits, state = _run(model, "step", state, batch.target_inputs[:, index])
        logits.append(step_logits)
    return jnp.stack(logits, axis=1)


def check_stepwise_equals_teacher_forced(model: nnx.Module) -> None:
    """``step`` by ``step`` gives the logits of the whole call, also when the state has room to spare."""
    batch = make_batch()
    wanted = teacher_forced_logits(model, batch)
    _assert_shape("logits", wanted, (4, TARGET_LEN, TARGET_VOCAB_SIZE))
    assert wanted.dtype == jnp.float32, f"logits must be float32, got {wanted.dtype}"
    _assert_close("stepwise logits", stepwise_logits(model, batch, spare_room=3), wanted)


def check_state_has_batch_axis(model: nnx.Module) -> None:
    """Every leaf of the state has the batch as axis 0: reordering leaves reorders what follows."""
    batch = make_batch()
    state = _run(model, "start", batch.source_tokens, batch.source_lengths, max_len=TARGET_LEN)
    _, state = _run(model, "step", state, batch.target_inputs[:, 0])
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        name = jax.tree_util.keystr(path)
        assert leaf.ndim >= 1, f"state{name} is a scalar; every leaf needs the batch as axis 0"
        assert leaf.shape[0] == 4, f"state{name} has shape {leaf.shape}; axis 0 must be the batch, 4"
    order = jnp.array([2, 0, 3, 1, 1])
    reordered = jax.tree.map(lambda leaf: leaf[order], state)
    wanted, _ = _run(model, "step", state, batch.target_inputs[:, 1])
    got, _ = _run(model, "step", reordered, batch.target_inputs[order, 1])
    _assert_close("logits of reordered rows", got, wanted[order])


def check_state_keeps_its_type(model: Any) -> None:
    """A step keeps the state's structure, shapes and dtypes, as ``lax.while_loop`` asks."""
    batch = make_batch()

    def first_states() -> tuple[Any, Any]:
        state = model.start(batch.source_tokens, batch.source_lengths, max_len=TARGET_LEN)
        return state, model.step(state, batch.target_inputs[:, 0])[1]

    before, after = jax.eval_shape(first_states)
    structures: list[Any] = [jax.tree.structure(before), jax.tree.structure(after)]
    assert structures[0] == structures[1], "a step changed the state's structure"
    for (path, old), new in zip(
        jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True
    ):
        same = old.shape == new.shape and old.dtype == new.dtype
        assert same, f"a step changed state{jax.tree_util.keystr(path)} from {old} to {new}"


def check_padding_changes_nothing(model: nnx.Module) -> None:
    """Neither more padding, nor what stands in it, nor neighbouring rows change a row's logits."""
    batch = make_batch()
    wanted = teacher_forced_logits(model, batch)
    extra = MAX_SOURCE_LEN - SOURCE_LEN
    longer = jnp.pad(batch.source_tokens, ((0, 0), (0, extra)))
    padded = batch._replace(source_tokens=longer)
    _assert_close("logits with more source padding", teacher_forced_logits(model, padded), wanted)
    _assert_close("stepwise logits with more source padding", stepwise_logits(model, padded), wanted)
    slots = jnp.arange(MAX_SOURCE_LEN)[None, :]
    junk = jnp.where(slots < batch.source_lengths[:, None], longer, SOURCE_VOCAB_SIZE - 1)
    _assert_close(
        "logits with junk in the padding",
        teacher_forced_logits(model, batch._replace(source_tokens=junk)),
        wanted,
    )
    longer_target = jnp.pad(batch.target_inputs, ((0, 0), (0, 2)))
    with_target_padding = teacher_forced_logits(model, batch._replace(target_inputs=longer_target))
    _assert_close("logits with target padding", with_target_padding[:, :TARGET_LEN], wanted)
    alone = StepModelBatch(*(part[1:2] for part in batch))
    _assert_close("logits of a row alone", teacher_forced_logits(model, alone), wanted[1:2])


def check_empty_sources_are_finite(model: nnx.Module) -> None:
    """A row without source tokens gives finite logits and gradients."""
    batch = make_batch()
    assert bool(jnp.all(jnp.isfinite(teacher_forced_logits(model, batch)))), "logits are not finite"
    for path, gradient in jax.tree_util.tree_leaves_with_path(_gradients(model, batch)):
        name = jax.tree_util.keystr(path)
        assert bool(jnp.all(jnp.isfinite(gradient))), f"gradient of {name} is not finite"


def check_causality(model: nnx.Module) -> None:
    """A later target token does not change the logits before it, and changes those after."""
    batch = make_batch()
    changed_inputs = batch.target_inputs.at[:, 3].set(1 + batch.target_inputs[:, 3] % 3)
    wanted, got = (
        teacher_forced_logits(model, batch),
        teacher_forced_logits(model, batch._replace(target_inputs=changed_inputs)),
    )
    _assert_close("logits before the changed token", got[:, :3], wanted[:, :3])
    assert float(jnp.max(jnp.abs(got[:, 3:] - wanted[:, 3:]))) > 1e-4, "target inputs change nothing"


def check_gradients_reach_every_parameter(model: nnx.Module) -> None:
    """No parameter is left out of the loss."""
    for path, gradient in jax.tree_util.tree_leaves_with_path(_gradients(model, make_batch())):
        assert float(jnp.max(jnp.abs(gradient))) > 0, f"no gradient reaches {jax.tree_util.keystr(path)}"


def check_hidden_and_projection_give_the_logits(model: Any) -> None:
    """The loss may use ``hidden`` and ``output_projection`` in place of the logits."""
    batch = make_batch()
    embedding, bias = model.output_projection()
    hidden = _run(model, "hidden", *batch)
    _assert_shape("embedding", embedding, (TARGET_VOCAB_SIZE, hidden.shape[-1]))
    logits = hidden @ embedding.T
    if bias is not None:
        _assert_shape("bias", bias, (TARGET_VOCAB_SIZE,))
        logits = logits + bias[None, None, :]
    _assert_close("hidden @ embedding.T + bias", logits, teacher_forced_logits(model, batch))


def check_attention_maps(model: nnx.Module) -> None:
    """Maps sum to one over the source tokens and are zero on padding; an empty source gives zeros.

    Local attention sums to one at most: its window may lie outside, and its Gaussian takes from it.
    """
    batch = make_batch()
    config: Any = getattr(model, "config", None)
    is_local = getattr(getattr(config, "attention", None), "local", None) is not None
    is_token = jnp.arange(SOURCE_LEN)[None, :] < batch.source_lengths[:, None]
    for name, weights in _run(model, "attention_maps", *batch).items():
        _assert_shape(f"map {name}", weights, (4, weights.shape[1], TARGET_LEN, SOURCE_LEN))
        on_padding = jnp.where(is_token[:, None, None, :], 0.0, weights)
        assert float(jnp.max(jnp.abs(on_padding))) == 0.0, f"map {name} attends to padding"
        sums = jnp.sum(weights, axis=-1)
        wanted = jnp.broadcast_to((batch.source_lengths > 0)[:, None, None], sums.shape)
        if is_local:
            assert bool(jnp.all((sums >= 0) & (sums <= wanted + 1e-5))), (
                f"sums of map {name} are not in [0, 1]"
            )
            assert bool(jnp.any(sums > 0)), f"map {name} looks nowhere"
        else:
            _assert_close(f"sums of map {name}", sums, wanted.astype(jnp.float32))


def check_dropout_follows_the_key(model: nnx.Module) -> None:
    """A key draws dropout, the same key the same; no key draws none. The model must have a dropout rate."""
    batch = make_batch()
    first, again = (teacher_forced_logits(model, batch, rng_key=jax.random.key(1)) for _ in range(2))
    other = teacher_forced_logits(model, batch, rng_key=jax.random.key(2))
    assert bool(jnp.all(first == again)), "the same key gave other logits"
    assert bool(jnp.any(first != other)), "another key gave the same logits"
    assert bool(jnp.all(teacher_forced_logits(model, batch) == teacher_forced_logits(model, batch))), (
        "without a key two calls differ"
    )
    assert bool(jnp.any(first != teacher_forced_logits(model, batch))), "a key drew no dropout"


def _gradients(model: nnx.Module, batch: StepModelBatch) -> Any:
    return _compiled_gradients(*nnx.split(model), batch)


@functools.partial(jax.jit, static_argnums=0, compiler_options=_COMPILER_OPTIONS)
def _compiled_gradients(graphdef: nnx.GraphDef, params: Any, batch: StepModelBatch) -> Any:
    def loss(params: Any) -> Array:
        log_probs = jax.nn.log_softmax(nnx.merge(graphdef, params)(*batch))
        labels = jnp.roll(batch.target_inputs, -1, axis=1)
        return -jnp.mean(jnp.take_along_axis(log_probs, labels[..., None], axis=-1))

    return jax.grad(loss)(params)


def _assert_shape(name: str, array: Array, wanted: tuple[int, ...]) -> None:
    assert array.shape == wanted, f"{name} must have shape {wanted}, got {array.shape}"


def _assert_close(name: str, got: Array, wanted: Array) -> None:
    _assert_shape(name, got, wanted.shape)
    difference = float(jnp.max(jnp.abs(got - wanted)))
    limit = TOLERANCE * max(1.0, float(jnp.max(jnp.abs(wanted))))
    assert difference <= limit, f"{name} differ by {difference:.2e}, more than {limit:.2e}"


CHECKS: dict[str, Callable[[nnx.Module], None]] = {
    "stepwise": check_stepwise_equals_teacher_forced,
    "batch_axis": check_state_has_batch_axis,
    "state_type": check_state_keeps_its_type,
    "padding": check_padding_changes_nothing,
    "empty_sources": check_empty_sources_are_finite,
    "causality": check_causality,
    "gradients": check_gradients_reach_every_parameter,
    "projection": check_hidden_and_projection_give_the_logits,
    "attention_maps": check_attention_maps,
    "dropout": check_dropout_follows_the_key,
}
