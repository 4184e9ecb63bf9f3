"""The model that the tests of search share."""

import pytest

from transformer_jax.testing.tiny_models import TableModel


@pytest.fixture(scope="session")
def table_model() -> TableModel:
    """Three sources, every prefix with its own logits."""
    return TableModel.random(seed=1)
