"""Which search, and its options: one frozen value for each kind."""

from dataclasses import dataclass
from typing import Literal

from transformer_jax.bounds import Beams, Length, TokenId, Vocabulary, check_bounds
from transformer_jax.decode.beam import check_beam_options
from transformer_jax.decode.constraints import NONE, Constraints
from transformer_jax.decode.sampling import check_sampling_options
from transformer_jax.errors import ConfigError


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
      forbidden_ids: Tokens never to draw.
      constraints: Least length, and n-grams that may not come twice.
    """

    kind: Literal["sample"] = "sample"
    max_len: Length
    temperature: float = 1.0
    top_k: Vocabulary | None = None
    top_p: float = 1.0
    forbidden_ids: tuple[TokenId, ...] = ()
    constraints: Constraints = NONE

    def __post_init__(self) -> None:
        check_bounds(self)
        _check_max_len(self.max_len)
        check_sampling_options(self.temperature, self.top_k, self.top_p)


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
