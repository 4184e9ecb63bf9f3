"""An LSTM on "War and Peace" by characters, its state carried through the book.

Command: transformer-jax train experiments/language_war_and_peace_lstm.py --run-dir runs/war-and-peace-lstm
Published on the test tenth: 1.077 nats a character (best recurrent net of Karpathy et al. 2015), 1.195 (20-gram).
"""

from transformer_jax.data.text_config import Characters, ContiguousWindows, NamedText, TextConfig
from transformer_jax.decode.search_config import SampleConfig
from transformer_jax.models.recurrent_lm import RecurrentLMConfig
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.language_modelling import LanguageModelling
from transformer_jax.training.config import AdamW, Cosine, TrainConfig


def config() -> ExperimentConfig:
    """2 layers of 256 cells; 64 streams read 100 characters at a time."""
    return ExperimentConfig(
        name="language_war_and_peace_lstm",
        task=LanguageModelling(
            data=TextConfig(
                dataset=NamedText(name="war-and-peace"),
                tokenizer=Characters(),
                windows=ContiguousWindows(context_len=100),
                batch_size=64,
            ),
            search=SampleConfig(max_len=500, temperature=0.7),
        ),
        model=RecurrentLMConfig(
            cell="lstm", embedding_dim=256, hidden_dim=256, num_layers=2, dropout_rate=0.25, tied=True
        ),
        train=TrainConfig(
            updates=18000,
            optimizer=AdamW(beta2=0.99, weight_decay=0.01),
            schedule=Cosine(peak_learning_rate=4e-3, warmup_updates=200, final_ratio=0.02),
            log_every=50,
            evaluate_every=1000,
            checkpoint_every=250,
            metric="nats",
            metric_mode="min",
            average_decay=0.99,
        ),
    )
