"""What a contestant's pass costs at least, by formula: floating-point operations and bytes.

Counted are the matrix products alone, nearly all of it; ``tests/race/test_costs.py`` holds them to XLA's own count
on builds without loops.
"""

from transformer_jax.functional.recurrent import cell_class
from transformer_jax.race.contestants import ATTENDERS, HEAD_DIM, NUM_LAYERS, PEERS

CHUNK = 64  # of linear attention, its default


def cell_of(kind: str) -> str:
    """The kind of ours that a peer's stands for, or the kind itself."""
    return kind.removeprefix("torch_") if kind in PEERS else kind


def forward_flops(kind: str, width: int, vocab_size: int, length: int, *, skips_masked: bool = True) -> float:
    """Floating-point operations of one forward pass for each token.

    Args:
      kind: The contestant's kind.
      width: Its width.
      vocab_size: Number of tokens.
      length: Of a sequence.
      skips_masked: Whether softmax attention leaves out the pairs that the causal mask hides.
    """
    kind = cell_of(kind)
    logits = 2.0 * vocab_size * width
    if kind == "transformer":
        pairs = (length + 1) / 2 if skips_masked else length
        return logits + NUM_LAYERS * (2.0 * 12 * width**2 + 4.0 * pairs * width)
    if kind == "linear_attention":
        inside = 4.0 * min(CHUNK, length) * width  # scores and weighted values of a chunk
        across = 4.0 * HEAD_DIM * width  # the state's answer, and what is added to the state
        return logits + NUM_LAYERS * (2.0 * 12 * width**2 + inside + across)
    cell = cell_class(kind)
    blocks = 1 if cell.is_linear else 2
    return logits + NUM_LAYERS * 2.0 * cell.num_gates * blocks * width**2


def forward_bytes(kind: str, width: int, parameters: int, batch: int, length: int) -> float:
    """Bytes of float32 that one forward pass moves at least: parameters once, or a cell's recurrent weights at each
    step, and what each layer reads and writes of every position."""
    kind = cell_of(kind)
    cell = None if kind in ATTENDERS else cell_class(kind)
    # Attention: query, key, value, context; feed-forward: four widths in and out.
    gates = 6 if cell is None else cell.num_gates
    positions = 2.0 * NUM_LAYERS * batch * length * width * (gates + 1)
    again = 0.0
    if cell is not None and not cell.is_linear:
        again = float(NUM_LAYERS * cell.num_gates * width**2 * (length - 1))
    return 4.0 * (parameters + positions + again)


BACKWARD = {"forward": 1.0, "training_step": 3.0}
"""By how much a mode's cost exceeds the forward pass's: the backward pass does each product twice."""
