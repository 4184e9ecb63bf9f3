"""Losses, as sums with their counts, divided once over everything that they cover."""

from typing import Any

import jax
import jax.numpy as jnp

from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional.dtypes import as_array, wide
from transformer_jax.functional.projected_divergence import projected_divergence_sum
from transformer_jax.functional.projected_logsumexp import projected_logsumexp_sum
from transformer_jax.functional.row_shards import by_row_shards
from transformer_jax.pytree import pytree_dataclass
from transformer_jax.typing import Array, Float, Int, Shaped

Number = float | int | Float[Array, ""]


@pytree_dataclass
class LossSum:
    """A sum of losses and the count (or the sum of weights) that it covers, both float32 (float64 from float64).

    Sums of micro-batches and of devices add up; the mean is taken once, at the end, so that gradient
    accumulation and data parallelism give the gradient of the big batch.

    Example:
      >>> total = LossSum.of(6.0, 2) + LossSum.of(1.0, 5)
      >>> float(total.mean())
      1.0
    """

    sum: Float[Array, "..."]
    count: Float[Array, "..."]

    @classmethod
    def of(cls, total: Number | Shaped[Array, "..."], count: Number | Shaped[Array, "..."]) -> "LossSum":
        """From any two numbers, in float32; in float64 if the sum is an array of it."""
        dtype = wide(total) if isinstance(total, jax.Array) else jnp.float32
        return cls(jnp.asarray(total, dtype), jnp.asarray(count, dtype))

    @classmethod
    def zero(cls) -> "LossSum":
        """Nothing yet."""
        return cls.of(0.0, 0.0)

    def __add__(self, other: "LossSum") -> "LossSum":
        return LossSum(self.sum + other.sum, self.count + other.count)

    def mean(self) -> Float[Array, "..."]:
        """``sum / count``; zero, with zero gradient, where nothing was counted."""
        some = self.count > 0
        return jnp.where(some, self.sum / jnp.where(some, self.count, 1.0), 0.0)


def cross_entropy(
    logits: Float[Array, "*positions vocab"],
    labels: Int[Array, "*positions"],
    *,
    weights: Shaped[Array, "*positions"] | None = None,
    label_smoothing: float = 0.0,
) -> LossSum:
    r"""Cross-entropy of integer labels, smoothed over the whole vocabulary, without one-hot labels.

    .. math::
      \sum_n w_n \left[\log\sum_v e^{z_{nv}} - (1-\epsilon)\, z_{n y_n} - \frac{\epsilon}{V} \sum_v
      z_{nv}\right]

    Args:
      logits: Scores before the softmax; any float type, the loss is computed in float32 or wider.
      labels: Indices into the vocabulary. Where the weight is zero they may be anything; elsewhere an index
        outside the vocabulary gives NaN.
      weights: Weight of each position, or a boolean mask; all one when ``None``. A position of weight zero
        contributes nothing, whatever its logits hold.
      label_smoothing: The share of each label spread evenly over the vocabulary.

    Returns:
      The weighted sum and the sum of the weights.

    Raises:
      ShapeError: If labels or weights do not have one entry for each row of logits.
      ConfigError: If ``label_smoothing`` is not in [0, 1).

    Example:
      >>> loss = cross_entropy(jnp.zeros((2, 4)), jnp.array([1, 3]))
      >>> print(f"{float(loss.mean()):.4f}", float(loss.count))
      1.3863 2.0

    Source: Szegedy et al. 2016, https://arxiv.org/abs/1512.00567, section 7.
    """
    logits, labels, weights = _arrays(logits=logits, labels=labels, weights=weights)
    _check(logits.shape[:-1], labels, weights, label_smoothing, "logits")
    vocab_size = logits.shape[-1]
    logits = logits.astype(wide(logits))
    labels, weights = _clean(labels, weights, vocab_size)
    logits = _counted(logits, weights)
    # Out of bounds gives NaN ("fill"): an error that shows, where clamping would train on the wrong word.
    label_logits = jnp.take_along_axis(logits, labels[..., None], axis=-1, mode="fill")[..., 0]
    losses = jax.nn.logsumexp(logits, axis=-1) - (1.0 - label_smoothing) * label_logits
    if label_smoothing:
        losses = losses - label_smoothing * logits.mean(axis=-1)
    return _weighted(losses, weights)


