"""Recurrent encoder-decoders against NumPy loops written from the papers, and scheduled sampling.

What every step model must do (teacher forcing = steps, padding, gradients, ...) is tested by the contract.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.decode import beam_search
from transformer_jax.decode.protocol import TokenInputs
from transformer_jax.decode.search_config import BeamConfig
from transformer_jax.decode.search_options import RowOptions, SearchIds
from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.models.recurrent_seq2seq import (
    Bahdanau,
    LastState,
    Luong,
    RecurrentSeq2Seq,
    RecurrentSeq2SeqConfig,
)

CONFIG = RecurrentSeq2SeqConfig(
    embedding_dim=4,
    hidden_dim=6,
    cell="gru",
    num_encoder_layers=1,
    num_decoder_layers=1,
    bidirectional=False,
    attention=LastState(feed_each_step=False),
    dropout_rate=0.0,
    residual=False,
)
VARIANTS = {
    "sutskever": CONFIG,
    "cho": dataclasses.replace(CONFIG, attention=LastState(feed_each_step=True)),
    "bahdanau": dataclasses.replace(CONFIG, bidirectional=True, attention=Bahdanau(attention_dim=5)),
    "luong": dataclasses.replace(CONFIG, cell="lstm", attention=Luong(score="general", input_feeding=True)),
    "luong_no_feeding": dataclasses.replace(CONFIG, attention=Luong(score="dot", input_feeding=False)),
    "deep": dataclasses.replace(
        CONFIG,
        num_encoder_layers=2,
        num_decoder_layers=2,
        bidirectional=True,
        residual=True,
        attention=Bahdanau(attention_dim=5),
    ),
}
SOURCE = jnp.array([[4, 5, 6, 2], [6, 4, 0, 0], [0, 0, 0, 0]])
SOURCE_LENGTHS = jnp.array([4, 2, 0])
TARGET = jnp.array([[2, 4, 7, 5, 8], [2, 6, 6, 4, 4], [2, 5, 4, 7, 6]])


@functools.cache
def _model(name):
    return _build(VARIANTS[name])


def _build(config):
    return RecurrentSeq2Seq(config, source_vocab_size=7, target_vocab_size=9, rngs=nnx.Rngs(0))


def _arrays(module):
    """Every parameter by its path, in float64."""
    leaves = jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(nnx.state(module, nnx.Param)))
    return {
        ".".join(str(getattr(part, "key", part)) for part in path): np.asarray(leaf, np.float64)
        for path, leaf in leaves
    }


def _sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def _softmax(scores):
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def _encoded(model):
    embedded = model.source_embedding(SOURCE)
    encoded, carries = model.encoder(embedded, lengths=SOURCE_LENGTHS)
    start = carries if model.bridge is None else model.bridge(carries)
    return np.asarray(encoded, np.float64), jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), start[0])


def test_bahdanau_equals_its_equations():
    """Appendix A of the paper, row by row and source word by source word."""
    model = _model("bahdanau")
    parameters = _arrays(model)
    cell = "decoder.stack.layers.0.forward_cell."
    W, U = parameters[cell + "input_weight"], parameters[cell + "recurrent_weight"]
    b, b_inner = parameters[cell + "bias"], parameters[cell + "recurrent_bias"]
    W_a, U_a = parameters["decoder.attend.query_weight"], parameters["decoder.attend.key_weight"]
    v_a = parameters["decoder.attend.vector"]
    annotations, starts = _encoded(model)
    hidden_dim = 6
    logits, maps = np.zeros((3, 5, 9)), np.zeros((3, 1, 5, 4))
    for row, source_len in enumerate(SOURCE_LENGTHS.tolist()):
        s = starts[row]
        for i in range(5):
            y = np.sqrt(4) * parameters["target_embedding.embedding"][TARGET[row, i]]
            c = np.zeros(2 * hidden_dim)
            if source_len:
                e = np.array([v_a @ np.tanh(s @ W_a + annotations[row, j] @ U_a) for j in range(source_len)])
                alpha = _softmax(e)
                maps[row, 0, i, :source_len] = alpha
                c = sum(alpha[j] * annotations[row, j] for j in range(source_len))
            from_input = np.concatenate([y, c]) @ W + b
            from_state = s @ U
            r = _sigmoid(from_input[:6] + from_state[:6])
            z = _sigmoid(from_input[6:12] + from_state[6:12])
            candidate = np.tanh(from_input[12:] + r * (from_state[12:] + b_inner))
            s = (1 - z) * candidate + z * s
            t = np.concatenate([s, y, c]) @ parameters["decoder.readout.linear.kernel"]
            t = t + parameters["decoder.readout.linear.bias"]
            maxout = np.array([max(t[k], t[k + 3]) for k in range(3)])
            logits[row, i] = maxout @ parameters["output.kernel"] + parameters["output.bias"]
    np.testing.assert_allclose(model(SOURCE, SOURCE_LENGTHS, TARGET), logits, atol=1e-5)
    got_maps = model.attention_maps(SOURCE, SOURCE_LENGTHS, TARGET)
    np.testing.assert_allclose(got_maps["decoder"], maps, atol=1e-5)


def test_luong_equals_its_equations():
    """Sections 3.1 and 3.3 of the paper: general score, input feeding, an LSTM."""
    model = _model("luong")
    parameters = _arrays(model)
    cell = "decoder.stack.layers.0.forward_cell."
    W, U, b = (parameters[cell + name] for name in ("input_weight", "recurrent_weight", "bias"))
    W_a, W_c = parameters["decoder.attend.weight"], parameters["decoder.combine.linear.kernel"]
    states, (hidden_starts, memory_starts) = _encoded(model)
    logits, maps = np.zeros((3, 5, 9)), np.zeros((3, 1, 5, 4))
    for row, source_len in enumerate(SOURCE_LENGTHS.tolist()):
        h, memory, attentional = hidden_starts[row], memory_starts[row], np.zeros(6)
        for t in range(5):
            y = np.sqrt(4) * parameters["target_embedding.embedding"][TARGET[row, t]]
            gates = np.concatenate([y, attentional]) @ W + h @ U + b
            i, f, g, o = np.split(gates, 4)
            memory = _sigmoid(f) * memory + _sigmoid(i) * np.tanh(g)
            h = _sigmoid(o) * np.tanh(memory)
            c = np.zeros(6)
            if source_len:
                a = _softmax(np.array([h @ W_a @ states[row, s] for s in range(source_len)]))
                maps[row, 0, t, :source_len] = a
                c = sum(a[s] * states[row, s] for s in range(source_len))
            attentional = np.tanh(np.concatenate([h, c]) @ W_c)
            logits[row, t] = attentional @ parameters["output.kernel"] + parameters["output.bias"]
    np.testing.assert_allclose(model(SOURCE, SOURCE_LENGTHS, TARGET), logits, atol=1e-5)
    got_maps = model.attention_maps(SOURCE, SOURCE_LENGTHS, TARGET)
    np.testing.assert_allclose(got_maps["decoder"], maps, atol=1e-5)


def test_luong_without_feeding_asks_with_the_plain_recurrence():
    model = _model("luong_no_feeding")
    embedded = model.target_embedding(TARGET)
    states, start = _encoded(model)
    outputs = np.asarray(model.decoder.stack(embedded, initial_carry=(jnp.asarray(start, jnp.float32),))[0])
    W_c = _arrays(model)["decoder.combine.linear.kernel"]
    for t in range(5):
        weights = _softmax(states[0, :4] @ outputs[0, t])
        attentional = np.tanh(np.concatenate([outputs[0, t], weights @ states[0, :4]]) @ W_c)
        got = model.hidden(SOURCE, SOURCE_LENGTHS, TARGET)[0, t]
        np.testing.assert_allclose(got, attentional, atol=1e-5)


def test_last_state_is_the_context_of_each_step_or_only_the_start():
    """Cho: the source reaches each step beside the carry. Sutskever: through the carry alone."""
    for name, reaches_beside_the_carry in (("cho", True), ("sutskever", False)):
        model = _model(name)
        state = model.start(TokenInputs(SOURCE, SOURCE_LENGTHS), max_len=5)
        same_carry = dataclasses.replace(state, carries=jax.tree.map(jnp.zeros_like, state.carries))
        logits, _ = model.step(same_carry, TARGET[:, 0])
        differs = float(jnp.max(jnp.abs(logits[0] - logits[1]))) > 1e-4
        assert differs == reaches_beside_the_carry, name
        if reaches_beside_the_carry:
            np.testing.assert_array_equal(state.memory.context, state.carries[0])


@pytest.mark.parametrize("name", VARIANTS)
def test_scheduled_sampling_at_rate_0_is_teacher_forcing(name):
    model = _model(name)
    wanted = model(SOURCE, SOURCE_LENGTHS, TARGET)
    rate = jnp.float32(0.0)
    got = model(SOURCE, SOURCE_LENGTHS, TARGET, rng_key=jax.random.key(0), scheduled_sampling_rate=rate)
    np.testing.assert_allclose(got, wanted, atol=1e-5)


@pytest.mark.parametrize("name", VARIANTS)
def test_scheduled_sampling_at_rate_1_reads_its_own_choices(name):
    graphdef, params = nnx.split(_model(name))

    @jax.jit
    def sampled(params, target, rate):
        model = nnx.merge(graphdef, params)
        key = jax.random.key(0)
        return model(SOURCE, SOURCE_LENGTHS, target, rng_key=key, scheduled_sampling_rate=rate)

    other = TARGET.at[:, 1:].set(3)
    own = sampled(params, TARGET, jnp.float32(1.0))
    np.testing.assert_array_equal(own, sampled(params, other, jnp.float32(1.0)))
    # Feeding those choices by hand gives the same logits.
    choices = jnp.concatenate([TARGET[:, :1], jnp.argmax(own, axis=-1)[:, :-1]], axis=1)
    np.testing.assert_allclose(own, _model(name)(SOURCE, SOURCE_LENGTHS, choices), atol=1e-5)
    half = sampled(params, TARGET, jnp.float32(0.5))
    assert float(jnp.max(jnp.abs(half - sampled(params, other, jnp.float32(0.5))))) > 1e-4


def test_scheduled_sampling_decides_token_by_token():
    """At rate 1/2 about half of the tokens are the model's own, not whole rows or steps."""
    model = _model("sutskever")
    source, lengths = jnp.repeat(SOURCE[:1], 64, axis=0), jnp.full((64,), 4)
    target = jnp.repeat(TARGET[:1], 64, axis=0)
    key = jax.random.key(3)
    logits = model(source, lengths, target, rng_key=key, scheduled_sampling_rate=jnp.float32(0.5))
    # All rows are equal but for what was read; two choices at each of four steps give up to 16 histories.
    histories = {row.tobytes() for row in np.asarray(jnp.round(logits[:, -1], 4))}
    assert 8 <= len(histories) <= 16


