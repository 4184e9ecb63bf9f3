"""The contract of attention: cases, an oracle in NumPy, and checks that any implementation can be put to.

The oracle is a double loop over queries and keys in float64, written from the papers' formulas; its
gradients are central differences. ``check_case`` holds one implementation to one case.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from transformer_jax import functional as F
from transformer_jax.functional import AttentionMask
from transformer_jax.testing.attention_cases import BUILDERS, AttentionCase
from transformer_jax.testing.score_oracles import SCORE_ORACLES

FORWARD_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4
BFLOAT16_TOLERANCE = 2e-2

# Called as attend(query, key, value, score=, mask=, bias=); gives [batch, q_len, heads, value_dim].
Attend = Callable[..., Any]

RULE_ORACLES: dict[type, Callable[[Any, int, int], bool]] = {
    F.SinkWindow: lambda rule, query, key: query - key < rule.window_len or key < rule.num_sinks,
    F.DilatedWindow: lambda rule, query, key: (
        key in [query + step * rule.dilation for step in range(-rule.left, rule.right + 1)]
    ),
    F.GlobalTokens: lambda rule, query, key: (
        key in range(query - rule.left, query + rule.right + 1) or min(query, key) < rule.num_global
    ),
}
"""The library's mask rules once more: whether a query position sees a key position."""


def case_names() -> list[str]:
    """Names of all cases of the contract."""
    return list(BUILDERS)


@functools.cache
def make_case(name: str | AttentionCase) -> AttentionCase:
    """The arguments of one case, the same every time; a case of one's own is returned as it is."""
    if isinstance(name, AttentionCase):
        return name
    return BUILDERS[name](np.random.default_rng(sum(name.encode())))


def oracle_visible(mask: AttentionMask, sizes: tuple[int, int, int, int]) -> np.ndarray:
    """Who may attend to whom, ``[batch, heads, q_len, kv_len]``, by a loop over every pair."""
    visible = np.zeros(sizes, bool)
    rules: Any = mask.rules  # those that only cases have bring an oracle of their own
    pick = _picker
    for row, head, i, j in np.ndindex(*sizes):
        query_position = i if mask.query_positions is None else int(pick(mask.query_positions, row)[i])
        key_position = j if mask.key_positions is None else int(pick(mask.key_positions, row)[j])
        allowed = not (mask.is_causal and key_position > query_position)
        if mask.window_left is not None:
            allowed &= key_position >= query_position - mask.window_left
        if mask.window_right is not None:
            allowed &= key_position <= query_position + mask.window_right
        for query_segments, key_segments in mask.segment_pairs:
            allowed &= bool(pick(query_segments, row)[i] == pick(key_segments, row)[j])
        if mask.key_valid is not None:
            allowed &= bool(pick(mask.key_valid, row)[j])
        if mask.key_lengths is not None:
            allowed &= j < int(pick(mask.key_lengths, row))
        if mask.dense_mask is not None:
            allowed &= bool(pick(pick(mask.dense_mask, row), head)[i, j])
        for rule in rules:
            if type(rule) in RULE_ORACLES:
                allowed &= RULE_ORACLES[type(rule)](rule, query_position, key_position)
            else:
                allowed &= rule.oracle(row, head, query_position, key_position)
        visible[row, head, i, j] = allowed
    return visible


