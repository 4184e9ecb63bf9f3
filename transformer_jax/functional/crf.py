"""The linear-chain conditional random field: log-likelihood, marginals and the best labels of padded sequences.

Everything is in log space and in float32 or wider, one scan over time; a step past a row's length leaves the row's
state as it is, so that padding changes no bit. Scores must be finite: rule a transition out by adding `FORBIDDEN` to
its score.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from transformer_jax.errors import ShapeError
from transformer_jax.functional.dtypes import as_array, take_arrays, wide
from transformer_jax.pytree import pytree_dataclass
from transformer_jax.typing import Array, Bool, Float, Int

__all__ = [
    "FORBIDDEN",
    "ChainScores",
    "crf_decode",
    "crf_log_likelihood",
    "crf_log_normalizer",
    "crf_marginals",
    "crf_path_score",
]

FORBIDDEN = -1e4
"""Score of what must not be: far below any other, and finite, so that gradients are."""

_Scores = Float[Array, "batch time labels"]
_Lengths = Int[Array, " batch"]


@pytree_dataclass
class ChainScores:
    """Scores of neighbouring labels, and of the first and the last one.

    Attributes:
      transitions: ``[labels, labels]``, score of going from the first index to the second.
      starts: ``[labels]``, score of beginning with a label.
      ends: ``[labels]``, score of ending with it.

    Example:
      >>> ChainScores.zeros(3).transitions.shape
      (3, 3)
    """

    transitions: Float[Array, "labels labels"]
    starts: Float[Array, " labels"]
    ends: Float[Array, " labels"]

    def __post_init__(self) -> None:
        take_arrays(self)

    @classmethod
    def zeros(cls, num_labels: int) -> "ChainScores":
        """All zero: each label on its own, as without a chain."""
        row = jnp.zeros(num_labels, jnp.float32)
        return cls(jnp.zeros((num_labels, num_labels), jnp.float32), row, row)

    def __add__(self, other: "ChainScores") -> "ChainScores":
        return ChainScores(
            self.transitions + other.transitions, self.starts + other.starts, self.ends + other.ends
        )


def crf_log_normalizer(scores: _Scores, chain: ChainScores, lengths: _Lengths) -> Float[Array, " batch"]:
    r"""Logarithm of the summed exponentials of all paths, by the forward algorithm.

    .. math::
      \alpha_1(j) = b_j + s_{1j}, \quad \alpha_t(j) = s_{tj} + \log\sum_i e^{\alpha_{t-1}(i) + T_{ij}}, \quad
      \log Z = \log\sum_j e^{\alpha_n(j) + e_j}

    The sums are matrix products of exponentials, each less its maximum, and in the rare rows where one of them
    underflows log-sum-exps; an associative scan over products of whole matrices would cost as many operations again as
    there are labels.

    Args:
      scores: Score of each label at each step, ``[batch, time, labels]``; anything behind a row's length.
      chain: Scores of neighbouring labels.
      lengths: Steps of each row; a row of none has one path, the empty one, and gives 0.

    Returns:
      ``[batch]``, float32 or wider.

    Raises:
      ShapeError: If the shapes do not go together.

    Example:
      >>> total = crf_log_normalizer(jnp.zeros((1, 3, 2)), ChainScores.zeros(2), jnp.array([3]))
      >>> f"{float(jnp.exp(total[0])):.1f}"  # paths
      '8.0'

    Source: Lafferty et al. 2001, https://repository.upenn.edu/handle/20.500.14332/6188; Sutton & McCallum 2012,
    https://arxiv.org/abs/1011.4088, section 3.1.
    """
    given = _prepared(scores, chain, lengths)
    if given.scores.shape[1] == 0:
        return _total(*_forward(given)[:1], given)
    totals, is_exact = _product_totals(given)

    def in_logs() -> Array:
        return _total(_forward(given)[0], given)

    # Kept for its gradient are its inputs alone; without it, zeros of the size of all its steps would be.
    others = lax.cond(is_exact.all(), lambda: jnp.zeros_like(totals), jax.checkpoint(in_logs))
    return jnp.where(is_exact, totals, others)


def crf_path_score(
    scores: _Scores, labels: Int[Array, "batch time"], chain: ChainScores, lengths: _Lengths
) -> Float[Array, " batch"]:
    r"""Score of one path a row.

    .. math:: b_{y_1} + \sum_{t \le n} s_{t y_t} + \sum_{1 < t \le n} T_{y_{t-1} y_t} + e_{y_n}

    Args:
      scores: As in :func:`crf_log_normalizer`.
      labels: ``[batch, time]``; anything behind a row's length. A number that is no label gives NaN.
      chain: Scores of neighbouring labels.
      lengths: Steps of each row; a row of none has score 0.

    Raises:
      ShapeError: If the shapes do not go together.

    Example:
      >>> scores = jnp.array([[[1.0, 0.0], [0.0, 3.0]]])
      >>> crf_path_score(scores, jnp.array([[0, 1]]), ChainScores.zeros(2), jnp.array([2])).tolist()
      [4.0]

    Source: Lample et al. 2016, https://arxiv.org/abs/1603.01360, section 2.2.
    """
    given = _prepared(scores, chain, lengths)
    labels = as_array("labels", labels)
    if labels.shape != given.scores.shape[:2]:
        raise ShapeError(
            f"labels must have shape {given.scores.shape[:2]}, those of scores; got {labels.shape}"
        )
    num_steps, num_labels = given.scores.shape[1:]
    if num_steps == 0:
        return jnp.zeros(given.scores.shape[0], given.scores.dtype)
    valid = given.valid
    # Behind the length any label of the table; inside of it one that is no label reads past the table, which is NaN.
    safe = jnp.where(valid, jnp.where(labels < 0, num_labels, labels), 0)
    emitted = jnp.take_along_axis(given.scores, safe[..., None], axis=2, mode="fill")[..., 0]
    total = jnp.where(valid, emitted, 0.0).sum(axis=1)
    moved = given.chain.transitions.at[safe[:, :-1], safe[:, 1:]].get(mode="fill", fill_value=jnp.nan)
    total = total + jnp.where(valid[:, 1:], moved, 0.0).sum(axis=1)
    last = jnp.take_along_axis(safe, jnp.maximum(given.lengths - 1, 0)[:, None], axis=1)[:, 0]
    edges = jnp.take(given.chain.starts, safe[:, 0], mode="fill") + jnp.take(
        given.chain.ends, last, mode="fill"
    )
    return total + jnp.where(given.lengths > 0, edges, 0.0)


def crf_log_likelihood(
    scores: _Scores, labels: Int[Array, "batch time"], chain: ChainScores, lengths: _Lengths
) -> Float[Array, " batch"]:
    r"""Log-probability of a path among all paths of its length, in nats.

    .. math:: \log p(y \mid x) = \mathrm{score}(x, y) - \log Z(x)

    Args:
      scores: As in :func:`crf_log_normalizer`.
      labels: As in :func:`crf_path_score`.
      chain: Scores of neighbouring labels.
      lengths: Steps of each row; a row of none has log-probability 0.

    Returns:
      ``[batch]``, at most 0 but for rounding.

    Raises:
      ShapeError: If the shapes do not go together.

    Example:
      >>> found = crf_log_likelihood(jnp.zeros((1, 3, 2)), jnp.zeros((1, 3), int), ChainScores.zeros(2), jnp.array([3]))
      >>> f"{float(jnp.exp(found[0])):.3f}"
      '0.125'

    Source: Lample et al. 2016, https://arxiv.org/abs/1603.01360, equation 1.
    """
    return crf_path_score(scores, labels, chain, lengths) - crf_log_normalizer(scores, chain, lengths)


def crf_marginals(scores: _Scores, chain: ChainScores, lengths: _Lengths) -> _Scores:
    r"""Probability of each label at each step over all paths, by the forward-backward algorithm.

    .. math:: p(y_t = j \mid x) = e^{\alpha_t(j) + \beta_t(j) - \log Z}, \quad
      \beta_t(i) = \log\sum_j e^{T_{ij} + s_{t+1,j} + \beta_{t+1}(j)}, \quad \beta_n(i) = e_i

    They are the gradient of :func:`crf_log_normalizer` with respect to the scores, computed in log space throughout.

    Args:
      scores: As in :func:`crf_log_normalizer`.
      chain: Scores of neighbouring labels.
      lengths: Steps of each row.

    Returns:
      ``[batch, time, labels]``; zeros behind each row's length, sums of one before it.

    Raises:
      ShapeError: If the shapes do not go together.

    Example:
      >>> crf_marginals(jnp.zeros((1, 2, 2)), ChainScores.zeros(2), jnp.array([1])).tolist()
      [[[0.5, 0.5], [0.0, 0.0]]]

    Source: Rabiner 1989, https://doi.org/10.1109/5.18626, section III; Sutton & McCallum 2012,
    https://arxiv.org/abs/1011.4088, section 3.1.
    """
    given = _prepared(scores, chain, lengths)
    if given.scores.shape[1] == 0:
        return given.scores
    final, alphas = _forward(given)
    by_time = given.by_time()
    transitions = given.chain.transitions

    def back(beta: Array, at_time: tuple[Array, Array]) -> tuple[Array, Array]:
        following, follows = at_time  # the scores of the next step, and whether there is one
        earlier = jax.nn.logsumexp(transitions[None] + (following + beta)[:, None, :], axis=2)
        return jnp.where(follows[:, None], earlier, beta), beta

    ends = jnp.broadcast_to(given.chain.ends, final.shape)
    # Walking backwards, beta of step t comes out of the scan before step t itself is read.
    first, later = lax.scan(back, ends, (by_time.scores[1:], by_time.valid[1:]), reverse=True)
    betas = jnp.concatenate([first[None], later])
    logs = jnp.moveaxis(alphas + betas, 0, 1) - _total(final, given)[:, None, None]
    return jnp.where(given.valid[..., None], jnp.exp(logs), 0.0)


def crf_decode(
    scores: _Scores, chain: ChainScores, lengths: _Lengths
) -> tuple[Int[Array, "batch time"], Float[Array, " batch"]]:
    r"""The path of the highest score in each row, by the Viterbi algorithm.

    .. math:: \delta_t(j) = s_{tj} + \max_i [\delta_{t-1}(i) + T_{ij}]

    Of equal ones the label with the lower number.

    Args:
      scores: As in :func:`crf_log_normalizer`.
      chain: Scores of neighbouring labels.
      lengths: Steps of each row.

    Returns:
      Labels ``[batch, time]`` int32, -1 behind each row's length; and the score of the path, ``[batch]``.

    Raises:
      ShapeError: If the shapes do not go together.

    Example:
      >>> chain = ChainScores(jnp.array([[0.0, FORBIDDEN], [0.0, 0.0]]), jnp.zeros(2), jnp.zeros(2))
      >>> labels, score = crf_decode(jnp.array([[[2.0, 1.0], [0.0, 1.5], [9.0, 9.0]]]), chain, jnp.array([2]))
      >>> labels.tolist(), score.tolist()
      ([[1, 1, -1]], [2.5])

    Source: Viterbi 1967, https://doi.org/10.1109/TIT.1967.1054010; Lample et al. 2016,
    https://arxiv.org/abs/1603.01360, equation 2.
    """
    given = _prepared(scores, chain, lengths)
    num_rows, num_steps, num_labels = given.scores.shape
    if num_steps == 0:
        return jnp.zeros((num_rows, 0), jnp.int32), jnp.zeros(num_rows, given.scores.dtype)
    by_time = given.by_time()
    transitions = given.chain.transitions
    stay = jnp.broadcast_to(jnp.arange(num_labels, dtype=jnp.int32), (num_rows, num_labels))

    def ahead(delta: Array, at_time: tuple[Array, Array]) -> tuple[Array, Array]:
        emitted, exists = at_time
        reached = delta[:, :, None] + transitions[None]
        came_from = jnp.argmax(reached, axis=1).astype(jnp.int32)
        best = emitted + jnp.max(reached, axis=1)
        exists = exists[:, None]
        return jnp.where(exists, best, delta), jnp.where(exists, came_from, stay)

    delta, came_from = lax.scan(ahead, _first(given), (by_time.scores[1:], by_time.valid[1:]))
    delta = delta + given.chain.ends[None]
    last = jnp.argmax(delta, axis=1).astype(jnp.int32)

    def back(label: Array, came_from_t: Array) -> tuple[Array, Array]:
        return jnp.take_along_axis(came_from_t, label[:, None], axis=1)[:, 0], label

    first, later = lax.scan(back, last, came_from, reverse=True)
    labels = jnp.concatenate([first[None], later]).T
    best = jnp.where(given.lengths > 0, delta.max(axis=1), 0.0)
    return jnp.where(given.valid, labels, -1), best


class _ByTime(NamedTuple):
    scores: Float[Array, "time batch labels"]
    valid: Bool[Array, "time batch"]


class _Given(NamedTuple):
    """Checked arguments in one wide dtype; scores behind a row's length are zero, whatever they held."""

    scores: Array
    chain: ChainScores
    lengths: Array
    valid: Array

    def by_time(self) -> _ByTime:
        return _ByTime(jnp.moveaxis(self.scores, 1, 0), self.valid.T)


