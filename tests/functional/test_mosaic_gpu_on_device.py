"""Mosaic GPU attention on a Hopper GPU: the contract's cases, and lengths of many blocks against the reference.

Skipped where there is none. To run it, and to keep what it says:

    JAX_PLATFORMS=cuda python -m pytest -n 0 -m gpu -rA tests/functional/test_mosaic_gpu_on_device.py \
      | tee benchmarks/results/mosaic_gpu-h100.log
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax import functional as F
from transformer_jax.functional import AttentionMask
from transformer_jax.functional.attention import REFUSALS, mosaic_gpu
from transformer_jax.testing import attention_suite as suite

pytestmark = pytest.mark.gpu

attend = functools.partial(F.attention, implementation="mosaic_gpu")
SERVED = [name for name in suite.case_names() if name not in REFUSALS["mosaic_gpu"]]


@pytest.fixture(autouse=True)
def _needs_the_device():
    if reasons := mosaic_gpu.device_refusals():
        pytest.skip(reasons[0])
    device = jax.devices()[0]
    print(f"jax {jax.__version__}, {device.device_kind}, {device.client.platform_version.split()[-1]}")


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("case", SERVED)
def test_the_contract_holds_in_16_bits(case, dtype):
    for path, error in suite.check_case_in_16_bits(attend, case, dtype).items():
        print(f"{case} {jnp.dtype(dtype).name} {path}: {error:.1e}")


def _valid(kv_len: int) -> AttentionMask:
    return AttentionMask.valid(jnp.asarray(np.random.default_rng(1).random((2, kv_len)) < 0.7))


@pytest.mark.parametrize("head_dim", [64, 80, 128])
@pytest.mark.parametrize(
    ("q_len", "kv_len", "mask"),
    [
        (1024, 1024, AttentionMask()),
        (2048, 2048, AttentionMask.causal()),
        (1000, 1000, AttentionMask.causal()),
        (1500, 1500, AttentionMask.window(200, 100)),
        (1300, 1300, AttentionMask.causal() & AttentionMask.window(300, None)),
        (300, 1999, AttentionMask.from_lengths(jnp.array([1999, 777]), 1999)),
        (700, 1100, _valid(1100)),
        (900, 900, AttentionMask.causal() & _valid(900)),
        (513, 800, AttentionMask.causal() & AttentionMask.from_lengths(jnp.array([0, 300]), 800)),
    ],
)
def test_many_blocks_equal_the_reference(q_len, kv_len, mask, head_dim):
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = [(q_len, 8), (kv_len, 2), (kv_len, 2), (q_len, 8)]
    *inputs, cotangent = (
        jax.random.normal(key, (2, length, heads, head_dim), jnp.bfloat16)
        for key, (length, heads) in zip(keys, shapes)
    )

    def outcome(attend, inputs, cotangent):
        output, pull_back = jax.vjp(functools.partial(attend, mask=mask), *inputs)
        return output, *pull_back(cotangent)

    got = jax.jit(functools.partial(outcome, attend))(inputs, cotangent)
    again = jax.jit(functools.partial(outcome, attend))(inputs, cotangent)
    reference = functools.partial(F.attention, implementation="reference")
    wide = [array.astype(jnp.float32) for array in inputs]
    wanted = jax.jit(functools.partial(outcome, reference))(wide, cotangent.astype(jnp.float32))
    for name, one, two, want in zip(("output", "query", "key", "value"), got, again, wanted):
        np.testing.assert_array_equal(one, two, err_msg="no two programs add to one number")
        error = np.abs(suite.float64(one) - suite.float64(want)).max() / np.abs(suite.float64(want)).max()
        print(f"{name}: {error:.1e}")
        suite.assert_near(one, want, suite.BFLOAT16_TOLERANCE, name)
