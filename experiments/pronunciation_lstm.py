"""An LSTM encoder whose last state is all that the LSTM decoder sees, on the CMU pronouncing dictionary.

Command: transformer-jax train experiments/pronunciation_lstm.py --run-dir runs/lstm
Time, hardware and score: `experiments/RESULTS.md`, the row cmudict-lstm.
"""

from transformer_jax.data.pairs_config import Characters, ChosenBuckets, NamedDataset, PairsConfig, Words
from transformer_jax.decode.searcher import BeamConfig
from transformer_jax.models.recurrent_config import LastState, RecurrentSeq2SeqConfig
from transformer_jax.objectives import PairCrossEntropy
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.pronunciation import Pronunciation
from transformer_jax.training.config import Adam, Cosine, TrainConfig


def config() -> ExperimentConfig:
    """One layer on each side, 196 cells; the context goes into every step (Cho et al. 2014)."""
    return ExperimentConfig(
        name="pronunciation_lstm",
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
        model=RecurrentSeq2SeqConfig(
            embedding_dim=64,
            hidden_dim=196,
            cell="lstm",
            num_encoder_layers=1,
            num_decoder_layers=1,
            bidirectional=False,
            attention=LastState(feed_each_step=True),
            dropout_rate=0.1,
            residual=False,
        ),
        train=TrainConfig(
            updates=2000,
            optimizer=Adam(),
            schedule=Cosine(peak_learning_rate=0.004, warmup_updates=100),
            evaluate_every=250,
            checkpoint_every=250,
            metric="per",
        ),
    )
