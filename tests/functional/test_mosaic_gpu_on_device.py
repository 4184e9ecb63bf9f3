"""Mosaic GPU attention on a Hopper GPU: the contract's cases, and lengths of many blocks against the reference.

Skipped where there is none. `python -m benchmarks.device` runs the same checks and keeps what they say; alone:

    JAX_PLATFORMS=cuda python -m pytest -n 0 -m gpu -rA tests/functional/test_mosaic_gpu_on_device.py
"""

import functools

import jax
import jax.numpy as jnp
import pytest

from transformer_jax import functional as F
from transformer_jax.functional.attention import REFUSALS, mosaic_gpu
from transformer_jax.testing import attention_suite as suite
from transformer_jax.testing.attention_blocks import BLOCK_CASES, check_blocks

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


@pytest.mark.parametrize("head_dim", [64, 80, 128])
@pytest.mark.parametrize("case", BLOCK_CASES)
def test_many_blocks_equal_the_reference(case, head_dim):
    """The same bits twice: no two programs add to one number."""
    for part, error in check_blocks(attend, case, head_dim, same_bits=True).items():
        print(f"{part}: {error:.1e}")
