"""Sampling with temperature, top-k, top-p and min-p; each row draws from its own random stream."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from transformer_jax.decode.greedy import most_probable_tokens
from transformer_jax.decode.logits import keep_min_p, keep_top_p, top_k_rows
from transformer_jax.decode.protocol import StepModel, state_batch_size
from transformer_jax.decode.search_config import GreedyConfig, SampleConfig, check_sampling_options
from transformer_jax.decode.search_options import NO_ROW_OPTIONS, RowOptions, SearchIds
from transformer_jax.decode.token_loop import DecodeOutput, token_loop
from transformer_jax.errors import ConfigError
from transformer_jax.typing import Array, Float, Int, Key, PyTree


def sample_tokens(
    rng_keys: Key[Array, "batch"],
    logits: Float[Array, "batch vocab"],
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    min_p: float = 0.0,
) -> Int[Array, "batch"]:
    r"""Draw one token a row, each with its own key.

    .. math:: y \sim \operatorname{softmax}(z / T) \text{ on the top } k \text{, then on the nucleus of } p
        \text{, then where } p_y \ge p_{min} \max p

    Args:
      rng_keys: One typed key a row.
      logits: Unnormalised scores without NaN; ``-inf`` is never drawn while another value is there.
      temperature: Divisor of the logits; 0 takes the most probable token.
      top_k: Keep this many of the largest logits; None keeps all, more than the vocabulary too.
      top_p: Then keep the smallest set of most probable tokens with at least this mass of what is left.
      min_p: Then keep the tokens at least so many times as probable as the most probable one.

    Returns:
      Token ids.

    Raises:
      ConfigError: If an option is out of range.

    Example:
      >>> keys = jax.random.split(jax.random.key(0), 3)
      >>> logits = jnp.tile(jnp.array([[0.0, 9.0, 8.0, 1.0]]), (3, 1))
      >>> set(sample_tokens(keys, logits, top_k=2).tolist()) <= {1, 2}
      True

    Source: Fan et al. 2018, https://arxiv.org/abs/1805.04833, section 5.3 (top-k); Holtzman et al. 2020,
    https://arxiv.org/abs/1904.09751, section 3.1 (top-p); Nguyen et al. 2024,
    https://arxiv.org/abs/2407.01082, section 3 (min-p).
    """
    check_sampling_options(temperature, top_k, top_p, min_p)
    if temperature == 0.0:
        return most_probable_tokens(logits)
    # From the row's maximum, so that a small temperature cannot overflow.
    maximum = jnp.max(logits, axis=-1, keepdims=True)
    logits = (logits - jnp.where(maximum == -jnp.inf, 0.0, maximum)) / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        logits, token_ids = top_k_rows(logits, top_k)
        kept = keep_min_p(keep_top_p(logits, top_p), min_p)
        choices = jax.vmap(jax.random.categorical)(rng_keys, kept)
        return jnp.take_along_axis(token_ids, choices[:, None], axis=1)[:, 0]
    return jax.vmap(jax.random.categorical)(rng_keys, keep_min_p(keep_top_p(logits, top_p), min_p))


def sample_search(
    model: StepModel,
    state: PyTree,
    config: SampleConfig,
    ids: SearchIds,
    rows: RowOptions = NO_ROW_OPTIONS,
    *,
    rng_key: Key[Array, ""],
) -> DecodeOutput:
    """Draw each token from the model's distribution, until every row has ended.

    Step ``t`` of the row of id ``i`` draws with the key ``fold_in(fold_in(rng_key, i), t)``: its result depends on the
    key, its id and its own state, not on its neighbours or its place. ``log_probs`` are the model's own (temperature 1,
    nothing cut off, no repetition penalty), so that they compare with those of the other searches. Rows without a
    possible token stop as in greedy search.

    Args:
      model: A model with ``step``.
      state: What ``model.start`` returned: every leaf has the batch as axis 0.
      config: How to draw, and limits of the outputs; the state must have room for ``max_len`` tokens.
      ids: Tokens that begin, end and fill up an output.
      rows: What is given for each row; those without ``row_ids`` are numbered from 0.
      rng_key: Typed key; the same key gives the same result.

    Returns:
      One hypothesis a row; ``found`` tells of rows without a possible token.

    Raises:
      ConfigError: If a token id is not in the vocabulary.
      ShapeError: If a leaf of ``state`` does not have the batch as axis 0, or there is no room for ``max_len`` tokens.

    Example:
      >>> from transformer_jax.decode import SampleConfig, SearchIds, TokenInputs
      >>> from transformer_jax.testing.tiny_models import TableModel
      >>> model = TableModel.countdown(vocab_size=5, eos_id=3)
      >>> state = model.start(TokenInputs(jnp.array([[0]]), jnp.array([1])), max_len=4)
      >>> config, ids = SampleConfig(max_len=4, top_k=1), SearchIds(bos_id=2, eos_id=3, pad_id=4)
      >>> output = sample_search(model, state, config, ids, rng_key=jax.random.key(0))
      >>> output.tokens.tolist()
      [[1, 0, 3, 4]]

    Source: Holtzman et al. 2020, https://arxiv.org/abs/1904.09751.
    """
    choose = token_chooser(config, rows, state_batch_size(state), rng_key)
    return token_loop(model, state, choose, config, ids, rows)


def token_chooser(
    config: GreedyConfig | SampleConfig, rows: RowOptions, num_rows: int, rng_key: Key[Array, ""] | None
) -> Callable[[Array, Array], Array]:
    """How a search takes its tokens: from logits ``[batch, vocab]`` and the step to ids ``[batch]``.

    Args:
      config: Which search.
      rows: Of which ``row_ids`` count here.
      num_rows: Rows of the batch.
      rng_key: Typed key of a search that draws.

    Example:
      >>> choose = token_chooser(GreedyConfig(max_len=4), NO_ROW_OPTIONS, 1, None)
      >>> choose(jnp.array([[0.0, 2.0]]), jnp.int32(0)).tolist()
      [1]
    """
    if isinstance(config, GreedyConfig):
        return most_probable_tokens
    if rng_key is None:
        raise ConfigError("sample search needs rng_key")
    row_ids = jnp.arange(num_rows) if rows.row_ids is None else jnp.asarray(rows.row_ids)
    row_keys = jax.vmap(lambda row: jax.random.fold_in(rng_key, row))(row_ids)

    def choose(logits: Array, step: Array) -> Array:
        step_keys = jax.vmap(lambda key: jax.random.fold_in(key, step))(row_keys)
        return sample_tokens(
            step_keys,
            logits,
            temperature=config.temperature,
            top_k=config.top_k,
            top_p=config.top_p,
            min_p=config.min_p,
        )

    return choose
