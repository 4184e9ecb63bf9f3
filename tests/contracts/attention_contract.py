"""What the files of attention's contract share: which implementation is held where, and how."""

import functools

import jax
import pytest

from transformer_jax import functional as F
from transformer_jax.functional.attention import REFUSALS
from transformer_jax.testing import attention_suite as suite

INTERPRETED = {"mosaic_tpu"}  # their kernels run here too, slowly
# The dearest to build, each in a file that goes to a worker process by itself; all others are in test_attention.py.
IN_FILES_OF_THEIR_OWN = {"blockwise", "mosaic_tpu", "native_cpu"}


def cases(implementation: str, first: set[str]) -> list:
    """All cases; those that are neither among ``first`` nor refused are for the second tier."""
    assert first <= set(suite.case_names())
    assert not first & set(REFUSALS[implementation])

    def mark(case: str) -> list:
        if case == "multi_query":
            return [pytest.mark.smoke]
        return [] if case in first or case in REFUSALS[implementation] else [pytest.mark.full]

    return [pytest.param(case, marks=mark(case)) for case in suite.case_names()]


def agrees_or_refuses_as_listed(implementation: str, case: str) -> None:
    """Hold an implementation to a case, or to the refusal that the support matrix lists."""
    attend = functools.partial(F.attention, implementation=implementation)
    reason = REFUSALS[implementation].get(case)
    if reason is None:
        suite.check_case(attend, case)
        return
    made = suite.make_case(case)
    with pytest.raises(NotImplementedError, match=reason):
        # Under eval_shape nothing can have been computed.
        jax.eval_shape(functools.partial(suite.call, attend), made.arrays, made.mask)
