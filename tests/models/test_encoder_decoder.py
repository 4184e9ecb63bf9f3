"""The Transformer: the paper's sizes, sharing, prefill, refusals. Its contract is in tests/contracts."""

import dataclasses
import functools
from inspect import unwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax import decode, models
from transformer_jax.decode import reorder_state, repeat_state
from transformer_jax.decode.protocol import TokenInputs
from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.nn import AlibiPositions, Learned, RelativePositions, Rotary, parameter_count
from transformer_jax.testing.step_model_suite import make_batch

CONFIG = models.EncoderDecoderConfig(
    model_dim=8,
    num_heads=2,
    num_kv_heads=2,
    feed_forward_dim=12,
    num_encoder_layers=1,
    num_decoder_layers=1,
)


def config(**changes):
    return dataclasses.replace(CONFIG, **changes)


def build(config, source_vocab_size=11, target_vocab_size=9):
    return models.build_model(config, models.Sizes.of_pairs(source_vocab_size, target_vocab_size), seed=0)


@functools.partial(jax.jit, static_argnums=(0, 1), static_argnames="max_len")
def _run_compiled(graphdef, method, params, *arguments, **options):
    return getattr(nnx.merge(graphdef, params), method)(*arguments, **options)


def run(model, method, *arguments, **options):
    """A method as one program: op by op it would be dozens."""
    graphdef, params = nnx.split(model)
    return _run_compiled(graphdef, method, params, *arguments, **options)


def papers_count(vocab_size, model_dim, feed_forward_dim, num_layers):
    """From the paper's equations: W^Q, W^K, W^V, W^O without biases, the FFN with, LayerNorm g and b."""
    attention = 4 * model_dim**2
    feed_forward = 2 * model_dim * feed_forward_dim + feed_forward_dim + model_dim
    norm = 2 * model_dim
    encoder_layer = attention + feed_forward + 2 * norm
    decoder_layer = 2 * attention + feed_forward + 3 * norm
    return vocab_size * model_dim + num_layers * (encoder_layer + decoder_layer)


@pytest.mark.parametrize(
    ("preset", "sizes", "count"),
    [
        (models.transformer_base, (37_000, 512, 2048, 6), 63_045_632),
        (models.transformer_big, (37_000, 1024, 4096, 6), 214_171_648),
    ],
)
def test_presets_have_the_papers_parameter_count(preset, sizes, count):
    shapes = nnx.eval_shape(lambda: build(preset(), sizes[0], sizes[0]))
    assert papers_count(*sizes) == count
    assert parameter_count(shapes) == count


def test_presets_are_the_papers():
    base, big = models.transformer_base(), models.transformer_big()
    assert (base.num_heads, big.num_heads) == (8, 16)
    assert (base.dropout_rate, big.dropout_rate) == (0.1, 0.3)
    for preset in (base, big):
        assert preset.norm_placement == "post"
        assert preset.activation == "relu"
        assert preset.positions.kind == "sinusoidal"
        assert preset.attention_dropout_rate == preset.activation_dropout_rate == 0.0


@pytest.mark.parametrize(("share", "num_tables"), [("none", 3), ("target", 2), ("all", 1)])
def test_sharing_decides_the_number_of_tables(share, num_tables):
    model = build(config(share_embeddings=share), 9, 9)
    layers = parameter_count(model.encoder) + parameter_count(model.decoder)
    assert parameter_count(model) == layers + num_tables * 9 * 8
    assert model(jnp.ones((2, 3), jnp.int32), jnp.array([3, 2]), jnp.ones((2, 2), jnp.int32)).shape == (
        2,
        2,
        9,
    )


def test_output_of_tied_embeddings_is_the_target_table():
    model = build(config(share_embeddings="target"))
    table, bias = model.output_projection()
    np.testing.assert_array_equal(table, model.target_embedding.embedding[...])
    assert bias is None


def test_embeddings_are_scaled_by_the_root_of_the_width():
    model = build(CONFIG)
    token = jnp.array([[5]])
    np.testing.assert_allclose(
        model.target_embedding(token)[0, 0], np.sqrt(8) * model.target_embedding.embedding[...][5], rtol=1e-6
    )


