"""Bahdanau's attention between GRUs, letters to phonemes, on the standard split of the CMU dictionary.

Command: transformer-jax train experiments/pronunciation_g014b2b_bahdanau.py --run-dir runs/g2p-bahdanau
Then:    transformer-jax average runs/g2p-bahdanau --output runs/g2p-bahdanau-mean --last 5
Time, hardware and score: `experiments/RESULTS.md`, the row g014b2b-bahdanau.
"""

from transformer_jax.data.pairs_config import Characters, ChosenBuckets, NamedDataset, PairsConfig, Words
from transformer_jax.decode.searcher import BeamConfig
from transformer_jax.models.recurrent_config import Bahdanau, RecurrentSeq2SeqConfig
from transformer_jax.objectives import PairCrossEntropy
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.pronunciation import Pronunciation
from transformer_jax.training.config import Adam, Cosine, TrainConfig


def config() -> ExperimentConfig:
    """One layer on each side, 256 cells: what two cores train in a quarter of an hour."""
    return ExperimentConfig(
        name="pronunciation_g014b2b_bahdanau",
        task=Pronunciation(
            data=PairsConfig(
                dataset=NamedDataset(name="cmudict-g2p"),
                source_tokenizer=Characters(),
                target_tokenizer=Words(),
                batch_size=256,
                buckets=ChosenBuckets(max_shapes=6),
                max_source_len=34,
                max_target_len=34,
                too_long="skip",
                max_development_items=2000,
            ),
            objective=PairCrossEntropy(label_smoothing=0.1),
            search=BeamConfig(max_len=34, num_beams=5, length_penalty=0.6),
        ),
        model=RecurrentSeq2SeqConfig(
            embedding_dim=96,
            hidden_dim=256,
            cell="gru",
            num_encoder_layers=1,
            num_decoder_layers=1,
            bidirectional=True,
            attention=Bahdanau(attention_dim=256),
            dropout_rate=0.15,
            residual=False,
        ),
        train=TrainConfig(
            updates=2500,
            optimizer=Adam(),
            schedule=Cosine(peak_learning_rate=0.003, warmup_updates=300),
            evaluate_every=500,
            checkpoint_every=100,
            keep_last=5,
            metric="per",
        ),
    )
