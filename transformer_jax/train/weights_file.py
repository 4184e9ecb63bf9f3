"""A model's parameters in one safetensors file, in half precision: to be kept and passed on, not trained on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from transformer_jax.errors import RunError
from transformer_jax.train.checkpoint import require_same
from transformer_jax.train.state import split_model

FORMAT = "transformer-jax 1"


def write_weights(path: Path | str, model: nnx.Module, metadata: Mapping[str, str]) -> int:
    """Write all variables of a model, floating-point ones as float16, whole or not at all.

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
    _, params, model_state = split_model(model)
    arrays = {name: np.asarray(array) for name, array in jax.device_get(params | model_state).items()}
    for name, array in arrays.items():
        if not jnp.issubdtype(array.dtype, jnp.floating):
            continue
        with np.errstate(over="ignore"):
            arrays[name] = np.ascontiguousarray(array.astype(np.float16))
        if not np.isfinite(arrays[name]).all():
            raise RunError(
                f"{path}: parameter '{name}' holds numbers that are none, or over 65,504: not for half precision"
            )
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(safetensors.numpy.save(arrays, {"format": FORMAT, **metadata}))
    partial.replace(path)
    return path.stat().st_size


def read_weights(path: Path | str, model: nnx.Module) -> dict[str, str]:
    """Fill a model with what :func:`write_weights` wrote, in the model's own dtypes.

    Args:
      path: The file.
      model: Built from the configuration that the weights were trained with; changed in place, or, on an error,
        not at all.

    Returns:
      The texts beside the arrays.

    Raises:
      RunError: If the file is missing, damaged, foreign, or does not fit the model.
    """
    import safetensors

    path = Path(path)
    structure, params, model_state = split_model(model)
    wanted: dict[str, Any] = params | model_state
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            if metadata.get("format") != FORMAT:
                raise RunError(
                    f"{path}: not weights that this library wrote (format {metadata.get('format')!r})"
                )
            # Shapes first: a file that does not fit is refused before its arrays are read.
            described = {
                name: jax.ShapeDtypeStruct(tuple(file.get_slice(name).get_shape()), np.float16)
                for name in file.keys()  # noqa: SIM118 - the file is no mapping
            }
            require_same(described, wanted, path, same_dtype=False)
            arrays = {name: file.get_tensor(name) for name in described}
    except OSError as error:
        raise RunError(f"{path}: cannot read the weights: {error.strerror or error}") from None
    except safetensors.SafetensorError as error:
        raise RunError(f"{path}: the weights are damaged: {str(error).splitlines()[0][:200]}") from None
    loaded = {name: jnp.asarray(arrays[name], wanted[name].dtype) for name in wanted}
    nnx.update(model, structure.state(loaded, loaded))
    return metadata
