"""Gradient norms by layer, and the figure of them."""

import numpy as np
import pytest

from transformer_jax.errors import DataError
from transformer_jax.plot.gradient_norms import gradient_norms_by_depth
from transformer_jax.training.layer_gradients import layer_gradient_norms


def test_norms_are_of_whole_layers_in_their_order() -> None:
    random = np.random.default_rng(0)
    gradient = {
        f"{stack}layers.{layer}.{part}": random.normal(size=(3, 2))
        for stack in ("", "encoder.")
        for layer in (10, 2, 0)
        for part in ("self_attention.output.kernel", "feed_forward.inner.bias")
    }
    found = layer_gradient_norms(gradient | {"embedding.embedding": random.normal(size=4)})
    assert found.keys() == {"", "encoder"}
    for stack in ("", "encoder."):
        wanted = [
            np.sqrt(
                sum(
                    (one**2).sum() for name, one in gradient.items() if name.startswith(f"{stack}layers.{n}.")
                )
            )
            for n in (0, 2, 10)
        ]
        np.testing.assert_allclose(found[stack.rstrip(".")], wanted, rtol=1e-5)


def test_the_figure_shows_a_point_a_layer() -> None:
    figure = gradient_norms_by_depth({"first": {"post": [0.1, 1.0, 2.0]}, "last": {"post": [0.5, 0.0, 0.4]}})
    lines = [axes.lines[0] for axes in figure.axes]
    np.testing.assert_array_equal(lines[0].get_ydata(), [0.1, 1.0, 2.0])
    assert np.isnan(lines[1].get_ydata()[1])
    with pytest.raises(DataError, match="norms of 'post' in panel 'first' must be at least one, finite"):
        gradient_norms_by_depth({"first": {"post": [0.1, float("nan")]}})
