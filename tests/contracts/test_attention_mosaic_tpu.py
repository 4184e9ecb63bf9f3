"""The TPU kernels, interpreted, under the contract of attention."""

from collections.abc import Iterator

import pytest
from attention_contract import agrees_or_refuses_as_listed, cases

from transformer_jax.functional.attention import mosaic_tpu

# Interpreted kernels are slow to trace; these go through every line of them.
FIRST = {
    "multi_query",
    "window_causal_lengths",
    "positions_window",
    "segments",
    "valid",
    "alibi_positions",
}


@pytest.fixture(autouse=True)
def _interpreted() -> Iterator[None]:
    """Kernels for a TPU run here too."""
    with mosaic_tpu.interpreted("plain"):
        yield


@pytest.mark.parametrize("case", cases("mosaic_tpu", FIRST))
def test_agrees_with_the_oracle_or_refuses_as_listed(case):
    agrees_or_refuses_as_listed("mosaic_tpu", case)
