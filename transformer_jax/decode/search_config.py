"""Which search, and its options: one frozen value for each kind."""

from dataclasses import dataclass
from typing import Literal

from transformer_jax.bounds import Beams, Length, TokenId, Vocabulary, check_bounds
from transformer_jax.decode.constraints import NONE, Constraints
from transformer_jax.errors import ConfigError


def check_beam_options(num_beams: int, num_best: int, alpha: float, beta: float = 0.0) -> None:
    """Raise ConfigError unless the options of beam search are in range.

    Example:
      >>> check_beam_options(num_beams=4, num_best=1, alpha=0.6)
    """
    if num_beams < 1:
        raise ConfigError(f"num_beams must be at least 1; got {num_beams}")
    if not 1 <= num_best <= num_beams:
        raise ConfigError(f"num_best must be between 1 and num_beams, {num_beams}; got {num_best}")
    if not 0.0 <= alpha < float("inf"):
        raise ConfigError(f"length_penalty must be zero (none) or a positive number; got {alpha}")
    if not 0.0 <= beta < float("inf"):
        raise ConfigError(f"coverage_penalty must be zero (none) or a positive number; got {beta}")


def check_sampling_options(temperature: float, top_k: int | None, top_p: float, min_p: float = 0.0) -> None:
    """Raise ConfigError unless the options of sampling are in range.

    Example:
      >>> check_sampling_options(1.0, None, 0.9)
    """
    if not 0.0 <= temperature < float("inf"):
        raise ConfigError(f"temperature must be zero (greedy) or a positive number; got {temperature}")
    if top_k is not None and top_k < 1:
        raise ConfigError(f"top_k must be at least 1, or None for all tokens; got {top_k}")
    if not 0.0 < top_p <= 1.0:
        raise ConfigError(f"top_p must be above 0 and at most 1; got {top_p}")
    if not 0.0 <= min_p <= 1.0:
        raise ConfigError(f"min_p must be between 0 (all tokens) and 1; got {min_p}")


def check_repetition_penalty(penalty: float) -> None:
    """Raise ConfigError unless a repetition penalty is a positive number.

    Example:
      >>> check_repetition_penalty(1.2)
    """
    if not 0.0 < penalty < float("inf"):
        raise ConfigError(f"repetition_penalty must be a positive number, 1 for none; got {penalty}")


@dataclass(frozen=True, kw_only=True)
class GreedyConfig:
    """The most probable token at each step.

    Attributes:
      max_len: Most tokens to generate, the end of the sequence included.
      forbidden_ids: Tokens never to choose.
      constraints: Least length, and n-grams that may not come twice.
    """

    kind: Literal["greedy"] = "greedy"
    max_len: Length
    forbidden_ids: tuple[TokenId, ...] = ()
    constraints: Constraints = NONE

    def __post_init__(self) -> None:
        check_bounds(self)
        _check_max_len(self.max_len)


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """Tokens drawn from the model's distribution.

    Attributes:
      max_len: Most tokens to generate, the end of the sequence included.
      temperature: Divisor of the logits; 0 is greedy.
      top_k: Draw from this many of the most probable tokens; None for all.
      top_p: Then from the smallest set of them with at least this probability mass; 1 for all.
      min_p: Then from those at least so many times as probable as the most probable one; 0 for all.
      repetition_penalty: Above 1, tokens said before, in the prompt too, become less probable; 1 for none.
      forbidden_ids: Tokens never to draw.
      constraints: Least length, and n-grams that may not come twice.
    """

    kind: Literal["sample"] = "sample"
    max_len: Length
    temperature: float = 1.0
    top_k: Vocabulary | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    forbidden_ids: tuple[TokenId, ...] = ()
    constraints: Constraints = NONE

    def __post_init__(self) -> None:
        check_bounds(self)
        _check_max_len(self.max_len)
        check_sampling_options(self.temperature, self.top_k, self.top_p, self.min_p)
        check_repetition_penalty(self.repetition_penalty)


@dataclass(frozen=True, kw_only=True)
class BeamConfig:
    """The best hypotheses of a beam.

    Attributes:
      max_len: Most tokens to generate, the end of the sequence included.
      num_beams: Live hypotheses of each row.
      length_penalty: Alpha of Wu et al. 2016; 0 ranks by log-probability.
      coverage_penalty: Beta of Wu et al. 2016, at each step of the search; 0 for none. Needs a model with attention.
      num_best: Hypotheses to return for each row.
      forbidden_ids: Tokens never to choose.
      constraints: Least length, and n-grams that may not come twice.
    """

    kind: Literal["beam"] = "beam"
    max_len: Length
    num_beams: Beams
    length_penalty: float = 0.0
    coverage_penalty: float = 0.0
    num_best: Beams = 1
    forbidden_ids: tuple[TokenId, ...] = ()
    constraints: Constraints = NONE

    def __post_init__(self) -> None:
        check_bounds(self)
        _check_max_len(self.max_len)
        check_beam_options(self.num_beams, self.num_best, self.length_penalty, self.coverage_penalty)


SearchConfig = GreedyConfig | SampleConfig | BeamConfig


def _check_max_len(max_len: int) -> None:
    if max_len < 1:
        raise ConfigError(f"max_len must be at least 1; got {max_len}")
