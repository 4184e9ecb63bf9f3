"""Recurrence: cells as pytrees, and one function that runs any of them over padded sequences."""

from transformer_jax.functional.recurrent.cells import Carry, Cell, GRUCell, LSTMCell, RNNCell
from transformer_jax.functional.recurrent.cudnn_recurrence import lstm_cell_from_cudnn, lstm_weights_for_cudnn
from transformer_jax.functional.recurrent.gated_cell import GatedCell
from transformer_jax.functional.recurrent.known_cells import CELLS, cell_class, cell_kinds, register_cell
from transformer_jax.functional.recurrent.linear_cells import DiagonalCell, MinGRUCell, MinLSTMCell
from transformer_jax.functional.recurrent.linear_recurrence import (
    LinearCell,
    linear_recurrence,
    linear_recurrence_in_logs,
)
from transformer_jax.functional.recurrent.parallel import ParallelReport
from transformer_jax.functional.recurrent.run_cells import (
    IMPLEMENTATIONS,
    check_recurrence_implementation,
    parallel_recurrence,
    recurrence,
    step_once,
)

__all__ = [
    "CELLS",
    "IMPLEMENTATIONS",
    "Carry",
    "Cell",
    "DiagonalCell",
    "GRUCell",
    "GatedCell",
    "LSTMCell",
    "LinearCell",
    "MinGRUCell",
    "MinLSTMCell",
    "ParallelReport",
    "RNNCell",
    "cell_class",
    "cell_kinds",
    "check_recurrence_implementation",
    "linear_recurrence",
    "linear_recurrence_in_logs",
    "lstm_cell_from_cudnn",
    "lstm_weights_for_cudnn",
    "parallel_recurrence",
    "recurrence",
    "register_cell",
    "step_once",
]
