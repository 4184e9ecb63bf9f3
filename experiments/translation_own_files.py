"""A Transformer for two files of your own: line n of one is the translation of line n of the other.

Command: transformer-jax train experiments/translation_own_files.py
  --source train.en --target train.de --run-dir runs/mine
A fortieth of the lines is held out as development set unless you name one. For some ten thousand to a million pairs;
with many, raise data.source_tokenizer.vocab_size and data.target_tokenizer.vocab_size together, the model's widths,
and train.updates.
"""

from transformer_jax.data.pairs_config import ChosenBuckets, PairsConfig, ParallelFiles, Subwords
from transformer_jax.decode.searcher import BeamConfig
from transformer_jax.models.encoder_decoder import EncoderDecoderConfig
from transformer_jax.nn.position_encodings import Sinusoidal
from transformer_jax.objectives import PairCrossEntropy
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.translation import Translation
from transformer_jax.training.config import Adam, Cosine, TrainConfig


def config() -> ExperimentConfig:
    """Three layers on each side, width 256, one table for all embeddings."""
    return ExperimentConfig(
        name="translation_own_files",
        task=Translation(
            data=PairsConfig(
                dataset=ParallelFiles(train_source="train.source", train_target="train.target"),
                source_tokenizer=Subwords(vocab_size=8000),
                target_tokenizer=Subwords(vocab_size=8000),
                share_vocabulary=True,
                batch_size=64,
                batch_tokens=6000,
                buckets=ChosenBuckets(max_shapes=6),
                max_source_len=100,
                max_target_len=100,
                too_long="skip",
                max_development_items=1000,
            ),
            objective=PairCrossEntropy(label_smoothing=0.1),
            search=BeamConfig(max_len=100, num_beams=4, length_penalty=0.6),
        ),
        model=EncoderDecoderConfig(
            model_dim=256,
            num_heads=4,
            num_kv_heads=4,
            feed_forward_dim=1024,
            num_encoder_layers=3,
            num_decoder_layers=3,
            dropout_rate=0.2,
            norm_placement="pre",
            positions=Sinusoidal(),
            share_embeddings="all",
        ),
        train=TrainConfig(
            updates=10000,
            optimizer=Adam(),
            schedule=Cosine(peak_learning_rate=0.001, warmup_updates=1000),
            evaluate_every=1000,
            checkpoint_every=500,
            metric="bleu",
            metric_mode="max",
        ),
    )
