"""Which cases of a parametrisation run always, and which in the second tier."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def tiered(cases: Iterable[Any], first: Collection[Any]) -> list[Any]:
    """The cases as parameters; those that are not among ``first`` are marked ``full``.

    A case that is a tuple is a row of values, one for each name.

    Raises:
      AssertionError: If ``first`` names a case that does not exist.
    """
    cases = list(cases)
    missing = [case for case in first if case not in cases]
    assert not missing, f"no such cases: {missing}"
    rows = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [
        pytest.param(*row, marks=() if case in first else pytest.mark.full)
        for case, row in zip(cases, rows, strict=True)
    ]
