"""With ``jax_enable_x64``: what is float64 going in is float64 all the way, in values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax import functional as F
from transformer_jax import nn
from transformer_jax.functional.attention.stored import attend_stored
from transformer_jax.functional.recurrent import parallel_recurrence
from transformer_jax.planning.equations import equations_within


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True):
        yield


Q, KV, ROWS = (2, 6, 4, 4), (2, 6, 2, 4), (3, 4)
LABELS = np.array([0, 2, 1])


def attends(implementation, score=None):
    def run(query, key, value, *parameters):
        rule = F.ScaledDot() if score is None else score(*parameters)
        return F.attention(
            query, key, value, score=rule, mask=F.AttentionMask.causal(), implementation=implementation
        )

    return run


def recurs(cell, implementation):
    def run(inputs, *parameters):
        lengths = jnp.array([5, 3])
        return F.recurrence(cell(*parameters), inputs, lengths=lengths, implementation=implementation)

    return run


GRU, MIN_GRU = ((3, 12), (4, 12), (12,), (4,)), ((3, 8), (8,))
CASES = {
    "reference": (attends("reference"), Q, KV, KV),
    "blockwise": (attends("blockwise"), Q, KV, KV),
    "additive": (attends("blockwise", F.Additive), Q, KV, KV, (4, 5), (4, 5), (5,), (5,)),
    "general": (attends("reference", F.General), Q, KV, KV, (4, 4)),
    "location": (attends("reference", F.Location), Q, KV, KV, (6, 4)),
    "weights": (F.attention_with_weights, Q, KV, KV),
    "inspect": (lambda q, k: F.inspect_attention(q, k).entropy, Q, KV),
    "local": (
        lambda q, k, v, c: F.local_attention(q, k, v, center=c, half_width=1, deviation=0.5), Q, KV, KV, (2, 6),
    ),
    "stored": (lambda q, k, v: attend_stored(q, k, v, jnp.ones((1, 1, 6), bool)), Q, (2, 2, 4, 6), (2, 2, 6, 4)),
    **{
        f"{name} {implementation}": (recurs(cell, implementation), (2, 5, 3), *parameters)
        for name, cell, parameters, implementations in (
            ("rnn", F.RNNCell, ((3, 4), (4, 4), (4,)), ("scan",)),
            ("lstm", F.LSTMCell, ((3, 16), (4, 16), (16,)), ("scan", "reference")),
            ("gru", F.GRUCell, GRU, ("scan", "parallel")),
            ("min_gru", F.MinGRUCell, MIN_GRU, ("scan", "associative")),
            ("min_lstm", F.MinLSTMCell, ((3, 12), (12,)), ("scan",)),
            ("diagonal", F.DiagonalCell, ((3, 4), (4,), (4,)), ("scan",)),
        )
        for implementation in implementations
    },
    "full Newton": (lambda x, *gru: parallel_recurrence(F.GRUCell(*gru), x, jacobian="full")[0], (2, 5, 3), *GRU),
    "step": (
        lambda x, *gru: F.step_once(F.GRUCell(*gru), F.GRUCell(*gru).initial_carry(2), x), (2, 3), *GRU,
    ),
    "in logarithms": (F.linear_recurrence_in_logs, (4, 1, 2), (4, 1, 2), (1, 2)),
    **{
        f"linear attention, {form}": (lambda q, k, v, form=form: F.linear_attention(q, k, v, form=form), Q, Q, Q)
        for form in ("parallel", "chunked", "recurrent")
    },
    "linear step": (
        lambda q, k, v: F.linear_attention_step(F.LinearAttentionState.zeros(2, 4, 4, 4, q.dtype), q, k, v),
        (2, 4, 4), (2, 4, 4), (2, 4, 4),
    ),
    "layer norm": (F.layer_norm, ROWS, (4,), (4,)),
    "rms norm": (F.rms_norm, ROWS, (4,)),
    "batch norm": (lambda x: F.batch_norm(x, *F.batch_statistics(x, jnp.array([1, 0, 2]))), ROWS),
    "softmax": (F.masked_softmax, ROWS),
    "rotary": (lambda x: F.rotary(x, jnp.arange(6)[None]), Q),
    "rotary at fractions": (F.rotary, Q, (1, 6)),
    "sinusoidal at fractions": (lambda positions: F.sinusoidal_at(positions, 4), (6,)),
    "cross entropy": (lambda x: F.cross_entropy(x, jnp.asarray(LABELS), label_smoothing=0.1).sum, ROWS),
    "projected": (
        lambda h, e, b: F.projected_cross_entropy(h, e, jnp.asarray(LABELS), bias=b, label_smoothing=0.1).sum,
        ROWS, (5, 4), (5,),
    ),
    "divergence": (lambda a, b: F.symmetric_divergence(a, b).sum, ROWS, ROWS),
    "projected divergence": (lambda a, b, e: F.projected_divergence(a, b, e).sum, ROWS, ROWS, (5, 4)),
    "mean pooling": (lambda x: nn.MeanPooling()(x, lengths=jnp.array([1, 3])), (2, 6, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_no_step_of_the_program_is_narrower(name):
    function, *shapes = CASES[name]

    def total(*arrays):
        return sum(leaf.sum() for leaf in jax.tree.leaves(function(*arrays)))

    arrays = [jax.ShapeDtypeStruct(shape, jnp.float64) for shape in shapes]
    traced = jax.make_jaxpr(jax.value_and_grad(total, tuple(range(len(arrays)))))(*arrays)
    results = [variable for equation in equations_within(traced.jaxpr) for variable in equation.outvars]
    narrow = {str(one.aval) for one in results if one.aval.dtype in (jnp.float32, jnp.bfloat16, jnp.float16)}
    assert not narrow
    assert {aval.dtype for aval in traced.out_avals} == {jnp.dtype(jnp.float64)}


def test_doubles_lose_nothing_to_parameters_of_float32(random_generator):
    """Carries and products are then float64, which the parameters' own rounding does not touch."""
    x, weight, recurrent = (random_generator.normal(size=shape) for shape in ((2, 4, 3), (3, 5), (5, 5)))
    weight, recurrent = weight.astype(np.float32), recurrent.astype(np.float32)
    for implementation in ("scan", "reference", "parallel"):
        cell = F.RNNCell(jnp.asarray(weight), jnp.asarray(recurrent), jnp.zeros(5, jnp.float32))
        outputs, carry = F.recurrence(cell, jnp.asarray(x), implementation=implementation)
        state = np.zeros((2, 5))
        for time in range(4):
            state = np.tanh(x[:, time] @ weight.astype(float) + state @ recurrent.astype(float))
            np.testing.assert_allclose(outputs[:, time], state, atol=1e-13)
        np.testing.assert_allclose(carry, state, atol=1e-13)


