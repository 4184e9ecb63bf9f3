"""Handwritten formulas of CROHME 2014 to LaTeX, from pen strokes: a recurrent encoder, attention with coverage.

Command: transformer-jax train experiments/handwriting_crohme.py --run-dir runs/formulas
Then: transformer-jax caption runs/formulas drawing.inkml
Without coverage: --set model.decoder.attention.coverage_width=null
"""

from transformer_jax.data.captions_config import CaptionsConfig, NamedCaptions
from transformer_jax.data.ink import StrokeFeatures
from transformer_jax.decode.searcher import BeamConfig
from transformer_jax.models.feature_encoders import RecurrentFeatureEncoder
from transformer_jax.models.feature_to_text import FeatureToTextConfig
from transformer_jax.models.recurrent_config import Bahdanau
from transformer_jax.models.text_decoders import RecurrentTextDecoder
from transformer_jax.objectives import FeatureCrossEntropy
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.captioning import Captioning
from transformer_jax.training.config import Adam, Cosine, TrainConfig


def config() -> ExperimentConfig:
    """Three bidirectional layers, a frame for a fifth of a letter; ten passes over drawings and two copies each."""
    return ExperimentConfig(
        name="handwriting_crohme",
        task=Captioning(
            data=CaptionsConfig(
                dataset=NamedCaptions(name="crohme"),
                features=StrokeFeatures(spacing=0.2),
                max_frames=420,
                max_target_len=64,
                distorted_copies=2,
                batch_size=32,
                num_buckets=8,
            ),
            objective=FeatureCrossEntropy(label_smoothing=0.1),
            search=BeamConfig(max_len=96, num_beams=5, length_penalty=1.0),
        ),
        model=FeatureToTextConfig(
            encoder=RecurrentFeatureEncoder(
                cell="gru", hidden_dim=128, num_layers=3, time_reduction=(2, 2), dropout_rate=0.2
            ),
            decoder=RecurrentTextDecoder(
                cell="gru",
                embedding_dim=128,
                hidden_dim=256,
                num_layers=1,
                attention=Bahdanau(attention_dim=128, coverage_width=7),
                dropout_rate=0.2,
            ),
        ),
        train=TrainConfig(
            updates=8000,
            optimizer=Adam(beta2=0.99),
            schedule=Cosine(peak_learning_rate=2e-3, warmup_updates=200),
            clip_norm=1.0,
            log_every=50,
            evaluate_every=500,
            checkpoint_every=500,
            metric="exact",
            metric_mode="max",
            average_decay=0.995,
        ),
    )
