"""One vector from a padded sequence. Padding changes nothing; an empty row gives zeros."""

import jax
import jax.numpy as jnp
from flax import nnx

from transformer_jax.functional import AttentionMask, Dot, attention, attention_with_weights
from transformer_jax.functional.dtypes import as_array, wide
from transformer_jax.nn.linear import Linear
from transformer_jax.typing import Array, Bool, Float, Int


def valid_steps(lengths: Int[Array, "batch"], num_steps: int) -> Bool[Array, "batch time"]:
    """True at the steps before each row's length.

    Example:
      >>> valid_steps(jnp.array([1, 2]), 3).astype(int).tolist()
      [[1, 0, 0], [1, 1, 0]]
    """
    return jnp.arange(num_steps, dtype=lengths.dtype)[None, :] < lengths[:, None]


class MeanPooling(nnx.Module):
    r"""The mean over each row's valid steps.

    .. math:: y = \frac{1}{n} \sum_{t \le n} x_t

    Example:
      >>> MeanPooling()(jnp.array([[[1.0], [3.0], [9.0]]]), lengths=jnp.array([2])).tolist()
      [[2.0]]
    """

    def __call__(
        self, inputs: Float[Array, "batch time features"], *, lengths: Int[Array, "batch"] | None = None
    ) -> Float[Array, "batch features"]:
        """Pool; ``lengths`` ``None`` takes all steps."""
        inputs = as_array("inputs", inputs)
        if inputs.shape[1] == 0:
            return _of_nothing(inputs)
        if lengths is None:
            return inputs.mean(axis=1)
        lengths = as_array("lengths", lengths)
        valid = valid_steps(lengths, inputs.shape[1])
        total = jnp.where(valid[..., None], inputs, jnp.zeros_like(inputs)).astype(wide(inputs)).sum(axis=1)
        count = jnp.maximum(valid.sum(axis=1), 1).astype(total.dtype)
        return (total / count[:, None]).astype(inputs.dtype)


class MaxPooling(nnx.Module):
    r"""The largest value of each feature over each row's valid steps.

    .. math:: y_d = \max_{t \le n} x_{td}

    Example:
      >>> MaxPooling()(jnp.array([[[-1.0], [-3.0], [9.0]]]), lengths=jnp.array([2])).tolist()
      [[-1.0]]
    """

    def __call__(
        self, inputs: Float[Array, "batch time features"], *, lengths: Int[Array, "batch"] | None = None
    ) -> Float[Array, "batch features"]:
        """Pool; ``lengths`` ``None`` takes all steps."""
        inputs = as_array("inputs", inputs)
        if inputs.shape[1] == 0:
            return _of_nothing(inputs)
        if lengths is None:
            return inputs.max(axis=1)
        lengths = as_array("lengths", lengths)
        valid = valid_steps(lengths, inputs.shape[1])
        largest = jnp.max(jnp.where(valid[..., None], inputs, -jnp.inf), axis=1)
        return jnp.where((lengths > 0)[:, None], largest, jnp.zeros_like(largest)).astype(inputs.dtype)


class LastPooling(nnx.Module):
    r"""The last valid step of each row.

    .. math:: y = x_n

    Example:
      >>> LastPooling()(jnp.array([[[1.0], [3.0], [9.0]]]), lengths=jnp.array([2])).tolist()
      [[3.0]]
    """

    def __call__(
        self, inputs: Float[Array, "batch time features"], *, lengths: Int[Array, "batch"] | None = None
    ) -> Float[Array, "batch features"]:
        """Pool; ``lengths`` ``None`` takes the last of all steps."""
        inputs = as_array("inputs", inputs)
        if inputs.shape[1] == 0:
            return _of_nothing(inputs)
        if lengths is None:
            return inputs[:, -1]
        lengths = as_array("lengths", lengths)
        last = jnp.clip(lengths - 1, 0, inputs.shape[1] - 1)[:, None, None]
        picked = jnp.take_along_axis(inputs, last, axis=1)[:, 0]
        return jnp.where((lengths > 0)[:, None], picked, jnp.zeros_like(picked))


class AttentionPooling(nnx.Module):
    r"""The mean of the steps under weights that a learned query gives them.

    .. math:: y = \sum_t \alpha_t x_t, \quad \alpha = \mathrm{softmax}_t(u^\top \tanh(W x_t + b))

    Args:
      input_dim: Width of the steps.
      attention_dim: Width of the hidden layer and of the learned query ``u``.
      rngs: Source of the initial parameters.

    Example:
      >>> pool = AttentionPooling(4, 3, rngs=nnx.Rngs(0))
      >>> pool(jnp.ones((2, 5, 4)), lengths=jnp.array([5, 0])).shape
      (2, 4)

    Source: Yang et al. 2016, https://aclanthology.org/N16-1174, equations 5 to 7.
    """

    def __init__(self, input_dim: int, attention_dim: int, *, rngs: nnx.Rngs):
        self.hidden = Linear(input_dim, (attention_dim,), use_bias=True, rngs=rngs)
        scale = jnp.float32(attention_dim) ** -0.5
        self.query = nnx.Param(jax.random.normal(rngs.params(), (attention_dim,), jnp.float32) * scale)

    def __call__(
        self, inputs: Float[Array, "batch time features"], *, lengths: Int[Array, "batch"] | None = None
    ) -> Float[Array, "batch features"]:
        """Pool; ``lengths`` ``None`` takes all steps."""
        inputs = as_array("inputs", inputs)
        return attention(*self._arrays(inputs), score=Dot(), mask=_mask(lengths, inputs))[:, 0, 0]

    def weights(
        self, inputs: Float[Array, "batch time features"], *, lengths: Int[Array, "batch"] | None = None
    ) -> Float[Array, "batch time"]:
        """The weight of each step; zero in the padding."""
        inputs = as_array("inputs", inputs)
        return attention_with_weights(*self._arrays(inputs), score=Dot(), mask=_mask(lengths, inputs))[1][
            :, 0, 0
        ]

    def _arrays(self, inputs: Array) -> tuple[Array, Array, Array]:
        key = jnp.tanh(self.hidden(inputs))[:, :, None, :]
        query = self.query[...][None, None, None, :].astype(key.dtype)
        query = jnp.broadcast_to(query, (inputs.shape[0], 1, 1, self.query.shape[0]))
        return query, key, inputs[:, :, None, :]


def _of_nothing(inputs: Array) -> Array:
    """Zeros, as a row of length 0 gives them, where there are no steps at all."""
    return jnp.zeros((inputs.shape[0], inputs.shape[2]), inputs.dtype)


def _mask(lengths: Array | None, inputs: Array) -> AttentionMask | None:
    return None if lengths is None else AttentionMask.from_lengths(lengths, inputs.shape[1])
