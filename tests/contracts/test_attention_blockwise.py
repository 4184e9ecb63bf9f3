"""Blockwise attention under the contract of attention."""

import pytest
from attention_contract import agrees_or_refuses_as_listed, cases

# Every score rule, part of a mask, bias, kind of heads and of empty row; the reference is always held to all cases.
FIRST = {
    "odd_lengths",
    "multi_query",
    "value_dim",
    "general_per_head",
    "additive_grouped",
    "concat",
    "linear",
    "location_positions",
    "window_causal_lengths",
    "positions_before_all_keys",
    "segments_causal",
    "dense_heads",
    "mask_rule_heads",
    "all_parts",
    "empty_rows_grouped",
    "bias_broadcast",
    "bias_hides_rows",
    "alibi_positions",
    "relative_buckets_causal",
    "reweight_window",
}


@pytest.mark.parametrize("case", cases("blockwise", FIRST))
def test_agrees_with_the_oracle_or_refuses_as_listed(case):
    agrees_or_refuses_as_listed("blockwise", case)
