"""Modules that own the arrays of a pytree dataclass: cells, score rules."""

import dataclasses
from typing import Any

import jax
from flax import nnx

from transformer_jax.errors import ConfigError
from transformer_jax.functional.dtypes import ComputeDtype, matrices_in_compute_dtype

__all__ = ["PytreeParameters"]


class PytreeParameters(nnx.Module):
    """Base of modules whose parameters are the array fields of a pytree dataclass, under the names of the fields.

    Example:
      >>> from transformer_jax.functional import General
      >>> module = PytreeParameters()
      >>> module.own(General(jnp.ones((3, 5))))
      >>> module.weight.shape, type(module.owned()).__name__
      ((3, 5), 'General')
    """

    def own(self, tree: Any) -> None:
        """Make the arrays of a pytree dataclass parameters of this module.

        Args:
          tree: The dataclass; fields that are static or ``None`` are kept as they are.

        Raises:
          ConfigError: If another field is no array, or the module has an attribute of its name.
        """
        names, constants = [], []
        for field in dataclasses.fields(tree):
            value = getattr(tree, field.name)
            if value is None or field.metadata.get("static", False):
                constants.append((field.name, value))
                continue
            owner = f"field '{field.name}' of {type(tree).__name__}"
            if not isinstance(value, jax.Array):
                raise ConfigError(
                    f"{owner} must be an array, None or static to be trained; got {type(value).__name__}"
                )
            if hasattr(self, field.name):
                raise ConfigError(f"{owner} has the name of an attribute of {type(self).__name__}: rename it")
            setattr(self, field.name, nnx.Param(value))
            names.append(field.name)
        self._owned_class = type(tree)
        self._owned_names = tuple(names)
        self._owned_constants = tuple(constants)

    def owned(self, dtype: ComputeDtype = "float32") -> Any:
        """The dataclass with the parameters as they are now, its matrices in the compute dtype."""
        arrays = {name: getattr(self, name)[...] for name in self._owned_names}
        arrays = matrices_in_compute_dtype(arrays, dtype)
        return self._owned_class(**arrays, **dict(self._owned_constants))
