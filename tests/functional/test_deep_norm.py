"""DeepNorm's scales against the numbers of the paper's table."""

import pytest

from transformer_jax.errors import ConfigError
from transformer_jax.functional.deep_norm import deep_scales, deep_scales_of_pair


def test_scales_are_those_of_figure_2():
    assert deep_scales(18) == pytest.approx((36**0.25, 144**-0.25))
    encoder, decoder = deep_scales_of_pair(100, 100)  # the paper's deepest translation model
    assert encoder == pytest.approx((0.81 * 10**0.625, 0.87 * 10**-0.625))
    assert decoder == pytest.approx((300**0.25, 1200**-0.25))
    assert deep_scales(0) == deep_scales_of_pair(0, 3)[0] == (1.0, 1.0)


def test_impossible_depths_are_refused():
    with pytest.raises(ConfigError, match="num_layers must be at least 0, got -1"):
        deep_scales(-1)
    with pytest.raises(ConfigError, match="num_decoder_layers must be at least 1, got 0"):
        deep_scales_of_pair(2, 0)