def projected_cross_entropy(
    hidden: Float[Array, "*positions model"],
    embedding: Float[Array, "vocab model"],
    labels: Int[Array, "*positions"],
    *,
    weights: Shaped[Array, "*positions"] | None = None,
    label_smoothing: float = 0.0,
    bias: Float[Array, "vocab"] | None = None,
) -> LossSum:
    r"""Cross-entropy of the logits ``hidden @ embedding.T + bias``, at the price of their matmuls alone.

    .. math::
      \sum_n w_n \left[\log\sum_v e^{h_n \cdot e_v + b_v} - (1-\epsilon)(h_n \cdot e_{y_n} + b_{y_n})
      - \epsilon\,(h_n \cdot \bar e + \bar b)\right]

    The label's logit and the mean logit are taken from the embedding, not from the logits, so that only the
    log-sum-exp reads all of them, and they are never stored. Equal to :func:`cross_entropy` of the logits;
    reverse-mode derivatives only.

    Args:
      hidden: The states before the output projection.
      embedding: Rows of the output projection (the embedding itself when tied).
      labels: As in :func:`cross_entropy`.
      weights: As in :func:`cross_entropy`; NaN in the hidden states of a position of weight zero reaches
        nothing.
      label_smoothing: The share of each label spread evenly over the vocabulary.
      bias: Added to the logits.

    Returns:
      The weighted sum and the sum of the weights.

    Raises:
      ShapeError: If labels or weights do not have one entry for each hidden state, or embedding and bias
        do not fit.
      ConfigError: If ``label_smoothing`` is not in [0, 1).

    Example:
      >>> loss = projected_cross_entropy(jnp.zeros((2, 8)), jnp.ones((4, 8)), jnp.array([1, 3]))
      >>> print(f"{float(loss.mean()):.4f}", float(loss.count))
      1.3863 2.0

    Source: Szegedy et al. 2016, https://arxiv.org/abs/1512.00567, section 7 (the smoothing).
    """
    return projected_loss_and_accuracy(
        hidden, embedding, labels, weights=weights, label_smoothing=label_smoothing, bias=bias
    )[0]


def projected_loss_and_accuracy(
    hidden: Float[Array, "*positions model"],
    embedding: Float[Array, "vocab model"],
    labels: Int[Array, "*positions"],
    *,
    weights: Shaped[Array, "*positions"] | None = None,
    label_smoothing: float = 0.0,
    bias: Float[Array, "vocab"] | None = None,
) -> tuple[LossSum, LossSum]:
    r"""Result of :func:`projected_cross_entropy`, and the share of labels that have the highest logit.

    .. math:: \sum_n w_n \left[z_{n y_n} \ge \max_v z_{nv}\right]

    Both come from one product of hidden states and embedding. The accuracy has no gradient.

    Args:
      hidden: As in :func:`projected_cross_entropy`, like all arguments.
      embedding: Rows of the output projection.
      labels: Indices into the vocabulary.
      weights: Weight of each position, or a boolean mask.
      label_smoothing: The share of each label spread evenly over the vocabulary.
      bias: Added to the logits.

    Returns:
      The loss and the accuracy, each a weighted sum over the sum of the weights.

    Raises:
      ShapeError: As :func:`projected_cross_entropy`.
      ConfigError: As :func:`projected_cross_entropy`.

    Example:
      >>> states = jnp.array([[2.0, 0.0], [0.0, 2.0]])
      >>> _, accuracy = projected_loss_and_accuracy(states, jnp.eye(2), jnp.array([0, 0]))
      >>> float(accuracy.sum), float(accuracy.count)
      (1.0, 2.0)

    Source: Szegedy et al. 2016, https://arxiv.org/abs/1512.00567, section 7 (the smoothing).
    """
    hidden, embedding, labels, weights, bias = _arrays(
        hidden=hidden, embedding=embedding, labels=labels, weights=weights, bias=bias
    )
    _check(hidden.shape[:-1], labels, weights, label_smoothing, "hidden")
    _check_projection(hidden, embedding, bias)
    vocab_size = embedding.shape[0]
    labels, weights = _clean(labels, weights, vocab_size)
    hidden = _counted(hidden, weights)
    dtype = wide(hidden, embedding)
    states = hidden.astype(dtype)
    label_rows = jnp.take(embedding, labels, axis=0, mode="fill").astype(dtype)  # [*positions, model]
    easy = (1.0 - label_smoothing) * (states * label_rows).sum(axis=-1)
    if label_smoothing:
        mean_row = embedding.astype(dtype).mean(axis=0)
        easy = easy + label_smoothing * jnp.einsum("...d,d->...", states, mean_row)
    if bias is not None:
        bias = bias.astype(dtype)
        easy = (
            easy
            + (1.0 - label_smoothing) * jnp.take(bias, labels, mode="fill")
            + label_smoothing * bias.mean()
        )
    row_weights = jnp.ones(labels.shape, dtype) if weights is None else weights
    if not labels.size:
        nothing = LossSum.of(easy.sum(), row_weights.sum())
        return nothing, nothing
    flat_weights = row_weights.ravel().astype(dtype)
    # A device sums over its own rows, which lie together: those of one sequence after those of the other.
    sums = by_row_shards(_sum_of_one, (0, None, None, 0, 0, 0), (0, 0), hidden.shape[0])
    totals, first = sums(
        hidden.reshape(-1, hidden.shape[-1]),
        embedding,
        bias,
        flat_weights,
        easy.ravel(),
        labels.ravel(),
    )
    count = row_weights.sum()
    return LossSum.of(totals.sum(), count), LossSum.of(
        jnp.where(first, jax.lax.stop_gradient(flat_weights), 0.0).sum(), count
    )


