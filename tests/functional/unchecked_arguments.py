"""Run by a test as a process of its own, without the run's type checks: what users hand over reaches the code.

Every public function takes what ``jnp.asarray`` takes: NumPy arrays of float32 and float64, and lists. The results
must be those of JAX arrays.
"""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from transformer_jax import functional as F
from transformer_jax import nn
from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional.attention.stored import attend_stored
from transformer_jax.functional.recurrent import parallel_recurrence

warnings.simplefilter("error")
GENERATOR = np.random.default_rng(0)


def draw(*shape: int) -> np.ndarray:
    return GENERATOR.normal(size=shape)


QUERY, KEY, VALUE, BIAS = draw(2, 3, 2, 4), draw(2, 5, 2, 4), draw(2, 5, 2, 4), draw(1, 2, 3, 5)
CENTER, INPUTS, ROWS, WEIGHT = draw(2, 3), draw(2, 3, 4), draw(3, 4), draw(4)
EMBEDDING, LABELS, COUNTED = draw(6, 4), np.array([0, 5, 2]), np.array([1.0, 0.0, 1.0])
LENGTHS, SEGMENTS, VALID = (
    np.array([3, 1]),
    np.array([[0, 0, 1], [0, 1, 1]]),
    np.array([[True, True, False]] * 2),
)
POSITIONS = np.arange(3)[None]


def mask(lengths, segments):
    return F.AttentionMask.from_lengths(lengths, 5) & F.AttentionMask.segments(
        segments, np.zeros((1, 5), int)
    )


def attend(implementation):
    def run(query, key, value, bias, lengths):
        return F.attention(
            query,
            key,
            value,
            bias=bias,
            mask=F.AttentionMask.from_lengths(lengths, 5),
            implementation=implementation,
        )

    return run


def recurrent(cell, implementation=None):
    def run(inputs, lengths, segments, carry, *parameters):
        return F.recurrence(
            cell(*parameters), inputs, lengths=lengths, segments=segments, initial_carry=carry,
            implementation=implementation,
        )  # fmt: skip

    return run


def module(layer, *more):
    return lambda x: layer(x, *more)


