r"""Losses of word vectors over windows of text: negative sampling, hierarchical and full softmax.

A row of a batch is a stretch of text. Its middle words are *centres*; the words at most ``radius`` places from a centre
and of the same segment are its *contexts*. Pairs of a centre and a context are never listed: all products of a row's
centres with a row's words are one matrix product, of which a mask keeps the band beside the diagonal, and the noise
words are shared by a row, so that their products are a matrix product too (Ji et al. 2016,
https://arxiv.org/abs/1611.06172).
"""

from typing import Any

import jax
import jax.numpy as jnp

from transformer_jax.functional.losses import LossSum
from transformer_jax.functional.projected_logsumexp import projected_logsumexp_sum
from transformer_jax.pytree import pytree_dataclass
from transformer_jax.typing import Array, Bool, Float, Int

__all__ = [
    "Windows",
    "full_softmax_loss",
    "hierarchical_softmax_loss",
    "mean_with_subwords",
    "negative_sampling_loss",
    "weighted_logistic_loss",
    "window_mean",
]


@pytree_dataclass
class Windows:
    r"""Contexts of the centres of rows: words at most ``radius`` places away and of the same sentence.

    .. math:: m_{ij} = [0 < |i + w - j| \le r_i] \, [s_{i + w} = s_j], \quad w = (\text{words} - \text{time}) / 2

    Attributes:
      radius: Of each centre, 0 for one that does not count; at most :math:`w`.
      segments: Number of the sentence of each word; :math:`w` words stand before the first centre and behind the last.

    Example:
      >>> windows = Windows(jnp.array([[1, 1]]), jnp.array([[1, 1, 1, 2]]))
      >>> windows.mask().astype(int)[0].tolist()
      [[1, 0, 1, 0], [0, 1, 0, 0]]
    """

    radius: Int[Array, "batch time"]
    segments: Int[Array, "batch words"]

    @property
    def margin(self) -> int:
        """Words before the first centre, and behind the last."""
        return (self.segments.shape[1] - self.radius.shape[1]) // 2

    def mask(self) -> Bool[Array, "batch time words"]:
        """Which words are contexts of which centre."""
        num_centres, num_words = self.radius.shape[1], self.segments.shape[1]
        places = jnp.arange(num_centres)[:, None] + self.margin
        distance = jnp.abs(places - jnp.arange(num_words)[None, :])[None]
        is_near = (distance > 0) & (distance <= self.radius[:, :, None])
        return is_near & (self._own()[:, :, None] == self.segments[:, None, :])

    def _own(self) -> Int[Array, "batch time"]:
        return jax.lax.slice_in_dim(self.segments, self.margin, self.margin + self.radius.shape[1], axis=1)


def window_mean(
    vectors: Float[Array, "batch words model"], windows: Windows
) -> Float[Array, "batch time model"]:
    r"""Mean of the contexts of each centre; zero for one without contexts.

    .. math:: h_i = \sum_j m_{ij} x_j \Big/ \max\Big(1, \sum_j m_{ij}\Big)

    Args:
      vectors: Of the words of each row.
      windows: Contexts of each centre.

    Example:
      >>> windows = Windows(jnp.array([[1]]), jnp.array([[1, 1, 1]]))
      >>> window_mean(jnp.array([[[1.0], [5.0], [2.0]]]), windows).tolist()
      [[[1.5]]]

    Source: Mikolov et al. 2013, https://arxiv.org/abs/1301.3781, section 3.1 (CBOW).
    """
    weights = windows.mask().astype(vectors.dtype)
    return jnp.einsum(
        "btw,bwd->btd", weights / jnp.maximum(weights.sum(axis=-1, keepdims=True), 1.0), vectors
    )


def mean_with_subwords(
    vectors: Float[Array, "*batch parts model"], rows: Int[Array, "*batch parts"]
) -> Float[Array, "*batch model"]:
    """Mean of the vectors of a word and its n-grams, over those that are there.

    Args:
      vectors: Of each part; anything where the row is negative.
      rows: Row of each part, negative for one that is not there.

    Example:
      >>> mean_with_subwords(jnp.array([[2.0], [4.0], [9.0]]), jnp.array([1, 5, -1])).tolist()
      [3.0]

    Source: Bojanowski et al. 2017, https://arxiv.org/abs/1607.04606; the mean in the place of the sum is fastText's.
    """
    if rows.shape[-1] == 1:
        return jnp.where(rows >= 0, vectors[..., 0, :], 0.0)
    is_there = rows >= 0
    total = jnp.sum(jnp.where(is_there[..., None], vectors, 0.0), axis=-2)
    return total / jnp.maximum(is_there.sum(axis=-1, keepdims=True), 1)


