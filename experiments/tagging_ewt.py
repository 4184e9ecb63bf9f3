"""Parts of speech (UPOS) of the English Web Treebank: a bidirectional LSTM over words and their letters.

Command: transformer-jax train experiments/tagging_ewt.py --run-dir runs/ewt
Then: transformer-jax evaluate runs/ewt --split test
With vectors of other text (see the experiments of word vectors) it knows more words:
transformer-jax train experiments/tagging_ewt.py --run-dir runs/ewt-vectors --vectors FILE --set data.more_words=FILE
model.encoder.embedding_dim=WIDTH
Beside it: a conditional random field of hand-made features on the same files, 94.30 % of the test words.
"""

from transformer_jax.data.tag_config import NamedTags, TagConfig, Words
from transformer_jax.models.tagger import TaggerConfig
from transformer_jax.models.text_encoders import RecurrentTextEncoder
from transformer_jax.nn.word_letters import LetterConvolution
from transformer_jax.objectives import TagLikelihood
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.tagging import Tagging
from transformer_jax.training.config import Adam, Cosine, TrainConfig


def config() -> ExperimentConfig:
    """Words that training has once are unknown; letters, case and endings speak for them."""
    return ExperimentConfig(
        name="tagging_ewt",
        task=Tagging(
            data=TagConfig(
                dataset=NamedTags(name="ud-english-ewt"),
                tokenizer=Words(min_count=2),
                lowercase=True,
                word_len=16,
                max_words=80,
                batch_size=32,
            ),
            objective=TagLikelihood(label_smoothing=0.1),
        ),
        model=TaggerConfig(
            encoder=RecurrentTextEncoder(
                cell="lstm", embedding_dim=128, hidden_dim=160, num_layers=2, dropout_rate=0.4
            ),
            letters=LetterConvolution(embedding_dim=32, num_filters=128, widths=(3,), dropout_rate=0.1),
            word_dropout_rate=0.2,
            dropout_rate=0.4,
        ),
        train=TrainConfig(
            updates=8000,
            optimizer=Adam(beta2=0.99, epsilon=1e-8),
            schedule=Cosine(peak_learning_rate=2e-3, warmup_updates=200, final_ratio=0.02),
            clip_norm=5.0,
            average_decay=0.999,
            log_every=100,
            evaluate_every=400,
            checkpoint_every=400,
            metric="accuracy",
            metric_mode="max",
        ),
    )