MULTI_HEAD = nn.MultiHeadAttention(4, 2, 2, use_bias=True, dropout_rate=0.0, rngs=nnx.Rngs(0))
GRU = (draw(4, 12), draw(4, 12), draw(12), draw(4))
CASES = {
    **{name: (attend(name), QUERY, KEY, VALUE, BIAS, LENGTHS) for name in ("reference", "blockwise", "xla")},
    "weights": (lambda q, k, v, b: F.attention_with_weights(q, k, v, bias=b), QUERY, KEY, VALUE, BIAS),
    "inspect": (lambda q, k, b: F.inspect_attention(q, k, bias=b, top=2), QUERY, KEY, BIAS),
    "local": (lambda q, k, v, c: F.local_attention(q, k, v, center=c, half_width=1), QUERY, KEY, VALUE, CENTER),
    "prepared": (lambda q, k, v: F.attention(q, F.prepare_key(F.Dot(), k), v, score=F.Dot()), QUERY, KEY, VALUE),
    "stored": (
        lambda q, k, v, seen, b: attend_stored(q, k, v, seen, b),
        QUERY, np.moveaxis(KEY, 1, 3), np.moveaxis(VALUE, 1, 2), np.ones((1, 1, 5), bool), BIAS,
    ),
    "additive": (
        lambda q, k, v, *rule: F.attention(q, k, v, score=F.Additive(*rule)),
        QUERY, KEY, VALUE, draw(4, 3), draw(4, 3), draw(3),
    ),
    "gaussian": (
        lambda q, k, v, c: F.attention(q, k, v, reweight=F.GaussianReweight(c, 1.0)),
        QUERY, KEY, VALUE, CENTER[:, None],
    ),
    "alibi": (lambda q, k, v, s: F.attention(q, k, v, bias=F.Alibi(s)), QUERY, KEY, VALUE, draw(2)),
    "segments": (lambda q, k, v, *m: F.attention(q, k, v, mask=mask(*m)), QUERY, KEY, VALUE, LENGTHS, SEGMENTS),
    "linear attention": (
        lambda q, k, v, valid: F.linear_attention(q, k, v, valid=valid), QUERY, KEY[:, :3], VALUE[:, :3], VALID,
    ),
    "linear step": (
        lambda q, k, v: F.linear_attention_step(F.LinearAttentionState.zeros(2, 2, 4, 4), q, k, v),
        QUERY[:, 0], KEY[:, 0], VALUE[:, 0],
    ),
    "recurrence": (recurrent(F.GRUCell), INPUTS, LENGTHS, SEGMENTS, draw(2, 4), *GRU),
    "plain recurrence": (recurrent(F.GRUCell, "reference"), INPUTS, LENGTHS, SEGMENTS, draw(2, 4), *GRU),
    "linear cell": (recurrent(F.MinGRUCell), INPUTS, LENGTHS, SEGMENTS, draw(2, 4), draw(4, 8), draw(8)),
    "parallel": (lambda x, *cell: parallel_recurrence(F.GRUCell(*cell), x), INPUTS, *GRU),
    "step": (lambda x, h, *cell: F.step_once(F.GRUCell(*cell), h, x), INPUTS[:, 0], draw(2, 4), *GRU),
    "linear recurrence": (F.linear_recurrence, draw(3, 2, 4), draw(3, 2, 4), draw(2, 4)),
    "in logarithms": (F.linear_recurrence_in_logs, draw(3, 2, 4), draw(3, 2, 4), draw(2, 4)),
    "layer norm": (F.layer_norm, ROWS, WEIGHT, WEIGHT),
    "rms norm": (F.rms_norm, ROWS, WEIGHT),
    "batch norm": (lambda x, w, s: F.batch_norm(x, *F.batch_statistics(x, w), s, s), ROWS, COUNTED, WEIGHT),
    "running": (lambda a, b: F.running_statistics(a, b, momentum=0.5), WEIGHT, WEIGHT),
    "softmax": (F.masked_softmax, INPUTS[0], VALID[:1].repeat(3, 0)[:, [0, 1, 2, 2]]),
    "online": (
        lambda s, v: F.online_softmax_finish(F.online_softmax_update(F.online_softmax_start((3,), 2), s, v)),
        ROWS, draw(3, 4, 2),
    ),
    "cross entropy": (lambda x, y, w: F.cross_entropy(x, y, weights=w).mean(), ROWS, LABELS % 4, COUNTED),
    "projected": (
        lambda h, e, y, w, b: F.projected_cross_entropy(h, e, y, weights=w, bias=b, label_smoothing=0.1).mean(),
        ROWS, EMBEDDING, LABELS, COUNTED, draw(6),
    ),
    "divergence": (lambda a, b, w: F.symmetric_divergence(a, b, weights=w).mean(), ROWS, draw(3, 4), COUNTED),
    "projected divergence": (
        lambda a, b, e, w: F.projected_divergence(a, b, e, weights=w).mean(), ROWS, draw(3, 4), EMBEDDING, COUNTED,
    ),
    "chain likelihood": (
        lambda s, y, t, b, e, n: F.crf_log_likelihood(s, y, F.ChainScores(t, b, e), n),
        INPUTS, SEGMENTS, draw(4, 4), draw(4), draw(4), LENGTHS,
    ),
    "chain marginals": (lambda s, n: F.crf_marginals(s, F.ChainScores.zeros(4), n), INPUTS, LENGTHS),
    "chain decoding": (lambda s, n: F.crf_decode(s, F.ChainScores.zeros(4), n), INPUTS, LENGTHS),
    "dropout": (lambda x: F.dropout(x, 0.5, jax.random.key(0)), ROWS),
    "rotary": (F.rotary, QUERY, POSITIONS),
    "sinusoidal": (lambda p: F.sinusoidal_at(p, 4), POSITIONS),
    "buckets": (
        lambda p: F.relative_bucket(p, bidirectional=True, num_buckets=8, max_distance=16), POSITIONS,
    ),
    "segment positions": (F.segment_positions, SEGMENTS),
    "multi-head": (MULTI_HEAD, INPUTS),
    "multi-head with a bias": (lambda x, b: MULTI_HEAD(x, bias=b), INPUTS, draw(1, 2, 3, 3)),
    "linear": (module(nn.Linear(4, (3,), use_bias=True, rngs=nnx.Rngs(0))), INPUTS),
    "feed-forward": (module(nn.FeedForward(4, 8, activation="gelu", dropout_rate=0.0, rngs=nnx.Rngs(0))), INPUTS),
    "pooling": (lambda x, n: nn.MeanPooling()(x, lengths=n), INPUTS, LENGTHS),
    "attention pooling": (
        lambda x, n: nn.AttentionPooling(4, 3, rngs=nnx.Rngs(0))(x, lengths=n), INPUTS, LENGTHS,
    ),
}  # fmt: skip


KINDS = {
    "float32": lambda one: one.astype(np.float32) if one.dtype == np.float64 else one,
    "float64": lambda one: one,
    "lists": lambda one: one.tolist(),
}
COMPUTED = ("weights", "alibi", "recurrence", "layer norm", "projected", "rotary", "attention pooling")


