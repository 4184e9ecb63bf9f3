"""LSTMs without attention, letters to phonemes, on the standard split of the CMU pronouncing dictionary.

Command: transformer-jax train experiments/pronunciation_g014b2b_lstm.py --run-dir runs/g2p-lstm
Then:    transformer-jax average runs/g2p-lstm --output runs/g2p-lstm-mean --last 10
Time, hardware and score: `experiments/RESULTS.md`, the row g014b2b-lstm.
"""

from transformer_jax.data.pairs_config import Characters, ChosenBuckets, NamedDataset, PairsConfig, Words
from transformer_jax.decode.searcher import BeamConfig
from transformer_jax.models.recurrent_config import LastState, RecurrentSeq2SeqConfig
from transformer_jax.objectives import PairCrossEntropy
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.pronunciation import Pronunciation
from transformer_jax.training.config import Adam, Cosine, TrainConfig


def config() -> ExperimentConfig:
    """Two layers of 384 cells read in both directions; their last states go into every step (Cho et al. 2014)."""
    return ExperimentConfig(
        name="pronunciation_g014b2b_lstm",
        task=Pronunciation(
            data=PairsConfig(
                dataset=NamedDataset(name="cmudict-g2p"),
                source_tokenizer=Characters(),
                target_tokenizer=Words(),
                batch_size=512,
                buckets=ChosenBuckets(max_shapes=2),
                max_source_len=34,
                max_target_len=34,
                too_long="skip",
                max_development_items=2000,
            ),
            objective=PairCrossEntropy(label_smoothing=0.1),
            search=BeamConfig(max_len=34, num_beams=5, length_penalty=0.6),
        ),
        model=RecurrentSeq2SeqConfig(
            embedding_dim=128,
            hidden_dim=384,
            cell="lstm",
            num_encoder_layers=2,
            num_decoder_layers=1,
            bidirectional=True,
            attention=LastState(feed_each_step=True),
            dropout_rate=0.3,
            residual=False,
        ),
        train=TrainConfig(
            updates=16000,
            optimizer=Adam(),
            schedule=Cosine(peak_learning_rate=0.003, warmup_updates=500),
            evaluate_every=4000,
            checkpoint_every=266,
            keep_last=10,
            metric="per",
        ),
    )
