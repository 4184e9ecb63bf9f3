"""Least length, n-grams that may not come twice and given beginnings: against loops, in every search."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.decode import beam_search, greedy_search, sample_search
from transformer_jax.decode.constraints import Constraints
from transformer_jax.decode.protocol import TokenInputs
from transformer_jax.decode.search_config import BeamConfig, GreedyConfig, SampleConfig
from transformer_jax.decode.search_options import RowOptions, SearchIds
from transformer_jax.errors import ConfigError
from transformer_jax.testing.tiny_models import TableModel

PAD, BOS, EOS = 0, 2, 3
IDS = SearchIds(bos_id=BOS, eos_id=EOS, pad_id=PAD)
SEARCHES = ("greedy", "beam", "sample")


def search(kind, *, max_len=8, rows=6, prefix=None, first_tokens=None, ids=IDS, **options):
    model = TableModel.random(seed=5, num_sources=rows, vocab_size=6)
    sources = jnp.arange(rows)
    state = model.start(TokenInputs(sources[:, None], jnp.ones_like(sources)), max_len=max_len)
    options, given = {"max_len": max_len, **options}, RowOptions(prefix=prefix, first_tokens=first_tokens)
    if kind == "greedy":
        output = greedy_search(model, state, GreedyConfig(**options), ids, given)
    elif kind == "sample":
        output = sample_search(model, state, SampleConfig(**options), ids, given, rng_key=jax.random.key(0))
    else:
        output = beam_search(model, state, BeamConfig(num_beams=3, **options), ids, given).best()
    found = jax.tree.map(np.asarray, output)
    return [found.tokens[row, : found.lengths[row]].tolist() for row in range(rows)], found


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_repeats_are_forbidden_as_a_loop_would(size, random_generator):
    tokens = random_generator.integers(0, 3, (20, 7)).astype(np.int32)
    for step in range(8):
        padded = np.concatenate([tokens[:, :step], np.full((20, 7 - step), 1, np.int32)], axis=1)
        rules = Constraints(no_repeat_ngram=size)
        have = rules.apply(jnp.zeros((20, 4)), jnp.asarray(padded), jnp.int32(step), eos_id=3)
        for row in range(20):
            said = tokens[row, :step].tolist()
            grams = {tuple(said[i : i + size]) for i in range(step - size + 1)}
            last = tuple(said[step - size + 1 :]) if size > 1 else ()
            complete = len(last) == size - 1
            wanted = [-np.inf if complete and (*last, token) in grams else 0.0 for token in range(4)]
            assert have[row].tolist() == wanted


@pytest.mark.parametrize("kind", SEARCHES)
def test_no_output_says_a_bigram_twice(kind):
    free, _ = search(kind, max_len=16, constraints=Constraints(min_len=15))
    held, output = search(kind, max_len=16, constraints=Constraints(min_len=15, no_repeat_ngram=2))

    def repeats(said):
        grams = list(itertools.pairwise(said))
        return len(grams) != len(set(grams))

    assert any(map(repeats, free)), "the seed must give repeats to forbid"
    assert not any(map(repeats, held))
    assert np.isfinite(output.log_probs).all()


@pytest.mark.parametrize("kind", SEARCHES)
def test_no_output_ends_before_its_least_length(kind):
    free, _ = search(kind)
    held, _ = search(kind, constraints=Constraints(min_len=4))
    assert min(map(len, free)) < 4
    assert min(map(len, held)) >= 4


@pytest.mark.parametrize("kind", SEARCHES)
def test_outputs_begin_as_they_must_and_count_what_they_were_given(kind):
    prefix = np.full((6, 8), -1, np.int32)
    prefix[0, :3] = [4, 5, 4]
    prefix[1, :1] = [5]
    prefix[2, :2] = [1, EOS]
    said, output = search(kind, prefix=jnp.asarray(prefix))
    assert said[0][:3] == [4, 5, 4]
    assert said[1][:1] == [5]
    assert said[2] == [1]
    free, _ = search(kind)
    assert said[3:] == free[3:]
    model = TableModel.random(seed=5, num_sources=6, vocab_size=6)
    for row in range(6):
        total, fed = 0.0, [BOS]
        for token in (*said[row], EOS) if output.finished[row] else said[row]:
            total += model.prefix_log_probs(row, fed)[token]
            fed.append(token)
        np.testing.assert_allclose(output.log_probs[row], total, rtol=1e-5)


def test_a_prefix_goes_before_the_other_rules():
    prefix = jnp.array([[4, 4, 4, -1, -1, -1, -1, -1]] * 6)
    said, _ = search("greedy", prefix=prefix, constraints=Constraints(no_repeat_ngram=1, min_len=2))
    for one in said:
        assert one[:3] == [4, 4, 4]
        assert len(set(one[3:])) == len(one[3:])
        assert 4 not in one[3:]


def test_a_draw_follows_the_rows_number_not_its_place():
    model = TableModel.random(seed=1, num_sources=1, scale=0.1)

    def draw(row_ids):
        state = model.start(
            TokenInputs(jnp.zeros((len(row_ids), 1), int), jnp.ones(len(row_ids), int)), max_len=9
        )
        rows, key = RowOptions(row_ids=jnp.asarray(row_ids)), jax.random.key(7)
        return sample_search(model, state, SampleConfig(max_len=9), IDS, rows, rng_key=key).tokens.tolist()

    first = draw([3, 8, 5])
    assert len({tuple(row) for row in first}) == 3
    assert draw([8, 5, 3]) == [first[1], first[2], first[0]]


@pytest.mark.parametrize("name", ["min_len", "no_repeat_ngram"])
def test_negative_numbers_are_refused(name):
    with pytest.raises(ConfigError, match=f"{name} must be at least 0; got -1"):
        Constraints(**{name: -1})


@pytest.mark.parametrize("kind", SEARCHES)
def test_rules_that_no_output_keeps_are_told(kind):
    """Of six tokens none may come twice, so that eleven cannot be said; what is given then never looks the best."""
    _, output = search(kind, max_len=12, constraints=Constraints(min_len=11, no_repeat_ngram=1))
    assert not np.asarray(output.found).any()
    assert (np.asarray(output.log_probs) == -np.inf).all()
    assert not np.asarray(output.finished).any()
    assert np.asarray(search(kind, max_len=12)[1].found).any(axis=-1).all()


@pytest.mark.parametrize("kind", SEARCHES)
def test_each_row_may_be_fed_a_first_token_of_its_own(kind):
    """Outputs after token 4 in one row and 5 in another are those of searches that begin with it in all rows."""
    first = jnp.array([4, 5, 4, BOS, 5, 1])
    said, output = search(kind, first_tokens=first)
    for token in (4, 5, BOS, 1):
        alone, wanted = search(kind, ids=SearchIds(bos_id=token, eos_id=EOS, pad_id=PAD))
        for row in np.flatnonzero(np.asarray(first) == token):
            assert said[row] == alone[row]
            assert output.log_probs[row] == wanted.log_probs[row]
    assert said != search(kind)[0]
