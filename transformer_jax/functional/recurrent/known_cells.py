"""The cells by name: those of the library, of installed packages and of the running program."""

from transformer_jax.errors import ConfigError
from transformer_jax.functional.recurrent.cells import GRUCell, LSTMCell, RNNCell
from transformer_jax.functional.recurrent.gated_cell import GatedCell
from transformer_jax.functional.recurrent.linear_cells import DiagonalCell, MinGRUCell, MinLSTMCell
from transformer_jax.kinds import Kinds

__all__ = ["CELLS", "cell_class", "cell_kinds", "register_cell"]

CELLS: tuple[type[GatedCell], ...] = (
    RNNCell,
    LSTMCell,
    GRUCell,
    MinGRUCell,
    MinLSTMCell,
    DiagonalCell,
)
"""The library's own cells."""

_KINDS: Kinds[type[GatedCell]] = Kinds("cell", CELLS, "transformer_jax.cells")


def cell_class(cell: str | type[GatedCell]) -> type[GatedCell]:
    """The class of a cell.

    Args:
      cell: Its ``kind``, or the class itself, which need not be registered.

    Returns:
      The class, which carries the cell's facts: ``num_gates``, ``is_linear``, ``carry_names``.

    Raises:
      ConfigError: If there is no such kind, or the class is none of a cell.

    Example:
      >>> cell_class("gru").__name__, cell_class("min_gru").is_linear
      ('GRUCell', True)
    """
    if not isinstance(cell, type):
        return _KINDS.find(cell)
    if not issubclass(cell, GatedCell):
        raise ConfigError(f"cell must be a name or a subclass of GatedCell; got the class {cell.__name__}")
    return cell


def cell_kinds() -> tuple[str, ...]:
    """Names of all cells that configs may give.

    Example:
      >>> cell_kinds()[:3]
      ('rnn', 'lstm', 'gru')
    """
    return _KINDS.names()


def register_cell(cell: type[GatedCell]) -> type[GatedCell]:
    """Make a cell of the running program known by its ``kind``; works as a decorator.

    Installed packages do the same by an entry point of the group ``transformer_jax.cells``, which commands see too.

    Args:
      cell: A pytree dataclass derived from ``GatedCell``.

    Returns:
      The class itself.

    Raises:
      ConfigError: If its ``kind`` is no text or taken.
    """
    return _KINDS.register(cell_class(cell))