def oracle_attention(case: AttentionCase, arrays: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Output ``[batch, q_len, heads, value_dim]`` and weights ``[batch, heads, q_len, kv_len]``, float64."""
    query, key, value = arrays["query"], arrays["key"], arrays["value"]
    (batch, q_len, heads, _), (kv_len, key_heads), value_heads = query.shape, key.shape[1:3], value.shape[2]
    visible = oracle_visible(case.mask, (batch, heads, q_len, kv_len))
    score_of = case.score_oracle or SCORE_ORACLES[type(arrays["score"])]
    output = np.zeros((batch, q_len, heads, value.shape[-1]))
    weights = np.zeros((batch, heads, q_len, kv_len))
    for row, head, i in np.ndindex(batch, heads, q_len):
        key_head, value_head = head // (heads // key_heads), head // (heads // value_heads)
        slots, scores = [], []
        for j in range(kv_len):
            if not visible[row, head, i, j]:
                continue
            query_position = (
                i if case.mask.query_positions is None else _picker(case.mask.query_positions, row)[i]
            )
            key_position = j if case.mask.key_positions is None else _picker(case.mask.key_positions, row)[j]
            one_key = key[row, j, key_head]
            score = score_of(arrays["score"], query[row, i, head], one_key, head, int(key_position))
            bias = _oracle_bias(arrays["bias"], row, head, i, j, int(query_position), int(key_position))
            if score + bias > -math.inf:
                slots.append(j)
                scores.append(score + bias)
        if not slots:
            continue
        exponentials = np.exp(np.array(scores) - max(scores))
        for j, weight in zip(slots, exponentials / exponentials.sum()):
            weight *= _oracle_factor(arrays.get("reweight"), case.mask, row, head, i, j)
            weights[row, head, i, j] = weight
            output[row, i, head] += weight * value[row, j, value_head]
    return output, weights


def _oracle_bias(
    bias: Any, row: int, head: int, i: int, j: int, query_position: int, key_position: int
) -> Any:
    if bias is None:
        return 0.0
    if isinstance(bias, F.Alibi):
        return -bias.slopes[head] * abs(query_position - key_position)
    if isinstance(bias, F.RelativeBuckets):
        distance = key_position - query_position
        return bias.table[
            oracle_bucket(distance, bias.bidirectional, len(bias.table), bias.max_distance), head
        ]
    index = tuple(0 if size == 1 else at for size, at in zip(bias.shape, (row, head, i, j)))
    return bias[index]


def _oracle_factor(
    reweight: F.GaussianReweight | None, mask: AttentionMask, row: int, head: int, i: int, j: int
) -> float:
    if reweight is None:
        return 1.0
    position = j if mask.key_positions is None else _picker(mask.key_positions, row)[j]
    center = _picker(_picker(reweight.center, row), head)[i]
    return math.exp(-((position - center) ** 2) / (2 * reweight.deviation**2))


def oracle_bucket(distance: int, bidirectional: bool, num_buckets: int, max_distance: int) -> int:
    """T5's bucket of ``key position - query position``, as in its paper's code."""
    first = 0
    if bidirectional:
        num_buckets //= 2
        first, distance = (num_buckets if distance > 0 else 0), abs(distance)
    else:
        distance = max(-distance, 0)
    exact = num_buckets // 2
    if distance < exact:
        return first + distance
    far = exact + int(math.log(distance / exact) / math.log(max_distance / exact) * (num_buckets - exact))
    return first + min(far, num_buckets - 1)


@functools.cache
def oracle_gradients(name: str | AttentionCase) -> dict[str, Any]:
    """Central differences of ``sum(output * cotangent)`` in every array of a case."""
    case = make_case(name)
    leaves, structure = jax.tree.flatten(float64(case.arrays))

    def loss() -> float:
        return float(
            np.sum(oracle_attention(case, jax.tree.unflatten(structure, leaves))[0] * case.cotangent)
        )

    gradients = [np.zeros_like(leaf) for leaf in leaves]
    step = 1e-5
    for leaf, gradient in zip(leaves, gradients):
        for index in np.ndindex(*leaf.shape):
            middle = leaf[index]
            leaf[index] = middle + step
            above = loss()
            leaf[index] = middle - step
            gradient[index] = (above - loss()) / (2 * step)
            leaf[index] = middle
    return jax.tree.unflatten(structure, gradients)


def check_case(attend: Attend, name: str | AttentionCase) -> None:
    """Hold an implementation to a case: value, gradient, jit, vmap, bfloat16, garbage in masked slots.

    Args:
      attend: Called as ``attend(query, key, value, score=, mask=, bias=)``, and with ``reweight=`` in the
        cases that have one.
      name: One of :func:`case_names`, or a case of one's own, with a score rule of one's own say.

    Raises:
      AssertionError: If some check fails; the message says which.
    """
    case = make_case(name)
    name = case.name
    value_and_gradient = _compiled_value_and_gradient(attend)
    output, gradients = value_and_gradient(case.arrays, case.mask, case.cotangent)
    wanted = oracle_attention(case, float64(case.arrays))[0]
    assert output.dtype == case.arrays["query"].dtype
    assert_near(output, wanted, FORWARD_TOLERANCE, f"{name}: value")
    for path, got, want in _zip_leaves(gradients, oracle_gradients(case)):
        assert_near(got, want, GRADIENT_TOLERANCE, f"{name}: gradient in {path}")
    check_empty_rows(case, output, gradients)
    _check_garbage(case, value_and_gradient)
    _check_vmap(case, attend, wanted)
    _check_bfloat16(case, attend)


def check_case_in_16_bits(attend: Attend, name: str, dtype: Any = jnp.bfloat16) -> dict[str, float]:
    """Hold an implementation that has only 16-bit kernels to a case: as :func:`check_case`, at bfloat16's tolerance.

    Values are held against the oracle and gradients against the reference, both given the rounded arrays.

    Args:
      attend: Called as ``attend(query, key, value, score=, mask=, bias=)``.
      name: One of :func:`case_names`.
      dtype: ``bfloat16`` or ``float16``.

    Returns:
      The greatest error of the value and of each gradient, as a share of its greatest entry.

    Raises:
      AssertionError: If some check fails; the message says which.
    """
    made = make_case(name)
    arrays = _cast(made.arrays, dtype)
    case = dataclasses.replace(made, arrays=arrays)
    value_and_gradient = _compiled_value_and_gradient(attend)
    output, gradients = value_and_gradient(arrays, case.mask, case.cotangent)
    wanted = oracle_attention(case, float64(arrays))[0]
    reference = functools.partial(F.attention, implementation="reference")
    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), arrays)
    reference_gradient = _compiled_value_and_gradient(reference)
    _, wanted_gradients = reference_gradient(wide, case.mask, case.cotangent)
    pairs = list(_zip_leaves(gradients, wanted_gradients))
    greatest = max(float(np.abs(float64(want)).max()) for _, _, want in pairs)
    errors = {}
    for path, got, want in [("value", output, wanted), *pairs]:
        assert got.dtype == dtype, f"{name}: {path} is {got.dtype}"
        # Where all of a gradient cancels, as with one key, nothing of its own says what is small.
        scale = max(float(np.abs(float64(want)).max()), 1e-2 * greatest)
        errors[path] = float(np.abs(float64(got) - float64(want)).max()) / scale
        assert errors[path] <= BFLOAT16_TOLERANCE, (
            f"{name}: error in {path} is {errors[path]:.2g} of its scale"
        )
    check_empty_rows(case, output, gradients)
    _check_garbage(case, value_and_gradient)
    _check_vmap(case, attend, wanted, BFLOAT16_TOLERANCE)
    return errors


def check_empty_rows(case: AttentionCase, output: Any, gradients: dict[str, Any]) -> None:
    """A query that sees no key must give exactly zero, and get exactly zero gradient."""
    rows = np.any(_visible(case), axis=-1).swapaxes(1, 2)  # [batch, q_len, heads]
    assert np.all(np.asarray(output)[~rows] == 0), f"{case.name}: a row with nothing to attend to is not zero"
    assert np.all(np.asarray(gradients["query"])[~rows] == 0), f"{case.name}: an empty row has a gradient"


def _compiled_value_and_gradient(attend: Attend) -> Callable[..., tuple[Any, Any]]:
    """Output and gradients in NumPy: what is done with them one by one would be a program each in JAX."""
    compiled = jax.jit(functools.partial(_value_and_gradient, attend))
    return lambda arrays, mask, cotangent: jax.device_get(compiled(arrays, mask, cotangent))


def _cast(arrays: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf).astype(dtype)), arrays)


def _value_and_gradient(attend: Attend, arrays: Any, mask: AttentionMask, cotangent: Any) -> tuple[Any, Any]:
    output, pull_back = jax.vjp(lambda arrays: call(attend, arrays, mask), arrays)
    return output, pull_back(jnp.asarray(cotangent, output.dtype))[0]


def call(attend: Attend, arrays: dict[str, Any], mask: AttentionMask) -> Any:
    """Call an implementation with the arrays of a case."""
    # Handed over only where a case has one, so that a function without the argument can be put to the rest.
    optional = {} if arrays.get("reweight") is None else {"reweight": arrays["reweight"]}
    return attend(
        arrays["query"], arrays["key"], arrays["value"],
        score=arrays["score"], mask=mask, bias=arrays["bias"], **optional,
    )  # fmt: skip


def _check_garbage(case: AttentionCase, value_and_gradient: Callable) -> None:
    """NaN or Inf in a slot must not reach the rows that do not see it, nor any gradient of theirs."""
    visible = _visible(case)
    for slot in range(visible.shape[-1]):
        seen = np.any(visible[..., slot], axis=1)  # [batch, q_len]: by some head
        if seen.all():
            continue
        garbage = (np.nan, np.inf, -np.inf)[slot % 3]
        # Rows of the batch in which every query sees the slot keep their value.
        spoiled = ~np.all(seen, axis=1)
        arrays = dict(case.arrays)
        for name in ("key", "value"):
            array = np.array(arrays[name])
            array[spoiled, slot] = garbage
            arrays[name] = jnp.asarray(array)
        unseen = ~(seen & spoiled[:, None])  # [batch, q_len]
        cotangent = case.cotangent * unseen[:, :, None, None]
        clean = value_and_gradient(case.arrays, case.mask, cotangent)
        output, gradients = value_and_gradient(arrays, case.mask, cotangent)
        message = f"{case.name}: {garbage} in slot {slot} leaks into"
        assert_near(output[unseen], clean[0][unseen], FORWARD_TOLERANCE, f"{message} the value")
        if not isinstance(case.arrays["score"], F.Location):
            assert not np.isfinite(np.asarray(output)[~unseen]).all(-1).all(-1).any(), (
                f"{case.name}: {garbage} in slot {slot} is hidden from the rows that see it"
            )
        for path, got, want in _zip_leaves(gradients, clean[1]):
            assert_near(got, want, GRADIENT_TOLERANCE, f"{message} the gradient in {path}")


def _check_vmap(
    case: AttentionCase, attend: Attend, wanted: np.ndarray, tolerance: float = FORWARD_TOLERANCE
) -> None:
    stack = functools.partial(jax.tree.map, lambda leaf: np.stack([leaf, leaf]))
    mapped = jax.jit(jax.vmap(functools.partial(call, attend)))(stack(case.arrays), stack(case.mask))
    for output in mapped:
        assert_near(output, wanted, tolerance, f"{case.name}: vmap")


def _check_bfloat16(case: AttentionCase, attend: Attend) -> None:
    arrays = _cast(case.arrays, jnp.bfloat16)
    output, gradients = _compiled_value_and_gradient(attend)(arrays, case.mask, case.cotangent)
    assert output.dtype == jnp.bfloat16, f"{case.name}: bfloat16 in, {output.dtype} out"
    wanted = oracle_attention(case, float64(arrays))[0]
    assert_near(output, wanted, BFLOAT16_TOLERANCE, f"{case.name}: bfloat16")
    for path, got, _ in _zip_leaves(gradients, case.arrays):
        assert got.dtype == jnp.bfloat16, f"{case.name}: gradient in {path} is {got.dtype}"
        assert np.isfinite(float64(got)).all(), f"{case.name}: bfloat16 gradient in {path} is not finite"


def check_dropout(attend: Attend) -> None:
    """Dropout must zero weights at its rate and scale the others; with ``dropout=None`` it must do nothing.

    Args:
      attend: Called as ``attend(query, key, value, dropout=)``.

    Raises:
      AssertionError: If some check fails.
    """
    batch, length, heads, rate = 4, 8, 4, 0.25
    draw = np.random.default_rng(0).normal
    query, key = (jnp.asarray(draw(size=(batch, length, heads, 4)), jnp.float32) for _ in range(2))
    # With the identity as values the output is the weights.
    value = jnp.broadcast_to(jnp.eye(length)[None, :, None, :], (batch, length, heads, length))
    drop = jax.jit(lambda rng_key: attend(query, key, value, dropout=F.AttentionDropout(rate, rng_key)))
    weights = np.asarray(attend(query, key, value, dropout=None))
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    dropped = np.asarray(drop(jax.random.key(1)))
    kept = dropped != 0
    np.testing.assert_allclose(dropped[kept], weights[kept] / (1 - rate), rtol=1e-4)
    deviation = math.sqrt(rate * (1 - rate) / kept.size)
    assert abs((~kept).mean() - rate) < 4 * deviation, f"dropped {(~kept).mean():.3f}, wanted {rate}"
    np.testing.assert_array_equal(dropped, drop(jax.random.key(1)))
    assert np.any(dropped != np.asarray(drop(jax.random.key(2))))


def assert_near(got: Any, want: Any, tolerance: float, what: str) -> None:
    """Assert ``|got - want| <= tolerance * max|want|`` (and 1e-8, what differences of the oracle cost)."""
    got, want = float64(got), float64(want)
    assert got.shape == want.shape, f"{what}: shape {got.shape}, wanted {want.shape}"
    if want.size == 0:
        return
    assert np.isfinite(got).all(), f"{what}: not finite"
    error, allowed = np.abs(got - want).max(), tolerance * np.abs(want).max() + 1e-8
    assert error <= allowed, f"{what}: error {error:.3g}, allowed {allowed:.3g}"


def _visible(case: AttentionCase) -> np.ndarray:
    batch, q_len, heads, _ = case.arrays["query"].shape
    visible = oracle_visible(case.mask, (batch, heads, q_len, case.arrays["key"].shape[1]))
    if isinstance(case.arrays["score"], F.Location) and case.mask.key_positions is not None:
        positions = np.asarray(case.mask.key_positions)
        visible &= (positions < case.arrays["score"].max_len)[:, None, None, :]
    return visible


def float64(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: np.array(leaf, np.float64), tree)


def _picker(array: Any, row: int) -> np.ndarray:
    """Row ``row`` of an array whose first axis may be 1 for all rows."""
    array = np.asarray(array)
    return array[row if array.shape[0] > 1 else 0]


def _zip_leaves(left: Any, right: Any) -> Iterator[tuple[str, Any, Any]]:
    left_leaves, right_leaves = jax.tree_util.tree_leaves_with_path(left), jax.tree.leaves(right)
    for (path, one), other in zip(left_leaves, right_leaves, strict=True):
        yield jax.tree_util.keystr(path), one, other
