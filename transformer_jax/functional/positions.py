"""Positions as numbers: sinusoidal tables, rotary turns, ALiBi slopes, relative buckets."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from transformer_jax.errors import ConfigError, ShapeError
from transformer_jax.functional.dtypes import as_array, wide
from transformer_jax.typing import Array, Float, Int


def sinusoidal_table(length: int, model_dim: int, *, base: float = 10_000.0) -> Float[Array, "length model"]:
    r"""Table of sine and cosine positions, one row a position.

    .. math:: P_{t,2i} = \sin(t / b^{2i/d}), \quad P_{t,2i+1} = \cos(t / b^{2i/d})

    Args:
      length: Number of positions, in tokens.
      model_dim: Width of the table; must be even.
      base: The longest wavelength is ``2 * pi * base`` tokens.

    Returns:
      The table, float32.

    Raises:
      ShapeError: If ``model_dim`` is odd.

    Example:
      >>> sinusoidal_table(4, 8).shape
      (4, 8)

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.5.
    """
    return sinusoidal_at(jnp.arange(length, dtype=jnp.int32), model_dim, base=base)


def segment_positions(segments: Int[Array, "batch length"]) -> Int[Array, "batch length"]:
    """Each token's place in its own sequence, where a row holds several.

    Args:
      segments: A number for each token; the tokens of a sequence lie next to each other and share theirs.

    Returns:
      How many tokens lie between a token and the first of its sequence.

    Example:
      >>> segment_positions(jnp.array([[1, 1, 1, 2, 2, 0]])).tolist()
      [[0, 1, 2, 0, 1, 0]]

    Source: Krell et al. 2021, https://arxiv.org/abs/2107.02027.
    """
    segments = as_array("segments", segments)
    places = jnp.broadcast_to(jnp.arange(segments.shape[1], dtype=jnp.int32), segments.shape)
    is_first = jnp.pad(segments[:, 1:] != segments[:, :-1], ((0, 0), (1, 0)))
    return places - jax.lax.cummax(jnp.where(is_first, places, 0), axis=1)


def sinusoidal_at(
    positions: Int[Array, "*shape"] | Float[Array, "*shape"],
    model_dim: int,
    *,
    base: float = 10_000.0,
    dtype: DTypeLike = jnp.float32,
) -> Float[Array, "*shape model"]:
    r"""The rows of :func:`sinusoidal_table` at the given positions, which may be traced.

    .. math:: P_{t,2i} = \sin(t / b^{2i/d}), \quad P_{t,2i+1} = \cos(t / b^{2i/d})

    Args:
      positions: Positions in tokens, any shape; fractions (position interpolation) lie between the rows.
      model_dim: Width of a row; must be even.
      base: The longest wavelength is ``2 * pi * base`` tokens.
      dtype: ``float64`` asks for that (with ``jax_enable_x64``), as positions in it do; any other gives float32.

    Returns:
      One row a position, float32 or float64.

    Raises:
      ShapeError: If ``model_dim`` is odd.

    Example:
      >>> sinusoidal_at(jnp.array([0]), 4).tolist()
      [[0.0, 1.0, 0.0, 1.0]]

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.5.
    """
    _check_even("model_dim", model_dim)
    positions = as_array("positions", positions)
    angles = _angles(positions, model_dim, base, wide(positions, jnp.dtype(dtype)))
    pairs = jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1)
    return pairs.reshape(*positions.shape, model_dim)


def rotary(
    x: Float[Array, "batch length heads head_dim"],
    positions: Int[Array, "#batch length"] | Float[Array, "#batch length"],
    *,
    base: float = 10_000.0,
) -> Float[Array, "batch length heads head_dim"]:
    r"""Rotary positions: turn each pair of neighbouring features by an angle that grows with the position.

    .. math:: (x_{2i}, x_{2i+1}) \mapsto
       (x_{2i} \cos\theta - x_{2i+1} \sin\theta,\; x_{2i} \sin\theta + x_{2i+1} \cos\theta),
       \quad \theta = t / b^{2i/d}

    The product of a turned query and a turned key depends on the difference of their positions alone.

    Args:
      x: Queries or keys.
      positions: Positions in tokens, ``[batch|1, length]``; fractions (position interpolation) turn in proportion.
      base: The longest wavelength is ``2 * pi * base`` tokens.

    Returns:
      The turned array, in the dtype of ``x`` (computed in float32, or in float64 for float64).

    Raises:
      ShapeError: If ``head_dim`` is odd.

    Example:
      >>> x = jnp.ones((1, 3, 2, 4))
      >>> bool(jnp.all(rotary(x, jnp.zeros((1, 3), int)) == x))
      True

    Source: Su et al. 2021, https://arxiv.org/abs/2104.09864, equation 34.
    """
    x, positions = as_array("x", x), as_array("positions", positions)
    head_dim = x.shape[-1]
    _check_even("head_dim", head_dim)
    angles = _angles(positions, head_dim, base, wide(x))[:, :, None, :]  # [batch|1, length, 1, head_dim / 2]
    sine, cosine = jnp.sin(angles), jnp.cos(angles)
    pairs = x.astype(wide(x)).reshape(*x.shape[:-1], head_dim // 2, 2)
    first, second = pairs[..., 0], pairs[..., 1]
    turned = jnp.stack([first * cosine - second * sine, first * sine + second * cosine], axis=-1)
    return turned.reshape(x.shape).astype(x.dtype)


def alibi_slopes(heads: int) -> Float[Array, " heads"]:
    r"""One slope a head for :class:`~transformer_jax.functional.Alibi`.

    .. math:: m_h = 2^{-8 (h + 1) / n}, \quad h = 0 \dots n - 1

    For a number of heads that is no power of two: the slopes of the next lower power, then every second
    slope of the next higher one, as in the authors' code.

    Args:
      heads: Number of heads.

    Returns:
      Slopes, float32.

    Raises:
      ConfigError: If ``heads`` is below 1.

    Example:
      >>> alibi_slopes(2).tolist()
      [0.0625, 0.00390625]

    Source: Press et al. 2022, https://arxiv.org/abs/2108.12409, section 3.
    """
    if heads < 1:
        raise ConfigError(f"heads must be at least 1, got {heads}")
    lower = 2 ** int(math.log2(heads))
    slopes = [2.0 ** (-8.0 * (head + 1) / lower) for head in range(lower)]
    slopes += [2.0 ** (-8.0 * (head + 1) / (2 * lower)) for head in range(0, 2 * (heads - lower), 2)]
    return jnp.asarray(slopes, jnp.float32)


def relative_bucket(
    relative_position: Int[Array, "*shape"], *, bidirectional: bool, num_buckets: int, max_distance: int
) -> Int[Array, "*shape"]:
    r"""Number of the bucket of a relative position: exact when near, logarithmic when far.

    .. math:: b(n) = n \text{ if } n < e, \text{ else }
       \min\!\left(e + \left\lfloor \frac{\ln (n / e)}{\ln (d_{max} / e)} (B - e) \right\rfloor, B - 1\right),
       \quad e = B / 2

    Bidirectional: half of the buckets for keys after the query (``n = |key - query|``); else keys after
    the query fall in bucket 0 (``n = max(query - key, 0)``).

    Args:
      relative_position: Key position minus query position.
      bidirectional: Whether keys after the query have buckets of their own.
      num_buckets: Number of buckets, even when bidirectional.
      max_distance: Distances from here on share the last bucket.

    Returns:
      Bucket numbers, int32.

    Raises:
      ConfigError: If there are too few buckets, ``max_distance`` lies within the exact ones, or the positions are no
        integers.

    Example:
      >>> options = dict(bidirectional=False, num_buckets=8, max_distance=16)
      >>> relative_bucket(jnp.array([1, 0, -3, -4, -99]), **options).tolist()
      [0, 0, 3, 4, 7]

    Source: Raffel et al. 2020, https://arxiv.org/abs/1910.10683, section 2.1.
    """
    check_buckets(bidirectional=bidirectional, num_buckets=num_buckets, max_distance=max_distance)
    relative_position = as_array("relative_position", relative_position)
    if not jnp.issubdtype(relative_position.dtype, jnp.integer):
        raise ConfigError(f"relative_position must hold integers, got {relative_position.dtype}")
    first = jnp.zeros_like(relative_position, jnp.int32)
    if bidirectional:
        num_buckets //= 2
        first = num_buckets * (relative_position > 0).astype(jnp.int32)
        distance = jnp.abs(relative_position)
    else:
        distance = jnp.maximum(-relative_position, 0)
    exact = num_buckets // 2
    ratio = jnp.maximum(distance, exact).astype(jnp.float32) / exact
    steps = jnp.log(ratio) / math.log(max_distance / exact) * (num_buckets - exact)
    far = jnp.minimum(exact + steps.astype(jnp.int32), num_buckets - 1)
    return first + jnp.where(distance < exact, distance.astype(jnp.int32), far)


def check_buckets(*, bidirectional: bool, num_buckets: int, max_distance: int) -> None:
    """Raise ``ConfigError`` unless the numbers describe relative buckets."""
    one_side = num_buckets // 2 if bidirectional else num_buckets
    if one_side < 2 or (bidirectional and num_buckets % 2):
        wanted = "an even number of at least 4" if bidirectional else "at least 2"
        raise ConfigError(f"num_buckets must be {wanted}, got {num_buckets}")
    if max_distance <= one_side // 2:
        raise ConfigError(f"max_distance must exceed the {one_side // 2} exact buckets, got {max_distance}")


def _angles(positions: Array, width: int, base: float, dtype: jnp.dtype) -> Array:
    turns = base ** (-np.arange(0, width, 2) / width) / (2 * np.pi)
    fraction = None
    if jnp.issubdtype(positions.dtype, jnp.floating):
        positions = positions.astype(wide(positions, dtype))
        whole = jnp.floor(jax.lax.stop_gradient(positions))
        fraction, positions = positions - whole, whole.astype(jnp.int32)
    angles = _angles_of_whole(positions, turns, dtype)
    if fraction is None:
        return angles
    radians = jnp.asarray(2 * np.pi * turns, dtype).reshape((1,) * positions.ndim + (-1,))
    return angles + fraction.astype(dtype)[..., None] * radians


def _angles_of_whole(positions: Array, turns: np.ndarray, dtype: jnp.dtype) -> Array:
    if dtype == jnp.float64:
        product = positions.astype(dtype)[..., None] * jnp.asarray(turns).reshape(
            (1,) * positions.ndim + (-1,)
        )
        return (product - jnp.round(product)) * (2 * np.pi)
    # t / b^(2i/d) in float32 is off by 1e-4 at t = 2000, so the angle is counted in turns, as a 32-bit
    # fraction: integer overflow drops the whole turns, and the error stays near 1e-6.
    fractions = jnp.asarray(np.round((turns % 1.0) * 2.0**32).astype(np.uint64).astype(np.uint32))
    fractions = fractions.reshape((1,) * positions.ndim + (-1,))
    product = positions.astype(jnp.uint32)[..., None] * fractions
    signed = jax.lax.bitcast_convert_type(product, jnp.int32)
    return signed.astype(jnp.float32) * np.float32(2 * np.pi / 2.0**32)


def _check_even(name: str, size: int) -> None:
    if size % 2 or size < 2:
        raise ShapeError(f"{name} must be even (features turn in pairs), got {size}")
