"""The native library, compiled once for all tests, and switched on for those that ask."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from transformer_jax import native
from transformer_jax.native.trusted_folder import SWITCH, NativeError


@pytest.fixture(scope="session")
def native_folder(request: pytest.FixtureRequest) -> Path:
    """The folder of a library of this version; it stays in pytest's cache for the next run."""
    folder = Path(request.config.cache.mkdir("native")) / "libraries"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SWITCH, str(folder))
        try:
            native.build()
        except NativeError as error:
            if "no compiler" not in str(error):
                raise
            pytest.skip(str(error))
    return folder


@pytest.fixture
def native_library(native_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[native.Library]:
    """The library, in use within the test."""
    monkeypatch.setenv(SWITCH, str(native_folder))
    library = native.library()
    assert library is not None, native.why_missing()
    yield library
    library.use_variant(library.variant)
