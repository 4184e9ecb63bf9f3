"""Question types of TREC-6 by a Transformer that was pre-trained on novels, or by the same one from random numbers.

Command: transformer-jax train experiments/classification_trec6_bert.py --warm-start runs/bert --run-dir runs/questions
RUN is of masked_bert.py. Without pre-training: the same with --tokenizer runs/bert/tokenizer.json in its place.
"""

from masked_bert import config as pre_training

from transformer_jax.data.classes_config import ClassesConfig, NamedClasses
from transformer_jax.models import ClassifierConfig, MeanPool
from transformer_jax.objectives import ClassCrossEntropy
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.classification import Classification
from transformer_jax.training.config import AdamW, LinearDecay, TrainConfig


def config() -> ExperimentConfig:
    """The mean of all tokens' vectors; 8 epochs of 4,894 questions; a tenth of each class is held out."""
    first = pre_training()
    return ExperimentConfig(
        name="classification_trec6_bert",
        task=Classification(
            data=ClassesConfig(
                dataset=NamedClasses(subset="trec-6"),
                tokenizer=first.task.data.tokenizer,
                marks_ends=True,
                max_len=64,
                batch_size=32,
            ),
            objective=ClassCrossEntropy(label_smoothing=0.1),
        ),
        model=ClassifierConfig(encoder=first.model.encoder, pooling=MeanPool(), dropout_rate=0.1),
        train=TrainConfig(
            updates=1200,
            optimizer=AdamW(beta2=0.98, weight_decay=0.01),
            schedule=LinearDecay(peak_learning_rate=3e-4, warmup_updates=120),
            log_every=60,
            evaluate_every=150,
            checkpoint_every=150,
            metric="accuracy",
            metric_mode="max",
        ),
    )
