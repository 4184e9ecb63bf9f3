"""Recurrence: cells as pytrees, and one function that runs any of them over padded sequences."""

from transformer_jax.functional.recurrent.api import IMPLEMENTATIONS, recurrence, step_once
from transformer_jax.functional.recurrent.cells import Carry, Cell, GRUCell, LSTMCell, RNNCell
from transformer_jax.functional.recurrent.convert import cell_from_torch, cells_from_torch
from transformer_jax.functional.recurrent.linear import (
    LinearCell,
    linear_recurrence,
    linear_recurrence_in_logs,
)
from transformer_jax.functional.recurrent.linear_cells import DiagonalCell, MinGRUCell, MinLSTMCell

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
    "RNNCell",
    "cell_from_torch",
    "cells_from_torch",
    "linear_recurrence",
    "linear_recurrence_in_logs",
    "recurrence",
    "step_once",
]
