"""Search: greedy, sampling and beam, for any model with an explicit decoding state."""

from transformer_jax.decode.beam import BeamOutput, beam_search
from transformer_jax.decode.greedy import greedy_search
from transformer_jax.decode.logits import (
    clean_logits,
    keep_min_p,
    keep_top_p,
    length_penalty,
    penalize_repetition,
    top_k_rows,
)
from transformer_jax.decode.protocol import (
    AttendingStepModel,
    FeatureInputs,
    ImageInputs,
    StepModel,
    TokenInputs,
    reorder_state,
    repeat_state,
    state_batch_size,
)
from transformer_jax.decode.resumable import ResumableSearch, SearchProgress
from transformer_jax.decode.sampling import sample_search, sample_tokens
from transformer_jax.decode.search_config import BeamConfig, GreedyConfig, SampleConfig, SearchConfig
from transformer_jax.decode.search_options import RowOptions, SearchIds
from transformer_jax.decode.searcher import Searcher, make_searcher
from transformer_jax.decode.token_loop import DecodeOutput

__all__ = [
    "AttendingStepModel",
    "BeamConfig",
    "BeamOutput",
    "DecodeOutput",
    "FeatureInputs",
    "GreedyConfig",
    "ImageInputs",
    "ResumableSearch",
    "RowOptions",
    "SampleConfig",
    "SearchConfig",
    "SearchIds",
    "SearchProgress",
    "Searcher",
    "StepModel",
    "TokenInputs",
    "beam_search",
    "clean_logits",
    "greedy_search",
    "keep_min_p",
    "keep_top_p",
    "length_penalty",
    "make_searcher",
    "penalize_repetition",
    "reorder_state",
    "repeat_state",
    "sample_search",
    "sample_tokens",
    "state_batch_size",
    "top_k_rows",
]
