"""Tables of rich on standard output."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

UNFOLDED_WIDTH = 140
"""Columns where standard output is no terminal; rich would fold a table at 80 there."""


def print_table(table: "Table") -> None:
    """Print a table, whole where it goes to a file or a pipe."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = UNFOLDED_WIDTH
    console.print(table)
