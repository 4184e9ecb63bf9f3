"""Greedy search and the loop it shares with sampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.decode import greedy_search
from transformer_jax.decode.protocol import TokenInputs
from transformer_jax.decode.search_config import GreedyConfig
from transformer_jax.decode.search_options import RowOptions, SearchIds
from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.testing.tiny_models import TableModel

PAD, BOS, EOS = 0, 2, 3
IDS = SearchIds(bos_id=BOS, eos_id=EOS, pad_id=PAD)


def search(model, sources, *, max_len=6, forbidden_ids=(), **given):
    sources = jnp.asarray(sources, dtype=jnp.int32)
    state = model.start(TokenInputs(sources[:, None], jnp.ones_like(sources)), max_len=max_len)
    config = GreedyConfig(max_len=max_len, forbidden_ids=forbidden_ids)
    output = greedy_search(model, state, config, IDS, RowOptions(**given))
    return jax.tree.map(np.asarray, output)


def greedy_by_hand(model, source, max_len):
    tokens, total = [], 0.0
    while len(tokens) < max_len and EOS not in tokens:
        log_probs = model.prefix_log_probs(source, [BOS, *tokens])
        tokens.append(int(np.argmax(log_probs)))
        total += log_probs[tokens[-1]]
    return tokens, total


def test_equals_a_loop_by_hand():
    model = TableModel.random(seed=3, num_sources=12)
    output = search(model, range(12))
    assert 0 < output.finished.sum() < 12, "the seed must give both kinds of rows"
    for source in range(12):
        tokens, total = greedy_by_hand(model, source, 6)
        assert output.tokens[source].tolist() == tokens + [PAD] * (6 - len(tokens))
        assert output.finished[source] == (EOS in tokens)
        assert output.lengths[source] == len(tokens) - (EOS in tokens)
        np.testing.assert_allclose(output.log_probs[source], total, rtol=1e-5)


class CountingModel(TableModel):
    """Counts its steps outside of the computation."""

    calls: int = 0

    def step(self, state, tokens):
        def count() -> None:
            type(self).calls += 1

        jax.debug.callback(count)
        return super().step(state, tokens)


def test_loop_ends_when_all_rows_have_finished():
    model = CountingModel(TableModel.countdown(eos_id=EOS).table[...])
    CountingModel.calls = 0
    output = search(model, [0, 0], max_len=100)
    jax.effects_barrier()
    assert output.tokens[:, :4].tolist() == [[1, 0, EOS, PAD]] * 2
    assert CountingModel.calls == int(output.num_steps) == 3


def test_ended_rows_are_frozen():
    """A row that ends at once beside one that runs on has what it has alone."""
    table = np.array(TableModel.random(seed=5, scale=3.0).table[...])
    table[0, :, EOS] = 20.0
    table[1, :, EOS] = -np.inf
    model = TableModel(table)
    output = search(model, [0, 1], max_len=6)
    assert int(output.num_steps) == 6
    assert output.tokens[0].tolist() == [EOS] + [PAD] * 5
    assert output.lengths.tolist() == [0, 6]
    assert output.finished.tolist() == [True, False]
    assert output.log_probs[0] == search(model, [0], max_len=6).log_probs[0]


def test_row_limits():
    model = TableModel.countdown(vocab_size=5, eos_id=EOS)
    output = search(model, [0] * 4, max_len=4, max_lens=jnp.array([0, 1, 3, 9]))
    assert output.tokens.tolist() == [[PAD] * 4, [1, PAD, PAD, PAD], [1, 0, EOS, PAD], [1, 0, EOS, PAD]]
    assert output.finished.tolist() == [False, False, True, True]
    assert output.lengths.tolist() == [0, 1, 2, 2]
    assert output.log_probs[0] == 0.0
    none = search(model, [0], max_len=4, max_lens=jnp.array([0]))
    assert int(none.num_steps) == 0


def test_not_a_number_is_impossible():
    table = np.zeros((2, 8, 5))
    table[0, :, 1] = 1.0
    table[0, :, 4] = np.nan
    table[1] = np.nan
    output = search(TableModel(table), [0, 1], max_len=3)
    assert output.tokens.tolist() == [[1, 1, 1], [PAD] * 3]
    np.testing.assert_allclose(output.log_probs[0], 3 * (1 - np.log(np.e + 3)), rtol=1e-5)
    # No token is possible in the second row: it stops at once, unfinished.
    assert output.log_probs[1] == -np.inf
    assert output.lengths[1] == 0
    assert not output.finished[1]
    assert output.found.tolist() == [True, False]


def test_forbidden_tokens_are_not_chosen():
    model = TableModel.countdown(vocab_size=5, eos_id=EOS)
    output = search(model, [0], max_len=3, forbidden_ids=(0, 1))
    # Of the rest (2, 3 and 4, all equal at first) the lowest id wins, and 2 leads nowhere but to itself.
    assert output.tokens.tolist() == [[2, 2, 2]]
    np.testing.assert_allclose(output.log_probs[0], -3 * np.log(np.exp(9.0) + 4), rtol=1e-5)


def test_wide_vocabulary_and_low_precision():
    class WideModel:
        """Logits in bfloat16 with the maximum at the previous token plus 700."""

        def start(self, inputs, *, max_len):
            return inputs.lengths

        def step(self, state, tokens):
            hot = (tokens[:, None] + 700) % 5000 == jnp.arange(5000)[None]
            return jnp.where(hot, 20.0, 0.0).astype(jnp.bfloat16), state

    output = greedy_search(
        WideModel(), jnp.ones(2, int), GreedyConfig(max_len=5), SearchIds(bos_id=1, eos_id=2801)
    )
    assert output.tokens.tolist() == [[701, 1401, 2101, 2801, 0]] * 2
    np.testing.assert_allclose(output.log_probs, -4 * np.log1p(4999 * np.exp(-20.0)), atol=1e-5)
    assert output.log_probs.dtype == jnp.float32


def test_bad_arguments_are_refused(table_model):
    with pytest.raises(ConfigError, match="max_len must be at least 1; got 0"):
        search(table_model, [0], max_len=0)
    with pytest.raises(ConfigError, match="forbidden_ids"):
        search(table_model, [0], forbidden_ids=(9,))
    with pytest.raises(ShapeError, match="no arrays"):
        greedy_search(table_model, {}, GreedyConfig(max_len=3), IDS)
    with pytest.raises(ShapeError, match="a scalar"):
        greedy_search(table_model, {"position": jnp.array(0)}, GreedyConfig(max_len=3), IDS)