def symmetric_divergence(
    first_logits: Float[Array, "*positions vocab"],
    second_logits: Float[Array, "*positions vocab"],
    *,
    weights: Shaped[Array, "*positions"] | None = None,
) -> LossSum:
    r"""How far two distributions over the vocabulary are apart: the mean of both Kullback-Leibler divergences.

    .. math::
      \sum_n w_n\, \tfrac12 \left[\mathrm{KL}(p_n \Vert q_n) + \mathrm{KL}(q_n \Vert p_n)\right]
      = \sum_n w_n\, \tfrac12 \sum_v (p_{nv} - q_{nv}) (\log p_{nv} - \log q_{nv})

    in nats, :math:`p` and :math:`q` the softmax of the two logits. Both get gradients.

    Args:
      first_logits: Scores before the softmax; any float type, the divergence is computed in float32 or wider.
      second_logits: The same of the other distribution.
      weights: Weight of each position, or a boolean mask; all one when ``None``. A position of weight zero
        contributes nothing, whatever its logits hold.

    Returns:
      The weighted sum and the sum of the weights.

    Raises:
      ShapeError: If the two differ in shape, or the weights do not have one entry for each row.

    Example:
      >>> divergence = symmetric_divergence(jnp.array([[0.0, 0.0]]), jnp.array([[0.0, jnp.log(3.0)]]))
      >>> print(f"{float(divergence.mean()):.4f}")
      0.1373

    Source: Jeffreys 1946; as a loss between two passes with dropout, Liang et al. 2021 (R-Drop),
    https://arxiv.org/abs/2106.14448, equation 2.
    """
    first_logits, second_logits, weights = _arrays(
        first_logits=first_logits, second_logits=second_logits, weights=weights
    )
    if first_logits.shape != second_logits.shape:
        raise ShapeError(
            f"both logits must have the same shape; got {first_logits.shape} and {second_logits.shape}"
        )
    positions = first_logits.shape[:-1]
    _check_weights(positions, weights, "logits")

    first, second = (
        jax.nn.log_softmax(_counted(logits, weights).astype(wide(logits)), axis=-1)
        for logits in (first_logits, second_logits)
    )
    divergences = 0.5 * ((jnp.exp(first) - jnp.exp(second)) * (first - second)).sum(axis=-1)
    return _weighted(divergences, None if weights is None else weights.astype(wide(weights)))


