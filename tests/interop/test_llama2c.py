"""Weights of llama2.c: stories260K by an independent NumPy loop and by its published text; damaged files."""

import functools
import os
import struct
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.decode.protocol import TokenInputs
from transformer_jax.errors import DataError
from transformer_jax.interop.llama2c import load_llama2c, read_llama2c, read_llama2c_pieces
from transformer_jax.models import llama_like
from transformer_jax.nn.parameters import parameter_count

FOLDER = Path(os.environ.get("TRANSFORMER_JAX_DATA", "")) / "stories260k"
WEIGHTS, PIECES = FOLDER / "stories260K.bin", FOLDER / "tok512.bin"
needs_data = pytest.mark.skipif(not WEIGHTS.is_file(), reason="stories260k is not in $TRANSFORMER_JAX_DATA")
BOS_ID = 1
# The published greedy continuation, https://github.com/karpathy/llama2.c/blob/master/doc/stories260K.md.
STORY = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a "
    "big, red ball. She wanted to play with it, but it was too high.\nLily's mom said, \"Lily, let's go to the park.\" "
    "Lily was sad and didn't know what to do. She said, \"I want to play with your ball, but I can't find it.\"\nLily "
    "was sad and didn't know what to do. She said, \"I'm sorry, Lily. I didn't know what to do.\"\nLily didn't want to "
    "help her mom, so she said, \"I'm sorry, mom. I didn't know what to do.\" Her mom said, \"Don't worry, Lily. We "
    "can help you."
)


def llama_by_numpy(path: Path, tokens: list[int]) -> np.ndarray:
    """Logits after each token, by loops over positions and heads as in run.c; one pass over the file by hand."""
    raw = path.read_bytes()
    dim, hidden, layers, heads, kv_heads, vocab, _ = struct.unpack_from("<7i", raw)
    floats = np.frombuffer(raw, "<f4", offset=28).astype(np.float64)
    taken = 0

    def take(*shape: int) -> np.ndarray:
        nonlocal taken
        size = int(np.prod(shape))
        taken += size
        return floats[taken - size : taken].reshape(shape)

    size = dim // heads
    embedding, norm_1 = take(vocab, dim), take(layers, dim)
    wq, wk, wv = (
        take(layers, dim, dim),
        take(layers, kv_heads * size, dim),
        take(layers, kv_heads * size, dim),
    )
    wo, norm_2 = take(layers, dim, dim), take(layers, dim)
    w1, w2, w3 = take(layers, hidden, dim), take(layers, dim, hidden), take(layers, hidden, dim)
    last = take(dim)

    def rms(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return weight * x / np.sqrt(np.mean(x * x) + 1e-5)

    def turn(vector: np.ndarray, position: int) -> np.ndarray:
        turned = vector.copy()
        for i in range(0, len(vector), 2):
            angle = position / 10000.0 ** ((i % size) / size)
            cos, sin = np.cos(angle), np.sin(angle)
            turned[i] = vector[i] * cos - vector[i + 1] * sin
            turned[i + 1] = vector[i] * sin + vector[i + 1] * cos
        return turned

    keys: list[list[np.ndarray]] = [[] for _ in range(layers)]
    values: list[list[np.ndarray]] = [[] for _ in range(layers)]
    logits = []
    for position, token in enumerate(tokens):
        x = embedding[token].copy()
        for layer in range(layers):
            normed = rms(x, norm_1[layer])
            query = turn(wq[layer] @ normed, position)
            keys[layer].append(turn(wk[layer] @ normed, position))
            values[layer].append(wv[layer] @ normed)
            mixed = np.zeros(dim)
            for head in range(heads):
                own, shared = slice(head * size, (head + 1) * size), head // (heads // kv_heads)
                other = slice(shared * size, (shared + 1) * size)
                scores = np.array([query[own] @ key[other] for key in keys[layer]]) / np.sqrt(size)
                weights = np.exp(scores - scores.max())
                weights /= weights.sum()
                for weight, value in zip(weights, values[layer]):
                    mixed[own] += weight * value[other]
            x = x + wo[layer] @ mixed
            normed = rms(x, norm_2[layer])
            gate = w1[layer] @ normed
            x = x + w2[layer] @ (gate / (1 + np.exp(-gate)) * (w3[layer] @ normed))
        logits.append(embedding @ rms(x, last))
    return np.array(logits)


@functools.cache
def stories() -> Any:
    return load_llama2c(WEIGHTS)


@needs_data
def test_logits_are_those_of_a_loop_in_numpy() -> None:
    tokens = [BOS_ID, 403, 407, 261, 378, 5, 511, 3, 77, 260]
    wanted = llama_by_numpy(WEIGHTS, tokens)
    model = stories()
    found = jax.jit(lambda tokens: model(tokens))(jnp.array([tokens]))[0]
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())


