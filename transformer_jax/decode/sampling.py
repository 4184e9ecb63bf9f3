"""Sampling with temperature, top-k and top-p; each row draws from its own random stream."""

import jax
import jax.numpy as jnp

from transformer_jax.decode.constraints import NONE, Constraints
from transformer_jax.decode.greedy import most_probable_tokens
from transformer_jax.decode.logits import keep_top_p, top_k_rows
from transformer_jax.decode.protocol import StepModel, state_batch_size
from transformer_jax.decode.token_loop import DecodeOutput, token_loop
from transformer_jax.errors import ConfigError
from transformer_jax.typing import Array, Float, Int, Key, PyTree


def check_sampling_options(temperature: float, top_k: int | None, top_p: float) -> None:
    """Raise ConfigError unless the options of sampling are in range.

    Example:
      >>> check_sampling_options(1.0, None, 0.9)
    """
    if not 0.0 <= temperature < float("inf"):
        raise ConfigError(f"temperature must be zero (greedy) or a positive number; got {temperature}")
    if top_k is not None and top_k < 1:
        raise ConfigError(f"top_k must be at least 1, or None for all tokens; got {top_k}")
    if not 0.0 < top_p <= 1.0:
        raise ConfigError(f"top_p must be above 0 and at most 1; got {top_p}")


def sample_tokens(
    rng_keys: Key[Array, "batch"],
    logits: Float[Array, "batch vocab"],
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
) -> Int[Array, "batch"]:
    r"""Draw one token a row, each with its own key.

    .. math:: y \sim \operatorname{softmax}(z / T) \text{ on the top } k \text{, then on the nucleus of } p

    Args:
      rng_keys: One typed key a row.
      logits: Unnormalised scores without NaN; ``-inf`` is never drawn while another value is there.
      temperature: Divisor of the logits; 0 takes the most probable token.
      top_k: Keep this many of the largest logits; None keeps all, more than the vocabulary too.
      top_p: Then keep the smallest set of most probable tokens with at least this mass of what is left.

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
    https://arxiv.org/abs/1904.09751, section 3.1 (top-p).
    """
    check_sampling_options(temperature, top_k, top_p)
    if temperature == 0.0:
        return most_probable_tokens(logits)
    # From the row's maximum, so that a small temperature cannot overflow.
    maximum = jnp.max(logits, axis=-1, keepdims=True)
    logits = (logits - jnp.where(maximum == -jnp.inf, 0.0, maximum)) / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        logits, token_ids = top_k_rows(logits, top_k)
        choices = jax.vmap(jax.random.categorical)(rng_keys, keep_top_p(logits, top_p))
        return jnp.take_along_axis(token_ids, choices[:, None], axis=1)[:, 0]
    return jax.vmap(jax.random.categorical)(rng_keys, keep_top_p(logits, top_p))


def sample_search(
    model: StepModel,
    state: PyTree,
    *,
    rng_key: Key[Array, ""],
    bos_id: int,
    eos_id: int,
    max_len: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    pad_id: int = 0,
    max_lens: Int[Array, "batch"] | None = None,
    forbidden_ids: tuple[int, ...] = (),
    constraints: Constraints = NONE,
    prefix: Int[Array, "batch prefix_len"] | None = None,
    row_ids: Int[Array, "batch"] | None = None,
) -> DecodeOutput:
    """Draw each token from the model's distribution, until every row has ended.

    The row of id ``i`` draws from the key ``fold_in(rng_key, i)``: its result depends on the key, its id and its
    own state, not on its neighbours or its place. ``log_probs`` are the model's own (temperature 1, nothing cut
    off), so that they compare with those of the other searches. Rows without a possible token stop as in greedy search.

    Args:
      model: A model with ``step``.
      state: What ``model.start`` returned: every leaf has the batch as axis 0.
      rng_key: Typed key; the same key gives the same result.
      bos_id: Token that is fed first.
      eos_id: Token that ends a row.
      max_len: Most tokens to generate, the end of the sequence included.
      temperature: Divisor of the logits; 0 is greedy search.
      top_k: Draw from this many of the most probable tokens; None for all.
      top_p: Then draw from the smallest set of them with at least this mass; 1 for all.
      pad_id: Fills ``tokens`` after the end.
      max_lens: Each row's own limit, at most ``max_len``; None for no own limits.
      forbidden_ids: Tokens never to draw.
      constraints: Least length and n-grams that may not come twice.
      prefix: Tokens that each row must begin with, ``[batch, prefix_len]``, ``-1`` where it is free; None for none.
      row_ids: A number for each row; None numbers them from 0.

    Returns:
      One hypothesis a row; ``found`` tells of rows without a possible token.

    Raises:
      ConfigError: If an option or token id is out of range.
      ShapeError: If a leaf of ``state`` does not have the batch as axis 0, or there is no room for ``max_len`` tokens.

    Example:
      >>> from transformer_jax.decode import TokenInputs
      >>> from transformer_jax.testing.tiny_models import TableModel
      >>> model = TableModel.countdown(vocab_size=5, eos_id=3)
      >>> state = model.start(TokenInputs(jnp.array([[0]]), jnp.array([1])), max_len=4)
      >>> output = sample_search(
      ...     model, state, rng_key=jax.random.key(0), bos_id=2, eos_id=3, pad_id=4, max_len=4, top_k=1
      ... )
      >>> output.tokens.tolist()
      [[1, 0, 3, 4]]

    Source: Holtzman et al. 2020, https://arxiv.org/abs/1904.09751.
    """
    check_sampling_options(temperature, top_k, top_p)
    rows = jnp.arange(state_batch_size(state)) if row_ids is None else row_ids
    row_keys = jax.vmap(lambda row: jax.random.fold_in(rng_key, row))(rows)

    def choose(logits: Array, step: Array) -> Array:
        step_keys = jax.vmap(lambda key: jax.random.fold_in(key, step))(row_keys)
        return sample_tokens(step_keys, logits, temperature=temperature, top_k=top_k, top_p=top_p)

    return token_loop(
        model,
        state,
        choose,
        bos_id=bos_id,
        eos_id=eos_id,
        max_len=max_len,
        pad_id=pad_id,
        max_lens=max_lens,
        forbidden_ids=forbidden_ids,
        constraints=constraints,
        prefix=prefix,
    )