def projected_divergence(
    first: Float[Array, "*positions model"],
    second: Float[Array, "*positions model"],
    embedding: Float[Array, "vocab model"],
    *,
    weights: Shaped[Array, "*positions"] | None = None,
    bias: Float[Array, "vocab"] | None = None,
) -> LossSum:
    r"""The :func:`symmetric_divergence` of the logits of two hidden states, which are never stored.

    Args:
      first: The states before the output projection.
      second: The same of the other distribution.
      embedding: Rows of the output projection.
      weights: As in :func:`symmetric_divergence`.
      bias: Added to the logits.

    Returns:
      The weighted sum and the sum of the weights; reverse-mode derivatives only.

    Raises:
      ShapeError: If the two differ in shape, the weights do not have one entry for each state, or embedding and bias
        do not fit.

    Example:
      >>> first, second = jnp.array([[0.0, 0.0]]), jnp.array([[0.0, jnp.log(3.0)]])
      >>> print(f"{float(projected_divergence(first, second, jnp.eye(2)).mean()):.4f}")
      0.1373

    Source: Liang et al. 2021 (R-Drop), https://arxiv.org/abs/2106.14448, equation 2.
    """
    first, second, embedding, weights, bias = _arrays(
        first=first, second=second, embedding=embedding, weights=weights, bias=bias
    )
    if first.shape != second.shape:
        raise ShapeError(f"both states must have the same shape; got {first.shape} and {second.shape}")
    positions = first.shape[:-1]
    _check_weights(positions, weights, "the states")
    _check_projection(first, embedding, bias)
    dtype = wide(first, second, embedding)
    row_weights = jnp.ones(positions, dtype) if weights is None else weights.astype(dtype)
    if not row_weights.size:
        return LossSum.of(row_weights.sum(), row_weights.sum())
    sums = by_row_shards(_divergence_of_one, (0, 0, None, None, 0), 0, first.shape[0])
    totals = sums(
        *(_counted(states, weights).reshape(-1, states.shape[-1]) for states in (first, second)),
        embedding,
        None if bias is None else bias.astype(dtype),
        row_weights.ravel(),
    )
    return LossSum.of(totals.sum(), row_weights.sum())


def _arrays(**given: Any) -> list[Any]:
    """The arguments as arrays, those that are ``None`` as they are."""
    return [value if value is None else as_array(name, value) for name, value in given.items()]


def _sum_of_one(*arguments: Any) -> tuple[Array, Array]:
    total, first = projected_logsumexp_sum(*arguments)
    return total[None], first


def _divergence_of_one(*arguments: Any) -> Array:
    return projected_divergence_sum(*arguments)[None]


def _check(
    positions: tuple[int, ...], labels: Array, weights: Array | None, label_smoothing: float, name: str
) -> None:
    if labels.shape != positions:
        raise ShapeError(
            f"labels must have shape {positions}, one for each row of {name}; got {labels.shape}"
        )
    _check_weights(positions, weights, name)
    if not 0.0 <= label_smoothing < 1.0:
        raise ConfigError(f"label_smoothing must be in [0, 1); got {label_smoothing}")


def _check_weights(positions: tuple[int, ...], weights: Array | None, name: str) -> None:
    if weights is not None and weights.shape != positions:
        raise ShapeError(
            f"weights must have shape {positions}, one for each row of {name}; got {weights.shape}"
        )


def _check_projection(hidden: Array, embedding: Array, bias: Array | None) -> None:
    if embedding.shape[1:] != hidden.shape[-1:]:
        raise ShapeError(
            f"embedding must be [vocab, {hidden.shape[-1]}], as wide as hidden; got {embedding.shape}"
        )
    if bias is not None and bias.shape != embedding.shape[:1]:
        raise ShapeError(f"bias must have shape {embedding.shape[:1]}, one for each word; got {bias.shape}")


def _clean(labels: Array, weights: Array | None, vocab_size: int) -> tuple[Array, Array | None]:
    """Labels that gather safely (negative ones would count from the end), and weights in float32 or wider."""
    labels = jnp.where(labels < 0, vocab_size, labels)
    if weights is None:
        return labels, None
    weights = weights.astype(wide(weights))
    return jnp.where(weights > 0, labels, 0), weights


def _counted(rows: Array, weights: Array | None) -> Array:
    """Zeros in the place of rows whose weight is zero, so that what they held reaches nothing."""
    if weights is None:
        return rows
    return jnp.where((weights > 0)[..., None], rows, jnp.zeros((), rows.dtype))


def _weighted(losses: Array, weights: Array | None) -> LossSum:
    if weights is None:
        return LossSum.of(losses.sum(), losses.size)
    return LossSum.of((losses * weights).sum(), weights.sum())
