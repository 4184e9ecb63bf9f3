"""Searches as a caller asks for them: what is named changes, the rest stays as in the run's own search."""

import dataclasses

import pytest

from transformer_jax.decode.constraints import Constraints
from transformer_jax.decode.search_config import BeamConfig, GreedyConfig, SampleConfig
from transformer_jax.errors import ConfigError
from transformer_jax.inference.requested_search import (
    BeamSearch,
    GreedySearch,
    Sampling,
    coverage_of,
    search_of,
)

OWN = BeamConfig(
    max_len=20,
    num_beams=3,
    length_penalty=0.6,
    forbidden_ids=(7,),
    constraints=Constraints(min_len=2, no_repeat_ngram=3),
)


def test_nothing_asked_for_is_the_own_search() -> None:
    assert search_of(None, OWN) is OWN


def test_whole_search_is_taken_as_it_is() -> None:
    other = GreedyConfig(max_len=5)
    assert search_of(other, OWN) is other


def test_beam_search_keeps_what_is_not_named() -> None:
    found = search_of(BeamSearch(num_beams=5, num_best=2), OWN)
    assert found == dataclasses.replace(OWN, num_beams=5, num_best=2)
    found = search_of(BeamSearch(num_beams=5, length_penalty=0.0, min_len=0), OWN)
    assert found == dataclasses.replace(
        OWN, num_beams=5, length_penalty=0.0, constraints=Constraints(min_len=0, no_repeat_ngram=3)
    )


def test_greedy_search_and_sampling_keep_limits_and_constraints() -> None:
    common = {"max_len": 20, "forbidden_ids": (7,), "constraints": OWN.constraints}
    assert search_of(GreedySearch(), OWN) == GreedyConfig(**common)
    wanted = SampleConfig(temperature=0.5, top_k=4, top_p=0.9, min_p=0.01, repetition_penalty=1.2, **common)
    asked = Sampling(temperature=0.5, top_k=4, top_p=0.9, min_p=0.01, repetition_penalty=1.2)
    assert search_of(asked, OWN) == wanted


def test_coverage_is_counted_once() -> None:
    asked = BeamSearch(num_beams=4, coverage_penalty=0.2)
    assert coverage_of(asked, OWN) == 0.2
    assert search_of(asked, OWN).num_best == 4, "all outputs of the beam are ranked anew"
    within = dataclasses.replace(OWN, coverage_penalty=0.1)
    assert coverage_of(asked, within) == 0.0
    assert search_of(asked, within).coverage_penalty == 0.2
    assert coverage_of(Sampling(), OWN) == coverage_of(None, OWN) == 0.0


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (BeamSearch(num_beams=0), "`num_beams` must be at least 1, got 0"),
        (BeamSearch(num_beams=2, num_best=0), "`num_best` must be at least 1"),
        (BeamSearch(num_beams=2, num_best=3), "`num_best=3` needs at least as many beams, there are 2"),
        (BeamSearch(num_beams=1, length_penalty=0.6), "`length_penalty` ranks the outputs of a beam"),
        (BeamSearch(coverage_penalty=-1.0), "`coverage_penalty` must be a number of at least 0"),
        (BeamSearch(coverage_penalty=float("nan")), "`coverage_penalty` must be a number"),
        (GreedySearch(min_len=20), "`min_len=20` leaves no room for the end"),
        (Sampling(top_p=0.0), "top_p"),
        (Sampling(temperature=-1.0), "temperature"),
    ],
)
def test_impossible_searches_name_the_argument(asked: BeamSearch, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        search_of(asked, OWN)
    assert said in str(caught.value)
