"""Searches as a caller asks for them: only what differs from the trained run's own search."""

import dataclasses

from transformer_jax.decode.search_config import BeamConfig, GreedyConfig, SampleConfig, SearchConfig
from transformer_jax.inference.search_change import SearchChange


@dataclasses.dataclass(frozen=True, kw_only=True)
class BeamSearch:
    """The best hypotheses of a beam; what is None stays as in the run's own search.

    Attributes:
      num_beams: Live hypotheses of each line.
      num_best: Hypotheses to return for each line, at most ``num_beams``.
      length_penalty: Alpha of Wu et al. 2016; 0 ranks by log-probability.
      coverage_penalty: Beta of Wu et al. 2016; hypotheses are ranked by what they attended to, too.
      min_len: Fewest tokens of an output.
      no_repeat_ngram: Size of the n-grams that may not come twice.

    Example:
      >>> BeamSearch(num_beams=4).of(GreedyConfig(max_len=20)).num_beams
      4
    """

    num_beams: int = 4
    num_best: int = 1
    length_penalty: float | None = None
    coverage_penalty: float | None = None
    min_len: int | None = None
    no_repeat_ngram: int | None = None

    def change(self) -> SearchChange:
        """The same as a change of a run's search."""
        return SearchChange(
            beam=self.num_beams,
            num_best=self.num_best,
            length_penalty=self.length_penalty,
            coverage=self.coverage_penalty,
            min_len=self.min_len,
            no_repeat_ngram=self.no_repeat_ngram,
        )

    def of(self, configured: SearchConfig) -> SearchConfig:
        """The search of a run whose own is ``configured``."""
        return self.change().of(configured)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GreedySearch:
    """The most probable token at each step.

    Attributes:
      min_len: Fewest tokens of an output; None for the run's own.
      no_repeat_ngram: Size of the n-grams that may not come twice; None for the run's own.

    Example:
      >>> GreedySearch().of(BeamConfig(max_len=20, num_beams=3)).kind
      'greedy'
    """

    min_len: int | None = None
    no_repeat_ngram: int | None = None

    def change(self) -> SearchChange:
        """The same as a change of a run's search."""
        return SearchChange(beam=1, min_len=self.min_len, no_repeat_ngram=self.no_repeat_ngram)

    def of(self, configured: SearchConfig) -> SearchConfig:
        """The search of a run whose own is ``configured``."""
        return self.change().of(configured)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """Tokens drawn from the model's distribution; what is None stays as in the run's own search, if that draws too.

    Attributes:
      temperature: Divisor of the logits; 0 is greedy.
      top_k: Draw from this many of the most probable tokens.
      top_p: Then from the smallest set of them with at least this probability mass.
      min_p: Then from those at least so many times as probable as the most probable one.
      repetition_penalty: Above 1, tokens said before become less probable.

    Example:
      >>> Sampling(temperature=0.7, top_p=0.9).of(GreedyConfig(max_len=20)).top_p
      0.9
      >>> Sampling(top_k=5).of(SampleConfig(max_len=20, temperature=0.8)).temperature
      0.8
    """

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None

    def of(self, configured: SearchConfig) -> SampleConfig:
        """The search of a run whose own is ``configured``."""
        own = configured
        if not isinstance(own, SampleConfig):
            own = SampleConfig(
                max_len=own.max_len, forbidden_ids=own.forbidden_ids, constraints=own.constraints
            )
        given = {name: value for name, value in vars(self).items() if value is not None}
        return dataclasses.replace(own, **given)


RequestedSearch = BeamSearch | GreedySearch | Sampling | SearchConfig


def search_of(requested: RequestedSearch | None, configured: SearchConfig) -> SearchConfig:
    """The whole search that a caller means.

    Args:
      requested: What the caller asks for; None for the run's own; a whole search is taken as it is.
      configured: The run's own search.

    Example:
      >>> search_of(None, GreedyConfig(max_len=9)).max_len
      9
    """
    if requested is None:
        return configured
    if isinstance(requested, GreedyConfig | SampleConfig | BeamConfig):
        return requested
    if not isinstance(requested, BeamSearch | GreedySearch | Sampling):
        raise TypeError(
            f"search must be a BeamSearch, GreedySearch or Sampling, or None for the run's own; got {requested!r}"
        )
    return requested.of(configured)


def coverage_of(requested: RequestedSearch | None, configured: SearchConfig) -> float:
    """Beta by which the outputs of a requested search are reranked afterwards; 0 for none."""
    if isinstance(requested, BeamSearch):
        return requested.change().coverage_afterwards(configured)
    return 0.0
