"""Rolling caches: which token lies where, ragged writes, and the same numbers as the cache of the whole text."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax import nn
from transformer_jax.decode.protocol import TokenInputs, check_room, reorder_state, repeat_state
from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.models import DecoderOnlyConfig, Sizes, build_model
from transformer_jax.nn.cache import KeyValueCache
from transformer_jax.nn.rolling_cache import RollingBeamCache, RollingCache, SlotRing

VOCAB = 11
CONFIG = DecoderOnlyConfig(
    model_dim=8,
    num_heads=4,
    num_kv_heads=2,
    feed_forward_dim=8,
    num_layers=2,
    positions=nn.Rotary(),
    window_len=3,
    num_sinks=2,
    weight_deviation=0.4,
)
POSITIONS = {
    "rotary": nn.Rotary(),
    "alibi": nn.AlibiPositions(),
    "learned": nn.Learned(max_len=24),
    "sinusoidal": nn.Sinusoidal(),
    "none": nn.NoPositions(),
    "relative": nn.RelativePositions(num_buckets=8, max_distance=16),
}


def build(**changes: Any) -> Any:
    return build_model(dataclasses.replace(CONFIG, **changes), Sizes(vocab_size=VOCAB), seed=0)


def texts(length: int, rows: int = 2) -> jax.Array:
    return jax.random.randint(jax.random.key(3), (rows, length), 0, VOCAB)


@pytest.mark.parametrize("num_sinks", [0, 2])
@pytest.mark.parametrize("length", range(9))
def test_slots_hold_the_sinks_and_the_last_tokens(num_sinks: int, length: int) -> None:
    ring = SlotRing(window_len=3, num_sinks=num_sinks)
    wanted = [None] * ring.num_slots
    for position in range(length):  # one after the other, as a loop would
        wanted[int(ring.slot_of(jnp.array(position)))] = position
    found = ring.positions(jnp.array([length]))[0].tolist()
    assert [position if position < 100 else None for position in found] == wanted
    seen = {*range(min(num_sinks, length)), *range(max(0, length - 3), length)}
    assert seen <= {position for position in wanted if position is not None}


def numbered(start: int, count: int) -> jax.Array:
    numbers = jnp.arange(start, start + count, dtype=jnp.float32)[None, :] + jnp.array([[100.0], [200.0]])
    return jnp.broadcast_to(numbers[:, :, None, None], (2, count, 1, 2))


def test_several_tokens_are_written_as_one_after_the_other() -> None:
    ring = SlotRing(window_len=3, num_sinks=1)
    one = many = RollingCache.empty(2, ring, 1, 2)
    for start, count in ((0, 2), (2, 7), (9, 1), (10, 3)):
        many = many.append(numbered(start, count), -numbered(start, count))
        for position in range(start, start + count):
            one = one.append(numbered(position, 1), -numbered(position, 1))
        jax.tree.map(np.testing.assert_array_equal, one, many)


def test_what_does_not_count_is_not_written() -> None:
    cache = RollingCache.empty(2, SlotRing(window_len=2, num_sinks=1), 1, 2)
    new = numbered(0, 4).at[0, 2:].set(jnp.nan)
    cache = cache.append(new, new, num_valid=jnp.array([2, 4]))
    assert cache.length.tolist() == [2, 4]
    assert cache.values[..., 0, 0].tolist() == [[100, 101, 0], [200, 203, 202]]
    none = cache.append(new[:, :1], new[:, :1], num_valid=jnp.array([0, 0]))
    jax.tree.map(np.testing.assert_array_equal, cache, none)


@pytest.mark.parametrize("num_sinks", [0, 2])
@pytest.mark.parametrize(
    "name",
    ["rotary", "relative", *(pytest.param(n, marks=pytest.mark.full) for n in POSITIONS if n[0] in "alsn")],
)
def test_decoding_equals_the_whole_pass(name: str, num_sinks: int) -> None:
    model = build(positions=POSITIONS[name], num_sinks=num_sinks)
    tokens = texts(14)
    lengths = jnp.array([8, 2])  # longer than the window, and shorter
    whole = jax.jit(lambda tokens: model(tokens))(tokens)

    @jax.jit
    def decoded(tokens: jax.Array) -> tuple[jax.Array, ...]:
        state = model.start(TokenInputs(tokens[:, :8], lengths), max_len=12)
        assert all(isinstance(cache, RollingCache) for cache in state.caches)
        row = jnp.arange(2)
        first, state = model.step(state, tokens[row, lengths])
        several, state = model.extend(state, tokens[row[:, None], lengths[:, None] + 1 + jnp.arange(4)[None]])
        last, state = model.step(state, tokens[row, lengths + 5])
        return first, several, last

    first, several, last = decoded(tokens)
    for row, length in enumerate(lengths.tolist()):
        found = jnp.concatenate([first[row][None], several[row], last[row][None]])
        np.testing.assert_allclose(found, whole[row, length : length + 6], atol=2e-5)


def test_sinks_are_seen_and_what_left_the_window_is_not() -> None:
    model = build(num_layers=1)
    tokens = texts(9, rows=1)
    logits = jax.jit(lambda tokens: model(tokens))
    for changed, wanted in ((1, [False] + [True] * 8), (3, [False] * 3 + [True] * 3 + [False] * 3)):
        other = tokens.at[0, changed].set((tokens[0, changed] + 1) % VOCAB)
        assert (logits(other) != logits(tokens)).any(axis=-1)[0].tolist() == wanted


def test_sinks_of_packed_documents_are_their_own() -> None:
    model = build()
    tokens = texts(12, rows=1)
    segments = jnp.array([[1] * 7 + [2] * 5])
    packed = jax.jit(lambda tokens: model(tokens, segments=segments))(tokens)
    each = jax.jit(lambda tokens: model(tokens))
    alone = jnp.concatenate([each(tokens[:, :7]), each(tokens[:, 7:])], axis=1)
    np.testing.assert_allclose(packed, alone, atol=2e-5)


@pytest.mark.parametrize("name", ["rotary", pytest.param("alibi", marks=pytest.mark.full)])
def test_beams_follow_their_ancestors_round_the_ring(name: str) -> None:
    model = build(positions=POSITIONS[name])
    prompts = TokenInputs(texts(5), jnp.array([5, 1]))
    fed = jax.random.randint(jax.random.key(5), (7, 4), 0, VOCAB)
    pairs = [[0, 1], [1, 1], [1, 0], [0, 0], [1, 0], [0, 1], [1, 1]]
    orders = jnp.array([[*pair, *(3 - place for place in pair)] for pair in pairs])

    def searched(shares: bool) -> jax.Array:
        state = model.start(prompts, max_len=8)
        state = (
            repeat_state(state, 2)
            if shares
            else jax.tree.map(lambda leaf: jnp.repeat(leaf, 2, axis=0), state)
        )
        assert isinstance(state.caches[0], RollingBeamCache if shares else RollingCache)
        logits = []
        for tokens, order in zip(fed, orders):
            if logits and shares:
                state = reorder_state(state, jax.tree.map(lambda leaf: leaf + 0, state), order)
            elif logits:
                state = jax.tree.map(lambda leaf, order=order: leaf[order], state)
            new, state = model.step(state, tokens)
            logits.append(new)
        return jnp.stack(logits)

    np.testing.assert_allclose(
        jax.jit(searched, static_argnums=0)(True), jax.jit(searched, static_argnums=0)(False), atol=2e-5
    )


def test_a_long_prompt_is_read_by_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    model, prompt = build(), TokenInputs(texts(17), jnp.array([17, 7]))
    at_once = jax.jit(lambda: model.start(prompt, max_len=2))()
    monkeypatch.setattr("transformer_jax.models.decoder_only._PIECE", 4)
    by_pieces = jax.jit(
        lambda: model.start(prompt, max_len=2)
    )()  # of five tokens, as many as there are slots
    jax.tree.map(lambda one, two: np.testing.assert_allclose(one, two, atol=1e-5), by_pieces, at_once)


def test_a_piece_may_end_past_the_learned_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformer_jax.models.decoder_only._PIECE", 5)
    model, tokens = build(positions=nn.Learned(max_len=12)), texts(12, rows=3)
    lengths = jnp.array([11, 6, 0])  # pieces of five: the third holds places 10 to 14

    @jax.jit
    def logits(tokens: jax.Array) -> jax.Array:
        state = model.start(TokenInputs(tokens[:, :11], lengths), max_len=1)
        return model.step(state, tokens[jnp.arange(3), lengths])[0]

    whole = jax.jit(lambda tokens: model(tokens))(tokens)
    np.testing.assert_allclose(logits(tokens), whole[jnp.arange(3), lengths], atol=2e-5)
    junk = tokens.at[1, 7:].set(9).at[2, 1:].set(4)  # what lies behind the prompts, and other rows
    np.testing.assert_array_equal(logits(junk)[0], logits(tokens)[0])
    np.testing.assert_array_equal(logits(junk)[1:], logits(tokens)[1:])


def test_a_text_many_times_the_window_is_decoded_as_by_the_whole_pass() -> None:
    model, tokens = build(window_len=3, num_sinks=1), texts(40)
    whole = jax.jit(lambda tokens: model(tokens))(tokens)

    @jax.jit
    def decoded(tokens: jax.Array) -> jax.Array:
        state = model.start(TokenInputs(tokens[:, :2], jnp.array([2, 2])), max_len=38)
        return jax.lax.scan(lambda state, new: model.step(state, new)[::-1], state, tokens[:, 2:].T)[1]

    np.testing.assert_allclose(jnp.swapaxes(decoded(tokens), 0, 1), whole[:, 2:], atol=2e-5)


def test_a_batch_of_no_rows_is_decoded() -> None:
    model = build()
    none = jnp.zeros(0, jnp.int32)

    def logits() -> jax.Array:
        return model.step(model.start(TokenInputs(texts(6)[:0], none), max_len=4), none)[0]

    assert jax.eval_shape(logits).shape == (0, VOCAB)


def test_the_state_does_not_grow_with_the_text() -> None:
    def num_bytes(max_len: int, **changes: Any) -> int:
        prompt = TokenInputs(texts(6), jnp.array([6, 6]))
        state = jax.eval_shape(lambda: build(**changes).start(prompt, max_len=max_len))
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))

    assert num_bytes(10) == num_bytes(10_000)
    assert num_bytes(10_000, window_len=None, num_sinks=0) > 500 * num_bytes(10_000)


def test_a_text_shorter_than_the_window_has_a_cache_of_its_own_length() -> None:
    prompt = TokenInputs(texts(4), jnp.array([4, 4]))
    state = jax.eval_shape(lambda: build(window_len=50).start(prompt, max_len=5))
    assert isinstance(state.caches[0], KeyValueCache)
    assert state.caches[0].capacity == 9


def test_a_search_past_the_learned_positions_is_refused() -> None:
    prompt = TokenInputs(texts(4), jnp.array([4, 4]))
    with pytest.raises(ShapeError, match="room for 24 tokens"):
        check_room(build(positions=POSITIONS["learned"]).start(prompt, max_len=20), 25)
    check_room(build().start(prompt, max_len=20), 10_000)


def test_rows_do_not_depend_on_each_other() -> None:
    model = build()

    @jax.jit
    def logits(tokens: jax.Array, lengths: jax.Array) -> jax.Array:
        return model.step(model.start(TokenInputs(tokens, lengths), max_len=9), tokens[:, 0])[0]

    tokens = texts(7)
    one = logits(tokens, jnp.array([7, 4]))
    other = logits(tokens.at[1].set((tokens[1] + 1) % VOCAB), jnp.array([7, 1]))
    np.testing.assert_array_equal(one[0], other[0])


def test_a_ring_of_another_window_is_refused() -> None:
    options: Any = {"use_bias": False, "dropout_rate": 0.0, "rngs": nnx.Rngs(0)}
    layer = nn.MultiHeadAttention(8, 2, 2, window_len=3, **options)
    cache = RollingCache.empty(1, SlotRing(window_len=2, num_sinks=0), 2, 4)
    with pytest.raises(ConfigError, match="cache is of window_len 2 and num_sinks 0, the layer has 3 and 0"):
        layer.attend_cached(jnp.ones((1, 1, 8)), cache)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_sinks": -1}, "num_sinks must be at least 0, got -1"),
        ({"window_len": None}, "num_sinks must be 0 without window_len, got 2"),
    ],
)
def test_sinks_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(CONFIG, **changes)
