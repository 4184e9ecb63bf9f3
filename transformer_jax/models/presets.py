"""Named configurations of whole models."""

import dataclasses

from transformer_jax.errors import check_choice
from transformer_jax.models.decoder_only import DecoderOnlyConfig
from transformer_jax.models.encoder_decoder import EncoderDecoderConfig
from transformer_jax.models.text_encoders import TransformerTextEncoder
from transformer_jax.nn.position_encodings import Learned, Rotary

__all__ = [
    "bert_encoder",
    "gpt2",
    "llama_like",
    "mingpt",
    "nanogpt",
    "nanogpt_cpu",
    "transformer_base",
    "transformer_big",
]


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


def _gpt(
    *,
    model_dim: int,
    num_heads: int,
    num_layers: int,
    context_len: int,
    dropout_rate: float,
    use_bias: bool = True,
) -> DecoderOnlyConfig:
    return DecoderOnlyConfig(
        model_dim=model_dim,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        feed_forward_dim=4 * model_dim,
        num_layers=num_layers,
        positions=Learned(max_len=context_len),
        dropout_rate=dropout_rate,
        attention_dropout_rate=dropout_rate,
        use_bias=use_bias,
    )


def gpt2() -> DecoderOnlyConfig:
    """The smallest GPT-2: 12 layers of width 768, 1,024 positions; 124,439,808 parameters with its 50,257 tokens.

    Example:
      >>> gpt2().context_len
      1024

    Source: Radford et al. 2019, "Language models are unsupervised multitask learners", table 2.
    """
    return _gpt(model_dim=768, num_heads=12, num_layers=12, context_len=1024, dropout_rate=0.1)


def mingpt() -> DecoderOnlyConfig:
    """minGPT's model for characters, ``gpt-mini``: 6 layers of width 192, 128 positions.

    Its output projection is a table of its own, and its GELU is GPT-2's.

    Example:
      >>> mingpt().tied
      False

    Source: Karpathy 2020, https://github.com/karpathy/minGPT, ``projects/chargpt``.
    """
    gpt = _gpt(model_dim=192, num_heads=6, num_layers=6, context_len=128, dropout_rate=0.1)
    return dataclasses.replace(gpt, tied=False)


def nanogpt() -> DecoderOnlyConfig:
    """nanoGPT's model for Shakespeare by characters: 6 layers of width 384, 256 positions, dropout 0.2.

    Exact GELU, and no biases. Published: 1.4697 nats a character on the validation tenth after 5,000 updates.

    Example:
      >>> nanogpt().activation
      'gelu'

    Source: Karpathy 2022, https://github.com/karpathy/nanoGPT, ``config/train_shakespeare_char.py``.
    """
    gpt = _gpt(model_dim=384, num_heads=6, num_layers=6, context_len=256, dropout_rate=0.2, use_bias=False)
    return dataclasses.replace(gpt, activation="gelu")


def nanogpt_cpu() -> DecoderOnlyConfig:
    """nanoGPT's model for a processor without accelerator: 4 layers of width 128, 64 positions, no dropout.

    Published: 1.88 nats a character on the validation tenth of Shakespeare after 2,000 updates of 12 rows.

    Example:
      >>> nanogpt_cpu().context_len
      64

    Source: Karpathy 2022, https://github.com/karpathy/nanoGPT, README, "I only have a macbook".
    """
    gpt = _gpt(model_dim=128, num_heads=4, num_layers=4, context_len=64, dropout_rate=0.0, use_bias=False)
    return dataclasses.replace(gpt, activation="gelu")


def llama_like() -> DecoderOnlyConfig:
    """A small model of Llama's kind, that of ``stories260K``: 5 layers of width 64, 8 heads over 4 of keys and values.

    Rotary positions, root-mean-square norms, a SwiGLU of width 172, no biases; 260,032 parameters with its 512 tokens.

    Example:
      >>> llama_like().num_kv_heads
      4

    Source: Touvron et al. 2023, https://arxiv.org/abs/2302.13971, section 2.2; Karpathy 2023,
    https://github.com/karpathy/llama2.c, ``doc/stories260K.md``.
    """
    return DecoderOnlyConfig(
        model_dim=64,
        num_heads=8,
        num_kv_heads=4,
        feed_forward_dim=172,
        num_layers=5,
        positions=Rotary(),
        dropout_rate=0.05,
        normalization="rms",
        activation="swiglu",
        use_bias=False,
    )


_BERT_LAYERS_AND_WIDTH = {
    "tiny": (2, 128),
    "mini": (4, 256),
    "small": (4, 512),
    "medium": (8, 512),
    "base": (12, 768),
}


def bert_encoder(size: str, *, max_len: int = 512) -> TransformerTextEncoder:
    r"""BERT's encoder in one of its published sizes: a head for every 64 features, and four times the width inside.

    With :math:`L` layers of width :math:`d`, :math:`V` tokens and :math:`n` positions it has

    .. math:: (V + n + 2)\, d + L\, (12 d^2 + 13 d)

    parameters, without the two segments' vectors and the pooler of the published ones.

    Args:
      size: ``"tiny"`` (2 layers of width 128), ``"mini"`` (4 of 256), ``"small"`` (4 of 512), ``"medium"`` (8 of 512)
        or ``"base"`` (12 of 768).
      max_len: Learned positions.

    Raises:
      ConfigError: If there is no such size.

    Example:
      >>> bert_encoder("mini").num_heads
      4

    Source: Turc et al. 2019, https://arxiv.org/abs/1908.08962, table 1; Devlin et al. 2019,
    https://arxiv.org/abs/1810.04805, section 3.
    """
    check_choice("size", size, _BERT_LAYERS_AND_WIDTH)
    num_layers, width = _BERT_LAYERS_AND_WIDTH[size]
    return TransformerTextEncoder(
        model_dim=width,
        num_heads=width // 64,
        num_kv_heads=width // 64,
        feed_forward_dim=4 * width,
        num_layers=num_layers,
        positions=Learned(max_len=max_len),
    )
