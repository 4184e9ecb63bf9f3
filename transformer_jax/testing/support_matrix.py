"""Which implementation of attention serves which case of the contract, as code says it and as a table."""

import jax.numpy as jnp

from transformer_jax.functional import Dot
from transformer_jax.functional.attention import IMPLEMENTATIONS, REFUSALS
from transformer_jax.functional.attention.contract import make_call
from transformer_jax.testing.attention_suite import case_names, make_case

# Kernels for accelerators take 16-bit numbers and wide heads only: they are tested with a case in that form.
ON_ACCELERATORS = ("cudnn", "mosaic_gpu")
_WIDER = 16


def case_refusals(implementation: str, name: str) -> list[str]:
    """Reasons of an implementation against a case of the contract, whatever the machine.

    Args:
      implementation: One of ``IMPLEMENTATIONS``.
      name: One of :func:`~transformer_jax.testing.attention_suite.case_names`.

    Returns:
      The reasons to refuse; empty = it serves the case.
    """
    case = make_case(name)
    query, key, value = (case.arrays[part] for part in ("query", "key", "value"))
    if implementation in ON_ACCELERATORS:
        query, key, value = (array.astype(jnp.bfloat16) for array in (query, key, value))
        if isinstance(case.arrays["score"], Dot):  # other rules' parameters fix the widths
            query, key, value = (jnp.tile(array, _WIDER) for array in (query, key, value))
    arrays = case.arrays
    call = make_call(query, key, value, arrays["score"], case.mask, arrays["bias"], None, arrays["reweight"])
    return IMPLEMENTATIONS[implementation].refusals(call)


def support_table() -> str:
    """The support matrix in Markdown: a row a case, a column an implementation."""
    names = list(IMPLEMENTATIONS)
    rows = [["case", *(f"`{name}`" for name in names)], ["---"] * (len(names) + 1)]
    for case in [*case_names(), "dropout"]:
        entries = [REFUSALS[name].get(case) for name in names]
        rows.append(
            [case.replace("_", " "), *("yes" if word is None else f"no ({word})" for word in entries)]
        )
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"