def test_norms_and_rotary_are_the_formulas_in_double(random_generator):
    x = random_generator.normal(size=(1, 3, 2, 4))
    wanted = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(F.layer_norm(jnp.asarray(x)), wanted, atol=1e-14)
    angles = np.array([7.0, 1000.0, 12345.0])[None, :, None, None] / 10_000.0 ** np.array([0, 0.5])
    turned = (x[..., ::2] + 1j * x[..., 1::2]) * np.exp(1j * angles)
    positions = jnp.array([[7, 1000, 12345]])
    for given in (positions, positions.astype(jnp.float64)):
        rotated = np.asarray(F.rotary(jnp.asarray(x), given))
        np.testing.assert_allclose(rotated[..., ::2] + 1j * rotated[..., 1::2], turned, atol=1e-11)


def test_an_implementation_that_computes_in_float32_refuses_doubles():
    ones = jnp.ones((1, 2, 1, 4))
    with pytest.raises(NotImplementedError, match="float64 is not offered: it computes in float32"):
        F.attention(ones, ones, ones, implementation="xla")


def test_biases_do_not_widen_a_recurrence():
    """Under x64 a new layer's matrices are float32 and its biases float64."""
    cell = F.GRUCell(*(jnp.ones(shape, jnp.float32) for shape in GRU[:2]), jnp.ones(12), jnp.ones(4))
    inputs = jnp.ones((2, 5, 3), jnp.float32)
    for implementation in ("scan", "reference", "parallel"):

        def total(cell, name=implementation):
            outputs, carry = F.recurrence(cell, inputs, implementation=name)
            return outputs.sum(), carry

        gradient, carry = jax.eval_shape(jax.grad(total, has_aux=True), cell)
        assert carry.dtype == jnp.float32
        assert [leaf.dtype for leaf in jax.tree.leaves(gradient)] == [
            leaf.dtype for leaf in jax.tree.leaves(cell)
        ]
