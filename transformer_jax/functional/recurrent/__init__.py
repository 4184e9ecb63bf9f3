"""Recurrence: cells as pytrees, and one function that runs any of them over padded sequences."""

from transformer_jax.functional.recurrent.api import IMPLEMENTATIONS, recurrence, step_once
from transformer_jax.functional.recurrent.cells import Carry, Cell, GRUCell, LSTMCell, RNNCell
from transformer_jax.functional.recurrent.convert import cell_from_torch, cells_from_torch

__all__ = [
    "IMPLEMENTATIONS",
    "Carry",
    "Cell",
    "GRUCell",
    "LSTMCell",
    "RNNCell",
    "cell_from_torch",
    "cells_from_torch",
    "recurrence",
    "step_once",
]
