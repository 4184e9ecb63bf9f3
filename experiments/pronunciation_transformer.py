"""A Transformer that reads letters and writes phonemes, on the CMU pronouncing dictionary.

Command: transformer-jax train experiments/pronunciation_transformer.py --run-dir runs/transformer
Time, hardware and score: `experiments/RESULTS.md`, the row cmudict-transformer.
"""

from transformer_jax.data.pairs_config import Characters, ChosenBuckets, NamedDataset, PairsConfig, Words
from transformer_jax.decode.searcher import BeamConfig
from transformer_jax.models.encoder_decoder import EncoderDecoderConfig
from transformer_jax.nn.position_encodings import Sinusoidal
from transformer_jax.objectives import PairCrossEntropy
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.pronunciation import Pronunciation
from transformer_jax.training.config import Adam, Cosine, TrainConfig


def config() -> ExperimentConfig:
    """Two layers on each side, width 128, pre-norm."""
    return ExperimentConfig(
        name="pronunciation_transformer",
        task=Pronunciation(
            data=PairsConfig(
                dataset=NamedDataset(name="cmudict"),
                source_tokenizer=Characters(),
                target_tokenizer=Words(),
                batch_size=256,
                buckets=ChosenBuckets(max_shapes=4),
                max_source_len=24,
                max_target_len=24,
                too_long="skip",
                max_development_items=1000,
            ),
            objective=PairCrossEntropy(label_smoothing=0.1),
            search=BeamConfig(max_len=24, num_beams=4, length_penalty=0.6),
        ),
        model=EncoderDecoderConfig(
            model_dim=128,
            num_heads=4,
            num_kv_heads=4,
            feed_forward_dim=256,
            num_encoder_layers=2,
            num_decoder_layers=2,
            dropout_rate=0.1,
            norm_placement="pre",
            positions=Sinusoidal(),
            share_embeddings="target",
        ),
        train=TrainConfig(
            updates=2000,
            optimizer=Adam(),
            schedule=Cosine(peak_learning_rate=0.002, warmup_updates=100),
            evaluate_every=250,
            checkpoint_every=250,
            metric="per",
        ),
    )
