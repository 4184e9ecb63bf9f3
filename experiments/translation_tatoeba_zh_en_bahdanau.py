"""A bidirectional GRU encoder and a GRU decoder with additive attention, from Chinese to English, on Tatoeba.

Command: transformer-jax train experiments/translation_tatoeba_zh_en_bahdanau.py --run-dir runs/tatoeba-bahdanau
Time, hardware and score: `experiments/RESULTS.md`, the row tatoeba-zh-en-bahdanau.
"""

from transformer_jax.data.pairs_config import Characters, ChosenBuckets, NamedDataset, PairsConfig, Subwords
from transformer_jax.decode.searcher import BeamConfig
from transformer_jax.models.recurrent_config import Bahdanau, RecurrentSeq2SeqConfig
from transformer_jax.objectives import PairCrossEntropy
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.translation import Translation
from transformer_jax.training.config import Adam, Cosine, TrainConfig


def config() -> ExperimentConfig:
    """One layer on each side, 192 cells; Chinese by characters, English by 3,000 pieces of words."""
    return ExperimentConfig(
        name="translation_tatoeba_zh_en_bahdanau",
        task=Translation(
            data=PairsConfig(
                dataset=NamedDataset(name="tatoeba-zh-en", source_language="zh", target_language="en"),
                source_tokenizer=Characters(max_size=3000),
                target_tokenizer=Subwords(vocab_size=3000),
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
            hidden_dim=192,
            cell="gru",
            num_encoder_layers=1,
            num_decoder_layers=1,
            bidirectional=True,
            attention=Bahdanau(attention_dim=192),
            dropout_rate=0.3,
            residual=False,
        ),
        train=TrainConfig(
            updates=3000,
            optimizer=Adam(),
            schedule=Cosine(peak_learning_rate=0.003, warmup_updates=150),
            evaluate_every=300,
            checkpoint_every=100,
            metric="bleu",
            metric_mode="max",
        ),
    )