@pytest.mark.parametrize("positions", [CONFIG.positions, Rotary()])
def test_prefill_and_steps_equal_the_whole_call(positions):
    model = build(config(positions=positions, num_kv_heads=1))
    batch = make_batch()
    wanted = run(model, "__call__", *batch)
    state = run(model, "start", TokenInputs(batch.source_tokens, batch.source_lengths), max_len=5)
    first, state = run(model, "extend", state, batch.target_inputs[:, :3])
    fourth, state = run(model, "step", state, batch.target_inputs[:, 3])
    last, _ = run(model, "extend", state, batch.target_inputs[:, 4:])
    got = jnp.concatenate([first, fourth[:, None], last], axis=1)
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_steps_in_half_precision_equal_the_whole_call():
    graphdef, params = nnx.split(build(config(num_kv_heads=1)))
    params, batch = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params), make_batch()
    num_steps = batch.target_inputs.shape[1]

    @jax.jit
    def both(params):
        model = nnx.merge(graphdef, params)
        state = model.start(TokenInputs(batch.source_tokens, batch.source_lengths), max_len=num_steps)

        def step(carry, _):
            state, tokens = carry
            logits, state = model.step(state, tokens)
            return (state, logits.argmax(axis=-1).astype(tokens.dtype)), (tokens, logits)

        _, (tokens, logits) = jax.lax.scan(step, (state, batch.target_inputs[:, 0]), None, num_steps)
        whole = model(batch.source_tokens, batch.source_lengths, tokens.swapaxes(0, 1))
        return logits.swapaxes(0, 1), whole, tokens

    logits, whole, tokens = both(params)
    assert logits.dtype == whole.dtype == jnp.float32
    np.testing.assert_allclose(logits, whole, atol=2e-2 * np.abs(whole).max())
    assert len(np.unique(tokens)) > 2


def test_ragged_prefill_continues_each_row_where_it_ended():
    model = build(CONFIG)
    batch = make_batch()
    wanted = run(model, "__call__", *batch)
    lengths = jnp.array([1, 2, 3, 2], jnp.int32)
    state = run(model, "start", TokenInputs(batch.source_tokens, batch.source_lengths), max_len=5)
    _, state = run(model, "extend", state, batch.target_inputs[:, :3], num_valid=lengths)
    rows = jnp.arange(4)
    logits, _ = run(model, "step", state, batch.target_inputs[rows, lengths])
    np.testing.assert_allclose(logits, wanted[rows, lengths], atol=1e-5)


@pytest.mark.parametrize(
    ("positions", "prefill"),
    [
        pytest.param(
            positions,
            prefill,
            id=f"{positions.kind}-{prefill}",
            marks=() if prefill == (0, 2)[number % 2] else pytest.mark.full,
        )
        for number, positions in enumerate(
            [
                CONFIG.positions,
                Rotary(),
                AlibiPositions(),
                RelativePositions(num_buckets=4, max_distance=8),
            ]
        )
        for prefill in (0, 2)
    ],
)
def test_hypotheses_that_change_places_score_as_their_own_tokens(positions, prefill, random_generator):
    num_beams, num_steps = 3, 4
    model = build(config(positions=positions, num_kv_heads=1, num_decoder_layers=2))
    batch = make_batch()
    num_sources = batch.source_tokens.shape[0]
    max_len = prefill + num_steps
    state = run(model, "start", TokenInputs(batch.source_tokens, batch.source_lengths), max_len=max_len)
    begin = np.asarray(batch.target_inputs[:, :prefill])
    if prefill:
        valid = jnp.asarray([1, 2, 2, 1], jnp.int32)
        _, state = run(model, "extend", state, batch.target_inputs[:, :prefill], num_valid=valid)
    said = [list(begin[row][: [1, 2, 2, 1][row]] if prefill else []) for row in range(num_sources)]
    said = [list(tokens) for tokens in said for _ in range(num_beams)]
    state = repeat_state(state, num_beams)
    sources = [np.repeat(part, num_beams, axis=0) for part in batch[:2]]
    for _ in range(num_steps):
        tokens = random_generator.integers(1, 9, num_sources * num_beams)
        logits, after = run(model, "step", state, jnp.asarray(tokens, jnp.int32))
        for tokens_so_far, token in zip(said, tokens, strict=True):
            tokens_so_far.append(token)
        targets = np.array(
            [[*tokens_so_far, *[0] * (max_len - len(tokens_so_far))] for tokens_so_far in said]
        )
        whole = np.asarray(run(model, "__call__", *sources, jnp.asarray(targets, jnp.int32)))
        wanted = [row[len(tokens_so_far) - 1] for row, tokens_so_far in zip(whole, said, strict=True)]
        np.testing.assert_allclose(logits, wanted, atol=2e-5)
        parents = random_generator.integers(0, num_beams, (num_sources, num_beams))
        rows = (num_beams * np.arange(num_sources)[:, None] + parents).reshape(-1)
        state = reorder_state(after, state, jnp.asarray(rows))
        said = [list(said[row]) for row in rows]


