"""Connectionist temporal classification: texts from more frames than they have tokens, without an alignment.

Each frame gives a token or the blank; a text stands for all sequences of frames that become it when repeated tokens are
merged and blanks left out.
"""

from typing import Any

import jax
import jax.numpy as jnp

from transformer_jax.pytree import pytree_dataclass
from transformer_jax.typing import Array, Bool, Float, Int

__all__ = ["CtcPath", "CtcPrefixes", "ctc_best_path", "ctc_frames_needed", "ctc_loss", "ctc_prefixes"]

_LOG_ZERO = -1e30
"""Logarithm of a probability of zero; finite, so that differences and gradients of it are no NaN."""


def ctc_frames_needed(
    labels: Int[Array, "batch tokens"], label_lengths: Int[Array, " batch"]
) -> Int[Array, " batch"]:
    r"""Fewest frames of an alignment: one a token, and a blank between equal neighbours.

    .. math:: n + |\{i : y_i = y_{i-1}\}|

    Args:
      labels: Tokens of each text; what stands behind its length does not matter.
      label_lengths: Tokens of each text, zero or more.

    Example:
      >>> ctc_frames_needed(jnp.array([[5, 5, 6]]), jnp.array([3])).tolist()
      [4]

    Source: Graves et al. 2006, https://doi.org/10.1145/1143844.1143891, section 3.1.
    """
    places = jnp.arange(1, labels.shape[1])[None, :]
    repeats = (labels[:, 1:] == labels[:, :-1]) & (places < label_lengths[:, None])
    return label_lengths + repeats.sum(axis=1, dtype=label_lengths.dtype)


def ctc_loss(
    logits: Float[Array, "batch frames vocab"],
    lengths: Int[Array, " batch"],
    labels: Int[Array, "batch tokens"],
    label_lengths: Int[Array, " batch"],
    *,
    blank_id: int = 0,
) -> tuple[Float[Array, " batch"], Bool[Array, " batch"]]:
    r"""Negative log-probability of texts, summed over all their alignments.

    .. math:: \ell = -\log \sum_{\pi \in B^{-1}(y)} \prod_t p_t(\pi_t)

    A text that needs more frames than there are has no alignment: its loss would be infinite. It is given loss and
    gradient zero here, and said to be impossible.

    Args:
      logits: Of each frame, unnormalised, float32.
      lengths: Valid frames of each row.
      labels: Tokens of each text, none of them the blank.
      label_lengths: Tokens of each text, zero or more.
      blank_id: The blank.

    Returns:
      The loss of each row in nats, and whether it has an alignment.

    Example:
      >>> logits = jnp.zeros((2, 2, 3))
      >>> losses, possible = ctc_loss(logits, jnp.array([2, 1]), jnp.array([[1], [1]]), jnp.array([1, 1]))
      >>> [f"{float(one):.4f}" for one in jnp.exp(-losses)]  # of 9 paths 1 1, 0 1 and 1 0; of 3 paths 1
      ['0.3333', '0.3333']

    Source: Graves et al. 2006, https://doi.org/10.1145/1143844.1143891, equation 8.
    """
    import optax  # here, since the functions of the mathematics load without it

    possible = ctc_frames_needed(labels, label_lengths) <= lengths
    label_lengths = jnp.where(possible, label_lengths, 0)
    padded_frames = jnp.arange(logits.shape[1])[None, :] >= lengths[:, None]
    padded_labels = jnp.arange(labels.shape[1])[None, :] >= label_lengths[:, None]
    # What counts for nothing is zero before anything is computed of it: no NaN of it can reach a gradient.
    unused = padded_frames[..., None] | ~possible[:, None, None]
    logits = jnp.where(unused, 0.0, logits.astype(jnp.float32))
    losses = optax.ctc_loss(
        logits,
        padded_frames.astype(jnp.float32),
        jnp.where(padded_labels, 0, labels),
        padded_labels.astype(jnp.float32),
        blank_id=blank_id,
    )
    return jnp.where(possible, losses, 0.0), possible


