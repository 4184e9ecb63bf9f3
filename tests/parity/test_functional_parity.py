"""Our norms and losses against PyTorch's: values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_store import load_case

from transformer_jax.functional.losses import cross_entropy, projected_cross_entropy
from transformer_jax.functional.normalization import (
    batch_norm,
    batch_statistics,
    layer_norm,
    rms_norm,
    running_statistics,
)
from transformer_jax.testing.recurrence_suite import assert_close

pytestmark = pytest.mark.parity

FAMILY = "functional"
CASES = [
    "layer_norm-affine",
    "layer_norm-plain",
    "rms_norm-affine",
    "batch_norm-train",
    "batch_norm-eval",
    "cross_entropy-plain",
    "cross_entropy-smoothed",
    "cross_entropy-masked",
    "cross_entropy-smoothed_masked",
]


def check_loss(arrays):
    labels, smoothing = jnp.asarray(arrays["labels"]), float(arrays["smoothing"])
    options = {"label_smoothing": smoothing, "weights": labels >= 0}
    if bool((labels >= 0).all()):
        options.pop("weights")

    def from_logits(logits):
        result = cross_entropy(logits, labels, **options)
        return result.sum, result.count

    def from_hidden(hidden, embedding, bias):
        result = projected_cross_entropy(hidden, embedding, labels, bias=bias, **options)
        return result.sum, result.count

    logits = jnp.asarray(arrays["logits"])
    operands = [
        jnp.asarray(arrays[name]) if name in arrays else None for name in ("hidden", "embedding", "bias")
    ]
    (total, count), to_logits = jax.jit(jax.value_and_grad(from_logits, has_aux=True))(logits)
    assert_close((total, count), (arrays["sum"], arrays["count"]), 1e-5, "cross_entropy")
    assert_close(to_logits, arrays["gradient.logits"], 1e-4, "gradient of the logits")
    (total, count), gradients = jax.jit(jax.value_and_grad(from_hidden, (0, 1, 2), has_aux=True))(*operands)
    assert_close((total, count), (arrays["sum"], arrays["count"]), 1e-5, "projected_cross_entropy")
    for name, gradient in zip(("hidden", "embedding", "bias"), gradients, strict=True):
        if gradient is not None:
            assert_close(gradient, arrays[f"gradient.{name}"], 1e-4, f"gradient of {name}")


def check_norm(case, arrays):
    names = [name for name in ("x", "scale", "bias") if name in arrays]
    operands = {name: jnp.asarray(arrays[name]) for name in names}

    def apply(x, scale=None, bias=None):
        if case.startswith("layer_norm"):
            return layer_norm(x, scale, bias, epsilon=1e-5)
        if case.startswith("rms_norm"):
            return rms_norm(x, scale, epsilon=1e-6)
        statistics = batch_statistics(x)
        if case.endswith("eval"):
            statistics = (jnp.asarray(arrays["mean"]), jnp.asarray(arrays["variance"]))
        return batch_norm(x, *statistics, scale, bias, epsilon=1e-5)

    assert_close(apply(**operands), arrays["y"], 1e-5, case)
    gradients = jax.grad(lambda operands: (apply(**operands) * arrays["weights"]).sum())(operands)
    for name in names:
        assert_close(gradients[name], arrays[f"gradient.{name}"], 1e-4, f"{case}: gradient of {name}")
    if case == "batch_norm-train":
        mean, variance = batch_statistics(operands["x"])
        count = operands["x"].size // operands["x"].shape[-1]
        unbiased = variance * (count / (count - 1))  # PyTorch keeps the unbiased variance
        for old, new, name in [(mean, "new_mean", "mean"), (unbiased, "new_variance", "variance")]:
            running = running_statistics(jnp.asarray(arrays[name]), old, momentum=0.9)
            assert_close(running, arrays[new], 1e-5, new)


def check(case, arrays):
    arrays = {name: a.astype(np.float32) if a.dtype == np.float64 else a for name, a in arrays.items()}
    if case.startswith("cross_entropy"):
        check_loss(arrays)
    else:
        check_norm(case, arrays)


@pytest.mark.parametrize("case", CASES)
def test_golden(case):
    check(case, load_case(FAMILY, case))


@pytest.mark.parametrize("case", CASES)
def test_live(case):
    pytest.importorskip("torch")
    from make_golden_functional import compute

    check(case, compute(case, seed=1000))


def test_generator_makes_the_listed_cases():
    pytest.importorskip("torch")
    from make_golden_functional import list_cases

    assert list_cases() == CASES