def test_memories_are_projected_in_start_and_only_carried_by_steps():
    model = build(CONFIG)
    batch = make_batch()
    state = model.start(TokenInputs(batch.source_tokens, batch.source_lengths), max_len=5)
    _, after = model.step(state, batch.target_inputs[:, 0])
    assert after.memories is state.memories


def test_encoder_output_is_the_memory_of_every_decoder_layer():
    model = build(config(num_decoder_layers=2))
    batch = make_batch()
    memory = model.encode(batch.source_tokens, batch.source_lengths)
    state = model.start(TokenInputs(batch.source_tokens, batch.source_lengths), max_len=2)
    for layer, carried in zip(model.decoder.layers, state.memories, strict=True):
        np.testing.assert_allclose(carried.stored_keys, layer.project_memory(memory).stored_keys, atol=1e-6)


def test_attention_maps_name_every_layer():
    model = build(config(num_decoder_layers=2))
    assert list(model.attention_maps(*make_batch())) == ["decoder_layer_0", "decoder_layer_1"]


def test_scheduled_sampling_is_refused():
    with pytest.raises(NotImplementedError, match="scheduled_sampling_rate"):
        build(CONFIG)(*make_batch(), scheduled_sampling_rate=jnp.float32(0.5))


def test_more_steps_than_learned_positions_are_refused():
    model = build(config(positions=Learned(max_len=8)))
    batch = make_batch()
    with pytest.raises(ShapeError, match="length 9 exceeds the 8 learned positions"):
        model.start(TokenInputs(batch.source_tokens, batch.source_lengths), max_len=9)


def test_same_seed_same_model_other_seed_other_model():
    first, again = build(CONFIG), build(CONFIG)
    other = models.build_model(CONFIG, models.Sizes.of_pairs(11, 9), seed=1)
    same = jax.tree.map(lambda a, b: bool((a == b).all()), nnx.state(first), nnx.state(again))
    assert all(jax.tree.leaves(same))
    assert bool(
        (
            first.decoder.layers[0].feed_forward.inner.kernel[...]
            != other.decoder.layers[0].feed_forward.inner.kernel[...]
        ).any()
    )


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model_dim": 10, "num_heads": 4}, ShapeError, "model_dim 10 must be divisible by num_heads 4"),
        ({"num_kv_heads": 3}, ShapeError, "num_heads 2 must be divisible by num_kv_heads 3"),
        ({"num_encoder_layers": 0}, ConfigError, "num_encoder_layers must be at least 1, got 0"),
        ({"dropout_rate": 1.0}, ConfigError, "dropout_rate"),
        ({"norm_epsilon": -1.0}, ConfigError, r"norm_epsilon must be above 0, got -1\.0"),
        ({"norm_epsilon": float("inf")}, ConfigError, "norm_epsilon must be above 0, got inf"),
        ({"padding_id": -1}, ConfigError, "padding_id must be at least 0, got -1"),
        (
            {"positions": RelativePositions(num_buckets=7, max_distance=16)},
            ConfigError,
            "num_buckets must be an even number of at least 4, got 7",
        ),
        (
            {"positions": RelativePositions(num_buckets=32, max_distance=16)},
            ConfigError,
            "max_distance must exceed the 16 exact buckets, got 16",
        ),
        ({"activation": "rellu"}, ConfigError, "activation must be one of .* did you mean 'relu'"),
        ({"share_embeddings": "both"}, ConfigError, "share_embeddings must be one of"),
    ],
)
def test_bad_configs_are_refused_when_made(changes, error, message):
    values = {field.name: getattr(CONFIG, field.name) for field in dataclasses.fields(CONFIG)} | changes
    bad = object.__new__(models.EncoderDecoderConfig)
    for name, value in values.items():
        object.__setattr__(bad, name, value)
    with pytest.raises(error, match=message):
        bad.__post_init__()


def test_one_table_needs_one_vocabulary():
    with pytest.raises(ConfigError, match="source_vocab_size 11 and target_vocab_size 9"):
        build(config(share_embeddings="all"))


