"""One line out for each line in: what commands of predictors share beside ``translate``."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from transformer_jax.cli.line_groups import (
    line_groups,
    note_lines,
    note_remarks,
    opened_output,
    progress_bar,
    write_texts,
)
from transformer_jax.data.readers import count_lines
from transformer_jax.errors import DataError
from transformer_jax.files import require_other_file
from transformer_jax.inference.line_report import LineReport


def predict_lines(
    predict: Callable[[list[str]], Sequence[str]],
    report: LineReport,
    *,
    input_path: Path | None,
    output_path: Path | None,
) -> int:
    """Send lines through a predictor, in order, as they come.

    Args:
      predict: A text without its line end for each line of a group.
      report: The predictor's, for remarks on standard error.
      input_path: Lines; None for standard input.
      output_path: Where the predictions go; None for standard output.

    Returns:
      Number of lines.

    Raises:
      DataError: If the input is missing, empty (a file), binary or not UTF-8, or the output cannot be written.
    """
    require_other_file("--output", output_path, [input_path])
    # A file is read twice: a bad line is found before any work is done.
    total = count_lines(input_path) if input_path is not None and input_path.is_file() else None
    where = "standard input" if input_path is None else str(input_path)
    number = 0
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(opened_output(output_path))
        progress = stack.enter_context(progress_bar(total))
        for group in line_groups(input_path, where, 0):
            texts = predict(group)
            if len(texts) != len(group):
                raise DataError(f"{where}: {len(texts)} predictions for {len(group)} lines")
            note_remarks(report)
            write_texts(out, [f"{text}\n" for text in texts], output_path)
            number += len(group)
            progress(number)
    note_lines(report)
    return number