def _prepared(scores: Any, chain: ChainScores, lengths: Any) -> _Given:
    scores, lengths = as_array("scores", scores), as_array("lengths", lengths)
    if scores.ndim != 3 or lengths.shape != scores.shape[:1]:
        raise ShapeError(
            "scores must be [batch, time, labels] with a length for each row; got "
            f"{scores.shape} and lengths {lengths.shape}"
        )
    num_labels = scores.shape[2]
    wanted = {"transitions": (num_labels, num_labels), "starts": (num_labels,), "ends": (num_labels,)}
    dtype = wide(scores, chain.transitions)
    for name, shape in wanted.items():
        if getattr(chain, name).shape != shape:
            raise ShapeError(
                f"{name} must have shape {shape} for {num_labels} labels; got {getattr(chain, name).shape}"
            )
    valid = jnp.arange(scores.shape[1], dtype=lengths.dtype)[None, :] < lengths[:, None]
    return _Given(
        scores=jnp.where(valid[..., None], scores.astype(dtype), 0.0),
        chain=jax.tree.map(lambda leaf: leaf.astype(dtype), chain),
        lengths=lengths,
        valid=valid,
    )


def _first(given: _Given) -> Array:
    return given.chain.starts[None] + given.scores[:, 0]


def _forward(given: _Given) -> tuple[Array, Array]:
    """The last ``alpha`` of each row, and those of all steps, ``[time, batch, labels]``."""
    by_time = given.by_time()
    transitions = given.chain.transitions
    if given.scores.shape[1] == 0:
        nothing = jnp.zeros((given.scores.shape[0], given.scores.shape[2]), given.scores.dtype)
        return nothing, nothing[None][:0]

    def ahead(alpha: Array, at_time: tuple[Array, Array]) -> tuple[Array, Array]:
        emitted, exists = at_time
        after = emitted + jax.nn.logsumexp(alpha[:, :, None] + transitions[None], axis=1)
        after = jnp.where(exists[:, None], after, alpha)
        return after, after

    first = _first(given)
    final, later = lax.scan(ahead, first, (by_time.scores[1:], by_time.valid[1:]))
    return final, jnp.concatenate([first[None], later])


