"""The one entry to attention: every score rule, every mask, every implementation."""

from transformer_jax.functional.attention import reference
from transformer_jax.functional.attention.choice import (
    AttentionExplanation,
    chosen,
    explain,
    named,
)
from transformer_jax.functional.attention.contract import AttentionDropout, PreparedKey, check_rule, make_call
from transformer_jax.functional.biases import PositionBias
from transformer_jax.functional.dtypes import as_array
from transformer_jax.functional.masks import AttentionMask, MaskRule
from transformer_jax.functional.reweights import Reweight
from transformer_jax.functional.scores import ScaledDot, ScoreRule
from transformer_jax.typing import Array, Float

_SCALED_DOT = ScaledDot()


def attention(
    query: Float[Array, "batch q_len heads query_dim"],
    key: Float[Array, "batch kv_len kv_heads key_dim"] | PreparedKey,
    value: Float[Array, "batch kv_len value_heads value_dim"],
    *,
    score: ScoreRule = _SCALED_DOT,
    mask: AttentionMask | MaskRule | None = None,
    bias: PositionBias | Float[Array, "#batch #heads #q_len #kv_len"] | None = None,
    reweight: Reweight | None = None,
    dropout: AttentionDropout | None = None,
    implementation: str | None = None,
) -> Float[Array, "batch q_len heads value_dim"]:
    r"""Mean of the values under a softmax of scores between queries and keys.

    .. math:: o_i = \sum_j g_{ij} p_{ij} v_j, \quad
       p_{ij} = \frac{M_{ij} e^{s(q_i, k_j) + B_{ij}}}{\sum_{j'} M_{ij'} e^{s(q_i, k_{j'}) + B_{ij'}}}

    A query that may attend to no key gives zeros and has zero gradient. NaN or Inf in a masked slot changes
    neither output nor gradient. Softmax and scores are float32 for inputs of 16 or 32 bits, float64 for
    those of 64. Derivatives of every order and mode; those of the kernels beyond reverse mode of the first
    order go through ``blockwise``.

    Args:
      query: Queries, ``[batch, q_len, heads, query_dim]``.
      key: Keys, ``[batch, kv_len, kv_heads, key_dim]``; ``kv_heads`` divides ``heads``. A
        :class:`PreparedKey` is not prepared again.
      value: Values, ``[batch, kv_len, kv_heads, value_dim]``.
      score: The score rule; rules other than the dot products carry parameters.
      mask: Who may attend to whom; also brings the positions that biases and rules compare.
      bias: Added to the scores: ``Alibi``, ``RelativeBuckets``, or an array broadcastable to
        ``[batch, heads, q_len, kv_len]``.
      reweight: What the weights are multiplied with after the softmax, such as :class:`GaussianReweight`;
        ``None`` = 1.
      dropout: Drop attention weights; ``None`` = evaluation.
      implementation: ``"reference"``, ``"batched"``, ``"blockwise"`` (memory linear in the length), ``"native_cpu"``,
        ``"xla"``, ``"cudnn"``, ``"tokamax"``, ``"mosaic_gpu"`` or ``"mosaic_tpu"``; ``None`` takes what the library's
        measurements say for the size (:func:`explain_attention` tells). A named one never falls back.

    Returns:
      ``[batch, q_len, heads, value_dim]`` in the dtype of the inputs.

    Raises:
      ShapeError: If shapes do not fit each other.
      ConfigError: If a dtype, rate or name is wrong.
      NotImplementedError: If the named implementation cannot do the call; raised before computing.

    Example:
      >>> import jax.numpy as jnp
      >>> query, key, value = jnp.ones((2, 3, 4, 8)), jnp.ones((2, 5, 4, 8)), jnp.ones((2, 5, 4, 8))
      >>> attention(query, key, value, mask=AttentionMask.causal()).shape
      (2, 3, 4, 8)

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, equation 1; Bahdanau et al. 2015,
    https://arxiv.org/abs/1409.0473, equations 5 and 6.
    """
    call = make_call(query, key, value, score, mask, bias, dropout, reweight)
    if implementation is None:
        return chosen(call).attend(call)
    return named(implementation, call).attend(call)


