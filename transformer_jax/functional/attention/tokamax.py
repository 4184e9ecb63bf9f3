"""Adaptor to ``tokamax.dot_product_attention``, where the package tokamax is installed.

Tokamax chooses among its own kernels. Source: https://github.com/openxla/tokamax
"""

import importlib
import importlib.util

import jax

from transformer_jax.functional.attention import jax_nn
from transformer_jax.functional.attention.contract import AttentionCall
from transformer_jax.functional.attention.guard import guard
from transformer_jax.typing import Array


def device_refusals() -> list[str]:
    """Why no call can be done here."""
    if importlib.util.find_spec("tokamax") is None:
        return ["the package tokamax is not installed (pip install tokamax; Python 3.12 or newer)"]
    return []


def refusals(call: AttentionCall) -> list[str]:
    """Reasons not to do the call, whatever the machine."""
    return jax_nn.dot_product_refusals(call)


def attend(call: AttentionCall) -> Array:
    """The output ``[batch, q_len, heads, value_dim]``."""
    tokamax = importlib.import_module("tokamax")
    bias, safe = jax_nn.without_dead_rows(call.dense_bias(), guard(call))
    with jax.numpy_rank_promotion("allow"):  # its code relies on it
        output = tokamax.dot_product_attention(
            safe.query,
            safe.key,
            safe.value,
            bias=bias,
            scale=jax_nn.scale_of(call),
            **jax_nn.mask_arguments(call, safe.mask),
        )
    return jax_nn.mend(output, safe)
