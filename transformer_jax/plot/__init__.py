"""Figures: learning curves, attention maps, throughput. Arrays in, a matplotlib figure or a file out."""

from transformer_jax.plot.attention import alignment_maps, attention_heads
from transformer_jax.plot.curves import learning_curves
from transformer_jax.plot.throughput import throughput_over_length

__all__ = ["alignment_maps", "attention_heads", "learning_curves", "throughput_over_length"]
