"""A small Transformer from Chinese to English, on Tatoeba: the model that comes with the library as ``tatoeba-zh-en``.

Command: transformer-jax train experiments/translation_tatoeba_zh_en.py --run-dir runs/tatoeba
Time, hardware and score: `experiments/RESULTS.md`, the row tatoeba-zh-en-transformer.
"""

from transformer_jax.data.pairs_config import Characters, NamedDataset, PackedRows, PairsConfig, Subwords
from transformer_jax.decode.searcher import BeamConfig
from transformer_jax.models.encoder_decoder import EncoderDecoderConfig
from transformer_jax.nn.position_encodings import Sinusoidal
from transformer_jax.objectives import PairCrossEntropy
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.translation import Translation
from transformer_jax.training.config import Adam, Cosine, TrainConfig


def config() -> ExperimentConfig:
    """Three layers on each side, width 160; Chinese by characters, English by 3,000 pieces of words."""
    return ExperimentConfig(
        name="translation_tatoeba_zh_en",
        task=Translation(
            data=PairsConfig(
                dataset=NamedDataset(name="tatoeba-zh-en", source_language="zh", target_language="en"),
                source_tokenizer=Characters(max_size=3000),
                target_tokenizer=Subwords(vocab_size=3000),
                batch_size=128,
                batch_tokens=4000,
                packing=PackedRows(source_len=64, target_len=60),
                max_source_len=60,
                max_target_len=60,
                too_long="skip",
            ),
            objective=PairCrossEntropy(label_smoothing=0.1),
            search=BeamConfig(max_len=60, num_beams=5, length_penalty=0.6),
        ),
        model=EncoderDecoderConfig(
            model_dim=160,
            num_heads=4,
            num_kv_heads=4,
            feed_forward_dim=480,
            num_encoder_layers=3,
            num_decoder_layers=3,
            dropout_rate=0.3,
            norm_placement="pre",
            positions=Sinusoidal(),
            share_embeddings="target",
        ),
        train=TrainConfig(
            updates=4000,
            optimizer=Adam(),
            schedule=Cosine(peak_learning_rate=0.0025, warmup_updates=400),
            evaluate_every=400,
            checkpoint_every=100,
            keep_last=5,
            metric="bleu",
            metric_mode="max",
        ),
    )
