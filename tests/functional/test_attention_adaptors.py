"""Adaptors to attention of other libraries, as far as they can be tried where their hardware is absent."""

import importlib
import importlib.util

import jax
import jax.numpy as jnp
import pytest

from transformer_jax import functional as F
from transformer_jax.functional.attention import REFUSALS
from transformer_jax.functional.attention import cudnn_attention as cudnn
from transformer_jax.functional.attention.contract import make_call
from transformer_jax.testing import attention_suite as suite

SERVED = [case for case in suite.case_names() if case not in REFUSALS["cudnn"]]


@pytest.fixture
def flags(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """What was handed to JAX for cuDNN, which XLA then does in its stead."""
    seen = []
    real = jax.nn.dot_product_attention

    def stand_in(query, key, value, *, implementation, **arguments):
        assert implementation == "cudnn"
        seen.append(arguments)
        return real(query, key, value, implementation="xla", **arguments)

    monkeypatch.setattr(jax.nn, "dot_product_attention", stand_in)
    return seen


def attend_as_cudnn(query, key, value, *, score, mask, bias):
    return cudnn.attend(make_call(query, key, value, score, mask, bias, None))


@pytest.mark.parametrize("case", SERVED)
def test_what_is_handed_to_cudnn_means_the_case(flags, case):
    made = suite.make_case(case)
    output = suite.call(attend_as_cudnn, made.arrays, made.mask)
    suite.assert_near(output, suite.oracle_attention(made, suite.float64(made.arrays))[0], 1e-5, case)


@pytest.mark.parametrize(
    ("mask", "wanted"),
    [
        (F.AttentionMask.causal(), {"is_causal"}),
        (F.AttentionMask.window(2, 0), {"is_causal", "local_window_size"}),
        (
            F.AttentionMask.causal() & F.AttentionMask.from_lengths(jnp.array([0, 3]), 6),
            {"is_causal", "key_value_seq_lengths"},
        ),
        (F.AttentionMask.window(2, 1), {"mask"}),
        (F.AttentionMask.window(2, 0) & F.AttentionMask.from_lengths(jnp.array([0, 3]), 6), {"mask"}),
    ],
)
def test_cudnn_gets_native_flags_where_it_has_them(flags, mask, wanted):
    ones = jnp.ones((2, 6, 1, 8))
    attend_as_cudnn(ones, ones, ones, score=F.ScaledDot(), mask=mask, bias=None)
    assert set(flags[0]) == wanted | {"scale"}


def test_cudnn_says_what_it_cannot():
    wide = jnp.ones((1, 4, 1, 12))
    call = make_call(wide, wide, wide, F.Dot(), None, jnp.ones((1, 1, 4, 4)), None)
    reasons = "; ".join(cudnn.refusals(call))
    for word in ("bfloat16 and float16, got float32", "multiple of 8 up to 256, got 12", "bias"):
        assert word in reasons


def test_tokamax_is_loaded_only_when_it_is_asked_for(monkeypatch):
    ones = jnp.ones((1, 2, 1, 4))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NotImplementedError, match="package tokamax is not installed"):
        F.attention(ones, ones, ones, implementation="tokamax")