@jax.custom_vjp
def weighted_logistic_loss(
    left: Float[Array, "batch left model"],
    right: Float[Array, "batch right model"],
    positive: Float[Array, "batch left right"],
    negative: Float[Array, "batch left right"],
) -> Float[Array, ""]:
    r"""Logistic loss of all products of two sets of vectors, each product weighted as an example of both classes.

    .. math:: \sum_{ij} p_{ij} \log(1 + e^{-x_i \cdot y_j}) + n_{ij} \log(1 + e^{x_i \cdot y_j})

    The derivative by the products comes from the exponentials of the forward pass, so that loss and gradient take three
    matrix products and one pass of exponentials. It has no derivative by the weights, and no forward-mode one.

    Args:
      left: Vectors :math:`x`.
      right: Vectors :math:`y`.
      positive: Weights of products that should be large.
      negative: Weights of products that should be small.

    Returns:
      The sum, float32.

    Example:
      >>> ones = jnp.ones((1, 1, 1))
      >>> print(f"{weighted_logistic_loss(ones, ones, ones, 0 * ones):.4f}")
      0.3133
    """
    return _logistic_forward(left, right, positive, negative)[0]


def _logistic_forward(
    left: Array, right: Array, positive: Array, negative: Array
) -> tuple[Array, tuple[Any, ...]]:
    products = jnp.einsum("bld,brd->blr", left, right, preferred_element_type=jnp.float32)
    weights = positive + negative
    decayed = jnp.exp(-jnp.abs(products))
    softplus = jnp.maximum(products, 0.0) + jnp.log1p(decayed)
    # A weight of zero keeps out whatever a product is: padding may hold anything.
    losses = jnp.where(weights > 0, weights * softplus - positive * products, 0.0)
    sigmoid = jnp.where(products >= 0, 1.0, decayed) / (1.0 + decayed)
    slopes = jnp.where(weights > 0, weights * sigmoid - positive, 0.0)
    return losses.sum(), (left, right, slopes)


def _logistic_backward(kept: tuple[Any, ...], gradient: Array) -> tuple[Any, ...]:
    left, right, slopes = kept
    slopes = (gradient * slopes).astype(left.dtype)
    by_left = jnp.einsum("blr,brd->bld", slopes, right)
    by_right = jnp.einsum("blr,bld->brd", slopes, left)
    return by_left, by_right, jnp.zeros_like(slopes), jnp.zeros_like(slopes)


weighted_logistic_loss.defvjp(_logistic_forward, _logistic_backward)


def negative_sampling_loss(
    words: Float[Array, "batch words model"],
    centres: Float[Array, "batch time model"],
    noise: Float[Array, "batch noise model"],
    windows: Windows,
    *,
    num_negatives: int,
    averages: bool,
) -> LossSum:
    r"""Negative sampling over windows, the noise words of a row standing for the draws of all its pairs.

    Skip-gram scores each context with its centre, CBOW the mean :math:`h_i` of a centre's contexts:

    .. math::
      \text{skip-gram: } & \sum_{i,j} m_{ij} \Big[ -\log \sigma(x_j \cdot y_i)
        - \frac{k}{N} \sum_{n=1}^N \log \sigma(-x_j \cdot z_n) \Big] \\
      \text{CBOW: } & \sum_i [\textstyle\sum_j m_{ij} > 0] \Big[ -\log \sigma(h_i \cdot y_i)
        - \frac{k}{N} \sum_{n=1}^N \log \sigma(-h_i \cdot z_n) \Big]

    In expectation over the noise this is the paper's loss with ``k`` draws for each pair.

    Args:
      words: Input vectors :math:`x` of a row's words.
      centres: Output vectors :math:`y` of its centres.
      noise: Output vectors :math:`z` of its noise words.
      windows: Contexts of each centre.
      num_negatives: Draws a pair, :math:`k`.
      averages: Whether contexts are averaged (CBOW) or taken one by one (skip-gram).

    Returns:
      The sum; the count is that of pairs, or of centres with contexts.

    Example:
      >>> windows = Windows(jnp.array([[1]]), jnp.array([[1, 1, 1]]))
      >>> zeros = jnp.zeros((1, 3, 2)), jnp.zeros((1, 1, 2)), jnp.zeros((1, 4, 2))
      >>> loss = negative_sampling_loss(*zeros, windows, num_negatives=5, averages=False)
      >>> print(f"{float(loss.mean()):.4f}", float(loss.count))  # 6 log 2
      4.1589 2.0

    Source: Mikolov et al. 2013, https://arxiv.org/abs/1310.4546, equation 4.
    """
    share = num_negatives / noise.shape[1]
    if averages:
        counted = windows.mask().any(axis=-1).astype(jnp.float32)
        hidden = window_mean(words, windows)
        own = jnp.sum(hidden * centres, axis=-1)
        # A zero product in the place of one that does not count, which may hold anything.
        own = jnp.where(counted > 0, own, 0.0)
        positive = jnp.sum(counted * jax.nn.softplus(-own))
        weights = jnp.broadcast_to(counted[:, :, None] * share, (*counted.shape, noise.shape[1]))
        total = positive + weighted_logistic_loss(hidden, noise, jnp.zeros_like(weights), weights)
        return LossSum(total, counted.sum())
    pairs = jnp.swapaxes(windows.mask(), 1, 2).astype(jnp.float32)  # [batch, words, time]
    uses = pairs.sum(axis=-1, keepdims=True)
    right = jnp.concatenate([centres, noise], axis=1)
    noise_width = ((0, 0), (0, 0), (0, noise.shape[1]))
    is_noise = (jnp.arange(right.shape[1]) >= centres.shape[1]).astype(jnp.float32)[None, None]
    total = weighted_logistic_loss(words, right, jnp.pad(pairs, noise_width), uses * share * is_noise)
    return LossSum(total, uses.sum())