@pytree_dataclass
class CtcPath:
    """The best path of each row, merged.

    Attributes:
      tokens: ``[batch, frames]``, the blank behind the tokens.
      lengths: Tokens of each row.
      frames: ``[batch, frames]``, the frame at which each token begins; 0 behind them.
      log_probs: Log-probability of the path in nats, which is at most that of its text.
    """

    tokens: Int[Array, "batch frames"]
    lengths: Int[Array, " batch"]
    frames: Int[Array, "batch frames"]
    log_probs: Float[Array, " batch"]


def ctc_best_path(
    logits: Float[Array, "batch frames vocab"], lengths: Int[Array, " batch"], *, blank_id: int = 0
) -> CtcPath:
    r"""The most probable token of each frame, repeated ones merged and blanks left out.

    .. math:: y = B(\pi^*), \quad \pi^*_t = \operatorname{argmax}_c p_t(c), \quad \log p = \sum_t \log p_t(\pi^*_t)

    Args:
      logits: Of each frame, unnormalised; ``-inf`` for tokens that are ruled out.
      lengths: Valid frames of each row.
      blank_id: The blank.

    Returns:
      Tokens, their frames and the probability of the path.

    Example:
      >>> frames = jax.nn.one_hot(jnp.array([[1, 1, 0, 1, 2]]), 3)
      >>> path = ctc_best_path(frames, jnp.array([5]))
      >>> path.tokens.tolist(), path.lengths.tolist(), path.frames.tolist()
      ([[1, 1, 2, 0, 0]], [3], [[0, 3, 4, 0, 0]])

    Source: Graves et al. 2006, https://doi.org/10.1145/1143844.1143891, section 3.2 (best path decoding).
    """
    num_frames = logits.shape[1]
    valid = jnp.arange(num_frames)[None, :] < lengths[:, None]
    logits = jnp.where(valid[..., None], logits.astype(jnp.float32), 0.0)
    best = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    before = jnp.pad(best[:, :-1], ((0, 0), (1, 0)), constant_values=blank_id)
    begins = valid & (best != blank_id) & (best != before)
    order = jnp.argsort(~begins, axis=1, stable=True).astype(jnp.int32)
    kept = jnp.take_along_axis(begins, order, axis=1)
    of_best = jnp.take_along_axis(jax.nn.log_softmax(logits, axis=-1), best[..., None], axis=-1)[..., 0]
    return CtcPath(
        tokens=jnp.where(kept, jnp.take_along_axis(best, order, axis=1), blank_id),
        lengths=begins.sum(axis=1, dtype=jnp.int32),
        frames=jnp.where(kept, order, 0),
        log_probs=jnp.where(valid, of_best, 0.0).sum(axis=1),
    )


