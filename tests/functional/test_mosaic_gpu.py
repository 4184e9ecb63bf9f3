"""Mosaic GPU attention without a GPU: its arithmetic, its kernels in the interpreter, its lowering for CUDA."""

import functools
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import mosaic_gpu_emulation as emulation
import numpy as np
import pytest
from jax.experimental.pallas import mosaic_gpu as plgpu

from transformer_jax import functional as F
from transformer_jax.functional import AttentionMask
from transformer_jax.functional.attention import mosaic_gpu, mosaic_gpu_kernels
from transformer_jax.functional.attention.contract import make_call
from transformer_jax.testing import attention_suite as suite


def attend(query, key, value, *, score=None, mask=None, bias=None):
    """The implementation without the look at the device and the dtype."""
    score = F.ScaledDot() if score is None else score
    return mosaic_gpu.attend(make_call(query, key, value, score, mask, bias, None))


@pytest.fixture
def emulated(monkeypatch):
    monkeypatch.setattr(mosaic_gpu, "_kernels", lambda: emulation)


@pytest.mark.usefixtures("emulated")
def test_the_arithmetic_of_the_kernels_keeps_the_contract():
    suite.check_case(attend, "empty_rows_causal")
    errors = suite.check_case_in_16_bits(attend, "grouped_heads")
    assert set(errors) == {"value", "['query']", "['key']", "['value']"}


MASKS = {
    "causal": lambda kv_len: AttentionMask.causal(),
    "window": lambda kv_len: AttentionMask.window(70, 30),
    "causal lengths": lambda kv_len: (
        AttentionMask.causal() & AttentionMask.from_lengths(jnp.array([90, kv_len - 70]), kv_len)
    ),
    "valid": lambda kv_len: AttentionMask.valid(
        jnp.asarray(np.random.default_rng(3).random((2, kv_len)) < 0.5).at[1, 400:].set(False)
    ),
    "empty rows": lambda kv_len: (
        AttentionMask.window(20, 0) & AttentionMask.from_lengths(jnp.array([0, 100]), kv_len)
    ),
}


def draw(sizes, heads, widths, dtype):
    """Query, key, value and cotangent."""
    generator = np.random.default_rng(0)
    (q_len, kv_len), (num_heads, kv_heads), (head_dim, value_dim) = sizes, heads, widths
    shapes = [
        (2, q_len, num_heads, head_dim),
        (2, kv_len, kv_heads, head_dim),
        (2, kv_len, kv_heads, value_dim),
        (2, q_len, num_heads, value_dim),
    ]
    return [jnp.asarray(generator.normal(size=shape), dtype) for shape in shapes]


def outcome(attend, arrays, mask, score=None):
    """Output and gradients of query, key and value."""
    *inputs, cotangent = arrays
    score = F.ScaledDot() if score is None else score
    output, pull_back = jax.vjp(functools.partial(attend, mask=mask, score=score), *inputs)
    return output, *pull_back(cotangent.astype(output.dtype))


def assert_like_the_reference(got, arrays, mask, tolerances, score=None):
    """Compare output and gradients with those of the reference in float32."""
    reference = functools.partial(F.attention, implementation="reference")
    wide = [array.astype(jnp.float32) for array in arrays]
    wanted = jax.jit(functools.partial(outcome, reference, score=score))(wide, mask)
    for name, one, other, tolerance in zip(("output", "query", "key", "value"), got, wanted, tolerances):
        suite.assert_near(one, other, tolerance, name)


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize(
    ("mask", "sizes", "scale"),
    [
        ("window", (200, 390), -0.3),
        ("valid", (40, 300), 0.0),
        ("empty rows", (260, 140), None),
    ],
)
def test_the_arithmetic_over_several_tiles_equals_the_reference(mask, sizes, scale):
    arrays = draw(sizes, (4, 2), (20, 70), jnp.float32)
    made, score = MASKS[mask](sizes[1]), F.ScaledDot(scale)
    got = jax.jit(functools.partial(outcome, attend, score=score))(arrays, made)
    assert_like_the_reference(got, arrays, made, (1e-5, 1e-4, 1e-4, 1e-4), score)


def _added(total, left, right):
    """What ``_add_product`` does, for the interpreter, which knows neither ``run_state`` nor registers as operands."""
    total = total + jnp.dot(left.astype(jnp.float32), right[...].astype(jnp.float32))
    plgpu.commit_smem()
    return total


