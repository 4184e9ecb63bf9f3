"""Linear attention in nanoGPT's model for a processor: the parameters of `language_tinyshakespeare_gpt`.

Command: transformer-jax train experiments/language_tinyshakespeare_linear_attention.py --run-dir runs/linear-attention
"""

import dataclasses

from transformer_jax.data.text_config import Characters, NamedText, RandomWindows, TextConfig
from transformer_jax.decode.search_config import SampleConfig
from transformer_jax.models.presets import nanogpt_cpu
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.language_modelling import LanguageModelling
from transformer_jax.training.config import AdamW, Cosine, TrainConfig


def config() -> ExperimentConfig:
    """4 layers of width 128 and the token budget of the GPT."""
    return ExperimentConfig(
        name="language_tinyshakespeare_linear_attention",
        task=LanguageModelling(
            data=TextConfig(
                dataset=NamedText(name="tinyshakespeare"),
                tokenizer=Characters(),
                windows=RandomWindows(context_len=64),
                batch_size=12,
            ),
            search=SampleConfig(max_len=500, temperature=0.8, top_k=40),
        ),
        model=dataclasses.replace(nanogpt_cpu(), self_attention="linear"),
        train=TrainConfig(
            updates=2000,
            optimizer=AdamW(beta2=0.99, weight_decay=0.1),
            schedule=Cosine(peak_learning_rate=4e-3, warmup_updates=100, final_ratio=0.1),
            log_every=50,
            evaluate_every=500,
            checkpoint_every=500,
            metric="nats",
            metric_mode="min",
        ),
    )
