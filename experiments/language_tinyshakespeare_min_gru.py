"""A minGRU on the plays of Shakespeare by characters: the parameters and the token budget of nanoGPT's model.

Command: transformer-jax train experiments/language_tinyshakespeare_min_gru.py --run-dir runs/shakespeare-min-gru
"""

from transformer_jax.data.text_config import Characters, ContiguousWindows, NamedText, TextConfig
from transformer_jax.decode.search_config import SampleConfig
from transformer_jax.models.recurrent_lm import RecurrentLMConfig
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.language_modelling import LanguageModelling
from transformer_jax.training.config import AdamW, Cosine, TrainConfig


def config() -> ExperimentConfig:
    """2 layers of width 440; 12 streams read 64 characters at a time, the state carried from window to window."""
    return ExperimentConfig(
        name="language_tinyshakespeare_min_gru",
        task=LanguageModelling(
            data=TextConfig(
                dataset=NamedText(name="tinyshakespeare"),
                tokenizer=Characters(),
                windows=ContiguousWindows(context_len=64),
                batch_size=12,
            ),
            search=SampleConfig(max_len=500, temperature=0.8, top_k=40),
        ),
        model=RecurrentLMConfig(cell="min_gru", embedding_dim=440, hidden_dim=440, num_layers=2, tied=True),
        train=TrainConfig(
            updates=2000,
            optimizer=AdamW(beta2=0.99, weight_decay=0.01),
            schedule=Cosine(peak_learning_rate=4e-3, warmup_updates=100, final_ratio=0.03),
            log_every=50,
            evaluate_every=500,
            checkpoint_every=500,
            metric="nats",
            metric_mode="min",
        ),
    )
