"""Self-attention whose past is a state of one size, so that a decoding step costs the same however long the text."""

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jax.typing import DTypeLike

from transformer_jax.errors import ConfigError
from transformer_jax.functional import AttentionMask, LinearAttentionState, linear_attention
from transformer_jax.functional.dtypes import wide
from transformer_jax.nn.linear import Linear
from transformer_jax.nn.multi_head import check_heads
from transformer_jax.typing import Array, Bool, Float, Int

__all__ = ["LinearSelfAttention", "padding_of_causal_mask", "segments_of_mask"]

_CHUNK = 64
_Inputs = Float[Array, "batch q_len model"]


class LinearSelfAttention(nnx.Module):
    r"""Causal multi-head self-attention with a feature map in place of the softmax.

    .. math:: o_t = \mathrm{Concat}_h\left(
       \frac{\sum_{s \le t} (\phi(q_t^h) \cdot \phi(k_s^h)) v_s^h}{\sum_{s \le t} \phi(q_t^h) \cdot \phi(k_s^h)}
       \right) W^O, \quad (q, k, v) = x (W^Q, W^K, W^V), \quad \phi(x) = \mathrm{elu}(x) + 1

    Its parameters are those of :class:`~transformer_jax.nn.MultiHeadAttention` of as many key/value heads. It knows
    the order of tokens only by being causal, has no weights to drop and takes no position bias.

    Args:
      model_dim: Width of inputs and output.
      num_heads: Heads; must divide ``model_dim``.
      use_bias: Whether the projections have a bias.
      rngs: Source of the initial parameters.

    Raises:
      ShapeError: If the heads do not divide the width.

    Example:
      >>> layer = LinearSelfAttention(8, 2, use_bias=False, rngs=nnx.Rngs(0))
      >>> x = jnp.ones((1, 3, 8))
      >>> out, state = layer.extend(x[:, :2], layer.empty_state(1))
      >>> last, _ = layer.extend(x[:, 2:], state)
      >>> bool(jnp.allclose(jnp.concatenate([out, last], axis=1), layer(x), atol=1e-5))
      True

    Source: Katharopoulos et al. 2020, https://arxiv.org/abs/2006.16236, section 3.
    """

    def __init__(self, model_dim: int, num_heads: int, *, use_bias: bool, rngs: nnx.Rngs) -> None:
        check_heads(model_dim, num_heads, num_heads)
        self.num_heads = num_heads
        self.head_dim = model_dim // num_heads
        self.query_key_value = Linear(model_dim, (model_dim,) * 3, use_bias=use_bias, rngs=rngs)
        self.output = Linear(model_dim, (model_dim,), use_bias=use_bias, rngs=rngs)

    def __call__(
        self,
        x: _Inputs,
        *,
        valid: Bool[Array, "batch q_len"] | None = None,
        segments: Int[Array, "batch q_len"] | None = None,
        rng_key: jax.Array | None = None,
    ) -> _Inputs:
        """Attend over the whole of a sequence, at a cost linear in its length.

        Args:
          x: ``[batch, q_len, model]``.
          valid: False = padding, which leaves no trace, whatever it holds; its own output is that of zeros.
          segments: Where a row holds several sequences, the number of each token's; they do not see each other, and
            their tokens lie side by side.
          rng_key: Nothing is drawn; taken as by other attentions.

        Returns:
          ``[batch, q_len, model]``.
        """
        del rng_key
        return self._attend(x, valid, None, segments)[0]

    def extend(
        self, x: _Inputs, state: LinearAttentionState, *, num_valid: Int[Array, " batch"] | None = None
    ) -> tuple[_Inputs, LinearAttentionState]:
        """Attend from the next tokens to themselves and to those in the state.

        Args:
          x: The next tokens, ``[batch, q_len, model]``; one while decoding, more in a prefill.
          state: What the tokens before left behind.
          num_valid: How many of the tokens count for each row; ``None`` = all. The others leave no trace.

        Returns:
          The output and the state after; its size does not grow.
        """
        valid = None
        if num_valid is not None:
            valid = jnp.arange(x.shape[1], dtype=num_valid.dtype)[None, :] < num_valid[:, None]
        return self._attend(x, valid, state)

    def empty_state(self, batch: int, dtype: DTypeLike = jnp.float32) -> LinearAttentionState:
        """The state before the first token, float32; float64 for inputs of ``dtype`` float64.

        Example:
          >>> LinearSelfAttention(8, 2, use_bias=False, rngs=nnx.Rngs(0)).empty_state(3).values.shape
          (3, 2, 4, 4)
        """
        sizes = (batch, self.num_heads, self.head_dim, self.head_dim)
        return LinearAttentionState.zeros(*sizes, wide(jnp.dtype(dtype)))

    def _attend(
        self,
        x: Array,
        valid: Array | None,
        state: LinearAttentionState | None,
        segments: Array | None = None,
    ) -> tuple[Array, LinearAttentionState]:
        length = x.shape[1]
        if valid is not None:  # before the projection, whose gradient would multiply NaN by zero
            x = jnp.where(valid[:, :, None], x, 0)
        fused = rearrange(
            self.query_key_value(x), "batch len (heads dim) -> batch len heads dim", dim=self.head_dim
        )
        query, key, value = jnp.split(fused, 3, axis=2)
        # A chunk longer than the tokens would be filled up: a step of decoding is a chunk of one.
        chunk = min(_CHUNK, max(1, length))
        context, state = linear_attention(
            query, key, value, valid=valid, segments=segments, state=state, chunk=chunk
        )
        return self.output(rearrange(context, "batch len heads dim -> batch len (heads dim)")), state


