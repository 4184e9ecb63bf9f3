"""BERT's masked language model on 50 English novels and the dictionary GCIDE: pre-training for classifiers and taggers.

Command: transformer-jax train experiments/masked_bert.py --run-dir runs/bert
Then: transformer-jax fill runs/bert, and --warm-start runs/bert with classification_trec6_bert.py.
The dictionary is Debian's package `dict-gcide`. On text of your own: --text mine.txt.
Larger models: --set with the numbers of `bert_encoder("small")`.
"""

from transformer_jax.data.masked_config import MaskedTextConfig, Masking, NamedText, WordPieces
from transformer_jax.models import EncoderOnlyConfig, bert_encoder
from transformer_jax.objectives import MaskedTokens
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.masked_language_modelling import MaskedLanguageModelling
from transformer_jax.training.config import AdamW, LinearDecay, TrainConfig


def config() -> ExperimentConfig:
    """Size "mini" (4 layers of width 256), 8,000 pieces, texts of 64 tokens, 64 of them a batch; 6.2 epochs.

    At 6,740 tokens a second (two cores of an AMD EPYC, no native kernels) an update of 4,085 tokens takes 0.61 s, so
    13,500 of them take 136 minutes. Size "tiny" has 36,600 tokens a second, and 25 minutes for as many.
    """
    return ExperimentConfig(
        name="masked_bert",
        task=MaskedLanguageModelling(
            data=MaskedTextConfig(
                datasets=(NamedText(name="english-novels"), NamedText(name="gcide")),
                tokenizer=WordPieces(vocab_size=8000),
                max_len=64,
                masking=Masking(whole_words=True),
                batch_size=64,
                max_development_characters=400_000,
            ),
            objective=MaskedTokens(),
        ),
        model=EncoderOnlyConfig(encoder=bert_encoder("mini", max_len=64)),
        train=TrainConfig(
            updates=13_500,
            optimizer=AdamW(beta2=0.98, weight_decay=0.01),
            schedule=LinearDecay(peak_learning_rate=1e-3, warmup_updates=700),
            log_every=50,
            evaluate_every=1500,
            checkpoint_every=250,
            metric="nats",
            metric_mode="min",
        ),
    )
