"""Linear attention in nanoGPT's model for a processor: the parameters of `language_tinyshakespeare_gpt`.

Command: transformer-jax train experiments/language_tinyshakespeare_linear_attention.py --run-dir runs/linear-attention
"""

import dataclasses

from language_tinyshakespeare_gpt import config as base

from transformer_jax.models.presets import nanogpt_cpu
from transformer_jax.runs.experiment import ExperimentConfig


def config() -> ExperimentConfig:
    """4 layers of width 128; data and training are those of the GPT."""
    return dataclasses.replace(
        base(),
        name="language_tinyshakespeare_linear_attention",
        model=dataclasses.replace(nanogpt_cpu(), self_attention="linear"),
    )
