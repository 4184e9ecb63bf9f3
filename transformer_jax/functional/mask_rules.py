"""Local attention as mask rules: a window with sinks, a dilated window, a window with global tokens.

A plain window is a part of every mask, :meth:`AttentionMask.window`. All rules compare positions: of the text, of the
document in a packed row, and in a cache those that its tokens had in the text.
"""

import dataclasses
from typing import Any

from transformer_jax.errors import ConfigError
from transformer_jax.functional.masks import MaskRule
from transformer_jax.pytree import pytree_dataclass, static_field
from transformer_jax.typing import Array, Bool, Int

__all__ = ["DilatedWindow", "GlobalTokens", "SinkWindow"]

_QueryPositions = Int[Array, "query_rows 1 q_len 1"]
_KeyPositions = Int[Array, "key_rows 1 1 kv_len"]


@pytree_dataclass
class SinkWindow(MaskRule):
    r"""The last tokens and the first ones of the text, which serve as sinks of attention.

    .. math:: M_{ij} = [q_i - k_j < w] \vee [k_j < s]

    It looks back only: combine it with :meth:`AttentionMask.causal`.

    Attributes:
      window_len: How many tokens a query sees, the last ones and itself, :math:`w`.
      num_sinks: How many of the first tokens all queries see, :math:`s`.

    Raises:
      ConfigError: If the window is empty, or the number of sinks is negative.

    Example:
      >>> from transformer_jax.functional import AttentionMask
      >>> mask = AttentionMask.causal() & SinkWindow(window_len=2, num_sinks=1)
      >>> mask.materialize(4, 4)[0, 0].astype(int).tolist()
      [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 1, 1]]

    Source: Xiao et al. 2024, https://arxiv.org/abs/2309.17453, section 3.2.
    """

    window_len: int = static_field()
    num_sinks: int = static_field(default=0)

    def __post_init__(self) -> None:
        _check_integers(self, window_len=1, num_sinks=0)

    def allows(
        self, query_positions: _QueryPositions, key_positions: _KeyPositions
    ) -> Bool[Array, "rows 1 q_len kv_len"]:
        """Keys less than ``window_len`` back, and those of the first ``num_sinks`` positions."""
        near = query_positions - key_positions < self.window_len
        return near | (key_positions < self.num_sinks)


@pytree_dataclass
class DilatedWindow(MaskRule):
    r"""Every ``dilation``-th token on both sides: a wider view with as many keys.

    .. math:: M_{ij} = [d \mid k_j - q_i] \wedge [-l d \le k_j - q_i \le r d]

    A query always sees its own position, so that no row of a self-attention is empty.

    Attributes:
      left: Keys before the query.
      right: Keys after it.
      dilation: Distance between neighbouring keys, :math:`d`; 1 = a plain window.

    Raises:
      ConfigError: If a side is negative, or the dilation is below 1.

    Example:
      >>> from transformer_jax.functional import AttentionMask
      >>> (AttentionMask() & DilatedWindow(left=1, right=1, dilation=2)).materialize(4, 4)[0, 0].astype(int).tolist()
      [[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1]]

    Source: Beltagy et al. 2020, https://arxiv.org/abs/2004.05150, section 3.1.
    """

    left: int = static_field()
    right: int = static_field()
    dilation: int = static_field(default=2)

    def __post_init__(self) -> None:
        _check_integers(self, left=0, right=0, dilation=1)

    def allows(
        self, query_positions: _QueryPositions, key_positions: _KeyPositions
    ) -> Bool[Array, "rows 1 q_len kv_len"]:
        """Keys a multiple of ``dilation`` away, within both sides."""
        ahead = key_positions - query_positions
        is_near = (ahead >= -self.left * self.dilation) & (ahead <= self.right * self.dilation)
        return is_near & (ahead % self.dilation == 0)


@pytree_dataclass
class GlobalTokens(MaskRule):
    r"""A window, and first tokens that see all others and are seen by all.

    .. math:: M_{ij} = [-l \le k_j - q_i \le r] \vee [k_j < g] \vee [q_i < g]

    Longformer projects global tokens by matrices of their own; here all tokens share theirs.

    Attributes:
      left: Keys before the query.
      right: Keys after it.
      num_global: How many of the first tokens are global, :math:`g`.

    Raises:
      ConfigError: If a number is negative.

    Example:
      >>> from transformer_jax.functional import AttentionMask
      >>> (AttentionMask() & GlobalTokens(left=0, right=0, num_global=1)).materialize(3, 3)[0, 0].astype(int).tolist()
      [[1, 1, 1], [1, 1, 0], [1, 0, 1]]

    Source: Beltagy et al. 2020, https://arxiv.org/abs/2004.05150, section 3.1.
    """

    left: int = static_field()
    right: int = static_field()
    num_global: int = static_field(default=1)

    def __post_init__(self) -> None:
        _check_integers(self, left=0, right=0, num_global=0)

    def allows(
        self, query_positions: _QueryPositions, key_positions: _KeyPositions
    ) -> Bool[Array, "rows 1 q_len kv_len"]:
        """Keys within both sides, and all pairs with a global token."""
        ahead = key_positions - query_positions
        is_near = (ahead >= -self.left) & (ahead <= self.right)
        return is_near | (key_positions < self.num_global) | (query_positions < self.num_global)


def _check_integers(rule: Any, **least: int) -> None:
    for field in dataclasses.fields(rule):
        value = getattr(rule, field.name)
        if not isinstance(value, int) or isinstance(value, bool) or value < least[field.name]:
            raise ConfigError(
                f"{type(rule).__name__}.{field.name} must be an integer >= {least[field.name]}, got {value!r}"
            )
