"""Commands here share their compiled programs."""

import pytest


@pytest.fixture(autouse=True)
def shared_programs(compilation_cache: None) -> None:
    """See `compilation_cache`."""