@pytree_dataclass
class CtcPrefixes:
    r"""Probabilities of a prefix of each row's text: the state of a search by prefix scores, begun by `ctc_prefixes`.

    The score of a prefix :math:`g` is the probability of all texts that begin with it,

    .. math:: \psi(g) = \sum_y p_{\mathrm{CTC}}(g\, y \mid x)

    so that the product of `next_log_probs` along a text, its end included, is the text's whole probability.

    Attributes:
      log_probs: Of each frame ``[batch, frames, vocab]``; behind a row's end the blank is certain.
      ends_in_token: :math:`\gamma^n_t`: log-probability that the frames up to each one spell the prefix, and the last
        is its last token, ``[batch, frames]``.
      ends_in_blank: :math:`\gamma^b_t`: the same, and the last is the blank.
      last: Last token of each prefix; -1 of the empty one.
      score: :math:`\log \psi(g)` in nats, ``[batch]``.

    Example:
      >>> logits = jax.random.normal(jax.random.key(0), (1, 4, 4))
      >>> first = ctc_prefixes(logits, jnp.array([4]), forbidden_ids=(3,))
      >>> second = first.extended(jnp.array([1]), blank_id=0)
      >>> total = first.next_log_probs(blank_id=0, eos_id=3)[0, 1] + second.next_log_probs(blank_id=0, eos_id=3)[0, 3]
      >>> barred = logits.at[..., 3].set(-jnp.inf)
      >>> paths = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1],
      ...   [1, 1, 1, 0], [0, 1, 1, 1], [1, 1, 1, 1]]
      >>> by_hand = sum(jnp.exp(jax.nn.log_softmax(barred[0])[jnp.arange(4), jnp.array(path)].sum()) for path in paths)
      >>> bool(jnp.allclose(jnp.exp(total), by_hand, rtol=1e-3))
      True

    Source: Watanabe et al. 2017, https://doi.org/10.1109/JSTSP.2017.2763455, algorithm 2.
    """

    log_probs: Float[Array, "batch frames vocab"]
    ends_in_token: Float[Array, "batch frames"]
    ends_in_blank: Float[Array, "batch frames"]
    last: Int[Array, " batch"]
    score: Float[Array, " batch"]

    def next_log_probs(self, *, blank_id: int, eos_id: int) -> Float[Array, "batch vocab"]:
        r"""Log-probability of each next token given the prefix, and of the end; all of them add up to one.

        .. math:: \log p(c \mid g) = \log \sum_t \phi_{t-1}(c)\, p_t(c) - \log \psi(g), \quad
          \log p(\mathrm{end} \mid g) = \log (\gamma^n_T + \gamma^b_T) - \log \psi(g)

        with :math:`\phi_t(c) = \gamma^b_t + [c \ne \mathrm{last}] \gamma^n_t`. The blank is no token of
        a text and has ``-inf``.

        Args:
          blank_id: The blank.
          eos_id: The end of a text, which no frame gives.

        Returns:
          In nats; ``-inf`` for what is impossible.
        """
        before_token = jnp.pad(self.ends_in_token[:, :-1], ((0, 0), (1, 0)), constant_values=_LOG_ZERO)
        # Before the first frame the empty prefix alone is there.
        first = jnp.where(self.last < 0, 0.0, _LOG_ZERO)[:, None]
        before_blank = jnp.concatenate([first, self.ends_in_blank[:, :-1]], axis=1)
        both = jnp.logaddexp(before_token, before_blank)
        vocab_size = self.log_probs.shape[-1]
        of_others = jax.nn.logsumexp(both[..., None] + self.log_probs, axis=1)
        last = jnp.maximum(self.last, 0)
        frames_of_last = jnp.take_along_axis(self.log_probs, last[:, None, None], axis=2)[..., 0]
        of_last = jax.nn.logsumexp(before_blank + frames_of_last, axis=1)
        tokens = jnp.arange(vocab_size)[None, :]
        scores = jnp.where(tokens == self.last[:, None], of_last[:, None], of_others)
        ended = jnp.logaddexp(self.ends_in_token[:, -1], self.ends_in_blank[:, -1])
        scores = jnp.where(tokens == eos_id, ended[:, None], scores) - self.score[:, None]
        return jnp.where(tokens == blank_id, -jnp.inf, jnp.where(scores < _LOG_ZERO / 2, -jnp.inf, scores))

    def extended(self, tokens: Int[Array, " batch"], *, blank_id: int) -> "CtcPrefixes":
        r"""The prefixes with one more token each.

        .. math:: \gamma^n_t = (\gamma^n_{t-1} + \phi_{t-1}(c))\, p_t(c), \quad
          \gamma^b_t = (\gamma^b_{t-1} + \gamma^n_{t-1})\, p_t(\mathrm{blank})

        Args:
          tokens: A token for each row, neither blank nor end.
          blank_id: The blank.

        Returns:
          New prefixes; these are left as they are.
        """
        of_token = jnp.take_along_axis(self.log_probs, tokens[:, None, None], axis=2)[..., 0]
        of_blank = self.log_probs[..., blank_id]
        before_token = jnp.pad(self.ends_in_token[:, :-1], ((0, 0), (1, 0)), constant_values=_LOG_ZERO)
        first = jnp.where(self.last < 0, 0.0, _LOG_ZERO)[:, None]
        before_blank = jnp.concatenate([first, self.ends_in_blank[:, :-1]], axis=1)
        is_repeated = (tokens == self.last)[:, None]
        entered = jnp.where(is_repeated, before_blank, jnp.logaddexp(before_token, before_blank))

        def step(carry: tuple[Array, Array], inputs: tuple[Array, Array, Array]) -> tuple[Any, Any]:
            token, blank = carry
            enter, log_token, log_blank = inputs
            new_blank = jnp.logaddexp(token, blank) + log_blank
            new_token = jnp.logaddexp(token, enter) + log_token
            return (new_token, new_blank), (new_token, new_blank)

        log_zero = jnp.full_like(entered[:, 0], _LOG_ZERO)
        by_frame = (entered.T, of_token.T, of_blank.T)
        _, (ends_in_token, ends_in_blank) = jax.lax.scan(step, (log_zero, log_zero), by_frame)
        return CtcPrefixes(
            log_probs=self.log_probs,
            ends_in_token=jnp.maximum(ends_in_token.T, _LOG_ZERO),
            ends_in_blank=jnp.maximum(ends_in_blank.T, _LOG_ZERO),
            last=tokens.astype(self.last.dtype),
            score=jnp.maximum(jax.nn.logsumexp(entered + of_token, axis=1), _LOG_ZERO),
        )


