"""Batch norm over padded batches against ``torch.nn.BatchNorm1d`` over the real tokens."""

import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.nn.norms import BatchNorm

torch = pytest.importorskip("torch")


def test_training_running_statistics_and_evaluation() -> None:
    random = np.random.default_rng(0)
    own, theirs = BatchNorm(5, momentum=0.9, epsilon=1e-5), torch.nn.BatchNorm1d(5, momentum=0.1)
    scale, bias = random.normal(size=5).astype(np.float32), random.normal(size=5).astype(np.float32)
    own.scale[...], own.bias[...] = jnp.asarray(scale), jnp.asarray(bias)
    theirs.load_state_dict({"weight": torch.tensor(scale), "bias": torch.tensor(bias)}, strict=False)
    variance = np.ones(5)
    for lengths in ([4, 2, 0], [1, 3, 4]):
        x = random.normal(2.0, 3.0, (3, 4, 5)).astype(np.float32)
        valid = np.arange(4)[None] < np.array(lengths)[:, None]
        found = own(jnp.asarray(x), training=True, valid=jnp.asarray(valid))
        wanted = theirs(torch.tensor(x[valid])).detach().numpy()
        np.testing.assert_allclose(np.asarray(found)[valid], wanted, atol=2e-5)
        # Theirs keeps the unbiased variance, n / (n - 1) times the one that normalises.
        variance = 0.9 * variance + 0.1 * x[valid].astype(np.float64).var(0)
    np.testing.assert_allclose(own.mean[...], theirs.running_mean.numpy(), rtol=1e-5)
    np.testing.assert_allclose(own.variance[...], variance, rtol=1e-5)
    theirs.running_var.copy_(torch.tensor(variance))
    theirs.eval()
    wanted = theirs(torch.tensor(x[valid])).detach().numpy()
    np.testing.assert_allclose(own(jnp.asarray(x), training=False)[valid], wanted, atol=2e-5)
