"""Perplexity and bits from a summed loss."""

import math
from typing import Any, Protocol

from transformer_jax.errors import DataError


class SummedLoss(Protocol):
    """Protocol of ``LossSum``: a sum of negative log-probabilities in nats, and the number of tokens."""

    @property
    def sum(self) -> Any:
        """Sum over tokens, a number or a scalar array."""

    @property
    def count(self) -> Any:
        """Number of tokens, a number or a scalar array."""


def mean_loss(loss: SummedLoss) -> float:
    """Nats a token.

    Args:
      loss: Sum and count over a whole data set; without label smoothing.

    Returns:
      Their quotient.

    Raises:
      DataError: If the count is zero.
    """
    count = float(loss.count)
    if count <= 0:
        raise DataError(f"a mean loss needs at least one token; got a count of {count:g}")
    return float(loss.sum) / count


def perplexity(loss: SummedLoss) -> float:
    r"""Perplexity of a data set: the size of a uniform vocabulary that would be as surprising.

    .. math:: PP = \exp\left(-\frac{1}{N} \sum_{i=1}^{N} \log p(y_i \mid y_{<i}, x)\right)

    Args:
      loss: Sum and count over the whole data set; without label smoothing.

    Returns:
      At least 1 for a true log-likelihood; infinite where the mean passes 709 nats.

    Raises:
      DataError: If the count is zero.

    Example:
      >>> from types import SimpleNamespace
      >>> round(perplexity(SimpleNamespace(sum=4 * math.log(10), count=4)), 6)
      10.0

    Source: Jelinek et al. 1977, https://doi.org/10.1121/1.2016299.
    """
    mean = mean_loss(loss)
    try:
        return math.exp(mean)
    except OverflowError:
        return math.inf


def bits_per_token(loss: SummedLoss) -> float:
    """Mean loss in bits; bits per character where the tokens are characters.

    Args:
      loss: Sum and count over the whole data set; without label smoothing.

    Returns:
      Nats a token divided by log 2.

    Raises:
      DataError: If the count is zero.

    Example:
      >>> from types import SimpleNamespace
      >>> bits_per_token(SimpleNamespace(sum=2 * math.log(8), count=2))
      3.0
    """
    return mean_loss(loss) / math.log(2.0)