def padding_of_causal_mask(
    mask: AttentionMask | None, batch: int, length: int
) -> Bool[Array, "batch length"] | None:
    """Which tokens a mask says are there; besides causality and segments, linear self-attention keeps no other part.

    Args:
      mask: Causal, with key validity, lengths or segments or none of them.
      batch: Rows.
      length: Tokens a row.

    Returns:
      False = padding, ``[batch, length]``; ``None`` = all are tokens.

    Raises:
      ConfigError: If the mask is not causal, or has a window, positions, a dense part or a rule.
      ShapeError: If the mask does not fit the sizes.

    Example:
      >>> mask = AttentionMask.causal() & AttentionMask.from_lengths(jnp.array([2]), 3)
      >>> padding_of_causal_mask(mask, 1, 3).tolist()
      [[True, True, False]]
    """
    if mask is None or not mask.is_causal:
        raise ConfigError("mask: linear self-attention is causal; give a mask that is, or use 'softmax'")
    for part, is_there in (
        ("window", mask.has_window),
        ("segments twice", len(mask.segment_pairs) > 1),
        ("positions", not mask.has_default_positions),
        ("dense", mask.dense_mask is not None),
        ("rule", bool(mask.rules)),
    ):
        if is_there:
            raise ConfigError(
                f"mask: linear self-attention takes causal, segment and padding parts only, got {part}"
            )
    mask.check(batch, 1, length, length)
    if not mask.has_key_part:
        return None
    padding = AttentionMask(
        key_valid=mask.key_valid, key_lengths=mask.key_lengths, lengths_extent=mask.lengths_extent
    )
    return jnp.broadcast_to(padding.materialize(1, length)[:, 0, 0], (batch, length))


def segments_of_mask(
    mask: AttentionMask | None, batch: int, length: int
) -> Int[Array, "batch length"] | None:
    """Number of each token's sequence, ``[batch, length]``, of a mask that :func:`padding_of_causal_mask` takes.

    In self-attention queries and keys are the same tokens, so that the numbers of the keys are those of the queries.

    Example:
      >>> numbers = jnp.array([[1, 1, 2]])
      >>> segments_of_mask(AttentionMask.causal() & AttentionMask.segments(numbers, numbers), 1, 3).tolist()
      [[1, 1, 2]]
    """
    if mask is None or not mask.segment_pairs:
        return None
    return jnp.broadcast_to(mask.segment_pairs[0][1], (batch, length))
