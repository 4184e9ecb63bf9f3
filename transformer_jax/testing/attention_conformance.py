"""Hold anybody's attention to what attention means, and say in a table where it differs.

The function under test is called as ``attend(query, key, value, mask)`` with arrays ``[batch, length, heads,
width]`` and a mask ``[batch, heads, q_len, kv_len]``, True = may attend, or ``None``. What it should give is computed
in NumPy, in float64. Any library can be put to it, PyTorch too: a function that JAX cannot differentiate brings its own
gradient.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from transformer_jax.testing.attention_suite import (
    BFLOAT16_TOLERANCE,
    FORWARD_TOLERANCE,
    GRADIENT_TOLERANCE,
)

Attend = Callable[[Any, Any, Any, Any], Any]
Gradient = Callable[[Any, Any, Any, Any, Any], tuple[Any, Any, Any]]

BATCH, Q_LEN, KV_LEN, HEADS, WIDTH = 2, 8, 8, 4, 16


@dataclasses.dataclass(frozen=True)
class ConformanceResult:
    """Result of one check.

    Attributes:
      check: What was checked.
      verdict: ``"yes"``, ``"no"``, ``"refuses"`` (an exception before any result) or ``"not asked"``.
      detail: Why not, in a few words; empty if all is well.
    """

    check: str
    verdict: str
    detail: str


@dataclasses.dataclass(frozen=True)
class _Problem:
    """Arguments of one call, and what of its output and gradient to hold to the oracle."""

    query: np.ndarray
    key: np.ndarray
    value: np.ndarray
    mask: np.ndarray | None
    cotangent: np.ndarray
    slack: float = 1.0


def attention_conformance(attend: Attend, *, gradient: Gradient | None = None) -> list[ConformanceResult]:
    r"""Put an attention function to the contract: values, gradients, empty rows, garbage, dtypes, transforms.

    .. math:: o_i = \frac{\sum_j M_{ij} e^{q_i \cdot k_j / \sqrt d} v_j}{\sum_j M_{ij} e^{q_i \cdot k_j / \sqrt d}},
       \quad o_i = 0 \text{ if all } M_{ij} = 0

    Args:
      attend: Called as ``attend(query, key, value, mask)``: arrays ``[batch, q_len, heads, width]`` and
        ``[batch, kv_len, kv_heads, width]``, a bool mask ``[batch, heads, q_len, kv_len]`` or ``None``; returns
        ``[batch, q_len, heads, width]``, as an array of any library that NumPy can read.
      gradient: Called as ``gradient(query, key, value, mask, cotangent)``, returns the gradients of
        ``sum(output * cotangent)`` in query, key and value; ``None`` = by ``jax.vjp`` of ``attend``, which is then also
        checked under ``jit`` and ``vmap``.

    Returns:
      One result a check. Errors are measured against a float64 oracle: 1e-5 of the largest entry for values, 1e-4
      for gradients (ten times that where scores are near a hundred), 2e-2 in 16 bits.

    Example:
      >>> from transformer_jax import functional as F
      >>> @jax.jit
      ... def ours(query, key, value, mask):
      ...   mask = None if mask is None else F.AttentionMask.dense(mask)
      ...   return F.attention(query, key, value, mask=mask)
      >>> {result.verdict for result in attention_conformance(ours)}
      {'yes'}

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, equation 1; the contract of
    :func:`transformer_jax.functional.attention`.
    """
    with jax.default_matmul_precision("highest"):
        return list(_results(attend, gradient))


def conformance_table(results: dict[str, list[ConformanceResult]]) -> str:
    """Results of several functions as Markdown: a row a check, a column a function, notes of what failed.

    Args:
      results: What :func:`attention_conformance` gave, by the function's name.

    Returns:
      The table and a list of the details.

    Raises:
      ValueError: If two functions were put to different checks.

    Example:
      >>> print(conformance_table({"mine": [ConformanceResult("values", "yes", "")]}))
      | check | mine |
      | --- | --- |
      | values | yes |
      <BLANKLINE>
    """
    columns = list(results)
    checks = [[result.check for result in column] for column in results.values()]
    if any(names != checks[0] for names in checks):
        raise ValueError("the functions were put to different checks")
    rows = [["check", *columns], ["---"] * (len(columns) + 1)]
    notes = []
    for index, check in enumerate(checks[0] if checks else []):
        row = [check]
        for column in columns:
            result = results[column][index]
            row.append(result.verdict)
            if result.detail:
                notes.append(f"- {column}, {check}: {result.detail}")
        rows.append(row)
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"
    return table + ("\n" + "\n".join(notes) + "\n" if notes else "")


def _results(attend: Attend, gradient: Gradient | None) -> Iterator[ConformanceResult]:
    pull = _by_vjp(attend) if gradient is None else gradient
    causal = np.tril(np.ones((Q_LEN, KV_LEN), bool))
    padded = np.broadcast_to(np.arange(KV_LEN) < np.array([5, 8])[:, None, None, None], (BATCH, 1, 1, KV_LEN))
    nothing = np.ones((Q_LEN, KV_LEN), bool)
    nothing[3] = False
    problems = {
        "no mask": _problem(None),
        "causal": _problem(causal),
        "padding": _problem(padded),
        "a mask a head": _problem(np.random.default_rng(1).random((BATCH, HEADS, Q_LEN, KV_LEN)) < 0.8),
        "odd lengths (7 queries, 13 keys)": _problem(None, q_len=7, kv_len=13),
        "one query": _problem(None, q_len=1),
        "grouped heads (4 and 2)": _problem(causal, kv_heads=2),
        "one head of keys for 4": _problem(causal, kv_heads=1),
        "values of another width": _problem(causal, value_width=8),
        "scores near a hundred": _problem(causal, shared=20.0),
    }
    for name, problem in problems.items():
        yield _check(f"{name}: values", functools.partial(_values, attend, problem))
        yield _check(f"{name}: gradients", functools.partial(_gradients, pull, problem))
    empty = _problem(nothing)
    yield _check("a row that sees nothing: zeros", functools.partial(_values, attend, empty))
    yield _check("a row that sees nothing: gradients", functools.partial(_gradients, pull, empty))
    for name, garbage in (("NaN", np.nan), ("Inf", np.inf)):
        spoiled = _spoil(_problem(padded), garbage)
        yield _check(f"{name} in a masked slot: values", functools.partial(_values, attend, spoiled))
        yield _check(f"{name} in a masked slot: gradients", functools.partial(_gradients, pull, spoiled))
    for dtype in ("bfloat16", "float16"):
        yield _check(
            f"{dtype} in, {dtype} out", functools.partial(_sixteen_bits, attend, problems["causal"], dtype)
        )
    if gradient is None:
        yield _check("jit", functools.partial(_values, jax.jit(attend), problems["causal"]))
        yield _check("vmap", functools.partial(_mapped, attend, problems["causal"]))
    else:
        yield ConformanceResult("jit", "not asked", "")
        yield ConformanceResult("vmap", "not asked", "")


def _problem(
    mask: np.ndarray | None,
    *,
    q_len: int = Q_LEN,
    kv_len: int = KV_LEN,
    kv_heads: int = HEADS,
    value_width: int = WIDTH,
    shared: float = 0.0,
) -> _Problem:
    """Normal numbers; ``shared`` stands in the first place of every query and key, and moves all scores alike."""
    draw = np.random.default_rng(0).normal
    if mask is not None:
        mask = np.broadcast_to(mask, (BATCH, HEADS, q_len, kv_len)).copy()
    return _Problem(
        query=_with_first(draw(size=(BATCH, q_len, HEADS, WIDTH)), shared),
        key=_with_first(draw(size=(BATCH, kv_len, kv_heads, WIDTH)), shared),
        value=draw(size=(BATCH, kv_len, kv_heads, value_width)).astype(np.float32),
        mask=mask,
        cotangent=draw(size=(BATCH, q_len, HEADS, value_width)).astype(np.float32),
        # float32 keeps a score of 100 to 8e-6, so no weight can be better than that.
        slack=10.0 if shared else 1.0,
    )


def _with_first(array: np.ndarray, number: float) -> np.ndarray:
    if number:
        array[..., 0] = number
    return array.astype(np.float32)


def _spoil(problem: _Problem, garbage: float) -> _Problem:
    """Garbage in the keys and values that no query sees."""
    assert problem.mask is not None
    unseen = ~problem.mask.any(axis=(1, 2))  # [batch, kv_len]
    arrays = {}
    for name in ("key", "value"):
        arrays[name] = getattr(problem, name).copy()
        arrays[name][unseen] = garbage
    return dataclasses.replace(problem, **arrays)


def _oracle(problem: _Problem) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Output and gradients in float64, head by head, from what is seen alone."""
    query, cotangent = problem.query.astype(np.float64), problem.cotangent.astype(np.float64)
    key, value = (np.array(array, np.float64) for array in (problem.key, problem.value))
    batch, q_len, heads, width = query.shape
    group = heads // key.shape[2]
    output = np.zeros((batch, q_len, heads, value.shape[-1]))
    d_query, d_key, d_value = (np.zeros(array.shape) for array in (query, key, value))
    for row, head, i in np.ndindex(batch, heads, q_len):
        slots = np.arange(key.shape[1])
        if problem.mask is not None:
            slots = slots[problem.mask[row, head, i]]
        if not len(slots):
            continue
        keys, values = key[row, slots, head // group], value[row, slots, head // group]
        scores = keys @ query[row, i, head] / np.sqrt(width)
        weights = np.exp(scores - scores.max())
        weights /= weights.sum()
        output[row, i, head] = weights @ values
        by_weight = values @ cotangent[row, i, head]
        by_score = weights * (by_weight - weights @ by_weight) / np.sqrt(width)
        d_query[row, i, head] = by_score @ keys
        d_key[row, slots, head // group] += by_score[:, None] * query[row, i, head]
        d_value[row, slots, head // group] += weights[:, None] * cotangent[row, i, head]
    return output, (d_query, d_key, d_value)


def _by_vjp(attend: Attend) -> Gradient:
    def gradient(query: Any, key: Any, value: Any, mask: Any, cotangent: Any) -> tuple[Any, Any, Any]:
        def masked(query: Any, key: Any, value: Any) -> Any:
            return attend(query, key, value, _mask(mask))

        _, pull_back = jax.vjp(masked, *(jnp.asarray(array) for array in (query, key, value)))
        return pull_back(jnp.asarray(cotangent))

    return gradient


def _mask(mask: np.ndarray | None) -> jax.Array | None:
    return None if mask is None else jnp.asarray(mask)


def _check(name: str, run: Callable[[], str]) -> ConformanceResult:
    """A check gives what is wrong, or nothing; a function may refuse by any exception."""
    try:
        wrong = run()
    except Exception as error:  # whatever another library raises is its way to refuse
        text = str(error).strip() or type(error).__name__
        return ConformanceResult(name, "refuses", text.splitlines()[0][:160])
    return ConformanceResult(name, "no" if wrong else "yes", wrong)


def _values(attend: Attend, problem: _Problem) -> str:
    query, key, value = (jnp.asarray(array) for array in (problem.query, problem.key, problem.value))
    output = attend(query, key, value, _mask(problem.mask))
    return _difference(output, _oracle(problem)[0], problem.slack * FORWARD_TOLERANCE)


def _gradients(pull: Gradient, problem: _Problem) -> str:
    got = pull(problem.query, problem.key, problem.value, problem.mask, problem.cotangent)
    for name, one, want in zip(("query", "key", "value"), got, _oracle(problem)[1], strict=True):
        wrong = _difference(one, want, problem.slack * GRADIENT_TOLERANCE)
        if wrong:
            return f"gradient in {name}: {wrong}"
    return ""


def _sixteen_bits(attend: Attend, problem: _Problem, dtype: str) -> str:
    rounded = [jnp.asarray(array).astype(dtype) for array in (problem.query, problem.key, problem.value)]
    output = attend(rounded[0], rounded[1], rounded[2], _mask(problem.mask))
    if str(output.dtype).removeprefix("torch.") != dtype:
        return f"{output.dtype} out"
    query, key, value = (np.asarray(array, np.float32) for array in rounded)
    exact = dataclasses.replace(problem, query=query, key=key, value=value)
    if not isinstance(output, jax.Array):
        output = output.float()  # a PyTorch tensor; NumPy has no bfloat16
    return _difference(output, _oracle(exact)[0], BFLOAT16_TOLERANCE)


def _mapped(attend: Attend, problem: _Problem) -> str:
    arrays = [jnp.asarray(array) for array in (problem.query, problem.key, problem.value, problem.mask)]
    stacked = jax.vmap(attend)(*(jnp.stack([array, array]) for array in arrays))
    return _difference(stacked[1], _oracle(problem)[0], FORWARD_TOLERANCE)


def _difference(got: Any, want: np.ndarray, tolerance: float) -> str:
    got = np.asarray(got, np.float64)
    if got.shape != want.shape:
        return f"shape {got.shape} instead of {want.shape}"
    if not np.isfinite(got).all():
        return f"{(~np.isfinite(got)).sum()} of {got.size} numbers are not finite"
    error = np.abs(got - want).max() / np.abs(want).max()
    return "" if error <= tolerance else f"off by {error:.1e} of the largest, {tolerance:.0e} allowed"
