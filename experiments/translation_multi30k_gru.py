"""A GRU encoder whose last state goes into every step of the GRU decoder, from English to German, on Multi30k.

Command: transformer-jax train experiments/translation_multi30k_gru.py --run-dir runs/multi30k-gru
From German to English: `--set data.dataset.source_language=de --set data.dataset.target_language=en`.
Time, hardware and score: `experiments/RESULTS.md`, the row multi30k-de-en-gru.
"""

from transformer_jax.data.pairs_config import ChosenBuckets, MosesText, NamedDataset, PairsConfig, Subwords
from transformer_jax.decode.searcher import BeamConfig
from transformer_jax.models.recurrent_config import LastState, RecurrentSeq2SeqConfig
from transformer_jax.objectives import PairCrossEntropy
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.translation import Translation
from transformer_jax.training.config import Adam, Cosine, TrainConfig


def config() -> ExperimentConfig:
    """One layer on each side, 320 cells; the context goes into every step and into the readout (Cho et al. 2014)."""
    return ExperimentConfig(
        name="translation_multi30k_gru",
        task=Translation(
            data=PairsConfig(
                dataset=NamedDataset(name="multi30k", source_language="en", target_language="de"),
                moses=MosesText(),
                source_tokenizer=Subwords(vocab_size=8000),
                target_tokenizer=Subwords(vocab_size=8000),
                share_vocabulary=True,
                batch_size=128,
                batch_tokens=4000,
                buckets=ChosenBuckets(max_shapes=6),
                max_source_len=64,
                max_target_len=64,
                too_long="skip",
            ),
            objective=PairCrossEntropy(label_smoothing=0.1),
            search=BeamConfig(max_len=64, num_beams=5, length_penalty=0.6),
        ),
        model=RecurrentSeq2SeqConfig(
            embedding_dim=128,
            hidden_dim=320,
            cell="gru",
            num_encoder_layers=1,
            num_decoder_layers=1,
            bidirectional=False,
            attention=LastState(feed_each_step=True),
            dropout_rate=0.3,
            residual=False,
        ),
        train=TrainConfig(
            updates=1600,
            optimizer=Adam(),
            schedule=Cosine(peak_learning_rate=0.003, warmup_updates=150),
            evaluate_every=400,
            checkpoint_every=250,
            metric="bleu",
            metric_mode="max",
        ),
    )
