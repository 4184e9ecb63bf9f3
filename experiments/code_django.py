"""English to Python with a pointer, on the Django corpus: a bidirectional GRU encoder, a GRU decoder with attention.

Command: transformer-jax train experiments/code_django.py --run-dir runs/django
Scores: transformer-jax evaluate runs/django --split test
"""

from transformer_jax.data.pairs_config import ChosenBuckets, CutText, NamedDataset, PairsConfig, Words
from transformer_jax.decode.searcher import BeamConfig
from transformer_jax.models.pointer import Pointer
from transformer_jax.models.recurrent_config import Bahdanau, RecurrentSeq2SeqConfig
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.rewriting import Rewriting
from transformer_jax.training.config import Adam, Cosine, TrainConfig

MIN_COUNT = 5


def config() -> ExperimentConfig:
    """Words seen at least five times; all others can only be copied. One layer on each side, 192 cells."""
    words = Words(min_count=MIN_COUNT)
    return ExperimentConfig(
        name="code_django",
        task=Rewriting(
            data=PairsConfig(
                dataset=NamedDataset(name="django-code"),
                source_tokenizer=words,
                target_tokenizer=words,
                share_vocabulary=True,
                cut=CutText(),
                copies_unknown=True,
                batch_size=64,
                batch_tokens=3000,
                buckets=ChosenBuckets(max_shapes=5),
                max_source_len=100,
                max_target_len=80,
                too_long="skip",
            ),
            search=BeamConfig(max_len=80, num_beams=5, length_penalty=1.0),
        ),
        model=RecurrentSeq2SeqConfig(
            embedding_dim=128,
            hidden_dim=192,
            cell="gru",
            num_encoder_layers=1,
            num_decoder_layers=1,
            bidirectional=True,
            attention=Bahdanau(attention_dim=128),
            dropout_rate=0.3,
            residual=False,
            pointer=Pointer(extended=True),
        ),
        train=TrainConfig(
            updates=2400,
            optimizer=Adam(),
            schedule=Cosine(peak_learning_rate=0.002, warmup_updates=150),
            evaluate_every=400,
            checkpoint_every=50,
            metric="exact",
            metric_mode="max",
        ),
    )
