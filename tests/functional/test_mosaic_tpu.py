"""The TPU kernels in Pallas's TPU interpreter beside the reference, lowered for a TPU, and their plan of blocks."""

import importlib.util
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax import functional as F
from transformer_jax.functional.attention import mosaic_tpu, mosaic_tpu_plan
from transformer_jax.functional.attention.contract import make_call
from transformer_jax.functional.attention.mosaic_tpu_plan import make_plan, visited_blocks
from transformer_jax.testing.attention_suite import assert_near


@pytest.fixture
def draw(random_generator):
    """Normal numbers of a shape, float32."""
    return lambda *shape: jnp.asarray(random_generator.normal(size=shape), jnp.float32)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest blocks that a TPU takes, so that short sequences take several."""
    monkeypatch.setattr(mosaic_tpu_plan, "MAX_BLOCK", mosaic_tpu_plan.LANES)


def value_and_gradients(implementation, arrays, mask, cotangent):
    def loss(arrays):
        output = F.attention(
            arrays["query"], arrays["key"], arrays["value"],
            bias=arrays["bias"], mask=mask, implementation=implementation,
        )  # fmt: skip
        return (output * cotangent).sum(), output

    gradients, output = jax.jit(jax.grad(loss, has_aux=True))(arrays)
    return output, gradients


def check_against_reference(draw, mask, q_len, kv_len, *, batch=1, heads=1, kv_heads=1, alibi=False) -> None:
    arrays = {"query": draw(batch, q_len, heads, 8), "key": draw(batch, kv_len, kv_heads, 8)}
    arrays |= {"value": draw(batch, kv_len, kv_heads, 6)}
    arrays |= {"bias": F.Alibi(jnp.abs(draw(heads)) / 50) if alibi else None}
    cotangent = draw(batch, q_len, heads, 6)
    with mosaic_tpu.interpreted():
        got = value_and_gradients("mosaic_tpu", arrays, mask, cotangent)
    want = value_and_gradients("reference", arrays, mask, cotangent)
    assert_near(got[0], want[0], 1e-5, "value")
    for (path, one), other in zip(
        jax.tree_util.tree_leaves_with_path(got[1]), jax.tree.leaves(want[1]), strict=True
    ):
        assert_near(one, other, 1e-4, f"gradient in {jax.tree_util.keystr(path)}")


def test_causal_grouped_heads_over_several_blocks(draw, small_blocks):
    check_against_reference(draw, F.AttentionMask.causal(), 200, 300, heads=2)


def test_a_window_visits_a_band_of_blocks(draw, small_blocks):
    mask = F.AttentionMask.window(9, 0)
    assert make_plan(mask, 500, 500, widest=8).key_steps == 2
    check_against_reference(draw, mask, 500, 500)


def test_lengths_positions_segments_validity_and_alibi_together(draw, small_blocks, random_generator):
    batch, q_len, kv_len = 2, 150, 260
    segments = [
        jnp.asarray(np.sort(random_generator.integers(0, 3, (batch, length)))) for length in (q_len, kv_len)
    ]
    mask = (
        F.AttentionMask.from_lengths(
            jnp.array([200, 40]), kv_len
        )  # nothing is left of the second row's last blocks
        & F.AttentionMask.positions(jnp.arange(100, 100 + q_len)[None], jnp.arange(kv_len)[None])
        & F.AttentionMask.causal()
        & F.AttentionMask.segments(*segments)
        & F.AttentionMask.valid(jnp.asarray(random_generator.random((batch, kv_len)) < 0.8))
    )
    check_against_reference(draw, mask, q_len, kv_len, batch=batch, alibi=True)


SIDES = [
    F.AttentionMask.causal() & F.AttentionMask.window(300, None),
    F.AttentionMask.window(130, 7),
    F.AttentionMask.window(None, 200),
    F.AttentionMask(),
]


@pytest.mark.parametrize("mask", SIDES, ids=["causal window", "window", "ahead", "none"])
@pytest.mark.parametrize(("q_len", "kv_len"), [(700, 700), (300, 1000), (1000, 300)])
def test_runs_are_the_blocks_that_the_mask_leaves(small_blocks, mask, q_len, kv_len):
    plan = make_plan(mask, q_len, kv_len, widest=8)
    # Padding is computed like the rest; what padded keys score is hidden by their number.
    visible = np.asarray(mask.materialize(plan.padded_q_len, plan.padded_kv_len)[0, 0])
    blocks = visible.reshape(plan.num_query_blocks, plan.query_block, plan.num_key_blocks, -1).any((1, 3))
    for runs, seen in ((plan.keys_of, blocks), (plan.queries_of, blocks.T)):
        for block, others in enumerate(seen):
            run = runs(block)
            np.testing.assert_array_equal(
                others, [run.first <= other <= run.last for other in range(len(others))]
            )
            traced = runs(jnp.int32(block))
            assert (int(traced.first), int(traced.last)) == run
    assert visited_blocks(plan) == blocks.sum()
    assert plan.key_steps == max(1, blocks.sum(1).max())
    assert plan.query_steps == max(1, blocks.sum(0).max())


def test_a_causal_pass_computes_about_half_and_a_window_a_band():
    whole = visited_blocks(make_plan(F.AttentionMask(), 8192, 8192, widest=64))
    causal = visited_blocks(make_plan(F.AttentionMask.causal(), 8192, 8192, widest=64))
    window = visited_blocks(make_plan(F.AttentionMask.window(512, 0), 8192, 8192, widest=64))
    assert whole == 16 * 16
    assert causal == 16 * 17 / 2
    assert window == 2 * 16 - 1


def test_positions_of_ones_own_skip_nothing():
    mask = F.AttentionMask.causal() & F.AttentionMask.positions(
        jnp.arange(2048)[None] + 9, jnp.arange(2048)[None]
    )
    assert visited_blocks(make_plan(mask, 2048, 2048, widest=64)) == 16


def loss_of_a_call(query, key, value, lengths, segments, slopes):
    """Every kind of operand that the kernels have."""
    mask = F.AttentionMask.causal() & F.AttentionMask.from_lengths(lengths, key.shape[1])
    mask &= F.AttentionMask.segments(segments, segments)
    call = make_call(query, key, value, F.ScaledDot(), mask, F.Alibi(slopes), None)
    return (mosaic_tpu.attend(call).astype(jnp.float32) ** 2).sum()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("head_dim", [64, 128])
def test_lowers_for_a_tpu(dtype, head_dim):
    def shape(*sizes, dtype=dtype):
        return jax.ShapeDtypeStruct(sizes, dtype)

    arguments = (
        shape(2, 1024, 4, head_dim),
        shape(2, 1024, 2, head_dim),
        shape(2, 1024, 2, head_dim),
        shape(2, dtype="int32"),
        shape(2, 1024, dtype="int32"),
        shape(4, dtype="float32"),
    )
    for function, num_kernels in ((loss_of_a_call, 1), (jax.grad(loss_of_a_call, (0, 1, 2, 5)), 3)):
        lowered = jax.jit(function).trace(*arguments).lower(lowering_platforms=("tpu",))
        assert lowered.as_text().count("tpu_custom_call") == num_kernels


COMPILES = """
import jax
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding
from tests.functional.test_mosaic_tpu import loss_of_a_call

