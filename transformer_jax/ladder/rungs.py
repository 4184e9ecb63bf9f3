"""The six rungs of the ladder: sizes of equal parameter counts, and what each preset trains them with."""

import dataclasses
import importlib.resources
import json
from typing import Any, Literal

from transformer_jax.data.pairs_config import Characters, ChosenBuckets, NamedDataset, PairsConfig, Words
from transformer_jax.decode.searcher import BeamConfig, GreedyConfig
from transformer_jax.errors import ConfigError, nearest_hint
from transformer_jax.models.build import ModelConfig
from transformer_jax.models.encoder_decoder import EncoderDecoderConfig
from transformer_jax.models.recurrent_config import Bahdanau, LastState, Luong, RecurrentSeq2SeqConfig
from transformer_jax.nn.position_encodings import Sinusoidal
from transformer_jax.objectives import PairCrossEntropy
from transformer_jax.runs.experiment import ExperimentConfig
from transformer_jax.tasks.pronunciation import Pronunciation
from transformer_jax.training.config import Adam, Cosine, TrainConfig

RUNGS = ("rnn", "lstm", "gru", "gru+bahdanau", "lstm+luong", "transformer")
LEARNING_RATES_NAME = "learning_rates.json"
BATCH_WORDS = 256
MAX_SOURCE_LEN = 24
MAX_TARGET_LEN = 24

