"""Embeddings: the look-up is a matrix product, the padding row stays zero, logits are tied."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.errors import ConfigError
from transformer_jax.nn.embeddings import Embedding, freeze_row
from transformer_jax.nn.position_encodings import Learned, PositionalEncoding


def make(padding_id=0, scale="sqrt_dim", vocab_size=7, model_dim=16):
    return Embedding(vocab_size, model_dim, padding_id=padding_id, scale=scale, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(("scale", "factor"), [("sqrt_dim", 4.0), ("none", 1.0)])
def test_look_up_is_one_hot_times_table(scale, factor):
    embedding = make(scale=scale)
    tokens = jnp.array([[1, 6, 0], [3, 3, 2]])
    product = factor * jax.nn.one_hot(tokens, 7) @ embedding.embedding[...]
    np.testing.assert_allclose(embedding(tokens), product, rtol=1e-6, atol=1e-7)


def test_gradient_of_look_up_is_one_hot_transposed_times_gradient():
    embedding = make(padding_id=None)
    graphdef, params = nnx.split(embedding)
    tokens = jnp.array([[1, 6, 0], [3, 3, 2]])
    weight = jax.random.normal(jax.random.key(1), (2, 3, 16))
    gradient = jax.grad(lambda params: (nnx.merge(graphdef, params)(tokens) * weight).sum())(params)
    wanted = 4.0 * np.einsum("btv,btd->vd", np.asarray(jax.nn.one_hot(tokens, 7)), np.asarray(weight))
    np.testing.assert_allclose(gradient["embedding"][...], wanted, rtol=1e-5, atol=1e-6)


def test_attend_is_the_product_with_the_unscaled_table():
    embedding = make()
    x = jax.random.normal(jax.random.key(0), (2, 3, 16))
    np.testing.assert_allclose(embedding.attend(x), x @ embedding.embedding[...].T, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(embedding.table(), embedding.embedding[...])


@pytest.mark.parametrize("rows", [(), (1,), (2,), (4, 1), (32,), (33,), (5, 7)])
def test_logits_and_their_gradients_are_the_same_for_few_rows_as_for_many(rows):
    embedding = make(padding_id=None, vocab_size=11)
    graphdef, params = nnx.split(embedding)
    x = jax.random.normal(jax.random.key(0), (*rows, 16))
    weight = jax.random.normal(jax.random.key(1), (*rows, 11))

    def total(params, x):
        return (nnx.merge(graphdef, params).attend(x) * weight).sum()

    table = np.asarray(embedding.embedding[...])
    np.testing.assert_allclose(jax.jit(embedding.attend)(x), np.asarray(x) @ table.T, rtol=1e-5, atol=1e-6)
    by_table, by_states = jax.grad(total, argnums=(0, 1))(params, x)
    wanted = np.asarray(weight).reshape(-1, 11).T @ np.asarray(x).reshape(-1, 16)
    np.testing.assert_allclose(by_table["embedding"][...], wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(by_states, np.asarray(weight) @ table, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the order is the CPU's")
def test_the_table_is_not_turned_for_a_step_of_few_rows():
    embedding = make(padding_id=None)
    few, many = (
        str(jax.make_jaxpr(embedding.attend)(jnp.ones((rows, 16)))).count("optimization_barrier")
        for rows in (8, 64)
    )
    assert (few, many) == (1, 0)


@pytest.mark.parametrize("padding_id", [0, 4])
def test_padding_row_is_zero_and_has_no_gradient(padding_id):
    embedding = make(padding_id=padding_id)
    assert not np.asarray(embedding.embedding[...][padding_id]).any()
    assert not np.asarray(embedding(jnp.array([padding_id]))).any()
    graphdef, params = nnx.split(embedding)

    def loss(params):
        module = nnx.merge(graphdef, params)
        vectors = module(jnp.array([[padding_id, 2, 3]]))
        # Through the look-up, the logits and the table, as losses use it.
        return (
            jax.nn.logsumexp(module.attend(vectors + 1.0)).sum()
            + (module.table() ** 2 + module.table()).sum()
        )

    gradient = np.asarray(jax.grad(loss)(params)["embedding"][...])
    assert not gradient[padding_id].any()
    others = np.delete(gradient, padding_id, axis=0)
    assert (np.abs(others).max(axis=1) > 0).all()


def test_without_padding_every_row_is_learned():
    embedding = make(padding_id=None)
    assert np.asarray(embedding.embedding[...]).any(axis=1).all()


def test_freeze_row_goes_under_jit_and_vmap():
    table = jnp.ones((3, 2))
    gradient = jax.jit(jax.vmap(jax.grad(lambda table: (3.0 * freeze_row(table, 1)).sum())))(
        jnp.stack([table] * 2)
    )
    np.testing.assert_array_equal(gradient[1], [[3, 3], [0, 0], [3, 3]])


def test_rows_start_with_unit_length_on_average():
    embedding = Embedding(1000, 64, padding_id=0, scale="sqrt_dim", rngs=nnx.Rngs(0))
    assert abs(float((embedding.embedding[...] ** 2).sum() / 999) - 1.0) < 0.02


def test_bad_values_are_refused():
    with pytest.raises(ConfigError, match=r"padding_id must be in \[0, vocab_size\).*got 7"):
        make(padding_id=7)
    with pytest.raises(ConfigError, match="scale must be"):
        make(scale="sqrt")


def test_ids_outside_of_the_vocabulary_give_nan_and_no_gradient():
    embedding = make(padding_id=None)
    graphdef, params = nnx.split(embedding)
    vectors = jax.jit(embedding)(jnp.array([-1, 7, 99, 6]))
    assert np.isnan(vectors[:3]).all()
    np.testing.assert_array_equal(vectors[3], 4.0 * embedding.embedding[...][6])
    gradient = jax.grad(lambda params: nnx.merge(graphdef, params)(jnp.array([-1, 7, 6])).sum())(params)
    wanted = np.zeros((7, 16))
    wanted[6] = 4.0
    np.testing.assert_allclose(gradient["embedding"][...], wanted, rtol=1e-6)


def test_padding_may_hold_any_number():
    embedding, valid = make(), jnp.array([True, False, False])
    vectors = embedding(jnp.array([5, -1, 99]), valid=valid)
    np.testing.assert_array_equal(vectors, embedding(jnp.array([5, 0, 0])))


def test_learned_positions_past_their_end_give_nan():
    encoding = PositionalEncoding(Learned(max_len=3), 4, 2, bidirectional=False, rngs=nnx.Rngs(0))
    added = encoding.add(jnp.zeros((1, 4, 4)), jnp.array([[0, 2, 3, -1]]))
    assert np.isnan(added).all(axis=-1).tolist() == [[False, False, True, True]]