@needs_data
def test_greedy_decoding_tells_the_published_story() -> None:
    num_tokens = 256
    graphdef, params = nnx.split(stories())

    @jax.jit
    def decode(params: Any) -> jax.Array:
        model = nnx.merge(graphdef, params)

        def step(carry: Any, _: None) -> Any:
            state, token = carry
            logits, state = model.step(state, token)
            token = jnp.argmax(logits, axis=-1).astype(jnp.int32)
            return (state, token), token[0]

        prompt = TokenInputs(jnp.zeros((1, 0), jnp.int32), jnp.zeros(1, jnp.int32))
        first = (model.start(prompt, max_len=num_tokens), jnp.array([BOS_ID], jnp.int32))
        return jax.lax.scan(step, first, length=num_tokens)[1]

    tokens = decode(params).tolist()
    wanted = llama_by_numpy(WEIGHTS, [BOS_ID, *tokens[:60]]).argmax(axis=-1)[:60]
    assert tokens[:60] == wanted.tolist()
    pieces = read_llama2c_pieces(PIECES, 512)
    text = b"".join(
        bytes([int(piece[3:5], 16)]) if piece.startswith(b"<0x") else piece
        for piece in (pieces[token] for token in tokens)
    )
    assert text.decode().strip().startswith(STORY)


@needs_data
def test_the_config_is_that_of_the_preset() -> None:
    found = read_llama2c(WEIGHTS)
    wanted = llama_like()
    for name in (
        "model_dim",
        "num_heads",
        "num_kv_heads",
        "feed_forward_dim",
        "num_layers",
        "positions",
        "activation",
    ):
        assert getattr(found.config, name) == getattr(wanted, name), name
    assert (found.vocab_size, found.trained_len) == (512, 512)
    assert parameter_count(stories()) == 260_032


def small_file(path: Path, *, tied: bool = True) -> Path:
    """Width 4, one layer, 2 heads over 1, 3 tokens, sequences of 2."""
    sizes = (4, 6, 1, 2, 1, 3 if tied else -3, 2)
    count = 3 * 4 + 4 + 16 + 8 + 8 + 16 + 4 + 3 * 24 + 4 + 2 * 2 + (0 if tied else 12)
    floats = np.random.default_rng(0).normal(size=count).astype("<f4")
    path.write_bytes(struct.pack("<7i", *sizes) + floats.tobytes())
    return path


@pytest.mark.parametrize("tied", [True, False])
def test_a_small_model_equals_the_loop(tmp_path: Path, tied: bool) -> None:
    path = small_file(tmp_path / "small.bin", tied=tied)
    model = load_llama2c(path)
    tokens = [1, 2, 0, 1]
    found = model(jnp.array([tokens]))[0]
    if tied:
        np.testing.assert_allclose(found, llama_by_numpy(path, tokens), atol=1e-4)
    else:
        table = np.frombuffer(path.read_bytes(), "<f4")[-12:].reshape(3, 4)
        wanted = np.asarray(model.hidden(jnp.array([tokens]))[0]) @ table.T
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_what_is_no_such_file_is_refused_in_one_line(tmp_path: Path) -> None:
    whole = small_file(tmp_path / "small.bin").read_bytes()
    for data, message in (
        (whole[:-1], "bytes, but its header asks for"),
        (whole + b"\0", "bytes, but its header asks for"),
        (whole[:20], "begins with 28 bytes of sizes"),
        (b"", "begins with 28 bytes of sizes"),
        (b"PK\3\4" * 100, "sizes of no model: model_dim must be at most 65,536"),
        (struct.pack("<7i", 0, 6, 1, 2, 1, 3, 2), "model_dim must be at least 1, got 0"),
        (struct.pack("<7i", 4, 6, 1, 2, 1, 0, 2), "gives 0 tokens"),
        (struct.pack("<7i", 4, 6, 1, 2, 1, -(2**31), 2), "tokens and sequences of 2"),
        (struct.pack("<7i", 65_536, 65_536, 1_000, 2, 1, 2**24, 2**24), "but its header asks for"),
    ):
        path = tmp_path / "wrong.bin"
        path.write_bytes(data)
        with pytest.raises(DataError, match=message) as raised:
            read_llama2c(path)
        assert "\n" not in str(raised.value)
    with pytest.raises(DataError, match="No such file"):
        read_llama2c(tmp_path / "missing.bin")


def test_a_vocabulary_is_read_whole_or_refused(tmp_path: Path) -> None:
    pieces = [b"<unk>", b"\n<s>\n", b" a"]
    data = struct.pack("<i", 5) + b"".join(struct.pack("<fi", 0.0, len(piece)) + piece for piece in pieces)
    path = tmp_path / "tok.bin"
    path.write_bytes(data)
    assert read_llama2c_pieces(path, 3) == pieces
    for size, content, message in (
        (4, data, "ends before token 3 of 4"),
        (2, data, "holds more than 2 tokens"),
        (3, data[:-1], "token 2 of 3 has 2 bytes"),
        (1, struct.pack("<ifi", 5, 0.0, -1), "token 0 of 1 has -1 bytes"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_llama2c_pieces(path, size)
