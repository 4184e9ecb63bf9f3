"""Question types of TREC-6: a bidirectional LSTM with structured self-attention (Lin et al. 2017), nothing pre-trained.

Command: transformer-jax train experiments/classification_trec6.py --run-dir runs/questions
On labels and texts of your own, separated by tabs: --text mine.tsv. Then: transformer-jax classify runs/questions
"""

from transformer_jax.data.classes_config import ClassesConfig, NamedClasses, Words
from transformer_jax.models.classifier import ClassifierConfig
from transformer_jax.models.poolings import StructuredPool
from transformer_jax.models.text_encoders import RecurrentTextEncoder
from transformer_jax.objectives import ClassCrossEntropy
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.classification import Classification
from transformer_jax.training.config import AdamW, Cosine, TrainConfig


def config() -> ExperimentConfig:
    """4 hops over 128 units in each direction; 10 epochs of 4,894 questions; a tenth of each class is held out."""
    return ExperimentConfig(
        name="classification_trec6",
        task=Classification(
            data=ClassesConfig(
                dataset=NamedClasses(subset="trec-6"),
                tokenizer=Words(min_count=2),
                lowercase=True,
                max_len=48,
                batch_size=32,
            ),
            objective=ClassCrossEntropy(label_smoothing=0.1, penalty_weight=0.1),
        ),
        model=ClassifierConfig(
            encoder=RecurrentTextEncoder(
                cell="lstm", embedding_dim=128, hidden_dim=128, num_layers=1, dropout_rate=0.5
            ),
            pooling=StructuredPool(attention_dim=64, num_hops=4),
            dropout_rate=0.5,
        ),
        train=TrainConfig(
            updates=1500,
            optimizer=AdamW(beta2=0.99, weight_decay=0.2),
            schedule=Cosine(peak_learning_rate=2e-3, warmup_updates=75),
            log_every=75,
            evaluate_every=150,
            checkpoint_every=150,
            metric="accuracy",
            metric_mode="max",
            average_decay=0.99,
        ),
    )
