"""Strips of handwritten digits read as words: a convolutional encoder, a recurrent decoder with additive attention.

The digits are those that scikit-learn ships: pip install 'transformer-jax[digits]'
Command: transformer-jax train experiments/digit_strips.py --run-dir runs/digits
Then: transformer-jax caption runs/digits strip.png --figures pictures
"""

from transformer_jax.data.captions_config import CaptionsConfig, DigitStrips
from transformer_jax.data.images import ImageFeatures
from transformer_jax.decode.searcher import GreedyConfig
from transformer_jax.models.feature_to_text import FeatureToTextConfig
from transformer_jax.models.image_encoders import ConvolutionalImageEncoder
from transformer_jax.models.recurrent_config import Bahdanau
from transformer_jax.models.text_decoders import RecurrentTextDecoder
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.captioning import Captioning
from transformer_jax.training.config import Adam, Cosine, TrainConfig


def config() -> ExperimentConfig:
    """Two blocks of convolutions, one to five digits of 12 by 60 pixels at most; seven passes over 40,000 strips."""
    return ExperimentConfig(
        name="digit_strips",
        task=Captioning(
            data=CaptionsConfig(
                dataset=DigitStrips(num_train=40_000, num_development=1000, distortion=1.0),
                features=ImageFeatures(height=12, ink="light"),
                max_frames=60,
                max_target_len=6,
                batch_size=32,
                num_buckets=3,
            ),
            search=GreedyConfig(max_len=8),
        ),
        model=FeatureToTextConfig(
            encoder=ConvolutionalImageEncoder(channels=(32, 64), dropout_rate=0.3),
            decoder=RecurrentTextDecoder(
                cell="gru",
                embedding_dim=32,
                hidden_dim=64,
                attention=Bahdanau(attention_dim=64, coverage_width=5),
                dropout_rate=0.2,
            ),
        ),
        train=TrainConfig(
            updates=9000,
            optimizer=Adam(beta2=0.99),
            schedule=Cosine(peak_learning_rate=3e-3, warmup_updates=200),
            log_every=50,
            evaluate_every=500,
            checkpoint_every=500,
            metric="exact",
            metric_mode="max",
            average_decay=0.99,
        ),
    )
