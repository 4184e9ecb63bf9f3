"""Ideas measured against what they replace: a grid of values of one config times seeds, and its report."""

from typing import TYPE_CHECKING

from transformer_jax.lazy_names import lazy_names

if TYPE_CHECKING:
    from transformer_jax.ablation.grid import Grid as Grid
    from transformer_jax.ablation.grid import Member as Member
    from transformer_jax.ablation.grid_runner import ablate as ablate
    from transformer_jax.ablation.grid_runner import saved_grid as saved_grid
    from transformer_jax.ablation.grid_values import Varied as Varied
    from transformer_jax.ablation.grid_values import read_varied as read_varied

_MODULES = {
    "Grid": "grid",
    "Member": "grid",
    "Varied": "grid_values",
    "ablate": "grid_runner",
    "read_varied": "grid_values",
    "saved_grid": "grid_runner",
}
"""Where each public name is defined."""

__all__ = [
    "Grid",
    "Member",
    "Varied",
    "ablate",
    "read_varied",
    "saved_grid",
]

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