@pytest.mark.skipif(not hasattr(plgpu, "force_gpu_interpret_mode"), reason="this JAX cannot interpret them")
@pytest.mark.parametrize(
    ("mask", "sizes", "heads", "widths"),
    [
        ("causal lengths", (200, 260), (2, 1), (64, 64)),
        ("valid", (60, 520), (1, 1), (80, 64)),
    ],
)
def test_the_kernels_equal_the_reference_and_have_no_races(monkeypatch, mask, sizes, heads, widths):
    monkeypatch.setattr(mosaic_gpu_kernels, "_add_product", _added)
    # One sequence: the interpreter takes its time.
    arrays = [array[1:] for array in draw(sizes, heads, widths, jnp.float16)]
    made = jax.tree.map(lambda part: part[1:], MASKS[mask](sizes[1]))
    with plgpu.force_gpu_interpret_mode(plgpu.InterpretGPUParams(detect_races=True)):
        got = jax.jit(functools.partial(outcome, attend))(arrays, made)
    assert got[0].dtype == jnp.float16
    assert_like_the_reference(got, arrays, made, (5e-3,) * 4)


def lowered_for_cuda(function, *arguments):
    return jax.jit(function).trace(*arguments).lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize(
    ("mask", "heads", "head_dim", "dtype"),
    [
        ("causal", (4, 2), 128, jnp.bfloat16),
        ("window", (2, 2), 64, jnp.bfloat16),
        ("valid", (2, 1), 64, jnp.float16),
    ],
)
def test_forward_and_backward_are_lowered_for_cuda(mask, heads, head_dim, dtype):
    arrays = draw((200, 300), heads, (head_dim, head_dim), dtype)
    text = lowered_for_cuda(functools.partial(outcome, attend), arrays, MASKS[mask](300))
    assert text.count("@mosaic_gpu_v2") == 3, "one kernel for the output, one for each side's gradient"


def test_a_batch_of_calls_is_lowered_for_cuda():
    arrays = draw((64, 64), (1, 1), (64, 64), jnp.bfloat16)[:3]
    stacked = [jnp.stack([array] * 3) for array in arrays]
    lengths = jnp.array([[3, 4], [64, 0], [1, 2]])

    def one(query, key, value, lengths):
        return attend(query, key, value, mask=AttentionMask.from_lengths(lengths, 64))

    assert lowered_for_cuda(jax.vmap(one), *stacked, lengths).count("@mosaic_gpu_v2") == 1


def refused(dtype=jnp.bfloat16, q_len=3, width=8, value_dim=8, key=None, **arguments):
    query = jnp.ones((2, q_len, 2, width), dtype)
    key = jnp.ones((2, 5, 2, width), dtype) if key is None else key
    arguments = {"score": F.ScaledDot(), "mask": None, "bias": None, "dropout": None, **arguments}
    call = make_call(
        query,
        key,
        jnp.ones((2, 5, 1 if isinstance(key, F.PreparedKey) else 2, value_dim), dtype),
        **arguments,
    )
    return mosaic_gpu.refusals(call)


def test_refusals_name_the_reason():
    own_positions = AttentionMask.positions(jnp.arange(3)[None], jnp.arange(5)[None])
    assert refused() == []
    assert refused(jnp.float16, width=128, value_dim=96, mask=own_positions) == []
    assert "got float32" in refused(jnp.float32)[0]
    assert "at most 128, got 136" in refused(width=136)[0]
    assert "at most 128, got 256" in refused(value_dim=256)[0]
    assert "empty axes" in refused(q_len=0)[0]
    assert "positions" in refused(mask=own_positions & AttentionMask.causal())[0]
    assert "heads of key, 2, got 1" in refused(key=F.PreparedKey(jnp.ones((2, 5, 2, 8), jnp.bfloat16)))[0]
    several = refused(
        jnp.float32,
        score=F.Additive(jnp.ones((8, 3)), jnp.ones((8, 3)), jnp.ones(3)),
        bias=jnp.ones((1, 1, 3, 5)),
    )
    assert len(several) == 3
    with jax.enable_x64(True):
        assert "32 bits" in refused()[0]


@pytest.mark.parametrize(
    ("platform", "capability", "version", "reason"),
    [
        ("gpu", "9.0", "PJRT C API\ncuda 13000", None),
        ("gpu", "9.0", "cuda 12080", "CUDA 12080 miscompiles"),
        ("gpu", "10.0", "cuda 13000", "has gpu of compute capability 10.0"),
        ("cpu", None, "cpu", "has cpu"),
    ],
)
def test_the_device_is_looked_at(monkeypatch, platform, capability, version, reason):
    client = SimpleNamespace(platform_version=version)
    device = SimpleNamespace(platform=platform, compute_capability=capability, client=client)
    monkeypatch.setattr(jax, "devices", lambda: [device])
    reasons = mosaic_gpu.device_refusals()
    assert (reason in reasons[0]) if reason else not reasons


def test_the_library_is_imported_without_pallas():
    program = "import sys, transformer_jax.functional; print('jax.experimental.pallas' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False"]
