"""The native kernels under the contract of attention, with every kind of vector instructions that this machine has."""

import functools

import pytest
from attention_contract import agrees_or_refuses_as_listed, cases

from transformer_jax import functional as F
from transformer_jax.functional.attention import REFUSALS
from transformer_jax.testing import attention_suite as suite

VARIANTS = ("avx512", "avx2", "plain")

# Every part of a mask, the bias, kinds of heads and of empty rows: for the vector units that are not this machine's.
FIRST = {
    "odd_lengths", "grouped_heads", "multi_query", "value_dim", "causal_long_query", "window_causal_lengths",
    "positions_before_all_keys", "segments_causal", "dense_heads", "mask_rule_heads", "all_parts",
    "empty_rows_dense", "alibi_positions",
}  # fmt: skip


@pytest.mark.parametrize("case", suite.case_names())
def test_agrees_with_the_oracle_or_refuses_as_listed(native_library, case):
    agrees_or_refuses_as_listed("native_cpu", case)


def served(case):
    return case.values[0] not in REFUSALS["native_cpu"]


@pytest.mark.parametrize("case", list(filter(served, cases("native_cpu", FIRST))))
@pytest.mark.parametrize("variant", VARIANTS)
def test_other_vector_units_agree_with_the_oracle(native_library, variant, case):
    if variant == native_library.variant:
        pytest.skip("is held to every case already")
    if not native_library.use_variant(variant):
        pytest.skip("this processor does not have it")
    agrees_or_refuses_as_listed("native_cpu", case)


@pytest.mark.parametrize("variant", VARIANTS)
def test_dropout(native_library, variant):
    if not native_library.use_variant(variant):
        pytest.skip("this processor does not have it")
    suite.check_dropout(functools.partial(F.attention, implementation="native_cpu"))
