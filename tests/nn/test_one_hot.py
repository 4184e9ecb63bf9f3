"""An embedding is a one-hot vector times a matrix: equal to the last bit, forward and backward."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.data.tokenizers import train_character_tokenizer
from transformer_jax.data.word_vocabulary import WordVocabulary
from transformer_jax.models import Sizes, WordVectorsConfig
from transformer_jax.nn import Embedding


def one_hot(tokens: jax.Array, size: int) -> jax.Array:
    """Written out: a 1 where the column is the token."""
    return (jnp.arange(size)[None, :] == tokens[:, None]).astype(jnp.float32)


@pytest.mark.parametrize("scale", ["none", "sqrt_dim"])
def test_a_look_up_is_one_hot_times_matrix(scale: str) -> None:
    embedding = Embedding(11, 7, padding_id=None, scale=scale, rngs=nnx.Rngs(0))
    tokens = jnp.array([0, 3, 3, 10])
    product = jnp.matmul(one_hot(tokens, 11), embedding.embedding[...], precision="highest") * embedding.scale
    np.testing.assert_array_equal(embedding(tokens), product)


def test_the_gradient_is_one_hot_transposed_times_the_slopes() -> None:
    table = jax.random.normal(jax.random.key(0), (11, 7))
    tokens, slopes = jnp.array([0, 3, 10]), jax.random.normal(jax.random.key(1), (3, 7))
    by_look_up = jax.grad(lambda table: jnp.sum(table[tokens] * slopes))(table)
    codes = one_hot(tokens, 11)
    by_product = jax.grad(lambda table: jnp.sum(jnp.matmul(codes, table, precision="highest") * slopes))(
        table
    )
    np.testing.assert_array_equal(by_look_up, by_product)
    np.testing.assert_array_equal(by_look_up, jnp.matmul(codes.T, slopes, precision="highest"))


def test_word_vectors_of_a_sentence_are_one_hot_times_matrix() -> None:
    vocabulary = WordVocabulary(["the", "cat", "sat", "mat"], [2, 1, 1, 1])
    model = WordVectorsConfig(embedding_dim=5).build(Sizes(vocab_size=4), rngs=nnx.Rngs(0))
    tokens = jnp.asarray(vocabulary.encode("The cat sat"))
    assert tokens.tolist() == [0, 1, 2]
    product = jnp.matmul(one_hot(tokens, 4), model.embedding.embedding[...], precision="highest")
    np.testing.assert_array_equal(model(tokens), product)


def test_one_hot_codes_of_characters_are_as_far_from_each_other_as_any() -> None:
    tokenizer = train_character_tokenizer(["cab"])
    codes = np.asarray(one_hot(jnp.array(tokenizer.encode("abc")), tokenizer.vocab_size))
    assert codes.sum(axis=1).tolist() == [1.0, 1.0, 1.0]
    distances = ((codes[:, None] - codes[None]) ** 2).sum(axis=-1)
    assert distances[~np.eye(3, dtype=bool)].tolist() == [2.0] * 6
