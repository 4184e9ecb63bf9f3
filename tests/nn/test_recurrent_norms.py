"""Norms between recurrent layers: by their formulas, step by step, with padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from transformer_jax.errors import ConfigError
from transformer_jax.models import Bahdanau, RecurrentLMConfig, RecurrentSeq2SeqConfig
from transformer_jax.nn.parameters import named_parameters
from transformer_jax.nn.recurrent import RecurrentStack, check_recurrent_norm

X = jax.random.normal(jax.random.key(0), (2, 4, 3))


def stack(**changes):
    options = {"bidirectional": False, "dropout_rate": 0.0, "residual": True} | changes
    made = RecurrentStack("gru", 3, 5, 2, **options, rngs=nnx.Rngs(0))
    for place, norm in enumerate(made.norms or ()):  # scales and shifts that are not one and zero
        norm.scale[...] = jnp.linspace(0.5, 1.5 + place, norm.scale.shape[0])
        if getattr(norm, "bias", None) is not None:
            norm.bias[...] = jnp.linspace(0.1, 0.3, norm.bias.shape[0])
    return made


@pytest.mark.parametrize("residual", [True, False])
def test_placements_are_their_formulas(residual):
    made = stack(normalization="layer", norm_placement="post", residual=residual)
    first = made.norms[0](made.layers[0](X)[0])
    second = made.layers[1](first)[0]
    wanted = made.norms[1](second + first if residual else second)
    np.testing.assert_allclose(made(X)[0], wanted, atol=1e-6)
    made = stack(normalization="layer", norm_placement="pre", residual=residual)
    first = made.layers[0](X)[0]
    second = made.layers[1](made.norms[0](first))[0]
    np.testing.assert_allclose(made(X)[0], second + first if residual else second, atol=1e-6)
    assert len(made.norms) == 1


@pytest.mark.parametrize(("kind", "placement"), [("layer", "post"), ("rms", "pre")])
def test_steps_are_the_whole_run(kind, placement):
    made = stack(normalization=kind, norm_placement=placement)
    carries, outputs = made.initial_carry(2), []
    for place in range(4):
        carries, output = made.step(carries, X[:, place])
        outputs.append(output)
    whole, last = made(X)
    np.testing.assert_allclose(jnp.stack(outputs, 1), whole, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), carries, last)


def test_padding_stays_zero_and_changes_nothing():
    made = stack(normalization="layer", norm_placement="post", bidirectional=True)
    lengths = jnp.array([4, 2])
    behind = jnp.arange(4)[None, :, None] >= lengths[:, None, None]
    found = made(X, lengths=lengths)[0]
    assert not np.asarray(found)[np.broadcast_to(behind, found.shape)].any()
    np.testing.assert_array_equal(made(jnp.where(behind, jnp.nan, X), lengths=lengths)[0], found)


def test_without_norms_nothing_is_drawn_or_added():
    plain, normed = (named_parameters(stack(normalization=kind)) for kind in ("none", "rms"))
    assert normed.keys() - plain.keys() == {"norms.0.scale", "norms.1.scale"}
    for name, array in plain.items():
        np.testing.assert_array_equal(array, normed[name])


def test_impossible_values_are_refused():
    sizes = {"embedding_dim": 4, "hidden_dim": 4}
    with pytest.raises(ConfigError, match="normalization must be one of 'none', 'layer', 'rms'; got 'batch'"):
        check_recurrent_norm("batch", "post")
    with pytest.raises(ConfigError, match="norm_placement 'pre' normalises the input of every layer but"):
        RecurrentLMConfig(cell="gru", num_layers=1, normalization="rms", norm_placement="pre", **sizes)
    RecurrentSeq2SeqConfig(
        attention=Bahdanau(attention_dim=3),
        num_decoder_layers=2,
        normalization="rms",
        norm_placement="pre",
        **sizes,
    )
