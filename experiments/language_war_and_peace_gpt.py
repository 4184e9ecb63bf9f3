"""A GPT on "War and Peace" by characters, of as many parameters as the LSTM beside it.

Command: transformer-jax train experiments/language_war_and_peace_gpt.py --run-dir runs/war-and-peace-gpt
Published on the test tenth: 1.077 nats a character (best recurrent net of Karpathy et al. 2015), 1.195 (20-gram).
"""

from transformer_jax.data.text_config import Characters, NamedText, RandomWindows, TextConfig
from transformer_jax.decode.search_config import SampleConfig
from transformer_jax.models.decoder_only import DecoderOnlyConfig
from transformer_jax.nn.position_encodings import Rotary
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.language_modelling import LanguageModelling
from transformer_jax.training.config import AdamW, Cosine, TrainConfig


def config() -> ExperimentConfig:
    """5 layers of width 128, rotary positions, windows of 256 characters."""
    return ExperimentConfig(
        name="language_war_and_peace_gpt",
        task=LanguageModelling(
            data=TextConfig(
                dataset=NamedText(name="war-and-peace"),
                tokenizer=Characters(),
                windows=RandomWindows(context_len=256),
                batch_size=16,
            ),
            search=SampleConfig(max_len=500, temperature=0.7),
        ),
        model=DecoderOnlyConfig(
            model_dim=128,
            num_heads=4,
            num_kv_heads=4,
            feed_forward_dim=576,
            num_layers=5,
            positions=Rotary(),
            normalization="rms",
            dropout_rate=0.1,
            use_bias=False,
        ),
        train=TrainConfig(
            updates=20000,
            optimizer=AdamW(beta2=0.99, weight_decay=0.1),
            schedule=Cosine(peak_learning_rate=3e-3, warmup_updates=200, final_ratio=0.02),
            log_every=50,
            evaluate_every=1000,
            checkpoint_every=250,
            metric="nats",
            metric_mode="min",
            average_decay=0.99,
        ),
    )