def test_scheduled_sampling_needs_a_key():
    with pytest.raises(ConfigError, match="scheduled_sampling_rate needs rng_key"):
        _model("cho")(SOURCE, SOURCE_LENGTHS, TARGET, scheduled_sampling_rate=jnp.float32(0.5))


def test_teacher_forcing_does_not_pay_for_sampling():
    """Without scheduled sampling the program holds no arg max."""
    graphdef, params = nnx.split(_model("luong"))

    def program(**keywords):
        def logits(params):
            return nnx.merge(graphdef, params)(SOURCE, SOURCE_LENGTHS, TARGET, **keywords)

        return str(jax.make_jaxpr(logits)(params))

    sampling = program(rng_key=jax.random.key(0), scheduled_sampling_rate=0.5)
    assert "argmax" in sampling
    assert "argmax" not in program()
    assert "argmax" not in program(rng_key=jax.random.key(0))


def test_scheduled_sampling_has_gradients_under_dropout():
    model = _build(dataclasses.replace(VARIANTS["deep"], dropout_rate=0.2))
    graphdef, params = nnx.split(model)

    def loss(params):
        model, key = nnx.merge(graphdef, params), jax.random.key(0)
        hidden = model.hidden(SOURCE, SOURCE_LENGTHS, TARGET, rng_key=key, scheduled_sampling_rate=0.5)
        return jnp.sum(jnp.sin(hidden))

    gradients = jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(params))
    for path, gradient in gradients:
        name = jax.tree_util.keystr(path)
        assert bool(jnp.all(jnp.isfinite(gradient))), name
        if "output" not in name:  # hidden() ends before the output projection
            assert float(jnp.max(jnp.abs(gradient))) > 0.0, name


