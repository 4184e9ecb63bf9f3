"""Seeds: one key for each, and none for what JAX would cut to 32 bits."""

import jax
import pytest

from transformer_jax.errors import ConfigError
from transformer_jax.functional import seed_key
from transformer_jax.models import LastState, RecurrentSeq2SeqConfig, build_model
from transformer_jax.models.sizes import Sizes


@pytest.mark.parametrize("seed", [-1, 2**32, 2**64, 99999999999999999999])
def test_a_seed_that_would_be_cut_is_refused(seed):
    config = RecurrentSeq2SeqConfig(
        embedding_dim=2, hidden_dim=2, cell="rnn", num_encoder_layers=1, num_decoder_layers=1, bidirectional=False,
        attention=LastState(feed_each_step=False), dropout_rate=0.0, residual=False,
    )  # fmt: skip
    for make in (
        seed_key,
        lambda seed: build_model(config, Sizes.of_pairs(5), seed=seed),
    ):
        with pytest.raises(ConfigError, match=rf"seed must be at least 0 and below 2\*\*32, got {seed}"):
            make(seed)


def test_seeds_of_32_bits_give_the_keys_of_jax():
    assert seed_key(0) == jax.random.key(0)
    assert seed_key(2**32 - 1) == jax.random.key(2**32 - 1)
    assert seed_key(2**32 - 1) != seed_key(0)