def ctc_prefixes(
    logits: Float[Array, "batch frames vocab"],
    lengths: Int[Array, " batch"],
    *,
    blank_id: int = 0,
    forbidden_ids: tuple[int, ...] = (),
) -> CtcPrefixes:
    r"""The empty prefix of each row's text.

    .. math:: \gamma^n_t = 0, \quad \gamma^b_t = \prod_{s \le t} p_s(\mathrm{blank}), \quad \psi = 1

    Args:
      logits: Of each frame, unnormalised.
      lengths: Valid frames of each row; padding changes nothing.
      blank_id: The blank.
      forbidden_ids: Tokens that are ruled out, such as the end of a text, which no frame gives; the others share the
        whole probability of each frame.

    Returns:
      The state before the first token.

    Example:
      >>> prefixes = ctc_prefixes(jnp.zeros((1, 2, 4)), jnp.array([2]), forbidden_ids=(3,))
      >>> [f"{float(one):.2f}" for one in jnp.exp(prefixes.next_log_probs(blank_id=0, eos_id=3)[0])]
      ['0.00', '0.44', '0.44', '0.11']

    Source: Watanabe et al. 2017, https://doi.org/10.1109/JSTSP.2017.2763455, algorithm 2.
    """
    rows, num_frames, vocab_size = logits.shape
    tokens = jnp.arange(vocab_size)
    allowed = jnp.all(tokens[:, None] != jnp.asarray(forbidden_ids, jnp.int32)[None, :], axis=1)
    valid = (jnp.arange(num_frames)[None, :] < lengths[:, None])[..., None]
    logits = jnp.where(valid, logits.astype(jnp.float32), 0.0)
    log_probs = jax.nn.log_softmax(jnp.where(allowed, logits, -jnp.inf), axis=-1)
    certain = jnp.where(tokens == blank_id, 0.0, _LOG_ZERO)
    log_probs = jnp.maximum(jnp.where(valid, log_probs, certain), _LOG_ZERO)
    return CtcPrefixes(
        log_probs=log_probs,
        ends_in_token=jnp.full((rows, num_frames), _LOG_ZERO),
        ends_in_blank=jnp.cumsum(log_probs[..., blank_id], axis=1),
        last=jnp.full(rows, -1, jnp.int32),
        score=jnp.zeros(rows),
    )
