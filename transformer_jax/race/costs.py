"""What a contestant's pass costs at least, by formula: floating-point operations and bytes.

Counted are the matrix products alone, nearly all of it; ``tests/race/test_costs.py`` holds them to XLA's own count
on builds without loops.
"""

from transformer_jax.functional.recurrent import cell_class
from transformer_jax.models.decoder_only import DecoderOnlyConfig
from transformer_jax.models.recurrent_lm import RecurrentLMConfig

CHUNK = 64  # of linear attention, its default


def forward_flops(
    config: DecoderOnlyConfig | RecurrentLMConfig, vocab_size: int, length: int, *, skips_masked: bool = True
) -> float:
    """Floating-point operations of one forward pass for each token.

    Args:
      config: The contestant's model.
      vocab_size: Number of tokens.
      length: Of a sequence.
      skips_masked: Whether softmax attention leaves out the pairs that the causal mask hides.
    """
    if isinstance(config, RecurrentLMConfig):
        cell, width = cell_class(config.cell), config.hidden_dim
        blocks = 1 if cell.is_linear else 2  # matrices of the inputs and of the carry
        return 2.0 * vocab_size * width + config.num_layers * 2.0 * cell.num_gates * blocks * width**2
    width = config.model_dim
    matrices = 2.0 * (4 * width**2 + 2 * width * config.feed_forward_dim)
    if config.self_attention == "softmax":
        pairs = (length + 1) / 2 if skips_masked else length
        mixing = 4.0 * pairs * width
    else:
        inside = 4.0 * min(CHUNK, length) * width  # scores and weighted values of a chunk
        # The state's answer, and what is added to the state.
        mixing = inside + 4.0 * (width // config.num_heads) * width
    return 2.0 * vocab_size * width + config.num_layers * (matrices + mixing)


def forward_bytes(
    config: DecoderOnlyConfig | RecurrentLMConfig, parameters: int, batch: int, length: int
) -> float:
    """Bytes of float32 that one forward pass moves at least: parameters once, or a cell's recurrent weights at each
    step, and what each layer reads and writes of every position."""
    again = 0.0
    if isinstance(config, RecurrentLMConfig):
        cell, width = cell_class(config.cell), config.hidden_dim
        gates = cell.num_gates
        if not cell.is_linear:
            again = float(config.num_layers * gates * width**2 * (length - 1))
    else:
        width, gates = config.model_dim, 6  # query, key, value, context; feed-forward: four widths in and out
    positions = 2.0 * config.num_layers * batch * length * width * (gates + 1)
    return 4.0 * (parameters + positions + again)


BACKWARD = {"forward": 1.0, "training_step": 3.0}
"""By how much a mode's cost exceeds the forward pass's: the backward pass does each product twice."""
