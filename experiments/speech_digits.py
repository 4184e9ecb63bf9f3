"""Spoken digits to words by CTC: WAV files at 8 kHz, six speakers, the official test recordings.

Command: transformer-jax train experiments/speech_digits.py --run-dir runs/digits
Then: transformer-jax evaluate runs/digits --split test
Letters instead of words, as the output of longer speech: --set task.data.tokenizer.kind=characters
A speaker who was never heard: --set task.data.dataset.test_speaker=theo
"""

from transformer_jax.data.speech_config import NamedSpeech, SpeechConfig
from transformer_jax.data.speech_features import SpeechFeatures
from transformer_jax.data.tokenizer_config import Words
from transformer_jax.decode.searcher import BeamConfig
from transformer_jax.models.feature_encoders import FeatureMasking, RecurrentFeatureEncoder
from transformer_jax.models.feature_to_text import FeatureToTextConfig
from transformer_jax.objectives import CtcLoss
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.transcription import Transcription
from transformer_jax.training.config import Adam, Cosine, TrainConfig


def config() -> ExperimentConfig:
    """Two bidirectional layers over cepstra, two frames a vector; each recording at three speeds, about 6 epochs."""
    return ExperimentConfig(
        name="speech_digits",
        task=Transcription(
            data=SpeechConfig(
                dataset=NamedSpeech(name="spoken-digits"),
                features=SpeechFeatures(sample_rate=8000),
                tokenizer=Words(),
                speeds=(0.9, 1.1),
                max_frames=260,
                max_target_len=8,
                batch_size=32,
                num_buckets=4,
            ),
            objective=CtcLoss(),
            search=BeamConfig(max_len=4, num_beams=8, length_penalty=0.0),
        ),
        model=FeatureToTextConfig(
            encoder=RecurrentFeatureEncoder(
                cell="gru",
                hidden_dim=96,
                num_layers=2,
                time_reduction=(2,),
                dropout_rate=0.3,
                masking=FeatureMasking(
                    num_time_masks=1, max_time_len=10, num_channel_masks=2, max_channels=6
                ),
            ),
            decoder=None,
            ctc=True,
        ),
        train=TrainConfig(
            updates=1400,
            optimizer=Adam(beta2=0.99),
            schedule=Cosine(peak_learning_rate=3e-3, warmup_updates=60),
            clip_norm=1.0,
            log_every=20,
            evaluate_every=100,
            checkpoint_every=100,
            metric="exact",
            metric_mode="max",
            average_decay=0.99,
        ),
    )