chip = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices[0]
def shape(*sizes, dtype):
    return jax.ShapeDtypeStruct(sizes, dtype, sharding=SingleDeviceSharding(chip))
for dtype, head_dim, length in (("bfloat16", 64, 1024), ("float32", 128, 1000), ("float32", 1024, 1024)):
    numbers = [shape(2, length, heads, head_dim, dtype=dtype) for heads in (4, 2, 2)]
    sides = shape(2, dtype="int32"), shape(2, length, dtype="int32"), shape(4, dtype="float32")
    with jax.default_matmul_precision("highest"):
        jax.jit(jax.grad(loss_of_a_call, (0, 1, 2, 5))).lower(*numbers, *sides).compile()
    print("compiled", dtype, head_dim, length)
"""


@pytest.mark.full
@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu, a TPU's compiler, is not installed"
)
def test_compiles_for_a_tpu(request: pytest.FixtureRequest):
    # In a process of its own: the compiler installs signal handlers, and looks for a TPU unless told of one.
    told = {
        "TPU_ACCELERATOR_TYPE": "v5litepod-4",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_SKIP_MDS_QUERY": "1",
    }
    paths = os.pathsep.join([str(request.config.rootpath), *sys.path])
    finished = subprocess.run(
        [sys.executable, "-c", COMPILES],
        env={**os.environ, **told, "PYTHONPATH": paths, "JAX_PLATFORMS": "cpu", "TPU_LOG_DIR": "disabled"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.stdout.count("compiled") == 3, finished.stdout + finished.stderr


def test_refuses_without_a_tpu_and_says_why():
    ones = jnp.ones((1, 2, 1, 4))
    with pytest.raises(NotImplementedError, match="needs a TPU, the default backend is 'cpu'"):
        F.attention(ones, ones, ones, implementation="mosaic_tpu")


@pytest.mark.parametrize(
    ("shape", "dtype", "reason"),
    [
        ((1, 2, 1, 4), "float16", "dtype must be float32 or bfloat16, got float16"),
        ((1, 2, 1, 1025), "float32", "must be at most 1024, got 1025"),
        ((1, 0, 1, 4), "float32", "empty axes"),
    ],
)
def test_refuses_what_a_kernel_cannot_hold(shape, dtype, reason):
    ones = jnp.ones(shape, dtype)
    with mosaic_tpu.interpreted(), pytest.raises(NotImplementedError, match=reason):
        F.attention(ones, ones, ones, implementation="mosaic_tpu")
