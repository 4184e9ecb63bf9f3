"""Sequences that the data allow and a model cannot take are refused with the config, before data are read."""

import dataclasses
from typing import Any

import pytest

from transformer_jax.data.captions_config import CaptionsConfig
from transformer_jax.data.images import ImageFeatures
from transformer_jax.data.pairs_config import GivenBuckets, PairsConfig
from transformer_jax.data.series_config import SeriesConfig
from transformer_jax.data.speech_config import SpeechConfig
from transformer_jax.errors import ConfigError
from transformer_jax.models import EncoderDecoderConfig, EncoderDecoderForecast, ForecasterConfig
from transformer_jax.models.feature_encoders import TransformerFeatureEncoder
from transformer_jax.models.feature_to_text import FeatureToTextConfig
from transformer_jax.models.image_encoders import ConvolutionalImageEncoder
from transformer_jax.models.recurrent_config import Luong, RecurrentSeq2SeqConfig
from transformer_jax.models.text_decoders import RecurrentTextDecoder, TransformerTextDecoder
from transformer_jax.nn import Learned, Rotary
from transformer_jax.tasks.captioning import Captioning
from transformer_jax.tasks.forecasting import Forecasting
from transformer_jax.tasks.transcription import Transcription
from transformer_jax.tasks.translation import Translation

SIZES: dict[str, Any] = {"model_dim": 8, "num_heads": 2, "num_kv_heads": 2, "feed_forward_dim": 8}
PAIRS = PairsConfig(max_source_len=12, max_target_len=10)


def transformer(max_len: int) -> EncoderDecoderConfig:
    return EncoderDecoderConfig(
        **SIZES, num_encoder_layers=1, num_decoder_layers=1, positions=Learned(max_len=max_len)
    )


def location(max_len: int) -> Luong:
    return Luong(score="location", input_feeding=False, max_len=max_len)


def listener(frames: int = 10, tokens: int = 8, vectors: int | None = None) -> FeatureToTextConfig:
    """An encoder of groups of four frames, and a decoder with a limit of its own."""
    decoder: Any = TransformerTextDecoder(**SIZES, num_layers=1, positions=Learned(max_len=tokens))
    if vectors is not None:
        decoder = RecurrentTextDecoder(embedding_dim=4, hidden_dim=6, attention=location(vectors))
    encoder = TransformerFeatureEncoder(**SIZES, num_layers=1, positions=Learned(max_len=frames))
    return FeatureToTextConfig(encoder=encoder, decoder=decoder)


def forecaster(max_len: int) -> ForecasterConfig:
    network = EncoderDecoderForecast(
        **SIZES, num_layers=1, patch_len=4, stride=4, positions=Learned(max_len=max_len)
    )
    return ForecasterConfig(network=network)


SPEECH = Transcription(data=SpeechConfig(max_frames=39, max_target_len=8))
CAPTIONS = Captioning(data=CaptionsConfig(features=ImageFeatures(height=12), max_frames=17, max_target_len=8))
SEEN = FeatureToTextConfig(
    encoder=ConvolutionalImageEncoder(channels=(4, 4)),
    decoder=RecurrentTextDecoder(embedding_dim=4, hidden_dim=6, attention=location(14)),
)
CASES: list[tuple[Any, Any, Any, str]] = [
    (
        Translation(data=PAIRS),
        transformer(12),
        transformer(11),
        r"data\.max_source_len is 12, but the model has 11 learned positions: lower it, or raise model\.positions",
    ),
    (
        Translation(data=dataclasses.replace(PAIRS, buckets=GivenBuckets(shapes=((12, 20),)))),
        transformer(20),
        transformer(19),
        r"data\.buckets\.shapes\[-1\]\[1\] is 20, but the model has 19",
    ),
    (
        Translation(data=PAIRS),
        RecurrentSeq2SeqConfig(embedding_dim=4, hidden_dim=4, attention=location(12)),
        RecurrentSeq2SeqConfig(embedding_dim=4, hidden_dim=4, attention=location(11)),
        r"max_source_len is 12, but the model has 11 location scores: .* raise model\.attention\.max_len",
    ),
    (SPEECH, listener(), listener(frames=9), r"data\.max_frames is 39, but the model has 36 frames at most"),
    (
        SPEECH,
        listener(),
        listener(tokens=7),
        r"max_target_len is 8, .* 7 learned positions: .* model\.decoder",
    ),
    (
        SPEECH,
        listener(vectors=10),
        listener(vectors=9),
        r"encoder's vectors is 10, but the model has 9 location",
    ),
    # Three rows of five columns.
    (
        CAPTIONS,
        dataclasses.replace(SEEN, decoder=dataclasses.replace(SEEN.decoder, attention=location(15))),
        SEEN,
        r"encoder's vectors is 15, but the model has 14 location scores",
    ),
    (
        Forecasting(data=SeriesConfig(context_len=8, horizon_len=10)),
        forecaster(3),
        forecaster(2),
        "positions.max_len 2 must be at least 3, the patches of a horizon of 10 steps",
    ),
    (
        Forecasting(data=SeriesConfig(context_len=16, horizon_len=4)),
        forecaster(4),
        forecaster(3),
        "positions.max_len 3 must be at least 4, the patches of a context of 16 steps",
    ),
]


@pytest.mark.parametrize(("task", "fitting", "short", "message"), CASES)
def test_a_model_takes_the_longest_that_the_data_allow(
    task: Any, fitting: Any, short: Any, message: str
) -> None:
    task.check(fitting)
    with pytest.raises(ConfigError, match=message):
        task.check(short)


def test_positions_without_a_table_have_no_limit() -> None:
    Translation(data=PAIRS).check(dataclasses.replace(transformer(4), positions=Rotary()))
