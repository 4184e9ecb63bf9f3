"""The model `shakespeare-chars` that comes with the library: the plays of Shakespeare by characters.

Commands: transformer-jax train experiments/language_shakespeare_chars.py --run-dir runs/shakespeare-chars
  transformer-jax export runs/shakespeare-chars --output transformer_jax/pretrained/shakespeare-chars
"""

from transformer_jax.data.text_config import Characters, NamedText, RandomWindows, TextConfig
from transformer_jax.decode.search_config import SampleConfig
from transformer_jax.models.decoder_only import DecoderOnlyConfig
from transformer_jax.nn.position_encodings import Rotary
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.language_modelling import LanguageModelling
from transformer_jax.training.config import AdamW, Cosine, TrainConfig


def config() -> ExperimentConfig:
    """4 layers of width 128, rotary positions, windows of 128 characters; 2,000 updates give 1.573 nats."""
    return ExperimentConfig(
        name="language_shakespeare_chars",
        task=LanguageModelling(
            data=TextConfig(
                dataset=NamedText(name="tinyshakespeare"),
                tokenizer=Characters(),
                windows=RandomWindows(context_len=128),
                batch_size=16,
            ),
            search=SampleConfig(max_len=500, temperature=0.8, top_k=40),
        ),
        model=DecoderOnlyConfig(
            model_dim=128,
            num_heads=4,
            num_kv_heads=4,
            feed_forward_dim=512,
            num_layers=4,
            positions=Rotary(),
            normalization="rms",
            activation="gelu_tanh",
            dropout_rate=0.0,
            use_bias=False,
        ),
        train=TrainConfig(
            updates=2000,
            optimizer=AdamW(beta2=0.99, weight_decay=0.1),
            schedule=Cosine(peak_learning_rate=4e-3, warmup_updates=100, final_ratio=0.03),
            log_every=50,
            evaluate_every=200,
            checkpoint_every=100,
            metric="nats",
            metric_mode="min",
            average_decay=0.99,
        ),
    )
