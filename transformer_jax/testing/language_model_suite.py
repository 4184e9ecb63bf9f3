"""The contract of language models, as functions that any library can call on its own model.

A model has the call ``model(tokens, *, segments=None, rng_key=None)``, ``hidden`` and ``output_projection`` of the
same, and ``start``, ``step`` and ``extend`` for decoding. Each check raises ``AssertionError`` with what was found;
:data:`CHECKS` holds all.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from transformer_jax.decode.protocol import TokenInputs
from transformer_jax.typing import Array

__all__ = ["CHECKS", "TEXT_LEN", "VOCAB_SIZE"]


VOCAB_SIZE = 11
TEXT_LEN = 8
PROMPT_LENS = (4, 2, 1, 0)
_TOLERANCE = 1e-5
_NUM_STEPS = TEXT_LEN - max(PROMPT_LENS)
# The checks spend nearly all their time on compiling, so the compiler's optimisations are off.
_compiled = functools.partial(
    jax.jit, static_argnums=0, compiler_options={"xla_backend_optimization_level": 0}
)


def texts(seed: int = 0) -> np.ndarray:
    """Token ids, ``[4, TEXT_LEN]``."""
    return np.random.default_rng(seed).integers(0, VOCAB_SIZE, (4, TEXT_LEN), dtype=np.int32)


class _WholeCall(NamedTuple):
    logits: Any
    logits_with_dropout: Any
    hidden: Any
    gradients: Any


@_compiled
def _call(graphdef: nnx.GraphDef, params: Any, tokens: Array, rng_key: jax.Array) -> _WholeCall:
    model: Any = nnx.merge(graphdef, params)

    def loss(params: Any) -> Array:
        log_probs = jax.nn.log_softmax(nnx.merge(graphdef, params)(tokens)[:, :-1])
        return -jnp.mean(jnp.take_along_axis(log_probs, tokens[:, 1:, None], axis=-1))

    return _WholeCall(
        logits=model(tokens),
        # Training may write running statistics: a model of its own.
        logits_with_dropout=nnx.merge(graphdef, params, copy=True)(tokens, rng_key=rng_key),
        hidden=model.hidden(tokens),
        gradients=jax.grad(loss)(params),
    )


def _whole_call(model: nnx.Module, tokens: np.ndarray, *, seed: int = 1) -> _WholeCall:
    return jax.device_get(_call(*nnx.split(model), tokens, jax.random.key(seed)))


@_compiled
def _packed_call(graphdef: nnx.GraphDef, params: Any, tokens: Array, segments: Array) -> Any:
    model: Any = nnx.merge(graphdef, params)
    return model(tokens, segments=segments)


@_compiled
def _decode(
    graphdef: nnx.GraphDef, params: Any, prompts: TokenInputs, rows: Array, orders: Array, tokens: Array
) -> Array:
    """Logits of each step after the prompts; the state is reordered before each step."""
    model: Any = nnx.merge(graphdef, params)

    def step(state: Any, at_time: tuple[Array, Array]) -> tuple[Any, Array]:
        order, tokens = at_time
        logits, state = model.step(jax.tree.map(lambda leaf: leaf[order], state), tokens)
        return state, logits

    state = jax.tree.map(lambda leaf: leaf[rows], model.start(prompts, max_len=_NUM_STEPS))
    return jax.lax.scan(step, state, (orders, tokens.T))[1].swapaxes(0, 1)


@_compiled
def _extend(
    graphdef: nnx.GraphDef, params: Any, prompts: TokenInputs, tokens: Array, num_valid: Array, after: Array
) -> tuple[Array, Array]:
    """Logits of several tokens at once, ragged, and of one token more."""
    model: Any = nnx.merge(graphdef, params)
    state = model.start(prompts, max_len=tokens.shape[1] + 1)
    logits, state = model.extend(state, tokens, num_valid=num_valid)
    return logits, model.step(state, after)[0]


def _prompts(tokens: np.ndarray, filler: int = 0) -> TokenInputs:
    """The beginnings of the texts, of unequal lengths."""
    lengths = np.array(PROMPT_LENS, np.int32)
    held = np.arange(max(PROMPT_LENS))[None, :] < lengths[:, None]
    prompts = np.where(held, tokens[:, : max(PROMPT_LENS)], np.int32(filler))
    return TokenInputs(jnp.asarray(prompts), jnp.asarray(lengths))


def _following(array: np.ndarray, count: int = _NUM_STEPS) -> np.ndarray:
    """The ``count`` entries of each row behind its prompt."""
    return np.stack([row[length : length + count] for row, length in zip(array, PROMPT_LENS)])


def check_steps_equal_the_whole_call(model: nnx.Module) -> None:
    """A prefill of unequal prompts in one pass and ``step`` by ``step`` give the logits of the whole call."""
    tokens = texts()
    whole = _whole_call(model, tokens).logits
    chex.assert_shape(whole, (4, TEXT_LEN, VOCAB_SIZE))
    chex.assert_type(whole, jnp.float32)
    rows = np.arange(4)
    for filler in (0, VOCAB_SIZE - 1):  # what stands behind a prompt changes nothing
        orders = np.tile(rows, (_NUM_STEPS, 1))
        got = _decode(*nnx.split(model), _prompts(tokens, filler), rows, orders, _following(tokens))
        _assert_close("logits of steps", got, _following(whole))


def check_extend_equals_steps(model: nnx.Module) -> None:
    """Several tokens a row at once, ragged, give the logits of the whole call, and leave the same state."""
    tokens = texts()
    whole = _whole_call(model, tokens).logits
    num_valid = np.array([3, 1, 2, 0], np.int32)
    offsets = np.array(PROMPT_LENS) + num_valid
    after = tokens[np.arange(4), offsets]
    logits, last = _extend(
        *nnx.split(model), _prompts(tokens), _following(tokens, 3), jnp.asarray(num_valid), after
    )
    wanted = _following(whole, 3)
    for row, count in enumerate(num_valid):
        if count:
            _assert_close("logits of extend", logits[row, :count], wanted[row, :count])
    _assert_close("logits after extend", last, whole[np.arange(4), offsets])


def check_state(model: Any) -> None:
    """Every leaf of the state has the batch as axis 0 and keeps its type; reordering it reorders what follows."""
    tokens = texts()
    whole = _whole_call(model, tokens).logits

    def states() -> tuple[Any, Any]:
        state = model.start(_prompts(tokens), max_len=_NUM_STEPS)
        return state, model.step(state, jnp.asarray(tokens[:, 0]))[1]

    before, after = jax.eval_shape(states)
    chex.assert_trees_all_equal_shapes_and_dtypes(before, after)
    chex.assert_tree_shape_prefix(before, (4,))
    # Rows of one prompt length, so that positions agree after the exchange of their texts.
    rows, order = np.array([0, 1, 2, 3, 1]), np.array([3, 4, 2, 0, 1])
    orders = np.tile(np.arange(5), (_NUM_STEPS, 1))
    orders[1] = order
    texts_of_rows = _following(tokens)[rows]
    fed = np.concatenate([texts_of_rows[:, :1], texts_of_rows[order, 1:]], axis=1)
    got = _decode(*nnx.split(model), _prompts(tokens), rows, orders, fed)
    wanted = _following(whole)[rows]
    _assert_close("logits of repeated rows", got[:, :1], wanted[:, :1])
    _assert_close("logits of reordered rows", got[:, 1:], wanted[order, 1:])


def check_half_precision(model: Any) -> None:
    """With parameters cast to 16 bits the model calls and steps: logits in float32, a state that keeps its type."""
    graphdef, params = nnx.split(model)
    for dtype in (jnp.bfloat16, jnp.float16):
        cast: Any = nnx.merge(graphdef, jax.tree.map(lambda leaf, dtype=dtype: leaf.astype(dtype), params))

        def run(cast: Any = cast) -> Any:
            tokens = texts()
            state = cast.start(_prompts(tokens), max_len=_NUM_STEPS)
            logits, after = cast.step(state, jnp.asarray(tokens[:, 0]))
            return cast(jnp.asarray(tokens)), logits, state, after

        whole, of_step, before, after = jax.eval_shape(run)
        chex.assert_type([whole, of_step], jnp.float32)
        chex.assert_trees_all_equal_shapes_and_dtypes(before, after)


def check_empty_batches(model: Any) -> None:
    """A batch without rows, and prompts of no length, give arrays of the usual shapes."""

    def run(prompts: TokenInputs, tokens: Array) -> Any:
        state = model.start(prompts, max_len=_NUM_STEPS)
        return model(tokens), model.step(state, tokens[:, 0])

    for rows, prompt_len in ((0, 3), (2, 0)):
        prompts = TokenInputs.abstract(rows, prompt_len)
        tokens = jax.ShapeDtypeStruct((rows, TEXT_LEN), jnp.int32)
        logits, (of_step, state) = jax.eval_shape(run, prompts, tokens)
        chex.assert_shape(logits, (rows, TEXT_LEN, VOCAB_SIZE))
        chex.assert_shape(of_step, (rows, VOCAB_SIZE))
        chex.assert_tree_shape_prefix(state, (rows,))


def check_causality(model: nnx.Module) -> None:
    """A later token does not change the logits before it, and changes those after."""
    changed = texts()
    changed[:, 3] = (changed[:, 3] + 1) % VOCAB_SIZE
    wanted, got = _whole_call(model, texts()).logits, _whole_call(model, changed).logits
    _assert_close("logits before the changed token", got[:, :3], wanted[:, :3])
    assert np.max(np.abs(got[:, 3] - wanted[:, 3])) > 1e-4, "a token changes nothing after itself"


def check_gradients_reach_every_parameter(model: nnx.Module) -> None:
    """No parameter is left out of the loss, but positions that no text reaches."""
    gradients = nnx.filter_state(_whole_call(model, texts()).gradients, nnx.Param)
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.max(np.abs(gradient)) > 0, f"no gradient reaches {jax.tree_util.keystr(path)}"


def check_hidden_and_projection_give_the_logits(model: Any) -> None:
    """The loss may use ``hidden`` and ``output_projection`` in place of the logits."""
    result = _whole_call(model, texts())
    embedding, bias = model.output_projection()
    chex.assert_shape(embedding, (VOCAB_SIZE, result.hidden.shape[-1]))
    logits = result.hidden @ np.asarray(embedding).T
    if bias is not None:
        chex.assert_shape(bias, (VOCAB_SIZE,))
        logits = logits + np.asarray(bias)
    _assert_close("hidden @ embedding.T + bias", logits, result.logits)


def check_dropout_follows_the_key(model: nnx.Module) -> None:
    """A key draws dropout, the same key the same; no key draws none. The model must have a dropout rate."""
    once, twice, other = (_whole_call(model, texts(), seed=seed) for seed in (1, 1, 2))
    first = once.logits_with_dropout
    assert (first == twice.logits_with_dropout).all(), "the same key gave other logits"
    assert (first != other.logits_with_dropout).any(), "another key gave the same logits"
    assert (once.logits == other.logits).all(), "without a key two calls differ"
    assert (first != once.logits).any(), "a key drew no dropout"


def check_documents_of_a_packed_row_are_apart(model: nnx.Module) -> None:
    """Documents packed into rows give the logits that each gives alone, whatever the others and the padding hold."""
    tokens = texts()
    bounds = ((0, 3), (3, 7))  # of two documents and padding
    segments = np.zeros((4, TEXT_LEN), np.int32)
    for number, (first, end) in enumerate(bounds, start=1):
        segments[:, first:end] = number
    params = nnx.split(model)
    packed = np.asarray(_packed_call(*params, tokens, segments))
    for first, end in bounds:
        alone = np.zeros_like(tokens)
        alone[:, : end - first] = tokens[:, first:end]
        wanted = _whole_call(model, alone).logits[:, : end - first]
        _assert_close("logits of a packed document", packed[:, first:end], wanted)
        perturbed = np.where(segments == segments[0, first], tokens, (tokens + 1) % VOCAB_SIZE)
        changed = np.asarray(_packed_call(*params, perturbed, segments))
        same = changed[:, first:end] == packed[:, first:end]
        assert same.all(), "a document's logits depend on another document or on padding"


def _assert_close(name: str, got: Any, wanted: Any) -> None:
    chex.assert_equal_shape([got, wanted])
    difference = float(np.max(np.abs(np.asarray(got) - np.asarray(wanted))))
    limit = _TOLERANCE * max(1.0, float(np.max(np.abs(wanted))))
    assert difference <= limit, f"{name} differ by {difference:.2e}, more than {limit:.2e}"


CHECKS: dict[str, Callable[[nnx.Module], None]] = {
    "steps": check_steps_equal_the_whole_call,
    "extend": check_extend_equals_steps,
    "state": check_state,
    "half_precision": check_half_precision,
    "empty_batches": check_empty_batches,
    "causality": check_causality,
    "gradients": check_gradients_reach_every_parameter,
    "projection": check_hidden_and_projection_give_the_logits,
    "dropout": check_dropout_follows_the_key,
    "packed": check_documents_of_a_packed_row_are_apart,
}
