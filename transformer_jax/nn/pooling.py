"""One vector from a padded sequence. Padding changes nothing; an empty row gives zeros.

Each pooling also says which steps its vector is made of: ``with_weights`` gives the vector and a weight for each step,
which add up to one, or are all zero for an empty row.
"""

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

    def with_weights(
        self, inputs: Float[Array, "batch time features"], *, lengths: Int[Array, "batch"] | None = None
    ) -> tuple[Float[Array, "batch features"], Float[Array, "batch time"]]:
        """The vector, and the same weight for each valid step."""
        inputs = as_array("inputs", inputs)
        weights = _valid(inputs, lengths).astype(jnp.float32)
        total = jnp.maximum(weights.sum(axis=1, keepdims=True), 1.0)
        return self(inputs, lengths=lengths), weights / jnp.broadcast_to(total, weights.shape)


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

    def with_weights(
        self, inputs: Float[Array, "batch time features"], *, lengths: Int[Array, "batch"] | None = None
    ) -> tuple[Float[Array, "batch features"], Float[Array, "batch time"]]:
        """The vector, and the share of the features that each step is the first largest of."""
        inputs = as_array("inputs", inputs)
        if inputs.shape[1] == 0:
            return _of_nothing(inputs), jnp.zeros(inputs.shape[:2], jnp.float32)
        valid = _valid(inputs, lengths)
        first = jnp.argmax(jnp.where(valid[..., None], inputs, -jnp.inf), axis=1)
        weights = jax.nn.one_hot(first, inputs.shape[1], dtype=jnp.float32).mean(axis=1)
        return self(inputs, lengths=lengths), jnp.where(valid, weights, 0.0)


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

    def with_weights(
        self, inputs: Float[Array, "batch time features"], *, lengths: Int[Array, "batch"] | None = None
    ) -> tuple[Float[Array, "batch features"], Float[Array, "batch time"]]:
        """The vector, and weight 1 for the last valid step."""
        inputs = as_array("inputs", inputs)
        if inputs.shape[1] == 0:
            return _of_nothing(inputs), jnp.zeros(inputs.shape[:2], jnp.float32)
        valid = _valid(inputs, lengths).astype(jnp.float32)
        weights = valid - jnp.pad(valid[:, 1:], ((0, 0), (0, 1)))
        return self(inputs, lengths=lengths), weights


class FirstPooling(nnx.Module):
    r"""The first step of each row, such as the start token of BERT, which is called [CLS] there.

    .. math:: y = x_1

    Example:
      >>> FirstPooling()(jnp.array([[[1.0], [3.0]], [[5.0], [7.0]]]), lengths=jnp.array([2, 0])).tolist()
      [[1.0], [0.0]]

    Source: Devlin et al. 2019, https://arxiv.org/abs/1810.04805, section 3.
    """

    def __call__(
        self, inputs: Float[Array, "batch time features"], *, lengths: Int[Array, "batch"] | None = None
    ) -> Float[Array, "batch features"]:
        """Pool; ``lengths`` ``None`` takes rows without padding."""
        inputs = as_array("inputs", inputs)
        if inputs.shape[1] == 0:
            return _of_nothing(inputs)
        first = inputs[:, 0]
        return first if lengths is None else jnp.where((lengths > 0)[:, None], first, jnp.zeros_like(first))

    def with_weights(
        self, inputs: Float[Array, "batch time features"], *, lengths: Int[Array, "batch"] | None = None
    ) -> tuple[Float[Array, "batch features"], Float[Array, "batch time"]]:
        """The vector, and weight 1 for the first step."""
        inputs = as_array("inputs", inputs)
        if inputs.shape[1] == 0:
            return _of_nothing(inputs), jnp.zeros(inputs.shape[:2], jnp.float32)
        valid = _valid(inputs, lengths).astype(jnp.float32)
        weights = valid - jnp.pad(valid[:, :-1], ((0, 0), (1, 0)))
        return self(inputs, lengths=lengths), jnp.maximum(weights, 0.0)


class EndsPooling(nnx.Module):
    r"""The last state of both directions of a bidirectional recurrent stack: each where it has read the whole row.

    .. math:: y = [\overrightarrow{x}_n; \overleftarrow{x}_1]

    Steps are the two directions side by side, as `RecurrentStack` gives them.

    Example:
      >>> EndsPooling()(jnp.array([[[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]]]), lengths=jnp.array([2])).tolist()
      [[3.0, 2.0]]
    """

    def __call__(
        self, inputs: Float[Array, "batch time features"], *, lengths: Int[Array, "batch"] | None = None
    ) -> Float[Array, "batch features"]:
        """Pool; ``lengths`` ``None`` takes all steps."""
        inputs = as_array("inputs", inputs)
        ahead, back = jnp.split(inputs, 2, axis=-1)
        ends = (LastPooling()(ahead, lengths=lengths), FirstPooling()(back, lengths=lengths))
        return jnp.concatenate(ends, axis=-1)

    def with_weights(
        self, inputs: Float[Array, "batch time features"], *, lengths: Int[Array, "batch"] | None = None
    ) -> tuple[Float[Array, "batch features"], Float[Array, "batch time"]]:
        """The vector, and half of the weight for the last step and half for the first."""
        inputs = as_array("inputs", inputs)
        ahead, back = jnp.split(inputs, 2, axis=-1)
        last = LastPooling().with_weights(ahead, lengths=lengths)[1]
        first = FirstPooling().with_weights(back, lengths=lengths)[1]
        return self(inputs, lengths=lengths), (last + first) / 2


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
        return self.with_weights(inputs, lengths=lengths)[1]

    def with_weights(
        self, inputs: Float[Array, "batch time features"], *, lengths: Int[Array, "batch"] | None = None
    ) -> tuple[Float[Array, "batch features"], Float[Array, "batch time"]]:
        """The vector, and the weight that the learned query gives each step."""
        inputs = as_array("inputs", inputs)
        pooled, weights = attention_with_weights(
            *self._arrays(inputs), score=Dot(), mask=_mask(lengths, inputs)
        )
        return pooled[:, 0, 0], weights[:, 0, 0]

    def _arrays(self, inputs: Array) -> tuple[Array, Array, Array]:
        key = jnp.tanh(self.hidden(inputs))[:, :, None, :]
        query = self.query[...][None, None, None, :].astype(key.dtype)
        query = jnp.broadcast_to(query, (inputs.shape[0], 1, 1, self.query.shape[0]))
        return query, key, inputs[:, :, None, :]


def _of_nothing(inputs: Array) -> Array:
    """Zeros, as a row of length 0 gives them, where there are no steps at all."""
    return jnp.zeros((inputs.shape[0], inputs.shape[2]), inputs.dtype)


def _valid(inputs: Array, lengths: Array | None) -> Bool[Array, "batch time"]:
    if lengths is None:
        return jnp.ones(inputs.shape[:2], bool)
    return valid_steps(as_array("lengths", lengths), inputs.shape[1])


def _mask(lengths: Array | None, inputs: Array) -> AttentionMask | None:
    return None if lengths is None else AttentionMask.from_lengths(lengths, inputs.shape[1])
