"""Handwritten formulas of CROHME 2014 to LaTeX, from images: convolutions over drawn strokes, attention with coverage.

Made for a GPU. The strokes are drawn at one height, training and test set alike.
Command: transformer-jax train experiments/handwriting_crohme_images.py --run-dir runs/formula-images
Then: transformer-jax caption runs/formula-images formula.png --attention pictures
"""

from transformer_jax.data.captions_config import CaptionsConfig, NamedCaptions
from transformer_jax.data.images import ImageFeatures
from transformer_jax.decode.searcher import BeamConfig
from transformer_jax.models.feature_to_text import FeatureToTextConfig
from transformer_jax.models.image_encoders import ConvolutionalImageEncoder
from transformer_jax.models.recurrent_config import Bahdanau
from transformer_jax.models.text_decoders import RecurrentTextDecoder
from transformer_jax.objectives import FeatureCrossEntropy
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.captioning import Captioning
from transformer_jax.training.config import Adam, Cosine, TrainConfig


def config() -> ExperimentConfig:
    """Images 96 pixels high, a vector for 16 by 16 of them; thirty passes over drawings and two copies each."""
    return ExperimentConfig(
        name="handwriting_crohme_images",
        task=Captioning(
            data=CaptionsConfig(
                dataset=NamedCaptions(name="crohme"),
                features=ImageFeatures(height=96),
                max_frames=768,
                max_target_len=64,
                distorted_copies=2,
                batch_size=32,
                num_buckets=8,
            ),
            objective=FeatureCrossEntropy(label_smoothing=0.1),
            search=BeamConfig(max_len=96, num_beams=5, length_penalty=1.0),
        ),
        model=FeatureToTextConfig(
            encoder=ConvolutionalImageEncoder(channels=(32, 64, 128, 256), dropout_rate=0.2),
            decoder=RecurrentTextDecoder(
                cell="gru",
                embedding_dim=128,
                hidden_dim=256,
                attention=Bahdanau(attention_dim=256, coverage_width=11),
                dropout_rate=0.2,
            ),
        ),
        train=TrainConfig(
            updates=24000,
            optimizer=Adam(beta2=0.99),
            schedule=Cosine(peak_learning_rate=1e-3, warmup_updates=500),
            clip_norm=1.0,
            log_every=100,
            evaluate_every=1000,
            checkpoint_every=1000,
            metric="exact",
            metric_mode="max",
            average_decay=0.999,
        ),
    )
