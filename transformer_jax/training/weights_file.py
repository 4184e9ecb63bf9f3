"""A model's parameters in one safetensors file, in half precision: to be kept and passed on, not trained on."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from transformer_jax.errors import RunError, shortened
from transformer_jax.files import partial_name, reported_as
from transformer_jax.training.array_checks import require_finite, require_same
from transformer_jax.training.state import split_model

FORMAT = "transformer-jax 1"

_DTYPES = {
    "F16": jnp.dtype(jnp.float16),
    "F32": jnp.dtype(jnp.float32),
    "F64": jnp.dtype(np.float64),
    "BF16": jnp.dtype(jnp.bfloat16),
    "BOOL": jnp.dtype(np.bool_),
    **{
        f"{sign.upper()}{bits}": jnp.dtype(f"{name}{bits}")
        for sign, name in (("i", "int"), ("u", "uint"))
        for bits in (8, 16, 32, 64)
    },
}
"""Names of dtypes in safetensors."""
_MAX_HEADER_BYTES = 8_000_000
_HEADER_BYTES, _HEADER_BYTES_AN_ARRAY = 65_536, 512
"""For the texts beside the arrays, and for name, dtype, shape and place of each array: twice and more what is used."""


def write_weights(path: Path | str, model: nnx.Module, metadata: Mapping[str, str]) -> int:
    """Write all variables of a model but those carried from batch to batch, floating-point ones as float16.

    The file is written whole or not at all.

    Args:
      path: The file.
      model: The model.
      metadata: Texts to keep beside the arrays.

    Returns:
      The file's size in bytes.

    Raises:
      RunError: If a number is none, or too large for half precision (over 65,504).
    """
    import safetensors.numpy

    path = Path(path)
    structure, params, model_state = split_model(model)
    written = jax.device_get(structure.without_carried(params | model_state))
    arrays = {name: np.asarray(array) for name, array in written.items()}
    for name, array in arrays.items():
        if not jnp.issubdtype(array.dtype, jnp.floating):
            continue
        with np.errstate(over="ignore"):
            arrays[name] = np.ascontiguousarray(array.astype(np.float16))
        if not np.isfinite(arrays[name]).all():
            raise RunError(
                f"{path}: parameter '{name}' holds numbers that are none, or over 65,504: not for half precision"
            )
    partial = partial_name(path)
    try:
        with reported_as(path):
            partial.write_bytes(safetensors.numpy.save(arrays, {"format": FORMAT, **metadata}))
            partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return path.stat().st_size


def weight_shapes(path: Path | str) -> dict[str, jax.ShapeDtypeStruct]:
    """Names, shapes and dtypes of a weights file, from its header alone: no array is read.

    Args:
      path: The file.

    Raises:
      RunError: If the file is missing, damaged or foreign, or its header is longer than so many arrays need.
    """
    path = Path(path)
    with _reading(path) as file:
        return _described(file, path)


def read_weights(path: Path | str, model: nnx.Module) -> dict[str, str]:
    """Fill a model with what :func:`write_weights` wrote, in the model's own dtypes.

    Args:
      path: The file.
      model: Built from the configuration that the weights were trained with, or only its shapes
        (``nnx.eval_shape``); changed in place, or, on an error, not at all.

    Returns:
      The texts beside the arrays.

    Raises:
      RunError: If the file is missing, damaged, foreign, or does not fit the model; if an array has another dtype than
        :func:`write_weights` gives it, or holds a number that is not finite.
    """
    path = Path(path)
    structure, params, model_state = split_model(model)
    wanted: dict[str, Any] = structure.without_carried(params | model_state)
    with _reading(path) as file:
        # Shapes and dtypes first: a file that does not fit is refused before its arrays are read.
        require_same(
            _described(file, path),
            {
                name: jax.ShapeDtypeStruct(one.shape, _written_dtype(one.dtype))
                for name, one in wanted.items()
            },
            path,
        )
        metadata = dict(file.metadata())
        arrays = {name: file.get_tensor(name) for name in wanted}
    require_finite(arrays, path)
    with jax.transfer_guard("allow"):
        loaded = {name: jnp.asarray(arrays[name], wanted[name].dtype) for name in wanted}
    nnx.update(model, structure.state(loaded, model_state | loaded))
    return metadata


def _written_dtype(dtype: Any) -> Any:
    """In which dtype :func:`write_weights` writes an array of this one."""
    return jnp.dtype(jnp.float16) if jnp.issubdtype(dtype, jnp.floating) else jnp.dtype(dtype)


def _described(file: Any, path: Path) -> dict[str, jax.ShapeDtypeStruct]:
    metadata = file.metadata() or {}
    if metadata.get("format") != FORMAT:
        raise RunError(
            f"{path}: not weights that this library wrote (format {shortened(repr(metadata.get('format')))})"
        )
    found = {}
    for name in file.keys():  # noqa: SIM118 - the file is no mapping
        part = file.get_slice(name)
        dtype = _DTYPES.get(part.get_dtype())
        if dtype is None:
            raise RunError(
                f"{path}: array {shortened(repr(name))} has the dtype {part.get_dtype()}: never written"
            )
        found[name] = jax.ShapeDtypeStruct(tuple(part.get_shape()), dtype)
    return found


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[Any]:
    """The open file, its header checked for its length; what safetensors raises becomes one line."""
    import safetensors

    try:
        _check_header(path)
        with safetensors.safe_open(path, framework="numpy") as file:
            yield file
    except OSError as error:
        raise RunError(f"{path}: cannot read the weights: {error.strerror or error}") from None
    except safetensors.SafetensorError as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunError(f"{path}: the weights are damaged: {reason[:200]}") from None


def _check_header(path: Path) -> None:
    """Raise ``RunError`` if the header is longer than its arrays need; safetensors itself would read 100 MB."""
    with path.open("rb") as file:
        prefix = file.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8:
            return  # safetensors says what is wrong
        if length > _MAX_HEADER_BYTES:
            raise RunError(
                f"{path}: the weights are damaged: their header has {length:,} bytes, at most "
                f"{_MAX_HEADER_BYTES:,} are read"
            )
        header = file.read(length)
    allowed = _HEADER_BYTES + _HEADER_BYTES_AN_ARRAY * header.count(b'"data_offsets"')
    if length > allowed:
        raise RunError(
            f"{path}: the weights are damaged: their header has {length:,} bytes, its arrays need at most {allowed:,}"
        )
