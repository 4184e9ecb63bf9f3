"""AN4 to characters by a Transformer encoder and decoder with CTC beside it, in training and in beam search.

Command: transformer-jax train experiments/speech_an4_joint.py --run-dir runs/an4-joint
Then: transformer-jax evaluate runs/an4-joint --split test
Attention alone: --set model.ctc=false task.objective.kind=feature_cross_entropy task.ctc_weight=0
Stored frames are cepstra of the Sphinx front end (40 filters from 130 to 6,800 Hz); published systems read filterbanks.
"""

from transformer_jax.data.speech_config import NamedSpeech, SpeechConfig
from transformer_jax.data.speech_features import SpeechFeatures
from transformer_jax.decode.searcher import BeamConfig
from transformer_jax.models.feature_encoders import FeatureMasking, TransformerFeatureEncoder
from transformer_jax.models.feature_to_text import FeatureToTextConfig
from transformer_jax.models.text_decoders import TransformerTextDecoder
from transformer_jax.nn.position_encodings import Sinusoidal
from transformer_jax.objectives import JointCtc
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.transcription import Transcription
from transformer_jax.training.config import Adam, Cosine, TrainConfig


def config() -> ExperimentConfig:
    """Six layers over groups of four frames, three layers of decoder; each recording at three speeds, 38 epochs."""
    return ExperimentConfig(
        name="speech_an4_joint",
        task=Transcription(
            data=SpeechConfig(
                dataset=NamedSpeech(name="an4"),
                features=SpeechFeatures(lowest_hz=130.0, highest_hz=6800.0),
                speeds=(0.9, 1.1),
                max_frames=750,
                max_target_len=64,
                batch_size=16,
                num_buckets=6,
            ),
            objective=JointCtc(ctc_weight=0.3, label_smoothing=0.1),
            search=BeamConfig(max_len=64, num_beams=8, length_penalty=0.0),
            ctc_weight=0.5,
        ),
        model=FeatureToTextConfig(
            encoder=TransformerFeatureEncoder(
                model_dim=192,
                num_heads=4,
                num_kv_heads=4,
                feed_forward_dim=768,
                num_layers=6,
                positions=Sinusoidal(),
                subsampling=4,
                context=3,
                dropout_rate=0.1,
                masking=FeatureMasking(
                    num_time_masks=2, max_time_len=20, num_channel_masks=2, max_channels=6
                ),
            ),
            decoder=TransformerTextDecoder(
                model_dim=192,
                num_heads=4,
                num_kv_heads=4,
                feed_forward_dim=768,
                num_layers=3,
                dropout_rate=0.1,
            ),
            ctc=True,
        ),
        train=TrainConfig(
            updates=6000,
            optimizer=Adam(beta2=0.98),
            schedule=Cosine(peak_learning_rate=1e-3, warmup_updates=600),
            clip_norm=1.0,
            log_every=20,
            evaluate_every=300,
            checkpoint_every=300,
            metric="cer",
            metric_mode="min",
            average_decay=0.995,
        ),
    )