def as_jax(kind, arguments):
    """What a function gives for arguments of a kind is that of JAX arrays of 32 bits."""
    return [jnp.asarray(KINDS[kind](one)) for one in arguments]


def check(name, kind):
    """The function takes the arguments (traced, not compiled) and gives what JAX arrays give, down to the dtype."""
    function, *arguments = CASES[name]
    try:
        got = jax.eval_shape(lambda: function(*map(KINDS[kind], arguments)))
        wanted = jax.eval_shape(lambda: function(*as_jax(kind, arguments)))
    except Exception as error:
        raise AssertionError(f"{name}, {kind}: {type(error).__name__}: {error}") from error
    assert jax.tree.leaves(got) == jax.tree.leaves(wanted), f"{name}, {kind}: {got}"


def check_values():
    """Some of them computed, all in one program."""
    given, wanted = (
        jax.jit(lambda make=make: [CASES[name][0](*make(CASES[name][1:])) for name in COMPUTED])()
        for make in (list, lambda arguments: as_jax("float64", arguments))
    )
    for one, other in zip(jax.tree.leaves(given), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6, equal_nan=False)


ONES = jnp.ones((1, 2, 1, 4))
CELL = F.RNNCell(np.ones((4, 2)), np.ones((2, 2)), np.ones(2))
LSTM = F.LSTMCell(np.ones((4, 8)), np.ones((2, 8)), np.ones(8))
REFUSED = {
    "score must be a score rule, not its class: write Dot(...)": lambda: F.attention(
        ONES, ONES, ONES, score=F.Dot
    ),
    "score must be a score rule": lambda: F.attention(ONES, ONES, ONES, score="dot"),
    "score must be a score rule, not": lambda: F.prepare_key(F.Dot, ONES),
    "score must be a score": lambda: F.inspect_attention(ONES, ONES, score=None),
    "query must be [batch, q_len": lambda: F.attention([[1.0, 2.0]], ONES, ONES),
    "query must be floating": lambda: F.attention(np.ones((1, 2, 1, 4), int), ONES, ONES),
    "query must be an array or something that jnp.asarray takes, got str": lambda: F.attention(
        "q", ONES, ONES
    ),
    "key must be an array or something that jnp.asarray takes, got NoneType": lambda: F.attention(
        ONES, None, ONES
    ),
    "value must be an array": lambda: F.attention(ONES, ONES, [[1.0], [1.0, 2.0]]),
    "bias must be an array, Alibi(...)": lambda: F.attention(ONES, ONES, ONES, bias=F.Alibi),
    "reweight must be a rule": lambda: F.attention(ONES, ONES, ONES, reweight=F.GaussianReweight),
    "mask must be an AttentionMask": lambda: F.attention(ONES, ONES, ONES, mask=F.AttentionMask),
    "General.weight must be an array": lambda: F.General("w"),
    "cell must be a cell such as GRUCell(...), with its parameters; got the class GRUCell": (
        lambda: F.recurrence(F.GRUCell, INPUTS)
    ),
    "inputs must be [batch, time, features]": lambda: F.recurrence(CELL, INPUTS[0]),
    "lengths must hold integers": lambda: F.recurrence(CELL, INPUTS, lengths=[1.5, 2.0]),
    "lengths must be an array or something that jnp.asarray takes, got int": lambda: F.recurrence(
        CELL, INPUTS, lengths=2**70
    ),
    "initial_carry of LSTMCell must be built like PyTreeDef((*, *)); got int": lambda: F.recurrence(
        LSTM, INPUTS, initial_carry=3
    ),
    "initial_carry of LSTMCell must be built like PyTreeDef((*, *)); got PyTreeDef([*])": lambda: (
        F.recurrence(LSTM, INPUTS, initial_carry=[3])
    ),
    "carry of RNNCell must be built like PyTreeDef(*); got NoneType": lambda: F.step_once(
        CELL, None, INPUTS[:, 0]
    ),
    "relative_position must hold integers": lambda: F.relative_bucket(
        [0.5], bidirectional=True, num_buckets=8, max_distance=16
    ),
}


def check_refusals():
    for message, call in REFUSED.items():
        try:
            call()
            said = "nothing"
        except (ConfigError, ShapeError) as error:
            said = str(error)
        if message not in said:
            raise AssertionError(f"wanted {message!r}, got {said}")


if __name__ == "__main__":
    for name in CASES:
        for kind in KINDS:
            check(name, kind)
    check_values()
    check_refusals()
    print(f"{len(CASES)} functions, {len(REFUSED)} refusals")
