"""Vectors of a file as the first embeddings of any model."""

from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from transformer_jax.data.tokenizers import train_word_tokenizer
from transformer_jax.data.vector_files import write_vectors
from transformer_jax.errors import ConfigError, RunError
from transformer_jax.models import RecurrentLMConfig, RecurrentSeq2SeqConfig, Sizes, build_model
from transformer_jax.models.recurrent_config import LastState
from transformer_jax.runs.vector_start import start_from_vectors, start_of

WORDS = ["cat", "dog", "the"]
VECTORS = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    """A file of three words."""
    write_vectors(tmp_path / "vectors.txt", WORDS, VECTORS)
    return tmp_path / "vectors.txt"


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def language_model(width: int = 6) -> nnx.Module:
    config = RecurrentLMConfig(cell="gru", embedding_dim=width, hidden_dim=4, num_layers=1)
    return build_model(config, Sizes(vocab_size=9), seed=0)


def test_a_language_model_begins_with_the_vectors_of_its_words(vectors: Path) -> None:
    tokenizer = train_word_tokenizer(["The cat bites the dogs"])
    model = language_model()
    before = {name: np.asarray(one) for name, one in named(model).items()}
    text = start_from_vectors(vectors).fill(model, {"tokenizer": tokenizer})
    after = named(model)
    changed = [name for name, one in after.items() if not np.array_equal(one, before[name])]
    assert changed == ["embedding.embedding"]
    table = np.asarray(after["embedding.embedding"])
    for row, symbol in enumerate(tokenizer.symbols, 4):
        if symbol.lower() in WORDS:
            assert cosine(table[row], VECTORS[WORDS.index(symbol.lower())]) == pytest.approx(1.0, abs=1e-6)
        else:
            np.testing.assert_array_equal(table[row], before["embedding.embedding"][row])
    filled = sum(symbol.lower() in WORDS for symbol in tokenizer.symbols)
    assert f"vectors: {filled} of {len(tokenizer.symbols)} rows of embedding are those of {vectors}" == text
    assert filled >= 2
    scale = np.mean(np.square(table)) / np.mean(np.square(before["embedding.embedding"]))
    assert 0.5 < scale < 2.0, "the layers behind are initialised for the embeddings' own scale"


def test_both_sides_of_a_pair_take_what_is_theirs(vectors: Path) -> None:
    config = RecurrentSeq2SeqConfig(
        embedding_dim=6, hidden_dim=4, cell="gru", num_encoder_layers=1, num_decoder_layers=1, bidirectional=False,
        attention=LastState(feed_each_step=True), dropout_rate=0.0, residual=False,
    )  # fmt: skip
    artifacts = {
        "source_tokenizer": train_word_tokenizer(["cat cat"]),
        "target_tokenizer": train_word_tokenizer(["dog dog"]),
    }
    model = build_model(config, Sizes.of_pairs(5, 5), seed=0)
    text = start_of(vectors).fill(model, artifacts)
    assert [line.split(" of ")[2].split()[0] for line in text.splitlines()] == [
        "source_embedding",
        "target_embedding",
    ]
    for side, word in (("source", 0), ("target", 1)):
        table = np.asarray(named(model)[f"{side}_embedding.embedding"])
        assert cosine(table[4], VECTORS[word]) == pytest.approx(1.0, abs=1e-6)


def test_what_does_not_fit_is_one_line(vectors: Path) -> None:
    start = start_from_vectors(vectors)
    words = {"tokenizer": train_word_tokenizer(["cat"])}
    with pytest.raises(ConfigError, match=r"vectors of width 6, embedding has 5: set the model's width to 6"):
        start.fill(language_model(5), words)
    with pytest.raises(RunError, match="not one of the 1 tokens of embedding is a word of the file"):
        start.fill(language_model(), {"tokenizer": train_word_tokenizer(["zebra"])})
    with pytest.raises(RunError, match="no embedding of the run's tokens"):
        start.fill(language_model(), {})


def named(model: nnx.Module) -> dict[str, jax.Array]:
    from transformer_jax.nn.parameters import named_parameters

    return named_parameters(model)