def test_location_refuses_a_source_that_is_too_long():
    attention = Luong(score="location", input_feeding=False, max_len=3)
    model = _build(dataclasses.replace(CONFIG, attention=attention))
    with pytest.raises(ShapeError, match="has 4 positions; location attention scores 3"):
        model(SOURCE, SOURCE_LENGTHS, TARGET)


def test_config_errors_say_what_to_change():
    with pytest.raises(ConfigError, match="hidden_dim must be at least 1; got 0"):
        dataclasses.replace(CONFIG, hidden_dim=0)
    with pytest.raises(ConfigError, match="max_len must be at least 1 for score 'location'; got None"):
        Luong(score="location", input_feeding=True)
    with pytest.raises(ConfigError, match="max_len is for score 'location' only"):
        Luong(score="dot", input_feeding=True, max_len=9)
    with pytest.raises(ConfigError, match="a bidirectional encoder gives 12 and the decoder 6"):
        dataclasses.replace(CONFIG, bidirectional=True, attention=Luong(score="dot", input_feeding=True))
    with pytest.raises(ConfigError, match="hidden_dim must be even"):
        dataclasses.replace(VARIANTS["cho"], hidden_dim=5)
    with pytest.raises(ConfigError, match="attention_dim must be at least 1"):
        dataclasses.replace(CONFIG, attention=Bahdanau(attention_dim=0))
    with pytest.raises(ConfigError, match="dropout_rate"):
        dataclasses.replace(CONFIG, dropout_rate=1.5)


