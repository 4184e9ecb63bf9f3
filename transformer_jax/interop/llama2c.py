"""Weights and vocabularies of llama2.c: a header of seven integers, then every matrix in float32, nothing else.

The layout is that of ``legacy_export``: the header, the token embeddings, then each kind of weight for all layers at
once, matrices ``[output, input]``. A file is read whole or refused: its size must be the one that its header gives.
"""

import dataclasses
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from transformer_jax.errors import DataError, TransformerJaxError
from transformer_jax.models.build import model_shapes
from transformer_jax.models.decoder_only import DecoderOnly, DecoderOnlyConfig
from transformer_jax.models.sizes import Sizes
from transformer_jax.nn.parameters import load_parameters
from transformer_jax.nn.position_encodings import Rotary

__all__ = ["Llama2c", "load_llama2c", "read_llama2c", "read_llama2c_pieces"]

_HEADER = struct.Struct("<7i")
_MAX_PIECE_BYTES = 1024


@dataclasses.dataclass(frozen=True)
class Llama2c:
    """Contents of a file.

    Attributes:
      config: The model's.
      vocab_size: Tokens of its vocabulary.
      trained_len: Tokens of the sequences that it was trained on.
      arrays: Parameters under the names of `nn.named_parameters`.
    """

    config: DecoderOnlyConfig
    vocab_size: int
    trained_len: int
    arrays: dict[str, np.ndarray]


def load_llama2c(path: str | Path) -> DecoderOnly:
    """The model in a file of llama2.c.

    Args:
      path: The file, such as ``stories260K.bin``.

    Returns:
      The model with the file's weights.

    Raises:
      DataError: As `read_llama2c`.
    """
    found = read_llama2c(path)
    model = model_shapes(found.config, Sizes(vocab_size=found.vocab_size))
    load_parameters(model, found.arrays)
    assert isinstance(model, DecoderOnly)
    return model


def read_llama2c(path: str | Path) -> Llama2c:
    """Read config and weights.

    Args:
      path: The file.

    Returns:
      Config, sizes and arrays.

    Raises:
      DataError: If the file is missing, its header holds sizes that no model has, or its length is another than the
        header asks for.

    Source: https://github.com/karpathy/llama2.c, ``export.py`` (``legacy_export``) and ``run.c``.
    """
    data = _read(Path(path))
    if len(data) < _HEADER.size:
        raise DataError(
            f"{path}: {len(data)} bytes; a llama2.c file begins with {_HEADER.size} bytes of sizes"
        )
    model_dim, inner_dim, num_layers, num_heads, num_kv_heads, vocab_size, trained_len = _HEADER.unpack_from(
        data
    )
    tied, vocab_size = vocab_size > 0, abs(vocab_size)  # a negative size marks an output table of its own
    try:
        config = DecoderOnlyConfig(
            model_dim=model_dim,
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            feed_forward_dim=inner_dim,
            num_layers=num_layers,
            positions=Rotary(),
            dropout_rate=0.0,
            normalization="rms",
            activation="swiglu",
            use_bias=False,
            tied=tied,
        )
    except TransformerJaxError as error:
        raise DataError(f"{path}: no llama2.c file: its header gives sizes of no model: {error}") from None
    if not (0 < vocab_size <= 2**24 and 0 < trained_len <= 2**24):
        raise DataError(
            f"{path}: no llama2.c file: its header gives {vocab_size:,} tokens and sequences of {trained_len:,}"
        )
    shapes = _shapes(config, vocab_size, trained_len)
    wanted = _HEADER.size + 4 * sum(int(np.prod(shape, dtype=np.int64)) for shape in shapes.values())
    if len(data) != wanted:
        raise DataError(
            f"{path}: {len(data):,} bytes, but its header asks for {wanted:,}: the file is damaged or no llama2.c file"
        )
    weights, offset = {}, _HEADER.size
    for name, shape in shapes.items():
        size = int(np.prod(shape, dtype=np.int64))
        weights[name] = np.frombuffer(data, "<f4", size, offset).reshape(shape)
        offset += 4 * size
    return Llama2c(config, vocab_size, trained_len, dict(_named(weights, num_layers)))


def read_llama2c_pieces(path: str | Path, vocab_size: int) -> list[bytes]:
    """The text pieces of a vocabulary of llama2.c, by token id; ids 0, 1 and 2 are ``<unk>``, BOS and EOS.

    Args:
      path: The file, such as ``tok512.bin``.
      vocab_size: Tokens of the vocabulary, which the file does not tell.

    Returns:
      One text piece a token. A piece ``<0x0A>`` stands for that byte.

    Raises:
      DataError: If the file is too short or too long.
    """
    data = _read(Path(path))
    pieces, offset = [], 4  # behind the length of the longest piece
    for token in range(vocab_size):
        if offset + 8 > len(data):
            raise DataError(f"{path}: ends before token {token} of {vocab_size}")
        length = struct.unpack_from("<i", data, offset + 4)[0]  # behind the piece's score
        offset += 8
        if not 0 <= length <= _MAX_PIECE_BYTES or offset + length > len(data):
            raise DataError(
                f"{path}: token {token} of {vocab_size} has {length} bytes: no vocabulary of llama2.c"
            )
        pieces.append(data[offset : offset + length])
        offset += length
    if offset != len(data):
        raise DataError(f"{path}: holds more than {vocab_size} tokens")
    return pieces


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None


def _shapes(config: DecoderOnlyConfig, vocab_size: int, trained_len: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays after the header, in order."""
    layers, width, inner = config.num_layers, config.model_dim, config.feed_forward_dim
    head_dim = width // config.num_heads
    kv_width = config.num_kv_heads * head_dim
    shapes: dict[str, tuple[int, ...]] = {
        "embedding": (vocab_size, width),
        "attention_norm": (layers, width),
        "query": (layers, width, width),
        "key": (layers, kv_width, width),
        "value": (layers, kv_width, width),
        "output": (layers, width, width),
        "feed_forward_norm": (layers, width),
        "gate": (layers, inner, width),
        "down": (layers, width, inner),
        "up": (layers, inner, width),
        "final_norm": (width,),
        "rotary": (2, trained_len, head_dim // 2),  # cosines and sines, which follow from the rest
    }
    return shapes if config.tied else {**shapes, "output_embedding": (vocab_size, width)}


def _named(weights: dict[str, np.ndarray], num_layers: int) -> Iterator[tuple[str, np.ndarray]]:
    """Each parameter under our name and in our layout."""
    yield "embedding.embedding", weights["embedding"]
    if "output_embedding" in weights:
        yield "output_embedding.embedding", weights["output_embedding"]
    yield "stack.final_norm.scale", weights["final_norm"]
    for number in range(num_layers):
        own = {name: array[number].T for name, array in weights.items() if len(array) == num_layers}
        layer = f"stack.layers.{number}"
        yield f"{layer}.self_attention_residual.norm.scale", own["attention_norm"]
        fused = [own["query"], own["key"], own["value"]]
        yield f"{layer}.self_attention.query_key_value.kernel", np.concatenate(fused, axis=1)
        yield f"{layer}.self_attention.output.kernel", own["output"]
        yield f"{layer}.feed_forward_residual.norm.scale", own["feed_forward_norm"]
        yield f"{layer}.feed_forward.inner.kernel", np.concatenate([own["gate"], own["up"]], axis=1)
        yield f"{layer}.feed_forward.outer.kernel", own["down"]
