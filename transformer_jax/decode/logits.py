"""From a model's logits to what search compares: cleaned values, log-probabilities, the largest few.

Values that no model should give have a defined meaning here: NaN counts as ``-inf`` (the token is
impossible), ``+inf`` as the largest float (the token takes all the probability, shared between several of
them). A row without any possible token ends its hypothesis, unfinished, with log-probability ``-inf``.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from transformer_jax.errors import ConfigError
from transformer_jax.typing import Array, Bool, Float, Int

# Below these sizes a plain top_k is as fast; see top_k_rows.
_CHUNK_WIDTH = 64
_MIN_CHUNKS_PER_CHOICE = 4


def clean_logits(logits: Float[Array, "batch vocab"]) -> Float[Array, "batch vocab"]:
    """Logits in float32 with NaN as ``-inf`` and ``+inf`` as the largest float.

    Args:
      logits: Unnormalised scores of any float dtype.

    Returns:
      Values without NaN and ``+inf``, float32.

    Example:
      >>> clean_logits(jnp.array([[0.0, jnp.nan, -jnp.inf]])).tolist()
      [[0.0, -inf, -inf]]
    """
    logits = logits.astype(jnp.float32)
    return jnp.where(jnp.isnan(logits), -jnp.inf, jnp.minimum(logits, jnp.finfo(jnp.float32).max))


def forbid_tokens(
    logits: Float[Array, "batch vocab"], forbidden_ids: tuple[int, ...]
) -> Float[Array, "batch vocab"]:
    """Logits with ``-inf`` at tokens that search must never choose.

    Args:
      logits: Unnormalised scores.
      forbidden_ids: Token ids to rule out, such as padding and the start of a sequence.

    Returns:
      The masked logits.

    Raises:
      ConfigError: If an id is not in the vocabulary.

    Example:
      >>> forbid_tokens(jnp.array([[1.0, 2.0, 3.0]]), (2,)).tolist()
      [[1.0, 2.0, -inf]]
    """
    if not forbidden_ids:
        return logits
    vocab_size = logits.shape[-1]
    for token_id in forbidden_ids:
        check_token_id("forbidden_ids", token_id, vocab_size)
    allowed = np.ones((1, vocab_size), dtype=bool)
    allowed[:, list(forbidden_ids)] = False
    return jnp.where(allowed, logits, -jnp.inf)


def log_normalizers(model: Any, logits: Float[Array, "batch vocab"]) -> Float[Array, "batch"]:
    r"""What is taken off each row's logits to make log-probabilities: :math:`\log \sum_j e^{z_j}`, or nothing.

    Args:
      model: The step model; one with a true ``gives_log_probs`` is taken at its word.
      logits: Cleaned logits.

    Example:
      >>> f"{float(log_normalizers(None, jnp.zeros((1, 4)))[0]):.4f}"
      '1.3863'
    """
    if getattr(model, "gives_log_probs", False):
        return jnp.zeros(logits.shape[0], jnp.float32)
    return jax.nn.logsumexp(logits, axis=-1)


def choice_log_probs(
    chosen_logits: Float[Array, "batch choices"], log_normalizer: Float[Array, "batch"]
) -> Float[Array, "batch choices"]:
    r"""Log-probabilities of a few tokens of each row, without normalising the whole vocabulary.

    .. math:: \log p_i = \min(z_i - \log \sum_j e^{z_j}, 0)

    Args:
      chosen_logits: Cleaned logits of the chosen tokens.
      log_normalizer: Of each row, see `log_normalizers`.

    Returns:
      Values of at most zero; ``-inf`` for an impossible token.

    Example:
      >>> choice_log_probs(jnp.array([[0.0, -jnp.inf]]), jnp.array([0.5])).tolist()
      [[-0.5, -inf]]
    """
    # Rounding may leave +1e-7, which would break "a longer hypothesis is never more probable".
    log_probs = jnp.minimum(chosen_logits - log_normalizer[:, None], 0.0)
    return jnp.where(chosen_logits == -jnp.inf, -jnp.inf, log_probs)


def top_k_rows(
    values: Float[Array, "batch vocab"], k: int
) -> tuple[Float[Array, "batch choices"], Int[Array, "batch choices"]]:
    """The ``k`` largest of each row, largest first, ties by the lower index.

    The same as ``jax.lax.top_k``, faster on wide rows: a row is cut in chunks of 64; the k chunks with the
    largest maxima hold the k largest values, so that only they are searched. On two CPU cores this takes a
    quarter of the time for 8,000 columns, an eighth for 32,000.

    Args:
      values: Numbers without NaN.
      k: How many to take, at most the number of columns.

    Returns:
      The values and their column indices (int32).

    Raises:
      ConfigError: If ``k`` is not between 1 and the number of columns.

    Example:
      >>> values, indices = top_k_rows(jnp.array([[3.0, 9.0, 5.0]]), 2)
      >>> values.tolist(), indices.tolist()
      ([[9.0, 5.0]], [[1, 2]])
    """
    num_rows, num_columns = values.shape
    if not 1 <= k <= num_columns:
        raise ConfigError(f"k must be between 1 and the number of columns, {num_columns}; got {k}")
    if num_columns < _MIN_CHUNKS_PER_CHOICE * k * _CHUNK_WIDTH:
        top_values, top_indices = jax.lax.top_k(values, k)
        return top_values, top_indices
    num_chunks = -(-num_columns // _CHUNK_WIDTH)
    padding = num_chunks * _CHUNK_WIDTH - num_columns
    chunks = jnp.pad(values, ((0, 0), (0, padding)), constant_values=-jnp.inf)
    chunks = chunks.reshape(num_rows, num_chunks, _CHUNK_WIDTH)
    _, best_chunks = jax.lax.top_k(chunks.max(axis=-1), k)
    best_chunks = jnp.sort(best_chunks, axis=-1)  # Ascending, so that ties still go to the lower column.
    candidates = jnp.take_along_axis(chunks, best_chunks[:, :, None], axis=1)  # [rows, k, chunk width]
    best_values, places = jax.lax.top_k(candidates.reshape(num_rows, k * _CHUNK_WIDTH), k)
    chunk_ids = jnp.take_along_axis(best_chunks, places // _CHUNK_WIDTH, axis=1)
    return best_values, chunk_ids * _CHUNK_WIDTH + places % _CHUNK_WIDTH


def keep_top_p(logits: Float[Array, "batch vocab"], top_p: float) -> Float[Array, "batch vocab"]:
    r"""Nucleus: the smallest set of most probable tokens with total probability of at least ``top_p``.

    .. math:: V_p = \{\text{the first } n \text{ by probability}\}, \quad
        n = \min\{m : \textstyle\sum_{i \le m} p_{(i)} \ge p\}

    Args:
      logits: Cleaned, unnormalised scores.
      top_p: Probability mass to keep, in (0, 1]; the most probable token always stays.

    Returns:
      The logits, ``-inf`` outside the nucleus; of equally probable tokens the lower ids are kept first.

    Raises:
      ConfigError: If ``top_p`` is not in (0, 1].

    Example:
      >>> logits = jnp.log(jnp.array([[0.1, 0.6, 0.3]]))
      >>> jnp.isfinite(keep_top_p(logits, 0.7)).tolist()
      [[False, True, True]]

    Source: Holtzman et al. 2020, https://arxiv.org/abs/1904.09751, section 3.1.
    """
    if not 0.0 < top_p <= 1.0:
        raise ConfigError(f"top_p must be above 0 and at most 1; got {top_p}")
    if top_p == 1.0:
        return logits
    order = jnp.argsort(-logits, axis=-1, stable=True)
    probabilities = jnp.take_along_axis(jax.nn.softmax(logits, axis=-1), order, axis=-1)
    # The mass before each token: it is needed while the tokens before it do not reach top_p.
    mass_before = jnp.cumsum(probabilities, axis=-1)[:, :-1]
    needed = jnp.pad(mass_before < top_p, ((0, 0), (1, 0)), constant_values=True)
    kept = jnp.take_along_axis(needed, jnp.argsort(order, axis=-1), axis=-1)
    return jnp.where(kept, logits, -jnp.inf)


def keep_min_p(logits: Float[Array, "batch vocab"], min_p: float) -> Float[Array, "batch vocab"]:
    r"""The tokens that are at least ``min_p`` times as probable as the most probable one.

    .. math:: V = \{v : p(v) \ge p_{min} \max_w p(w)\} = \{v : z_v \ge \max_w z_w + \log p_{min}\}

    Args:
      logits: Cleaned, unnormalised scores.
      min_p: Ratio to the largest probability, in [0, 1]; 0 keeps all, 1 only the most probable.

    Returns:
      The logits, ``-inf`` at other tokens.

    Raises:
      ConfigError: If ``min_p`` is not in [0, 1].

    Example:
      >>> logits = jnp.log(jnp.array([[0.1, 0.6, 0.3]]))
      >>> jnp.isfinite(keep_min_p(logits, 0.4)).tolist()
      [[False, True, True]]

    Source: Nguyen et al. 2024, https://arxiv.org/abs/2407.01082, section 3.
    """
    if not 0.0 <= min_p <= 1.0:
        raise ConfigError(f"min_p must be between 0 (all tokens) and 1; got {min_p}")
    if min_p == 0.0:
        return logits
    lowest = jnp.max(logits, axis=-1, keepdims=True) + np.float32(np.log(min_p))
    return jnp.where(logits >= lowest, logits, -jnp.inf)


def penalize_repetition(
    logits: Float[Array, "batch vocab"], seen: Bool[Array, "batch vocab"], penalty: float
) -> Float[Array, "batch vocab"]:
    r"""Logits in which the tokens that were said before are less probable.

    .. math:: z_v' = z_v / \theta \text{ if } z_v > 0, \quad z_v \theta \text{ otherwise, for } v \text{ said before}

    The paper divides every logit; of a negative one this would raise the probability, so that it is multiplied here, as
    in ``transformers``.

    Args:
      logits: Cleaned, unnormalised scores; the result depends on where their zero is.
      seen: Which tokens were said before.
      penalty: :math:`\theta`; 1 changes nothing, the paper has 1.2.

    Returns:
      The changed logits.

    Example:
      >>> logits = jnp.array([[3.0, 3.0, -1.0]])
      >>> penalize_repetition(logits, jnp.array([[True, False, True]]), 1.5).tolist()
      [[2.0, 3.0, -1.5]]

    Source: Keskar et al. 2019, https://arxiv.org/abs/1909.05858, section 4.1.
    """
    largest = jnp.finfo(jnp.float32).max
    changed = jnp.where(logits > 0.0, logits / penalty, logits * penalty)
    # A possible token stays possible, and none becomes certain.
    return jnp.where(seen & (logits > -jnp.inf), jnp.clip(changed, -largest, largest), logits)


def length_penalty(lengths: Int[Array, "*shape"], alpha: float) -> Float[Array, "*shape"]:
    r"""Divisor of a hypothesis' log-probability, which otherwise favours short ones.

    .. math:: lp(n) = \left(\frac{5 + n}{6}\right)^\alpha

    Args:
      lengths: Tokens of each hypothesis, the end of the sequence included.
      alpha: Strength: 0 compares log-probabilities, 0.6 is usual.

    Returns:
      The divisors, float32; 1 at length 1.

    Example:
      >>> length_penalty(jnp.array([1, 7]), 1.0).tolist()
      [1.0, 2.0]

    Source: Wu et al. 2016, https://arxiv.org/abs/1609.08144, equation 14.
    """
    return ((5.0 + lengths.astype(jnp.float32)) / 6.0) ** alpha


def check_token_id(name: str, token_id: int, vocab_size: int) -> None:
    """Raise ConfigError unless ``token_id`` is an entry of the vocabulary.

    Example:
      >>> check_token_id("eos_id", 3, vocab_size=5)
    """
    if not 0 <= token_id < vocab_size:
        raise ConfigError(
            f"{name} must be a token id below the vocabulary's size, {vocab_size}; got {token_id}"
        )
