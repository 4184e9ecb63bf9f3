"""Kernels that ``implementation=None`` takes, with the derivatives that they lack.

A kernel for an accelerator has its value and one reverse pass. What ``None`` can differentiate must not depend on what
it takes, so the rest (forward mode, derivatives of derivatives) goes through ``blockwise``. The kernel's reverse pass
begins with its forward pass, so that a gradient runs the forward pass twice, but where XLA finds both to be the same
call (it cannot where the one for the reverse pass has further outputs, as cuDNN's has). The committed times are those
of this form.
"""

from collections.abc import Callable
from typing import Any

import jax

from transformer_jax.functional.attention import blockwise
from transformer_jax.functional.attention.contract import AttentionCall
from transformer_jax.functional.derivatives import Rules, with_backward
from transformer_jax.typing import Array

Attend = Callable[[AttentionCall], Array]
_Arrays = tuple[Array, Array, Array]


def attend_with_every_derivative(attend: Attend, call: AttentionCall) -> Array:
    """The output of ``attend``, which JAX can differentiate in every way.

    Args:
      attend: A kernel; its call has a dot product's score, and neither bias nor reweight nor dropout.
      call: The call.
    """
    rest = (call.score, call.mask)
    arrays = (call.query, call.key, call.value)
    return with_backward(_RULES, (attend, call.key_is_prepared), arrays, rest)[0][0]


def _call(static: Any, arrays: _Arrays, rest: Any) -> AttentionCall:
    query, key, value = arrays
    score, mask = rest
    return AttentionCall(query, key, value, static[1], score, mask, None, None, None)


def _value(static: Any, arrays: _Arrays, rest: Any) -> tuple[tuple[Array], None]:
    return (static[0](_call(static, arrays, rest)),), None


def _backward(static: Any, arrays: _Arrays, rest: Any, outputs: Any, cotangents: Any) -> _Arrays:
    del outputs
    _, pull_back = jax.vjp(lambda arrays: static[0](_call(static, arrays, rest)), arrays)
    return pull_back(cotangents[0])[0]


def _plain(static: Any, arrays: _Arrays, rest: Any) -> tuple[Array]:
    return (blockwise.attend(_call(static, arrays, rest)),)


_RULES = Rules(_value, _backward, _plain)
