"""A stack of layers in which each token sees itself and those before it: the body of a decoder-only model."""

import jax

from transformer_jax.errors import ShapeError
from transformer_jax.functional import AttentionMask
from transformer_jax.nn.cache import BeamCache
from transformer_jax.nn.norms import normalized
from transformer_jax.nn.rolling_cache import RollingBeamCache, SelfAttentionCache
from transformer_jax.nn.stacks import CausalLayers, enter_next
from transformer_jax.nn.transformer_layers import EncoderLayer
from transformer_jax.typing import Array, Bool, Float, Int

__all__ = ["CausalStack"]


class CausalStack(CausalLayers):
    """Positions, dropout, then layers of causal self-attention and feed-forward network.

    Args:
      config: Sizes and choices of every layer.
      num_layers: How many layers.
      positions: How the order is learned; ``config.rotary_base`` belongs to rotary positions.
      final_norm: Whether the output is normalised once more (pre-norm needs it).
      rngs: Source of the initial parameters.

    Raises:
      ConfigError: As `check_stack`.

    Example:
      >>> from flax import nnx
      >>> from transformer_jax.nn import Sinusoidal, TransformerLayerConfig
      >>> config = TransformerLayerConfig(
      ...   model_dim=8, num_heads=2, num_kv_heads=2, feed_forward_dim=16, dropout_rate=0.0,
      ...   attention_dropout_rate=0.0, activation_dropout_rate=0.0, norm_placement="pre", normalization="layer",
      ...   norm_epsilon=1e-5, activation="gelu", attention_bias=True, rotary_base=None, self_attention="softmax")
      >>> stack = CausalStack(config, 2, positions=Sinusoidal(), final_norm=True, rngs=nnx.Rngs(0))
      >>> x = jax.random.normal(jax.random.key(0), (1, 3, 8))
      >>> first, caches = stack.extend(x[:, :2], stack.empty_caches(1, 3, x.dtype))
      >>> bool(jnp.allclose(first, stack(x)[:, :2], atol=1e-5))
      True

    Source: Radford et al. 2018, "Improving language understanding by generative pre-training", section 3.1.
    """

    layer_class = EncoderLayer

    def __call__(
        self,
        x: Float[Array, "batch q_len model"],
        *,
        mask: AttentionMask | None = None,
        positions: Int[Array, "one_or_batch q_len"] | None = None,
        valid: Bool[Array, "batch q_len"] | None = None,
        rng_key: jax.Array | None = None,
    ) -> Float[Array, "batch q_len model"]:
        """Apply the stack to whole sequences.

        Args:
          x: Token embeddings.
          mask: What hides tokens from each other beside the causal order, as segments of a packed row do.
          positions: Each token's place in its sequence; ``None`` = arange.
          valid: Which tokens count in the statistics of norms over the batch; ``None`` = all.
          rng_key: Draws dropout; ``None`` = evaluation.

        Returns:
          ``[batch, q_len, model]``.

        Raises:
          ShapeError: If there are more tokens than learned positions.
        """
        causal = AttentionMask.causal() if mask is None else AttentionMask.causal() & mask
        return self._through(x, causal, positions, valid, rng_key)

    def extend(
        self,
        x: Float[Array, "batch q_len model"],
        caches: tuple[SelfAttentionCache, ...],
        *,
        num_valid: Int[Array, " batch"] | None = None,
    ) -> tuple[Float[Array, "batch q_len model"], tuple[SelfAttentionCache, ...]]:
        """Apply the stack to the next tokens: one a row while searching, several in a prefill.

        Args:
          x: Embeddings of the next tokens.
          caches: The tokens before.
          num_valid: How many of the tokens count for each row; ``None`` = all.

        Returns:
          ``[batch, q_len, model]`` and the longer caches.

        Raises:
          ShapeError: If the caches are too small, or several tokens a hypothesis are fed to a beam search.
        """
        if isinstance(caches[0], BeamCache | RollingBeamCache) and (x.shape[1] != 1 or num_valid is not None):
            raise ShapeError(f"a beam search feeds one token a hypothesis, got {x.shape[1]}")
        x, bias = enter_next(self.positions, x, caches[0], num_valid=num_valid)
        new_caches = []
        for layer, cache in zip(self.layers, caches, strict=True):
            x, cache = layer.extend(x, cache, bias=bias, num_valid=num_valid)
            new_caches.append(cache)
        return normalized(self.final_norm, x), tuple(new_caches)
