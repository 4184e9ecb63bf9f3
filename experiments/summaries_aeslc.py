"""E-mails to their subject lines with a pointer and coverage, on AESLC.

Command: transformer-jax train experiments/summaries_aeslc.py --run-dir runs/subjects
Scores: transformer-jax evaluate runs/subjects --split test --too-long truncate
"""

from transformer_jax.data.pairs_config import ChosenBuckets, CutText, NamedDataset, PairsConfig, Words
from transformer_jax.decode.searcher import BeamConfig
from transformer_jax.models.pointer import Pointer
from transformer_jax.models.recurrent_config import Bahdanau, RecurrentSeq2SeqConfig
from transformer_jax.objectives import PairCrossEntropy
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.rewriting import Rewriting
from transformer_jax.training.config import Adam, Cosine, TrainConfig


def config() -> ExperimentConfig:
    """The first 160 words of an e-mail, in lower case; words seen at least ten times, others can only be copied."""
    words = Words(min_count=10)
    return ExperimentConfig(
        name="summaries_aeslc",
        task=Rewriting(
            data=PairsConfig(
                dataset=NamedDataset(name="aeslc"),
                source_tokenizer=words,
                target_tokenizer=words,
                share_vocabulary=True,
                cut=CutText(lowercase=True, source_marks=False),
                copies_unknown=True,
                batch_size=64,
                batch_tokens=6000,
                buckets=ChosenBuckets(max_shapes=5),
                max_source_len=160,
                max_target_len=24,
                too_long="truncate",
            ),
            objective=PairCrossEntropy(coverage_weight=0.5),
            search=BeamConfig(max_len=24, num_beams=4, length_penalty=1.0),
        ),
        model=RecurrentSeq2SeqConfig(
            embedding_dim=128,
            hidden_dim=192,
            cell="gru",
            num_encoder_layers=1,
            num_decoder_layers=1,
            bidirectional=True,
            attention=Bahdanau(attention_dim=128, coverage_width=1),
            dropout_rate=0.3,
            residual=False,
            pointer=Pointer(extended=True),
        ),
        train=TrainConfig(
            updates=3000,
            optimizer=Adam(),
            schedule=Cosine(peak_learning_rate=0.001, warmup_updates=200),
            evaluate_every=500,
            checkpoint_every=100,
            metric="rouge1",
            metric_mode="max",
        ),
    )
