"""A small Transformer from English to German, on the captions of Multi30k.

Command: transformer-jax train experiments/translation_multi30k_transformer.py --run-dir runs/multi30k
From German to English: `--set data.dataset.source_language=de --set data.dataset.target_language=en`.
Time, hardware and score: `experiments/RESULTS.md`, the row multi30k-en-de-transformer.
"""

from transformer_jax.data.pairs_config import MosesText, NamedDataset, PackedRows, PairsConfig, Subwords
from transformer_jax.decode.searcher import BeamConfig
from transformer_jax.models.encoder_decoder import EncoderDecoderConfig
from transformer_jax.nn.position_encodings import Sinusoidal
from transformer_jax.objectives import PairCrossEntropy
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.translation import Translation
from transformer_jax.training.config import Adam, Cosine, TrainConfig


def config() -> ExperimentConfig:
    """Four layers on each side, width 128, one table for all embeddings: the size of Wu et al. 2021, pre-norm."""
    return ExperimentConfig(
        name="translation_multi30k_transformer",
        task=Translation(
            data=PairsConfig(
                dataset=NamedDataset(name="multi30k", source_language="en", target_language="de"),
                moses=MosesText(),
                source_tokenizer=Subwords(vocab_size=8000),
                target_tokenizer=Subwords(vocab_size=8000),
                share_vocabulary=True,
                batch_size=128,
                batch_tokens=4000,
                packing=PackedRows(source_len=56, target_len=60),
                max_source_len=56,
                max_target_len=60,
                too_long="skip",
            ),
            objective=PairCrossEntropy(label_smoothing=0.1),
            search=BeamConfig(max_len=60, num_beams=5, length_penalty=1.0),
        ),
        model=EncoderDecoderConfig(
            model_dim=128,
            num_heads=4,
            num_kv_heads=4,
            feed_forward_dim=256,
            num_encoder_layers=4,
            num_decoder_layers=4,
            dropout_rate=0.2,
            norm_placement="pre",
            positions=Sinusoidal(),
            share_embeddings="all",
        ),
        train=TrainConfig(
            updates=6500,
            optimizer=Adam(),
            schedule=Cosine(peak_learning_rate=0.0025, warmup_updates=600),
            evaluate_every=650,
            checkpoint_every=250,
            keep_last=10,
            metric="bleu",
            metric_mode="max",
        ),
    )