def test_padding_must_be_in_every_vocabulary():
    build(config(padding_id=8))
    with pytest.raises(ConfigError, match=r"padding_id must be in \[0, vocab_size\) = \[0, 9\), got 9"):
        build(config(padding_id=9))


def test_an_unknown_config_is_refused():
    with pytest.raises(ConfigError, match=r"must be one of .*'EncoderDecoderConfig'"):
        unwrap(models.build_model)("base", models.Sizes.of_pairs(3), seed=0)


PAIRS = [([4, 5, 6], [2, 7, 4]), ([8, 5], [2, 6]), ([], [2, 5, 5]), ([9, 4, 4, 7], [2, 8])]


def packed(rows, source_len, target_len):
    """Rows of several of `PAIRS` as (source tokens, lengths, target inputs, source segments, target segments)."""
    arrays = [np.zeros((len(rows), length), np.int32) for length in (source_len, target_len) * 2]
    for row, members in enumerate(rows):
        starts = [0, 0]
        for segment, member in enumerate(members, 1):
            for side in (0, 1):
                tokens = PAIRS[member][side]
                place = slice(starts[side], starts[side] + len(tokens))
                arrays[side][row, place], arrays[side + 2][row, place] = tokens, segment
                starts[side] += len(tokens)
    sources, targets, source_segments, target_segments = map(jnp.asarray, arrays)
    return sources, (source_segments > 0).sum(axis=1), targets, source_segments, target_segments


@pytest.mark.parametrize(
    ("positions", "share"),
    [
        pytest.param(positions, share, marks=() if share == ("none", "all")[number % 2] else pytest.mark.full)
        for number, positions in enumerate(
            [None, Rotary(), AlibiPositions(), RelativePositions(), Learned(max_len=12)]
        )
        for share in ("none", "all")
    ],
)
def test_pairs_of_a_packed_row_do_not_see_each_other(positions, share):
    changes = {} if positions is None else {"positions": positions}
    model = build(config(share_embeddings=share, **changes), 11, 11)
    sources, lengths, targets, source_segments, target_segments = packed([[0, 1, 3], [2]], 11, 9)
    segments = {"source_segments": source_segments, "target_segments": target_segments}
    logits = np.asarray(run(model, "__call__", sources, lengths, targets, **segments))
    in_rows_of_their_own = packed([[member] for member in range(len(PAIRS))], 5, 3)[:3]
    all_alone = np.asarray(run(model, "__call__", *in_rows_of_their_own))
    for member, row, start in ((0, 0, 0), (1, 0, 3), (3, 0, 5), (2, 1, 0)):
        length = len(PAIRS[member][1])
        alone = all_alone[member, :length]
        np.testing.assert_allclose(
            logits[row, start : start + length], alone, atol=1e-5 * np.abs(alone).max()
        )


def test_what_stands_behind_the_last_pair_changes_nothing():
    model = build(config())
    sources, lengths, targets, source_segments, target_segments = packed([[0, 1, 3], [2]], 11, 9)
    counted = target_segments > 0
    graphdef, params = nnx.split(model)

    @jax.jit
    def loss_and_gradient(sources, targets):
        def loss(params):
            logits = nnx.merge(graphdef, params)(
                sources, lengths, targets, source_segments=source_segments, target_segments=target_segments
            )
            return jnp.where(counted[..., None], logits, 0.0).sum()

        return jax.value_and_grad(loss)(params)

    wanted = loss_and_gradient(sources, targets)
    got = loss_and_gradient(jnp.where(source_segments > 0, sources, -1), jnp.where(counted, targets, -1))
    jax.tree.map(np.testing.assert_array_equal, got, wanted)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(got))


def test_packed_rows_are_refused_where_they_cannot_be_kept_apart():
    sources, lengths, targets, source_segments, target_segments = packed([[0, 1]], 6, 6)
    with pytest.raises(NotImplementedError, match="cannot keep the pairs of a packed row apart"):
        build(config(decoder_self_attention="linear"), 11, 11)(
            sources, lengths, targets, source_segments=source_segments, target_segments=target_segments
        )
    with pytest.raises(ConfigError, match="go together"):
        build(config(), 11, 11)(sources, lengths, targets, source_segments=source_segments)