def hierarchical_softmax_loss(
    words: Float[Array, "batch words model"],
    nodes: Float[Array, "batch time depth model"],
    signs: Float[Array, "batch time depth"],
    windows: Windows,
    *,
    averages: bool,
) -> LossSum:
    r"""Hierarchical softmax over windows: the logistic losses along the path from the root to the centre's leaf.

    .. math:: -\sum_{i,j} m_{ij} \sum_{l} \log \sigma(c_{il} \, x_j \cdot v_{il})

    with the mean of the contexts in the place of :math:`x_j` for CBOW.

    Args:
      words: Input vectors :math:`x` of a row's words.
      nodes: Vectors :math:`v` of the inner nodes on the path to each centre.
      signs: 1 where the path takes the left branch, -1 where it takes the right one, 0 behind its end.
      windows: Contexts of each centre.
      averages: Whether contexts are averaged (CBOW) or taken one by one (skip-gram).

    Returns:
      The sum; the count is that of pairs, or of centres with contexts.

    Example:
      >>> windows = Windows(jnp.array([[1]]), jnp.array([[1, 1, 1]]))
      >>> loss = hierarchical_softmax_loss(
      ...   jnp.zeros((1, 3, 2)), jnp.zeros((1, 1, 4, 2)), jnp.array([[[1.0, -1.0, 1.0, 0.0]]]), windows, averages=True)
      >>> print(f"{float(loss.mean()):.4f}", float(loss.count))  # 3 log 2
      2.0794 1.0

    Source: Morin and Bengio 2005; Mikolov et al. 2013, https://arxiv.org/abs/1310.4546, equation 3.
    """
    is_node = signs != 0
    nodes = jnp.where(is_node[..., None], nodes, 0.0)
    if averages:
        counted = windows.mask().any(axis=-1).astype(jnp.float32)
        products = jnp.einsum("btd,btld->btl", window_mean(words, windows), nodes)
        losses = jnp.where(is_node, jax.nn.softplus(-signs * products), 0.0).sum(axis=-1)
        return LossSum(jnp.sum(losses * counted), counted.sum())
    mask = windows.mask()
    products = jnp.einsum("bwd,btld->btlw", words, nodes)
    weights = (is_node[..., None] & mask[:, :, None, :]).astype(jnp.float32)
    losses = jax.nn.softplus(-signs[..., None] * products) * weights
    return LossSum(losses.sum(), mask.astype(jnp.float32).sum())


def full_softmax_loss(
    words: Float[Array, "batch words model"],
    centres: Float[Array, "batch time model"],
    table: Float[Array, "vocab model"],
    windows: Windows,
    *,
    averages: bool,
) -> LossSum:
    r"""Cross entropy of each centre over the whole vocabulary, given its contexts.

    .. math:: \sum_{i,j} m_{ij} \Big[ \log \sum_v e^{x_j \cdot y_v} - x_j \cdot y_i \Big]

    with the mean of the contexts in the place of :math:`x_j` for CBOW. The logits are never stored; a word that is a
    context of several centres has them computed once.

    Args:
      words: Input vectors :math:`x` of a row's words.
      centres: Output vectors :math:`y` of its centres.
      table: Output vectors of all words.
      windows: Contexts of each centre.
      averages: Whether contexts are averaged (CBOW) or taken one by one (skip-gram).

    Returns:
      The sum; the count is that of pairs, or of centres with contexts.

    Example:
      >>> windows = Windows(jnp.array([[1]]), jnp.array([[1, 1, 1]]))
      >>> zeros = jnp.zeros((1, 3, 2)), jnp.zeros((1, 1, 2)), jnp.zeros((8, 2))
      >>> loss = full_softmax_loss(*zeros, windows, averages=False)
      >>> print(f"{float(loss.mean()):.4f}", float(loss.count))  # log 8
      2.0794 2.0

    Source: Mikolov et al. 2013, https://arxiv.org/abs/1310.4546, equation 2.
    """
    if averages:
        hidden, uses = window_mean(words, windows), windows.mask().any(axis=-1).astype(jnp.float32)
        own = jnp.sum(jnp.sum(hidden * centres, axis=-1) * uses)
    else:
        pairs = windows.mask().astype(jnp.float32)
        hidden, uses = words, pairs.sum(axis=1)
        own = jnp.sum(jnp.einsum("btd,bwd->btw", centres, words) * pairs)
    states, weights = hidden.reshape(-1, hidden.shape[-1]), uses.reshape(-1)
    labels, offsets = jnp.zeros(weights.shape, jnp.int32), jnp.zeros_like(weights)
    normalizers, _ = projected_logsumexp_sum(states, table, None, weights, offsets, labels)
    return LossSum(normalizers - own, uses.sum())
