"""The compiled searcher: the same results, one trace for each shape."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax import models
from transformer_jax.decode import (
    BeamConfig,
    GreedyConfig,
    SampleConfig,
    beam_search,
    greedy_search,
    make_searcher,
)
from transformer_jax.decode import searcher as searcher_module
from transformer_jax.decode.protocol import StepModel, TokenInputs, reorder_state
from transformer_jax.decode.search_options import RowOptions, SearchIds
from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.memory import machine_memory
from transformer_jax.models.build import model_shapes
from transformer_jax.models.sizes import Sizes
from transformer_jax.testing.tiny_models import TableModel

PAD, BOS, EOS = 0, 2, 3

TOKENS = np.array([[0, 4, 4], [1, 4, 0], [2, 0, 0]], dtype=np.int32)
LENGTHS = np.array([3, 2, 1], dtype=np.int32)
IDS = SearchIds(bos_id=BOS, eos_id=EOS, pad_id=PAD)
INPUTS = TokenInputs(TOKENS, LENGTHS)


def make(model, config):
    return make_searcher(model, config, IDS)


def assert_same(first, second):
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_table_model_is_a_step_model(table_model):
    assert isinstance(table_model, StepModel)


def test_equals_the_search_functions(table_model):
    params = nnx.state(table_model)
    state = table_model.start(jax.tree.map(jnp.asarray, INPUTS), max_len=5)
    found = make(table_model, GreedyConfig(max_len=5))(params, INPUTS)
    expected = greedy_search(table_model, state, GreedyConfig(max_len=5), IDS)
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    np.testing.assert_allclose(found.log_probs, expected.log_probs, rtol=1e-6)

    config = BeamConfig(max_len=5, num_beams=3, num_best=2, length_penalty=0.6)
    found = make(table_model, config)(params, INPUTS)
    expected = beam_search(table_model, state, config, IDS)
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-6)


def test_nothing_is_moved_to_the_device_unsaid(table_model):
    searcher = make(table_model, SampleConfig(max_len=4))
    params, limits, prefix = nnx.state(table_model), np.array([4, 2, 0]), np.full((3, 4), -1)
    key = jax.random.key(0)
    wanted = searcher(params, INPUTS, RowOptions(max_lens=limits, prefix=prefix), rng_key=key)
    with jax.transfer_guard("disallow"):
        found = searcher(params, INPUTS, RowOptions(max_lens=limits, prefix=prefix), rng_key=key)
    assert_same(found, wanted)
    assert found.lengths[2] == 0


def test_compiles_once_for_each_shape(table_model):
    searcher = make(table_model, GreedyConfig(max_len=4))
    params = nnx.state(table_model)
    assert searcher.compile_count == 0
    seconds = searcher.compile([TokenInputs.abstract(3, 3), TokenInputs.abstract(3, 7)])
    assert seconds > 0
    assert searcher.compile_seconds == seconds
    assert searcher.compile_count == 2
    # New parameters, dtypes, lengths and limits of the same shapes recompile nothing.
    searcher(params, INPUTS)
    searcher(
        jax.tree.map(lambda leaf: leaf + 1, params),
        TokenInputs(TOKENS.astype(np.int64), LENGTHS),
        RowOptions(max_lens=np.array([1, 2, 3])),
    )
    searcher(params, TokenInputs(np.zeros((3, 7), np.int32), LENGTHS))
    assert searcher.compile([TokenInputs.abstract(3, 3), TokenInputs.abstract(3, 7)]) == 0.0
    assert searcher.compile_count == 2
    searcher(params, TokenInputs(TOKENS[:2], LENGTHS[:2]))
    assert searcher.compile_count == 3


def test_parameters_are_those_of_the_call(table_model):
    searcher = make(table_model, GreedyConfig(max_len=4))
    other = TableModel.random(seed=99)
    found = searcher(nnx.state(other), INPUTS)
    assert_same(found, make(other, GreedyConfig(max_len=4))(nnx.state(other), INPUTS))
    assert not np.array_equal(found.tokens, searcher(nnx.state(table_model), INPUTS).tokens)


def test_sampling_takes_a_key(table_model):
    params = nnx.state(table_model)
    searcher = make(table_model, SampleConfig(max_len=4, top_k=4, top_p=0.9))
    first, again = (searcher(params, INPUTS, rng_key=jax.random.key(1)) for _ in range(2))
    assert_same(first, again)
    searcher(params, INPUTS, rng_key=jax.random.key(2))
    assert searcher.compile_count == 1
    with pytest.raises(ConfigError, match="sample search needs rng_key"):
        searcher(params, INPUTS)
    with pytest.raises(ConfigError, match="greedy search takes no rng_key"):
        make(table_model, GreedyConfig(max_len=4))(params, INPUTS, rng_key=jax.random.key(1))


def test_limit_zero_skips_rows(table_model):
    searcher = make(table_model, BeamConfig(max_len=4, num_beams=2))
    output = searcher(nnx.state(table_model), INPUTS, RowOptions(max_lens=np.array([4, 4, 0])))
    assert output.tokens[2].tolist() == [[PAD] * 4]
    assert output.lengths[2].tolist() == [0]


def test_bad_shapes_are_refused(table_model):
    searcher = make(table_model, GreedyConfig(max_len=4))
    params = nnx.state(table_model)
    with pytest.raises(ShapeError, match=r"tokens of TokenInputs must be \[batch, len\]; got \(3,\)"):
        searcher(params, TokenInputs(TOKENS[0], LENGTHS))
    with pytest.raises(ShapeError, match="every leaf of inputs must have the batch as axis 0"):
        searcher(params, TokenInputs(TOKENS, LENGTHS[:2]))
    with pytest.raises(ShapeError, match="inputs has no arrays"):
        searcher(params, {})
    with pytest.raises(ShapeError, match="max_lens must be"):
        searcher(params, INPUTS, RowOptions(max_lens=np.array([1, 2])))


@pytest.mark.parametrize(
    "make_config",
    [
        lambda: GreedyConfig(max_len=0),
        lambda: SampleConfig(max_len=3, top_p=0.0),
        lambda: BeamConfig(max_len=3, num_beams=2, num_best=4),
        lambda: BeamConfig(max_len=3, num_beams=2, length_penalty=-0.1),
    ],
)
def test_bad_configs_are_refused(make_config):
    with pytest.raises(ConfigError, match="got"):
        make_config()


def test_untouched_leaves_are_not_gathered():
    """The projected memory of a source is the same for all its beams: no gather of it in the loop."""

    def reorder(memory, carry, rows):
        new_memory, new_carry = reorder_state((memory, carry + 1.0), (memory, carry), rows)
        return new_memory, new_carry

    jaxpr = jax.make_jaxpr(reorder)(jnp.zeros((4, 9)), jnp.zeros((4, 2)), jnp.array([1, 1, 2, 3]))
    assert jaxpr.jaxpr.outvars[0] is jaxpr.jaxpr.invars[0]
    assert jaxpr.jaxpr.outvars[1] is not jaxpr.jaxpr.invars[1]


def test_a_search_is_held_against_the_memory_by_what_its_hypotheses_carry(monkeypatch):
    config = models.EncoderDecoderConfig(
        model_dim=8,
        num_heads=2,
        num_kv_heads=2,
        feed_forward_dim=8,
        num_encoder_layers=1,
        num_decoder_layers=1,
    )
    model = model_shapes(config, Sizes.of_pairs(5))
    num_beams, max_len, source_len = 100, 6_000, 100_000
    bytes_of_a_token = 4 * 2 * 8  # keys and values
    sources = bytes_of_a_token * source_len  # which the hypotheses share
    hypotheses = num_beams * max_len * (bytes_of_a_token + 4)  # the tokens, and whose they are
    search = make(model, BeamConfig(max_len=max_len, num_beams=num_beams))
    monkeypatch.setattr(searcher_module, "machine_memory", lambda: round(1.01 * (sources + hypotheses)))
    search._check_memory(TokenInputs.abstract(1, source_len))
    monkeypatch.setattr(searcher_module, "machine_memory", lambda: round(0.99 * (sources + hypotheses)))
    with pytest.raises(ConfigError, match=r"100 hypotheses .* lower num_beams or max_len"):
        search._check_memory(TokenInputs.abstract(1, source_len))


def test_the_memory_is_that_of_all_devices(monkeypatch):
    devices = [SimpleNamespace(memory_stats=lambda: {"bytes_limit": 10**15})] * 2
    devices.append(SimpleNamespace(memory_stats=lambda: None))
    monkeypatch.setattr(jax, "local_devices", lambda: devices)
    assert machine_memory() == 2 * 10**15


class ImageTable(nnx.Module):
    """A table whose row is the sum of an image, or that and a number beside it."""

    def __init__(self, table):
        self.table = table

    def start(self, inputs, *, max_len):
        image = inputs["image"] if isinstance(inputs, dict) else inputs
        sums = image.sum(axis=(1, 2)).astype(jnp.int32)
        if isinstance(inputs, dict):
            sums = sums + inputs["more"]
        return self.table.start(TokenInputs(sums[:, None], sums), max_len=max_len)

    def step(self, state, tokens):
        return self.table.step(state, tokens)


@pytest.mark.parametrize("config", [GreedyConfig(max_len=5), BeamConfig(max_len=5, num_beams=3)])
def test_inputs_may_be_any_pytree(table_model, config):
    model = ImageTable(table_model)
    searcher = make(model, config)
    images = np.zeros((3, 2, 4), np.float32)
    images[1, 0, 0], images[2] = 1.0, 0.25
    wanted = make(table_model, config)(nnx.state(table_model), INPUTS)
    assert_same(searcher(nnx.state(model), images), wanted)
    images[2, 0] = 0.0  # one less
    assert_same(searcher(nnx.state(model), {"image": images, "more": np.array([0, 0, 1])}), wanted)
    assert searcher.compile_count == 2
    abstract = {
        "image": jax.ShapeDtypeStruct((3, 2, 4), jnp.float32),
        "more": jax.ShapeDtypeStruct((3,), jnp.int32),
    }
    searcher.check(abstract)
    assert searcher.compile([abstract, jax.ShapeDtypeStruct((3, 2, 4), jnp.float32)]) == 0.0
    with pytest.raises(ShapeError, match="every leaf of inputs"):
        searcher(nnx.state(model), {"image": images, "more": np.array([0, 0])})


def test_a_coverage_penalty_needs_lengths(table_model):
    rows = jax.ShapeDtypeStruct((3,), jnp.int32)
    searcher = make(ImageTable(table_model), BeamConfig(max_len=5, num_beams=3, coverage_penalty=0.1))
    with pytest.raises(ConfigError, match=r"coverage_penalty needs TokenInputs.*got dict: set it to 0"):
        searcher.check({"image": jax.ShapeDtypeStruct((3, 2, 4), jnp.float32), "more": rows})
