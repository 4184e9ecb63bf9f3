"""Changes of a run's search by options."""

import dataclasses
from typing import Any

from transformer_jax.decode.constraints import Constraints
from transformer_jax.decode.searcher import BeamConfig, GreedyConfig, SampleConfig, SearchConfig
from transformer_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchChange:
    """Changes of a run's own search; None keeps its value.

    Args:
      beam: Beams; 1 is greedy.
      num_best: Hypotheses to return.
      length_penalty: Alpha of a beam search.
      min_len: Fewest tokens.
      no_repeat_ngram: Size of the n-grams that may not come twice.
      temperature: Draw at random with this temperature; ``top_k`` and ``top_p`` go with it.
      top_k: Draw from the most probable so many.
      top_p: Draw from the smallest set of this probability.
      coverage: Rank all outputs of a beam by what they looked at too: beta of the coverage penalty.
      stepwise_coverage: Rank by it at each step of the search too, where prefixes compete; a run whose own search
        does so goes on to.
    """

    beam: int | None = None
    num_best: int | None = None
    length_penalty: float | None = None
    min_len: int | None = None
    no_repeat_ngram: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    coverage: float | None = None
    stepwise_coverage: bool = False

    def of(self, configured: SearchConfig) -> SearchConfig:
        """The run's search, changed.

        Raises:
          ConfigError: If a number is out of range, options exclude each other, or more outputs are wanted than
            there are beams.
        """
        counts = (("`num_beams`", self.beam), ("`num_best`", self.num_best))
        for name, value in counts:
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        if self.coverage is not None and not 0.0 <= self.coverage < float("inf"):
            raise ConfigError(f"`coverage_penalty` must be a number of at least 0, got {self.coverage}")
        if self.stepwise_coverage and self.coverage is None:
            raise ConfigError(
                "`stepwise_coverage` says when `coverage_penalty` counts: add `coverage_penalty=B`"
            )
        common: dict[str, Any] = {
            "max_len": configured.max_len,
            "forbidden_ids": configured.forbidden_ids,
            "constraints": self._constraints(configured),
        }
        if self.temperature is not None:
            if any(
                option is not None
                for option in (self.beam, self.num_best, self.length_penalty, self.coverage)
            ):
                raise ConfigError(
                    "`temperature` draws one output a line: leave `num_beams`, `num_best`, `length_penalty` and "
                    "`coverage_penalty` out"
                )
            top_p = 1.0 if self.top_p is None else self.top_p
            return SampleConfig(temperature=self.temperature, top_k=self.top_k, top_p=top_p, **common)
        if self.top_k is not None or self.top_p is not None:
            raise ConfigError("`top_k` and `top_p` are for drawing at random: add `temperature=1`")
        if isinstance(configured, SampleConfig) and self.beam is None and self.num_best is None:
            raise ConfigError("the run's search draws at random: name `num_beams=N` or `temperature=T`")
        own_beams, penalty, within = 1, 0.0, 0.0
        if isinstance(configured, BeamConfig):
            own_beams, penalty = configured.num_beams, configured.length_penalty
            within = configured.coverage_penalty
        if self.coverage is not None and (within or self.stepwise_coverage):
            within = self.coverage
        num_beams = own_beams if self.beam is None else self.beam
        if self.num_best is not None and self.num_best > num_beams:
            raise ConfigError(
                f"`num_best={self.num_best}` needs at least as many beams, there are {num_beams}: add `num_beams`"
            )
        if num_beams == 1:
            penalties = (("`length_penalty`", self.length_penalty), ("`coverage_penalty`", self.coverage))
            for option, penalty_given in penalties:
                if penalty_given is not None:
                    raise ConfigError(f"{option} ranks the outputs of a beam: add `num_beams=N`")
            return GreedyConfig(**common)
        return BeamConfig(
            num_beams=num_beams,
            length_penalty=penalty if self.length_penalty is None else self.length_penalty,
            coverage_penalty=within,
            num_best=num_beams if self.coverage_afterwards(configured) else self.num_best or 1,
            **common,
        )

    def coverage_afterwards(self, configured: SearchConfig) -> float:
        """Beta by which the outputs of the changed search are reranked; 0 where the search has counted it itself.

        Args:
          configured: The run's search.
        """
        within = isinstance(configured, BeamConfig) and configured.coverage_penalty > 0.0
        return 0.0 if self.stepwise_coverage or within else self.coverage or 0.0

    def _constraints(self, configured: SearchConfig) -> Constraints:
        own = configured.constraints
        constraints = Constraints(
            min_len=own.min_len if self.min_len is None else self.min_len,
            no_repeat_ngram=own.no_repeat_ngram if self.no_repeat_ngram is None else self.no_repeat_ngram,
        )
        if constraints.min_len >= configured.max_len:
            raise ConfigError(
                f"`min_len={constraints.min_len}` leaves no room for the end: the longest output has "
                f"{configured.max_len} tokens, the end included (search.max_len)"
            )
        return constraints
