"""A search that is left and entered again gives what one call gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.decode import (
    GreedyConfig,
    ResumableSearch,
    RowOptions,
    SampleConfig,
    SearchIds,
    TokenInputs,
    make_searcher,
)
from transformer_jax.decode.constraints import Constraints
from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.testing.tiny_models import TableLanguageModel

PAD, BOS, EOS = 0, 2, 3
IDS = SearchIds(bos_id=BOS, eos_id=EOS, pad_id=PAD)
PROMPTS = TokenInputs(
    np.array([[4, 5, 6], [4, 1, 0], [7, 0, 0], [0, 0, 0], [0, 0, 0]], np.int32),
    np.array([3, 2, 1, 0, 0], np.int32),
)
ROWS = RowOptions(
    first_tokens=np.array([5, 5, 1, BOS, BOS]), max_lens=np.array([12, 12, 5, 12, 0]), context=PROMPTS
)
CONFIGS = {
    "greedy": GreedyConfig(max_len=12, constraints=Constraints(no_repeat_ngram=3)),
    "sample": SampleConfig(
        max_len=12, top_k=6, min_p=0.05, repetition_penalty=1.2, constraints=Constraints(min_len=4)
    ),
}


@pytest.fixture(scope="module")
def model() -> TableLanguageModel:
    return TableLanguageModel.random(seed=2)


def key_of(config):
    return jax.random.key(4) if isinstance(config, SampleConfig) else None


@pytest.mark.parametrize("name", CONFIGS)
def test_chunks_of_any_size_give_the_bits_of_one_call(model, name):
    config, params = CONFIGS[name], nnx.state(model)
    rng_key = key_of(config)
    wanted = make_searcher(model, config, IDS)(params, PROMPTS, ROWS, rng_key=rng_key)
    assert 6 < int(wanted.num_steps) <= 12
    assert wanted.finished.any()
    search = ResumableSearch(model, config, IDS)
    for chunks in ([1] * 12, [5, 5, 5], [12], [100], [3, 1, 7, 1]):
        progress = search.start(params, PROMPTS, ROWS, rng_key=rng_key)
        for size in chunks:
            before = progress.carry.tokens
            progress = search.advance(params, progress, size)
            assert before.is_deleted(), "a chunk writes its state in place"
        assert not progress.running.any()
        jax.tree.map(np.testing.assert_array_equal, progress.output, wanted)
    assert search._advance._cache_size() == 1, "another number of steps must not compile"


def test_a_row_that_the_caller_ends_stays_as_it_is(model):
    config, params = SampleConfig(max_len=12, constraints=Constraints(min_len=12)), nnx.state(model)
    search, key = ResumableSearch(model, config, IDS), jax.random.key(0)
    progress = search.advance(params, search.start(params, PROMPTS, rng_key=key), 3)
    goes_on = np.array([True, False, True, False, True])
    progress = search.advance(params, progress, 2, goes_on=goes_on)
    assert progress.output.lengths.tolist() == [5, 3, 5, 3, 5]
    assert progress.running.tolist() == goes_on.tolist()
    progress = search.advance(params, progress, 20)
    assert progress.output.lengths.tolist() == [12, 3, 12, 3, 12]
    free = make_searcher(model, config, IDS)(params, PROMPTS, rng_key=key)
    np.testing.assert_array_equal(progress.output.tokens[goes_on], free.tokens[goes_on])
    # All have ended: a chunk takes no step.
    assert int(search.advance(params, progress, 20).output.num_steps) == 12


def test_a_restart_changes_the_state_alone(model):
    """After four tokens the model forgets all but the last prompt token and what was generated."""
    config, params = GreedyConfig(max_len=8, forbidden_ids=(EOS,)), nnx.state(model)
    search = ResumableSearch(model, config, IDS)
    progress = search.advance(params, search.start(params, PROMPTS, room=4), 4)
    said = np.asarray(progress.output.tokens)[:, :4]
    kept = TokenInputs(np.ascontiguousarray(said[:, 1:3]), np.full(5, 2))
    progress = search.restart(params, kept, progress, room=4)
    output = search.advance(params, progress, 4).output
    for row in range(5):
        fed, wanted = said[row, 1:].tolist(), said[row].tolist()
        while len(wanted) < 8:
            logits = model.logits_after(fed)
            logits[EOS] = -np.inf
            wanted.append(int(logits.argmax()))
            fed.append(wanted[-1])
        assert output.tokens[row].tolist() == wanted


def test_bad_arguments_are_refused(model):
    params = nnx.state(model)
    search = ResumableSearch(model, GreedyConfig(max_len=4), IDS)
    with pytest.raises(ConfigError, match="greedy search takes no rng_key"):
        search.start(params, PROMPTS, rng_key=jax.random.key(0))
    with pytest.raises(ConfigError, match="sample search needs rng_key"):
        ResumableSearch(model, SampleConfig(max_len=4), IDS).start(params, PROMPTS)
    with pytest.raises(ShapeError, match=r"first_tokens must be \[batch\], here \(5,\); got \(2,\)"):
        search.start(params, PROMPTS, RowOptions(first_tokens=jnp.zeros(2, int)))
    short = TableLanguageModel.random(context_len=6)
    with pytest.raises(ShapeError, match="context_len must be at least 7; got 6"):
        ResumableSearch(short, GreedyConfig(max_len=4), IDS).start(nnx.state(short), PROMPTS)
