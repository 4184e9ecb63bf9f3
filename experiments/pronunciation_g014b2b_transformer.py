"""A Transformer that reads letters and writes phonemes, on the standard split of the CMU pronouncing dictionary.

Command: transformer-jax train experiments/pronunciation_g014b2b_transformer.py --run-dir runs/g2p
Then:    transformer-jax average runs/g2p --output runs/g2p-mean --last 5
Time, hardware and score: `experiments/RESULTS.md`, the row g014b2b-transformer.
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
    """Three layers on each side, width 192, pre-norm: what two cores train in about an hour."""
    return ExperimentConfig(
        name="pronunciation_g014b2b_transformer",
        task=Pronunciation(
            data=PairsConfig(
                dataset=NamedDataset(name="cmudict-g2p"),
                source_tokenizer=Characters(),
                target_tokenizer=Words(),
                batch_size=512,
                buckets=ChosenBuckets(max_shapes=6),
                max_source_len=34,
                max_target_len=34,
                too_long="skip",
                max_development_items=2000,
            ),
            objective=PairCrossEntropy(label_smoothing=0.1),
            search=BeamConfig(max_len=34, num_beams=5, length_penalty=0.6),
        ),
        model=EncoderDecoderConfig(
            model_dim=192,
            num_heads=4,
            num_kv_heads=4,
            feed_forward_dim=512,
            num_encoder_layers=3,
            num_decoder_layers=3,
            dropout_rate=0.15,
            norm_placement="pre",
            positions=Sinusoidal(),
            share_embeddings="target",
        ),
        train=TrainConfig(
            updates=2600,
            optimizer=Adam(),
            schedule=Cosine(peak_learning_rate=0.002, warmup_updates=300),
            evaluate_every=500,
            checkpoint_every=100,
            keep_last=10,
            metric="per",
        ),
    )