def explain_attention(
    query: Float[Array, "batch q_len heads query_dim"],
    key: Float[Array, "batch kv_len kv_heads key_dim"] | PreparedKey,
    value: Float[Array, "batch kv_len value_heads value_dim"],
    *,
    score: ScoreRule = _SCALED_DOT,
    mask: AttentionMask | MaskRule | None = None,
    bias: PositionBias | Float[Array, "#batch #heads #q_len #kv_len"] | None = None,
    reweight: Reweight | None = None,
    dropout: AttentionDropout | None = None,
) -> AttentionExplanation:
    r"""Which implementation :func:`attention` would choose for a call, and why not each of the others.

    Nothing is computed: shapes, dtypes and parts of the mask decide.

    Args:
      query: As in :func:`attention`.
      key: As in :func:`attention`.
      value: As in :func:`attention`.
      score: As in :func:`attention`.
      mask: As in :func:`attention`.
      bias: As in :func:`attention`.
      reweight: As in :func:`attention`.
      dropout: As in :func:`attention`.

    Returns:
      The explanation; printed, it has one line an implementation.

    Raises:
      ShapeError: If shapes do not fit each other.
      ConfigError: If a dtype, rate or name is wrong.

    Example:
      >>> import jax
      >>> ones = jax.numpy.ones((1, 8, 2, 4))
      >>> explanation = explain_attention(ones, ones, ones, dropout=AttentionDropout(0.1, jax.random.key(0)))
      >>> explanation.chosen, explanation.refusals["xla"]
      ('batched', ('dropout of attention weights is not offered',))

    Source: none; the order follows the measurements under ``benchmarks/results``.
    """
    return explain(make_call(query, key, value, score, mask, bias, dropout, reweight))


def attention_with_weights(
    query: Float[Array, "batch q_len heads query_dim"],
    key: Float[Array, "batch kv_len kv_heads key_dim"] | PreparedKey,
    value: Float[Array, "batch kv_len value_heads value_dim"],
    *,
    score: ScoreRule = _SCALED_DOT,
    mask: AttentionMask | MaskRule | None = None,
    bias: PositionBias | Float[Array, "#batch #heads #q_len #kv_len"] | None = None,
    reweight: Reweight | None = None,
    dropout: AttentionDropout | None = None,
) -> tuple[Float[Array, "batch q_len heads value_dim"], Float[Array, "batch heads q_len kv_len"]]:
    r"""As :func:`attention` by the reference implementation, and the weights too.

    .. math:: (o_i, g_{ij} p_{ij})

    Args:
      query: As in :func:`attention`.
      key: As in :func:`attention`.
      value: As in :func:`attention`.
      score: As in :func:`attention`.
      mask: As in :func:`attention`.
      bias: As in :func:`attention`.
      reweight: As in :func:`attention`; the weights returned are those after it.
      dropout: As in :func:`attention`; the weights returned are those before dropout.

    Returns:
      The output ``[batch, q_len, heads, value_dim]`` and the weights ``[batch, heads, q_len, kv_len]``,
      float32 (float64 for float64 inputs); without ``reweight`` each row of weights sums to one, or is zero where
      nothing may be attended to.

    Raises:
      ShapeError: If shapes do not fit each other.
      ConfigError: If a dtype or rate is wrong.

    Example:
      >>> import jax.numpy as jnp
      >>> ones = jnp.ones((1, 2, 1, 4))
      >>> attention_with_weights(ones, ones, ones)[1].tolist()
      [[[[0.5, 0.5], [0.5, 0.5]]]]

    Source: Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473, equations 5 and 6.
    """
    return reference.attend_with_weights(make_call(query, key, value, score, mask, bias, dropout, reweight))


def prepare_key(score: ScoreRule, key: Float[Array, "batch kv_len kv_heads key_dim"]) -> PreparedKey:
    """Prepare keys for a score rule once, for a cache or a memory that many queries attend to.

    Args:
      score: The rule that will score.
      key: ``[batch, kv_len, kv_heads, key_dim]``.

    Returns:
      The prepared keys.

    Example:
      >>> import jax.numpy as jnp
      >>> prepare_key(ScaledDot(), jnp.ones((1, 2, 1, 4))).array.shape
      (1, 2, 1, 4)

    Source: Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473, appendix A.1.2.
    """
    check_rule("score", score)
    return PreparedKey(score.prepare_key(as_array("key", key)))