PresetName = Literal["quick", "standard"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preset:
    """How large the rungs are and how long they train.

    Args:
      dataset: Name of the data set.
      hidden_dims: For each recurrent rung the width of its cells.
      embedding_dim: Width of the recurrent rungs' embeddings.
      transformer_dims: The Transformer's width, its feed-forward width and its layers on each side.
      updates: Updates of every rung.
      warmup_updates: Of these the learning rate rises for so many.
      evaluate_every: Updates between points of the learning curve.
      development_words: Words of each point.
      test_words: Held-out words of the final scores; None takes all.
      search: The search of the final scores.
      dropout_rate: Of every rung.
      label_smoothing: Of every rung.
    """

    dataset: str
    hidden_dims: dict[str, int]
    embedding_dim: int
    transformer_dims: tuple[int, int, int]
    updates: int
    warmup_updates: int
    evaluate_every: int
    development_words: int
    test_words: int | None
    search: GreedyConfig | BeamConfig
    dropout_rate: float
    label_smoothing: float


PRESETS: dict[PresetName, Preset] = {
    "quick": Preset(
        dataset="cmudict",
        hidden_dims={"rnn": 342, "lstm": 196, "gru": 224, "gru+bahdanau": 156, "lstm+luong": 146},
        embedding_dim=64,
        transformer_dims=(128, 256, 2),
        updates=1000,
        warmup_updates=100,
        evaluate_every=100,
        development_words=500,
        test_words=1000,
        search=GreedyConfig(max_len=MAX_TARGET_LEN),
        dropout_rate=0.0,
        label_smoothing=0.0,
    ),
    "standard": Preset(
        dataset="cmudict",
        hidden_dims={"rnn": 496, "lstm": 284, "gru": 324, "gru+bahdanau": 224, "lstm+luong": 212},
        embedding_dim=96,
        transformer_dims=(128, 512, 3),
        updates=4000,
        warmup_updates=300,
        evaluate_every=500,
        development_words=2000,
        test_words=None,
        search=BeamConfig(max_len=MAX_TARGET_LEN, num_beams=5, length_penalty=0.6),
        dropout_rate=0.1,
        label_smoothing=0.1,
    ),
}


def check_rungs(names: tuple[str, ...]) -> tuple[str, ...]:
    """The requested rungs in the ladder's order; all of them for none.

    Raises:
      ConfigError: If a name is not a rung's, or is given twice.
    """
    for name in names:
        if name not in RUNGS:
            raise ConfigError(
                f"`models`: no rung '{name}'{nearest_hint(name, RUNGS)}; known: {', '.join(RUNGS)}"
            )
        if names.count(name) > 1:
            raise ConfigError(f"`models`: '{name}' is given twice")
    return tuple(name for name in RUNGS if name in names) or RUNGS


def rung_config(
    preset_name: PresetName, rung: str, *, seed: int, learning_rate: float | None = None
) -> ExperimentConfig:
    """The experiment of one rung.

    Args:
      preset_name: Which preset.
      rung: One of `RUNGS`.
      seed: Of parameters, batches and dropout.
      learning_rate: The peak; None takes the one chosen on development words (`learning_rates`).
    """
    preset = PRESETS[preset_name]
    peak = learning_rates(preset_name)[rung] if learning_rate is None else learning_rate
    return ExperimentConfig(
        name=rung,
        task=Pronunciation(
            data=data_config(preset, seed=seed),
            objective=PairCrossEntropy(label_smoothing=preset.label_smoothing),
            search=preset.search,
        ),
        model=model_config(preset, rung),
        train=TrainConfig(
            updates=preset.updates,
            optimizer=Adam(),
            schedule=Cosine(peak_learning_rate=peak, warmup_updates=preset.warmup_updates),
            seed=seed,
            log_every=50,
            evaluate_every=preset.evaluate_every,
            checkpoint_every=preset.evaluate_every,
            metric="per",
            metric_mode="min",
        ),
    )


def data_config(preset: Preset, *, seed: int) -> PairsConfig:
    """The same data, batches and order for every rung."""
    return PairsConfig(
        dataset=NamedDataset(name=preset.dataset),
        source_tokenizer=Characters(),
        target_tokenizer=Words(),
        batch_size=BATCH_WORDS,
        buckets=ChosenBuckets(max_shapes=4),
        max_source_len=MAX_SOURCE_LEN,
        max_target_len=MAX_TARGET_LEN,
        too_long="skip",
        seed=seed,
        max_development_items=preset.development_words,
        max_test_items=preset.test_words,
    )


def model_config(preset: Preset, rung: str) -> ModelConfig:
    """Model of one rung."""
    if rung == "transformer":
        model_dim, feed_forward_dim, num_layers = preset.transformer_dims
        return EncoderDecoderConfig(
            model_dim=model_dim,
            num_heads=4,
            num_kv_heads=4,
            feed_forward_dim=feed_forward_dim,
            num_encoder_layers=num_layers,
            num_decoder_layers=num_layers,
            dropout_rate=preset.dropout_rate,
            attention_dropout_rate=0.0,
            activation_dropout_rate=0.0,
            norm_placement="pre",
            normalization="layer",
            activation="relu",
            positions=Sinusoidal(),
            share_embeddings="target",
        )
    hidden_dim = preset.hidden_dims[rung]
    attention: LastState | Bahdanau | Luong
    if rung == "gru+bahdanau":
        attention = Bahdanau(attention_dim=hidden_dim)
    elif rung == "lstm+luong":
        attention = Luong(score="general", input_feeding=True)
    else:
        attention = LastState(feed_each_step=True)
    return RecurrentSeq2SeqConfig(
        embedding_dim=preset.embedding_dim,
        hidden_dim=hidden_dim,
        cell=rung.partition("+")[0],
        num_encoder_layers=1,
        num_decoder_layers=1,
        # What attention looks at should know the letters that follow, too. Luong's own encoder does not; with
        # it the rung learns no faster than the plain ones.
        bidirectional=rung in ("gru+bahdanau", "lstm+luong"),
        attention=attention,
        dropout_rate=preset.dropout_rate,
        residual=False,
    )


def learning_rate_table() -> dict[str, Any]:
    """The committed table: for each preset the grid, every trial and the chosen rates."""
    text = (
        importlib.resources.files("transformer_jax.ladder").joinpath(LEARNING_RATES_NAME).read_text("utf-8")
    )
    return json.loads(text)


def learning_rates(preset_name: PresetName) -> dict[str, float]:
    """Peak learning rate of each rung."""
    return learning_rate_table()[preset_name]["chosen"]
