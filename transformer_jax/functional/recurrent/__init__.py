"""Recurrence: cells as pytrees, and one function that runs any of them over padded sequences."""

from transformer_jax.functional.recurrent.cells import Carry, Cell, GRUCell, LSTMCell, RNNCell
from transformer_jax.functional.recurrent.cudnn_recurrence import lstm_cell_from_cudnn, lstm_weights_for_cudnn
from transformer_jax.functional.recurrent.linear_cells import DiagonalCell, MinGRUCell, MinLSTMCell
from transformer_jax.functional.recurrent.linear_recurrence import (
    LinearCell,
    linear_recurrence,
    linear_recurrence_in_logs,
)
from transformer_jax.functional.recurrent.parallel import ParallelReport
from transformer_jax.functional.recurrent.run_cells import (
    IMPLEMENTATIONS,
    parallel_recurrence,
    recurrence,
    step_once,
)

__all__ = [
    "IMPLEMENTATIONS",
    "Carry",
    "Cell",
    "DiagonalCell",
    "GRUCell",
    "LSTMCell",
    "LinearCell",
    "MinGRUCell",
    "MinLSTMCell",
    "ParallelReport",
    "RNNCell",
    "linear_recurrence",
    "linear_recurrence_in_logs",
    "lstm_cell_from_cudnn",
    "lstm_weights_for_cudnn",
    "parallel_recurrence",
    "recurrence",
    "step_once",
]