IDS = decode.SearchIds(bos_id=2, eos_id=3)
SEARCHES = {
    "greedy": lambda model, state, max_len: decode.greedy_search(
        model, state, decode.GreedyConfig(max_len=max_len), IDS
    ),
    "sample": lambda model, state, max_len: decode.sample_search(
        model, state, decode.SampleConfig(max_len=max_len), IDS, rng_key=jax.random.key(0)
    ),
    "beam": lambda model, state, max_len: decode.beam_search(
        model, state, decode.BeamConfig(num_beams=2, max_len=max_len), IDS
    ),
}


@pytest.mark.parametrize("kind", SEARCHES)
def test_a_search_longer_than_the_state_is_refused(kind):
    model, batch = build(config()), make_batch()
    state = jax.eval_shape(
        lambda: model.start(TokenInputs(batch.source_tokens, batch.source_lengths), max_len=2)
    )
    with pytest.raises(ShapeError, match="room for 2 tokens, the search may feed max_len 6"):
        jax.eval_shape(lambda state: SEARCHES[kind](model, state, max_len=6), state)


@pytest.mark.parametrize("positions", [Learned(max_len=6), Rotary()])
def test_a_step_past_the_room_gives_nan(positions):
    model, batch = build(config(positions=positions)), make_batch()

    @jax.jit
    def run():
        state = model.start(TokenInputs(batch.source_tokens, batch.source_lengths), max_len=2)
        return jax.lax.scan(
            lambda state, _: model.step(state, batch.target_inputs[:, 0])[::-1], state, None, 4
        )[1]

    assert np.isnan(run()).all(axis=(1, 2)).tolist() == [False, False, True, True]


def test_ids_outside_of_the_vocabulary_show_but_not_from_padding():
    model, batch = build(config()), make_batch()
    slots = jnp.arange(batch.source_tokens.shape[1])[None]

    @jax.jit
    def logits_and_gradient(source_tokens, target_inputs):
        graphdef, params = nnx.split(model)

        def total(params):
            logits = nnx.merge(graphdef, params)(source_tokens, batch.source_lengths, target_inputs)
            return logits.sum(), logits

        gradient, logits = jax.grad(total, has_aux=True)(params)
        return logits, jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient)]).all()

    padded = jnp.where(slots < batch.source_lengths[:, None], batch.source_tokens, -1)
    logits, is_finite = logits_and_gradient(padded, batch.target_inputs)
    np.testing.assert_array_equal(logits, logits_and_gradient(batch.source_tokens, batch.target_inputs)[0])
    assert is_finite
    wrong, is_finite = logits_and_gradient(padded.at[1, 0].set(11), batch.target_inputs.at[2, 3].set(-1))
    assert np.isnan(wrong[1]).all()
    assert np.isnan(wrong[2, 3:]).all()
    np.testing.assert_array_equal(wrong[2, :3], logits[2, :3])
    np.testing.assert_array_equal(wrong[jnp.array([0, 3])], logits[jnp.array([0, 3])])
    assert not is_finite


@pytest.mark.parametrize("kind", SEARCHES)
@pytest.mark.parametrize(
    "changes", [{}, pytest.param({"positions": AlibiPositions(), "num_kv_heads": 1}, marks=pytest.mark.full)]
)
def test_searches_of_no_rows_give_no_rows(kind, changes):
    model = build(config(**changes))
    state = model.start(TokenInputs(jnp.zeros((0, 3), jnp.int32), jnp.zeros(0, jnp.int32)), max_len=4)
    output = SEARCHES[kind](model, state, max_len=4)
    assert output.tokens.shape[0] == output.found.shape[0] == 0


@pytest.mark.parametrize(
    ("self_attention", "dtype"),
    [
        ("softmax", jnp.float32),
        ("linear", jnp.float64),
        pytest.param("softmax", jnp.float64, marks=pytest.mark.full),
        pytest.param("linear", jnp.float32, marks=pytest.mark.full),
    ],
)
def test_searches_go_with_numbers_of_64_bits(self_attention, dtype):
    with jax.enable_x64(True):
        model, batch = build(config(decoder_self_attention=self_attention)), make_batch()
        assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(model))} == {jnp.dtype(jnp.float32)}
        graphdef, params = nnx.split(model)
        model = nnx.merge(graphdef, jax.tree.map(lambda leaf: leaf.astype(dtype), params))
        for kind, search in SEARCHES.items():

            def run(search=search):
                state = model.start(TokenInputs(batch.source_tokens, batch.source_lengths), max_len=4)
                return search(model, state, max_len=4)

            output = jax.eval_shape(run)
            assert output.tokens.dtype == jnp.int32, kind
            assert output.log_probs.dtype == jnp.float32, kind
