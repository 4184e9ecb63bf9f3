"""How every benchmark here measures: see :mod:`transformer_jax.race.timing`, which the race uses as well."""

from transformer_jax.race.timing import (
    Contestant,
    Record,
    compile_ahead,
    environment,
    interleave,
    matmul_peak,
    paired_ratio,
    quartiles,
    write_json,
)

__all__ = [
    "Contestant",
    "Record",
    "compile_ahead",
    "environment",
    "interleave",
    "matmul_peak",
    "paired_ratio",
    "quartiles",
    "write_json",
]
