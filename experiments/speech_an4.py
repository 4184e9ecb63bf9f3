"""AN4 to characters by CTC alone: recurrent layers over stored cepstra, no decoder and no language model.

Command: transformer-jax train experiments/speech_an4.py --run-dir runs/an4
Then: transformer-jax evaluate runs/an4 --split test --beam 8
Stored frames are cepstra of the Sphinx front end (40 filters from 130 to 6,800 Hz); published systems read filterbanks.
"""

from transformer_jax.data.speech_config import NamedSpeech, SpeechConfig
from transformer_jax.data.speech_features import SpeechFeatures
from transformer_jax.decode.searcher import BeamConfig
from transformer_jax.models.feature_encoders import FeatureMasking, RecurrentFeatureEncoder
from transformer_jax.models.feature_to_text import FeatureToTextConfig
from transformer_jax.objectives import CtcLoss
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.transcription import Transcription
from transformer_jax.training.config import Adam, Cosine, TrainConfig


def config() -> ExperimentConfig:
    """Three bidirectional layers, four frames a vector; about 42 epochs."""
    return ExperimentConfig(
        name="speech_an4",
        task=Transcription(
            data=SpeechConfig(
                dataset=NamedSpeech(name="an4"),
                features=SpeechFeatures(lowest_hz=130.0, highest_hz=6800.0),
                max_frames=700,
                max_target_len=64,
                batch_size=16,
                num_buckets=6,
            ),
            objective=CtcLoss(),
            search=BeamConfig(max_len=64, num_beams=8, length_penalty=0.0),
        ),
        model=FeatureToTextConfig(
            encoder=RecurrentFeatureEncoder(
                cell="lstm",
                hidden_dim=160,
                num_layers=3,
                time_reduction=(2, 2),
                dropout_rate=0.3,
                masking=FeatureMasking(
                    num_time_masks=2, max_time_len=20, num_channel_masks=2, max_channels=6
                ),
            ),
            decoder=None,
            ctc=True,
        ),
        train=TrainConfig(
            updates=2400,
            optimizer=Adam(beta2=0.99),
            schedule=Cosine(peak_learning_rate=2e-3, warmup_updates=150),
            clip_norm=1.0,
            log_every=20,
            evaluate_every=120,
            checkpoint_every=120,
            metric="cer",
            metric_mode="min",
            average_decay=0.99,
        ),
    )