_MIN_EXACT_SUM = 1e-30
"""Least sum of products that is exact: terms lost by underflow are below 1e-37."""


def _product_totals(given: _Given) -> tuple[Array, Array]:
    """The log-normaliser of each row by matrix products, and whether it is exact.

    A step takes the exponential of ``alpha`` and of the transitions, each less its maximum: as many exponentials as
    labels, not pairs of them. Where the only way to a label is from one that is improbable beyond float32, the sum
    underflows.
    """
    by_time = given.by_time()
    shifts = lax.stop_gradient(given.chain.transitions.max(axis=0, keepdims=True))
    factors = jnp.exp(given.chain.transitions - shifts)

    def ahead(carry: tuple[Array, Array], at_time: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
        (alpha, is_exact), (emitted, exists) = carry, at_time
        top = lax.stop_gradient(alpha.max(axis=1, keepdims=True))
        sums = jnp.exp(alpha - top) @ factors
        is_fine = sums >= _MIN_EXACT_SUM
        after = emitted + top + shifts + jnp.log(jnp.where(is_fine, sums, 1.0))
        is_exact = is_exact & (is_fine.all(axis=1) | ~exists)
        return (jnp.where(exists[:, None], after, alpha), is_exact), None

    first = _first(given)
    start = (first, jnp.ones(first.shape[0], jnp.bool_))
    (final, is_exact), _ = lax.scan(ahead, start, (by_time.scores[1:], by_time.valid[1:]))
    return _total(final, given), is_exact


def _total(final: Array, given: _Given) -> Array:
    total = jax.nn.logsumexp(final + given.chain.ends[None], axis=1)
    return jnp.where(given.lengths > 0, total, 0.0)
