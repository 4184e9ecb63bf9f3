"""nanoGPT's larger setting on the plays of Shakespeare by characters, for a GPU.

Command: transformer-jax train experiments/language_tinyshakespeare_nanogpt.py --run-dir runs/nanogpt
Published: 1.4697 nats a character on the validation tenth, the best of the run's evaluations.
"""

import dataclasses

from transformer_jax.data.text_config import Characters, NamedText, RandomWindows, TextConfig
from transformer_jax.decode.search_config import SampleConfig
from transformer_jax.models.presets import nanogpt
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.language_modelling import LanguageModelling
from transformer_jax.training.config import AdamW, Cosine, TrainConfig


def config() -> ExperimentConfig:
    """6 layers of width 384, windows of 256 characters, 64 rows, 5,000 updates; products in bfloat16."""
    return ExperimentConfig(
        name="language_tinyshakespeare_nanogpt",
        task=LanguageModelling(
            data=TextConfig(
                dataset=NamedText(name="tinyshakespeare"),
                tokenizer=Characters(),
                windows=RandomWindows(context_len=256),
                batch_size=64,
            ),
            search=SampleConfig(max_len=1000, temperature=0.8, top_k=40),
        ),
        model=dataclasses.replace(nanogpt(), dtype="bfloat16"),
        train=TrainConfig(
            updates=5000,
            optimizer=AdamW(beta2=0.99, weight_decay=0.1),
            schedule=Cosine(peak_learning_rate=1e-3, warmup_updates=100, final_ratio=0.1),
            log_every=50,
            evaluate_every=250,
            checkpoint_every=250,
            metric="nats",
            metric_mode="min",
        ),
    )
