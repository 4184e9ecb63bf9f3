"""Would int8 weights make decoding faster here? The products of a decoding step, three ways, in one process.

    python benchmarks/int8_products.py --json benchmarks/results/int8_products-cpu.json

A step of the paper's base model multiplies 32 rows (greedy) or 128 (beam 4) with matrices of 512 x 2,048 and
2,048 x 512. ``float32`` is what decoding does; ``int8 weights`` keeps the matrix as int8 with a scale for each column
and turns it into float32 at each product; ``int8 both`` quantises the rows too and multiplies integers. All are
compiled by XLA. A time over float32's above 1 is slower.
"""

import argparse
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from transformer_jax.race.timing import Record, interleave, interval_text, paired_ratio, quartiles, write_json
from transformer_jax.typing import Array

ROWS, SHAPES = (32, 128), ((512, 2048), (2048, 512))
REPEATS = 8
"""Matrices that a call multiplies with in turn, so that they are read from memory as a model's are."""


def quantized(array: np.ndarray, axis: int) -> tuple[Array, Array]:
    """An array as int8 and its float32 scale along an axis, by the largest absolute value."""
    scale = np.abs(array).max(axis=axis, keepdims=True) / 127.0
    return jnp.asarray(np.round(array / scale), jnp.int8), jnp.asarray(scale, jnp.float32)


@jax.jit
def float_product(rows: Array, weights: list[Array]) -> Array:
    """``rows @ weights`` for each of the matrices."""
    return jnp.stack([rows @ weight for weight in weights])


@jax.jit
def weight_product(rows: Array, weights: list[Array], scales: list[Array]) -> Array:
    """The same with int8 matrices, turned into float32 first."""
    return jnp.stack(
        [(rows @ weight.astype(jnp.float32)) * scale for weight, scale in zip(weights, scales, strict=True)]
    )


@jax.jit
def integer_product(rows: Array, weights: list[Array], scales: list[Array]) -> Array:
    """The same with rows quantised one by one, and products of integers."""
    row_scale = jnp.abs(rows).max(axis=1, keepdims=True) / 127.0
    whole = jnp.round(rows / row_scale).astype(jnp.int8)
    return jnp.stack(
        [
            jax.lax.dot(whole, weight, preferred_element_type=jnp.int32).astype(jnp.float32)
            * row_scale
            * scale
            for weight, scale in zip(weights, scales, strict=True)
        ]
    )


def main() -> None:
    """Parse the command line, run, print the table, write the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=40, help="timed calls of each (default 40)")
    parser.add_argument("--json", help="write the records here")
    options = parser.parse_args()
    generator, records = np.random.default_rng(0), []
    table = Table(title="products of a decoding step")
    for column in ("case", "who", "median ms", "time / float32's", "largest error"):
        table.add_column(column, justify="left" if column in ("case", "who") else "right")
    for num_rows in ROWS:
        for shape in SHAPES:
            rows = jnp.asarray(generator.normal(size=(num_rows, shape[0])), jnp.float32)
            plain = generator.normal(size=(REPEATS, *shape)).astype(np.float32)
            whole, scales = map(list, quantized(plain, axis=1))
            weights = list(jnp.asarray(plain))
            wanted = float_product(rows, weights)
            calls = {
                "float32": lambda r=rows, w=weights: float_product(r, w).block_until_ready(),
                "int8 weights": lambda r=rows, w=whole, s=scales: weight_product(r, w, s).block_until_ready(),
                "int8 both": lambda r=rows, w=whole, s=scales: integer_product(r, w, s).block_until_ready(),
            }
            errors = {
                name: float(jnp.abs(call() - wanted).max() / jnp.abs(wanted).max())
                for name, call in calls.items()
            }
            if max(errors.values()) > 0.05:
                raise SystemExit(f"the ways disagree: {errors}")
            times = interleave(calls, calls=options.calls, warmup=2, max_seconds=60)
            case = f"{num_rows} x {shape[0]:,} x {shape[1]:,}"
            for name, values in times.items():
                lower, middle, upper = quartiles(values)
                median, low, high = paired_ratio(values, times["float32"])
                ratio = None if name == "float32" else {"median": median, "low": low, "high": high}
                records.append(
                    Record(
                        case=case, implementation=name, compile_s=None, median_ms=middle, q25_ms=lower, q75_ms=upper,
                        peak_bytes=None, tokens_per_s=None, flops=2.0 * num_rows * shape[0] * shape[1] * REPEATS,
                        max_abs_err=errors[name], extra={} if ratio is None else {"time_over_float32": ratio},
                    )
                )  # fmt: skip
                table.add_row(case, name, f"{middle:.2f}", interval_text(ratio), f"{errors[name]:.1e}")
    Console().print(table)
    if options.json:
        write_json(options.json, records, benchmark="int8_products")


if __name__ == "__main__":
    main()
