"""Adam and AdamW against the papers' equations in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.training.config import Adam, AdamW
from transformer_jax.training.optimizers import build_optimizer, decays

RATES = [0.1, 0.05, 0.02]


@pytest.mark.parametrize("config", [Adam(), AdamW(weight_decay=0.1)], ids=["adam", "adamw"])
def test_three_updates_follow_the_paper(config: Adam | AdamW, random_generator: np.random.Generator) -> None:
    shapes = {"matrix": (3, 2), "vector": (4,)}
    params = {name: random_generator.normal(size=shape) for name, shape in shapes.items()}
    gradients = [{name: random_generator.normal(size=shape) for name, shape in shapes.items()} for _ in RATES]

    optimizer = build_optimizer(config, lambda updates_done: jnp.asarray(RATES)[updates_done])
    got = {name: jnp.asarray(value, jnp.float32) for name, value in params.items()}
    state = optimizer.init(got)
    for gradient in gradients:
        gradient = {name: jnp.asarray(value, jnp.float32) for name, value in gradient.items()}
        changes, state = optimizer.update(gradient, state, got)
        got = jax.tree.map(jnp.add, got, changes)

    decay = config.weight_decay if isinstance(config, AdamW) else 0.0
    for name, value in params.items():
        mean, square = np.zeros_like(value), np.zeros_like(value)
        for step, (rate, gradient) in enumerate(zip(RATES, gradients, strict=True), start=1):
            mean = config.beta1 * mean + (1 - config.beta1) * gradient[name]
            square = config.beta2 * square + (1 - config.beta2) * gradient[name] ** 2
            direction = (mean / (1 - config.beta1**step)) / (
                np.sqrt(square / (1 - config.beta2**step)) + config.epsilon
            )
            value = value - rate * (direction + (decay * value if value.ndim >= 2 else 0.0))
        np.testing.assert_allclose(got[name], value, rtol=1e-5, atol=1e-6)


def test_weight_decay_leaves_biases_and_scales_alone() -> None:
    params = {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2), "table": jnp.zeros((2, 2, 2))}
    assert decays(params) == {"kernel": True, "bias": False, "table": True}
