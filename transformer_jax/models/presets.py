"""Named configurations of whole models."""

from transformer_jax.models.encoder_decoder import EncoderDecoderConfig

__all__ = ["transformer_base", "transformer_big"]


def transformer_base() -> EncoderDecoderConfig:
    """The paper's base model: 6 + 6 layers of width 512, one table for both embeddings and the output.

    With 37,000 tokens it has 63,045,632 parameters by the paper's equations; its table 3, "65 million",
    counts a somewhat larger vocabulary.

    Example:
      >>> transformer_base().model_dim
      512

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, table 3.
    """
    return EncoderDecoderConfig(
        model_dim=512,
        num_heads=8,
        num_kv_heads=8,
        feed_forward_dim=2048,
        num_encoder_layers=6,
        num_decoder_layers=6,
        dropout_rate=0.1,
        share_embeddings="all",
    )


def transformer_big() -> EncoderDecoderConfig:
    """The paper's big model: 6 + 6 layers of width 1,024, dropout 0.3 (English to German).

    Example:
      >>> transformer_big().num_heads
      16

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, table 3.
    """
    return EncoderDecoderConfig(
        model_dim=1024,
        num_heads=16,
        num_kv_heads=16,
        feed_forward_dim=4096,
        num_encoder_layers=6,
        num_decoder_layers=6,
        dropout_rate=0.3,
        share_embeddings="all",
    )
