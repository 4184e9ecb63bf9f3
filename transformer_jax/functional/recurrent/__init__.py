"""Recurrence: cells as pytrees, and one function that runs any of them over padded sequences."""

from transformer_jax.functional.recurrent.api import (
    IMPLEMENTATIONS,
    parallel_recurrence,
    recurrence,
    step_once,
)
from transformer_jax.functional.recurrent.cells import Carry, Cell, GRUCell, LSTMCell, RNNCell
from transformer_jax.functional.recurrent.convert import cell_from_torch, cells_from_torch
from transformer_jax.functional.recurrent.cudnn import lstm_cell_from_cudnn, lstm_weights_for_cudnn
from transformer_jax.functional.recurrent.linear import (
    LinearCell,
    linear_recurrence,
    linear_recurrence_in_logs,
)
from transformer_jax.functional.recurrent.linear_cells import DiagonalCell, MinGRUCell, MinLSTMCell
from transformer_jax.functional.recurrent.parallel import ParallelReport

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
    "cell_from_torch",
    "cells_from_torch",
    "linear_recurrence",
    "linear_recurrence_in_logs",
    "lstm_cell_from_cudnn",
    "lstm_weights_for_cudnn",
    "parallel_recurrence",
    "recurrence",
    "step_once",
]
