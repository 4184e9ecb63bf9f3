"""Whole models: a config, a class and presets each."""

from transformer_jax.models.build import (
    ModelConfig,
    build_model,
    model_kinds,
    model_shapes,
    register_model,
)
from transformer_jax.models.classifier import Classifier, ClassifierConfig, ClassifierOutput
from transformer_jax.models.ctc_decoder import CtcDecoder, CtcState
from transformer_jax.models.decoder_only import DecoderOnly, DecoderOnlyConfig, DecoderOnlyState
from transformer_jax.models.encoder_decoder import (
    EncoderDecoder,
    EncoderDecoderConfig,
    EncoderDecoderState,
)
from transformer_jax.models.encoder_only import EncoderOnly, EncoderOnlyConfig
from transformer_jax.models.feature_encoders import (
    FeatureEncoder,
    FeatureMasking,
    RecurrentFeatureEncoder,
    RecurrentFrames,
    TransformerFeatureEncoder,
    TransformerFrames,
)
from transformer_jax.models.feature_to_text import FeatureToText, FeatureToTextConfig
from transformer_jax.models.forecast_configs import (
    EncoderDecoderForecast,
    ForecastNetwork,
    LinearForecast,
    PatchForecast,
    RecurrentForecast,
)
from transformer_jax.models.forecaster import Forecaster, ForecasterConfig
from transformer_jax.models.image_encoders import ConvolutionalImageEncoder, ImageEncoder, PatchImageEncoder
from transformer_jax.models.pointer import Pointer, PointerHead
from transformer_jax.models.poolings import (
    AttentionPool,
    FirstTokenPool,
    LastStatePool,
    MaxPool,
    MeanPool,
    Pool,
    StructuredPool,
)
from transformer_jax.models.presets import (
    bert_encoder,
    gpt2,
    llama_like,
    mingpt,
    nanogpt,
    nanogpt_cpu,
    transformer_base,
    transformer_big,
)
from transformer_jax.models.recurrent_config import Bahdanau, LastState, Luong, RecurrentSeq2SeqConfig
from transformer_jax.models.recurrent_lm import RecurrentLM, RecurrentLMConfig, RecurrentLMState
from transformer_jax.models.recurrent_seq2seq import RecurrentSeq2Seq
from transformer_jax.models.sizes import Sizes
from transformer_jax.models.tagger import Tagger, TaggerConfig, TaggerOutput, TaggerPrediction
from transformer_jax.models.text_decoders import (
    RecurrentMemoryDecoder,
    RecurrentTextDecoder,
    TextDecoder,
    TransformerMemoryDecoder,
    TransformerTextDecoder,
)
from transformer_jax.models.text_encoders import (
    RecurrentEncoder,
    RecurrentTextEncoder,
    TextEncoder,
    TokenVectors,
    TransformerEncoder,
    TransformerTextEncoder,
    VectorEncoder,
)
from transformer_jax.models.word_vectors import WordVectors, WordVectorsConfig

__all__ = [
    "AttentionPool",
    "Bahdanau",
    "Classifier",
    "ClassifierConfig",
    "ClassifierOutput",
    "ConvolutionalImageEncoder",
    "CtcDecoder",
    "CtcState",
    "DecoderOnly",
    "DecoderOnlyConfig",
    "DecoderOnlyState",
    "EncoderDecoder",
    "EncoderDecoderConfig",
    "EncoderDecoderForecast",
    "EncoderDecoderState",
    "EncoderOnly",
    "EncoderOnlyConfig",
    "FeatureEncoder",
    "FeatureMasking",
    "FeatureToText",
    "FeatureToTextConfig",
    "FirstTokenPool",
    "ForecastNetwork",
    "Forecaster",
    "ForecasterConfig",
    "ImageEncoder",
    "LastState",
    "LastStatePool",
    "LinearForecast",
    "Luong",
    "MaxPool",
    "MeanPool",
    "ModelConfig",
    "PatchForecast",
    "PatchImageEncoder",
    "Pointer",
    "PointerHead",
    "Pool",
    "RecurrentEncoder",
    "RecurrentFeatureEncoder",
    "RecurrentForecast",
    "RecurrentFrames",
    "RecurrentLM",
    "RecurrentLMConfig",
    "RecurrentLMState",
    "RecurrentMemoryDecoder",
    "RecurrentSeq2Seq",
    "RecurrentSeq2SeqConfig",
    "RecurrentTextDecoder",
    "RecurrentTextEncoder",
    "Sizes",
    "StructuredPool",
    "Tagger",
    "TaggerConfig",
    "TaggerOutput",
    "TaggerPrediction",
    "TextDecoder",
    "TextEncoder",
    "TokenVectors",
    "TransformerEncoder",
    "TransformerFeatureEncoder",
    "TransformerFrames",
    "TransformerMemoryDecoder",
    "TransformerTextDecoder",
    "TransformerTextEncoder",
    "VectorEncoder",
    "WordVectors",
    "WordVectorsConfig",
    "bert_encoder",
    "build_model",
    "gpt2",
    "llama_like",
    "mingpt",
    "model_kinds",
    "model_shapes",
    "nanogpt",
    "nanogpt_cpu",
    "register_model",
    "transformer_base",
    "transformer_big",
]
