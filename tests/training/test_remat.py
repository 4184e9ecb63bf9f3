"""Rematerialization: the same losses and gradients, fewer values kept for the backward pass."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from transformer_jax.errors import ConfigError
from transformer_jax.models.build import build_model
from transformer_jax.models.encoder_decoder import EncoderDecoderConfig
from transformer_jax.models.recurrent_config import LastState, RecurrentSeq2SeqConfig
from transformer_jax.models.sizes import Sizes
from transformer_jax.objectives import PairCrossEntropy
from transformer_jax.testing.tiny_training import SequenceTask, TinySeq2Seq
from transformer_jax.training.state import set_remat, split_model

TASK = SequenceTask(task="copy", vocab_size=17, min_len=20, max_lens=(32,), batch_size=4)


def transformer(num_layers: int) -> Any:
    return EncoderDecoderConfig(
        model_dim=16, num_heads=2, num_kv_heads=2, feed_forward_dim=64, num_encoder_layers=num_layers,
        num_decoder_layers=num_layers, dropout_rate=0.1,
    )  # fmt: skip


def recurrent(num_layers: int) -> Any:
    return RecurrentSeq2SeqConfig(
        embedding_dim=16, hidden_dim=16, cell="lstm", num_encoder_layers=num_layers, num_decoder_layers=num_layers,
        bidirectional=False, attention=LastState(feed_each_step=False), dropout_rate=0.1, residual=False,
    )  # fmt: skip


def loss_of(config: Any, recomputed: Any) -> tuple[Callable[[Any], Any], Any]:
    """The loss as a function of the parameters, and parameters."""
    model = build_model(config, Sizes.of_pairs(17), seed=0)
    set_remat(model, recomputed)
    structure, params, others = split_model(model)
    objective, batch, key = PairCrossEntropy(label_smoothing=0.1), TASK.batch(0), jax.random.key(1)
    return lambda params: objective(structure.merge(params, others), batch, key)[0].sum, params


def kept_bytes(config: Any, recomputed: Any) -> int:
    """Of everything that the backward pass is handed, parameters included; nothing is computed."""
    loss, params = loss_of(config, recomputed)
    pullback = jax.eval_shape(lambda params: jax.vjp(loss, params)[1], params)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(pullback))


@pytest.mark.parametrize("make", [transformer, recurrent])
def test_less_is_kept_with_every_layer(make: Callable[[int], Any]) -> None:
    a_layer = {
        recomputed: kept_bytes(make(3), recomputed) - kept_bytes(make(2), recomputed)
        for recomputed in ("nothing", "elementwise", "layers")
    }
    params = [sum(leaf.nbytes for leaf in jax.tree.leaves(loss_of(make(n), "nothing")[1])) for n in (2, 3)]
    activations = {name: size - (params[1] - params[0]) for name, size in a_layer.items()}
    if make is transformer:  # a recurrence keeps what its own backward pass needs, products or not
        assert activations["layers"] < activations["elementwise"] < activations["nothing"]
    assert activations["layers"] < 0.4 * activations["nothing"], activations


@pytest.mark.parametrize("make", [transformer, recurrent])
def test_gradients_are_the_same(make: Callable[[int], Any]) -> None:
    found = {}
    for recomputed in ("nothing", "elementwise", "layers"):
        loss, params = loss_of(make(1), recomputed)
        found[recomputed] = jax.jit(jax.value_and_grad(loss))(params)
    wanted = found.pop("nothing")
    for one in found.values():
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), one, wanted)


def test_a_model_that_cannot_is_refused(make_model: Callable[..., TinySeq2Seq]) -> None:
    set_remat(make_model(), "nothing")
    with pytest.raises(ConfigError, match="TinySeq2Seq has no layers that know it"):
        set_remat(make_model(), "layers")
