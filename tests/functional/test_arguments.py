"""What arguments functions take: NumPy arrays and lists, and batches of no rows."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax import functional as F
from transformer_jax import nn
from transformer_jax.functional.attention.stored import attend_stored
from transformer_jax.functional.recurrent import parallel_recurrence
from transformer_jax.testing.processes import cpu_environment


def test_numpy_arrays_and_lists_are_taken_and_what_is_no_array_is_named():
    # In a process of its own: the type checks of this one keep such arguments from the code.
    script = Path(__file__).with_name("unchecked_arguments.py")
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env=cpu_environment(fast_compile=True)
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "functions" in done.stdout


def zeros(*shape):
    return jnp.zeros(shape, jnp.float32)


def attends(implementation):
    def run(query, key, value):
        mask = F.AttentionMask.causal() & F.AttentionMask.from_lengths(
            jnp.zeros(query.shape[0], int), key.shape[1]
        )
        return F.attention(query, key, value, mask=mask, implementation=implementation)

    return run


def recurs(cell, implementation):
    def run(inputs):
        lengths = jnp.zeros(inputs.shape[0], int)
        return F.recurrence(cell, inputs, lengths=lengths, implementation=implementation)

    return run


GRU = F.GRUCell(zeros(3, 12), zeros(4, 12), zeros(12), zeros(4))
MIN_GRU = F.MinGRUCell(zeros(3, 8), zeros(8))
ADDITIVE = F.Additive(zeros(2, 4, 3), zeros(4, 3), zeros(3))
QUERY, KEY, LABELS = (0, 3, 4, 4), (0, 5, 2, 4), jnp.zeros((0, 3), int)
EMPTY = {
    **{f"attention, {name}": (attends(name), QUERY, KEY, KEY) for name in (None, "reference", "blockwise")},
    "blockwise, no queries": (attends("blockwise"), (2, 0, 4, 4), (2, 5, 2, 4), (2, 5, 2, 4)),
    "blockwise, no keys": (attends("blockwise"), (2, 3, 4, 4), (2, 0, 2, 4), (2, 0, 2, 4)),
    "blockwise, long": (attends("blockwise"), (0, 600, 4, 4), (0, 600, 2, 4), (0, 600, 2, 4)),
    "additive": (
        lambda *arrays: F.attention(*arrays, score=ADDITIVE, implementation="blockwise"), (0, 3, 2, 4), KEY, KEY,
    ),
    "weights": (F.attention_with_weights, QUERY, KEY, KEY),
    "inspect": (F.inspect_attention, QUERY, KEY),
    "local": (
        lambda q, k, v: F.local_attention(q, k, v, center=jnp.zeros(q.shape[:2]), half_width=1), QUERY, KEY, KEY,
    ),
    "local, no queries": (
        lambda q, k, v: F.local_attention(q, k, v, center=jnp.zeros(q.shape[:2]), half_width=1),
        (2, 0, 4, 4), (2, 5, 2, 4), (2, 5, 2, 4),
    ),
    "stored": (
        lambda q, k, v: attend_stored(q, k, v, jnp.ones((1, 1, 5), bool)), (0, 1, 4, 4), (0, 2, 4, 5), (0, 2, 5, 4),
    ),
    **{f"recurrence, {name}": (recurs(GRU, name), (0, 5, 3)) for name in ("scan", "reference", "parallel")},
    **{f"recurrence of no steps, {name}": (recurs(GRU, name), (2, 0, 3)) for name in ("scan", "reference")},
    **{f"linear cell, {name}": (recurs(MIN_GRU, name), (0, 5, 3)) for name in ("scan", "associative")},
    "parallel": (lambda x: parallel_recurrence(GRU, x, jacobian="full")[:2], (0, 5, 3)),
    **{
        f"linear attention, {form}": (
            lambda x, form=form: F.linear_attention(x, x, x, form=form), (0, 5, 2, 4),
        )
        for form in ("parallel", "chunked", "recurrent")
    },
    "layer norm": (F.layer_norm, (0, 3, 4)),
    "batch norm": (lambda x: F.batch_norm(x, *F.batch_statistics(x)), (0, 3, 4)),
    "cross entropy": (lambda x: F.cross_entropy(x, LABELS).mean(), (0, 3, 7)),
    "projected": (lambda h, e: F.projected_cross_entropy(h, e, LABELS).mean(), (0, 3, 4), (7, 4)),
    "divergence": (lambda x: F.symmetric_divergence(x, x).mean(), (0, 3, 7)),
    "projected divergence": (lambda h, e: F.projected_divergence(h, h, e).mean(), (0, 3, 4), (7, 4)),
    "dropout": (lambda x: F.dropout(x, 0.5, jax.random.key(0)), (0, 3)),
    "rotary": (lambda x: F.rotary(x, jnp.arange(3)[None]), (0, 3, 2, 4)),
    "softmax": (F.masked_softmax, (0, 3)),
    "mean of no steps": (lambda x: nn.MeanPooling()(x, lengths=jnp.zeros(2, int)), (2, 0, 3)),
}  # fmt: skip


@pytest.fixture(scope="module")
def of_empty():
    """Value and gradient of each function of empty arrays, in one program."""

    def both(function, *arrays):
        def total(*arrays):
            output = function(*arrays)
            floats = [leaf for leaf in jax.tree.leaves(output) if jnp.issubdtype(leaf.dtype, jnp.floating)]
            return sum((leaf.sum() for leaf in floats), start=jnp.zeros(())), output

        gradients, output = jax.grad(total, tuple(range(len(arrays))), has_aux=True)(*arrays)
        return gradients, output

    def run():
        return {name: both(case[0], *(zeros(*shape) for shape in case[1:])) for name, case in EMPTY.items()}

    return jax.jit(run)()


@pytest.mark.parametrize("name", EMPTY)
def test_empty_in_empty_out(of_empty, name):
    gradients, output = of_empty[name]
    shapes = EMPTY[name][1:]
    assert [gradient.shape for gradient in gradients] == list(shapes)
    for leaf in jax.tree.leaves((gradients, output)):
        assert np.isfinite(leaf).all()
        assert leaf.ndim == 0 or 0 in leaf.shape or not np.any(leaf), name
    assert 0 in jax.tree.leaves(output)[0].shape or not np.any(jax.tree.leaves(output)[0])
