"""word2vec's skip-gram with negative sampling on the dictionary GCIDE and 50 novels.

Command: transformer-jax train experiments/word_vectors_gcide_skip_gram.py --run-dir runs/vectors
Beside gensim: `python -m benchmarks.word_vectors experiments/word_vectors_gcide_skip_gram.py --gensim PYTHON`.
The text: Debian's package `dict-gcide` and the novels of the data folder; `--text FILE` takes one of your own.
"""

from transformer_jax.data.words_config import NamedText, WordsConfig
from transformer_jax.models.word_vectors import WordVectorsConfig
from transformer_jax.objectives import NegativeSampling
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.word_embedding import WordEmbedding
from transformer_jax.training.config import LinearDecay, RowAdagrad, TrainConfig


def config() -> ExperimentConfig:
    """Width 100, windows of 5 words, 5 negatives, five passes."""
    return ExperimentConfig(
        name="word_vectors_gcide_skip_gram",
        task=WordEmbedding(
            data=WordsConfig(
                datasets=(NamedText(name="gcide"), NamedText(name="english-novels")),
                min_count=5,
                window=5,
                sample=1e-3,
                row_len=32,
                batch_size=128,
            ),
            objective=NegativeSampling(architecture="skip_gram", num_negatives=5, shared_noise=32),
        ),
        model=WordVectorsConfig(embedding_dim=100),
        train=TrainConfig(
            updates=10_000,
            optimizer=RowAdagrad(),
            schedule=LinearDecay(peak_learning_rate=0.2, warmup_updates=0),
            clip_norm=None,
            log_every=200,
            evaluate_every=2_000,
            checkpoint_every=2_000,
            metric="loss",
            metric_mode="min",
        ),
    )