@pytest.mark.parametrize(
    ("config", "field", "wrong", "nearest"),
    [(CONFIG, "cell", "gruu", "gru"), (VARIANTS["luong"].attention, "score", "generl", "general")],
)
def test_unknown_choices_are_refused_with_the_nearest(config, field, wrong, nearest):
    unchecked = object.__new__(type(config))  # the tests' type checks would stop the constructor first
    for name, value in {**vars(config), field: wrong}.items():
        object.__setattr__(unchecked, name, value)
    with pytest.raises(ConfigError, match=f"got '{wrong}'; did you mean '{nearest}'"):
        unchecked.__post_init__()


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_bahdanau_steps_with_any_cell(cell):
    model = _build(dataclasses.replace(VARIANTS["bahdanau"], cell=cell, num_encoder_layers=2))
    wanted = model(SOURCE, SOURCE_LENGTHS, TARGET)
    state = model.start(TokenInputs(SOURCE, SOURCE_LENGTHS), max_len=5)
    for index in range(5):
        logits, state = model.step(state, TARGET[:, index])
        np.testing.assert_allclose(logits, wanted[:, index], atol=1e-5)


@pytest.mark.parametrize("name", ["cho", "bahdanau", "luong"])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_decodes_to_nearly_the_same_logits(name, dtype):
    graphdef, params = nnx.split(_model(name))

    @functools.partial(jax.jit, static_argnums=1)
    def steps(params, dtype):
        model = nnx.merge(graphdef, jax.tree.map(lambda leaf: leaf.astype(dtype), params))
        state = model.start(TokenInputs(SOURCE, SOURCE_LENGTHS), max_len=5)
        whole = model(SOURCE, SOURCE_LENGTHS, TARGET)
        return whole, jax.lax.scan(lambda state, tokens: model.step(state, tokens)[::-1], state, TARGET.T)[1]

    exact, _ = steps(params, jnp.float32)
    whole, one_by_one = steps(params, dtype)
    for found in (whole, one_by_one.swapaxes(0, 1)):
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, exact, atol=2e-2 * float(jnp.abs(exact).max()))


def test_ids_outside_of_the_vocabulary_show_but_not_from_padding():
    model = _model("bahdanau")
    padded = jnp.where(jnp.arange(4)[None] < SOURCE_LENGTHS[:, None], SOURCE, -1)
    run = jax.jit(lambda source, target: model(source, SOURCE_LENGTHS, target))
    wanted = run(SOURCE, TARGET)
    np.testing.assert_array_equal(run(padded, TARGET), wanted)
    wrong = run(padded.at[0, 0].set(99), TARGET.at[1, 2].set(99))
    assert np.isnan(wrong[0]).all()
    np.testing.assert_array_equal(wrong[1, :2], wanted[1, :2])
    assert np.isnan(wrong[1, 2:]).all()
    np.testing.assert_array_equal(wrong[2], wanted[2])


@pytest.mark.parametrize("name", ["bahdanau", "luong"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_beams_with_coverage_go_with_numbers_of_64_bits(name, dtype):
    with jax.enable_x64(True):
        graphdef, params = nnx.split(_build(VARIANTS[name]))
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.float32)}

        def run(params):
            model = nnx.merge(graphdef, jax.tree.map(lambda leaf: leaf.astype(dtype), params))
            state = model.start(TokenInputs(SOURCE, SOURCE_LENGTHS), max_len=3)
            config = BeamConfig(max_len=3, num_beams=2, coverage_penalty=0.2)
            rows = RowOptions(source_lengths=SOURCE_LENGTHS)
            return beam_search(model, state, config, SearchIds(bos_id=2, eos_id=3), rows).scores

        assert jax.eval_shape(run, params).dtype == jnp.float32
