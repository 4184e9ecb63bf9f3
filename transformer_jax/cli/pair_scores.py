"""The work of ``transformer-jax score``: log-probabilities of given targets, in batches of a few fixed shapes."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from transformer_jax.cli.lines import require_other_file
from transformer_jax.cli.loaded_run import BATCH_ROWS, TooLong, load_run
from transformer_jax.cli.translating import GROUP_LINES, opened_output, progress_bar
from transformer_jax.data.batches import BOS_ID, EOS_ID, PAD_ID
from transformer_jax.data.buckets import PaddedLengths
from transformer_jax.data.readers import count_lines, stream_lines
from transformer_jax.errors import DataError
from transformer_jax.notes import note


class PairScorer:
    """Log-probabilities of token sequences given others.

    Args:
      model: The model; only its structure is kept.
      source_len: Most tokens of a usual source.
      target_len: Most tokens of a usual target, the end token included.
      source_limit: Most tokens of any source; None for ``source_len``.
      target_limit: Most tokens of any target; None for ``target_len``.
    """

    def __init__(
        self,
        model: Any,
        *,
        source_len: int,
        target_len: int,
        source_limit: int | None = None,
        target_limit: int | None = None,
    ) -> None:
        self._source_lens = PaddedLengths.in_steps(source_len, limit=source_limit)
        self._target_lens = PaddedLengths.in_steps(target_len, limit=target_limit)
        graph = nnx.split(model)[0]

        def log_probs(state: Any, source: Any, source_lengths: Any, inputs: Any, outputs: Any) -> Any:
            logits = nnx.merge(graph, state)(source, source_lengths, inputs, rng_key=None)
            of_labels = jnp.take_along_axis(jax.nn.log_softmax(logits), outputs[..., None], axis=-1)[..., 0]
            return jnp.where(outputs == PAD_ID, 0.0, of_labels).sum(axis=1)

        self._log_probs = jax.jit(log_probs)

    def __call__(
        self, state: Any, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]
    ) -> list[float]:
        """The sum over each target's tokens and its end, in nats."""
        groups: dict[tuple[int, int], list[int]] = {}
        for index, (source, target) in enumerate(zip(sources, targets, strict=True)):
            shape = (self._source_lens.of(len(source)), self._target_lens.of(len(target) + 1))
            groups.setdefault(shape, []).append(index)
        found = [0.0] * len(sources)
        for (source_len, target_len), members in sorted(groups.items()):
            rows = min(
                self._source_lens.rows(source_len, BATCH_ROWS), self._target_lens.rows(target_len, BATCH_ROWS)
            )
            for first in range(0, len(members), rows):
                chosen = members[first : first + rows]
                tokens = np.full((rows, source_len), PAD_ID, np.int32)
                lengths = np.zeros(rows, np.int32)
                inputs = np.full((rows, target_len), PAD_ID, np.int32)
                outputs = np.full((rows, target_len), PAD_ID, np.int32)
                for row, index in enumerate(chosen):
                    source, target = sources[index], targets[index]
                    tokens[row, : len(source)], lengths[row] = source, len(source)
                    inputs[row, : len(target) + 1] = [BOS_ID, *target]
                    outputs[row, : len(target) + 1] = [*target, EOS_ID]
                arrays = jax.device_put((tokens, lengths, inputs, outputs))
                scores = np.asarray(self._log_probs(state, *arrays))
                for index, score in zip(chosen, scores.tolist()):
                    found[index] = score
        return found


def score_files(
    run_dir: Path,
    source: Path,
    target: Path,
    *,
    output_path: Path | None,
    too_long: TooLong,
) -> None:
    """Write a line for each pair; see the command's help.

    Raises:
      DataError: If a file is missing, empty, binary, not UTF-8, or the two differ in their numbers of lines.
      RunError: If ``run_dir`` holds no trained run.
    """
    require_other_file("--output", output_path, [source, target])
    for path in (source, target):
        if path.exists() and not path.is_file():
            raise DataError(f"{path}: not a regular file; it is read twice, so write the lines into one")
    counts = [count_lines(path) for path in (source, target)]
    if counts[0] != counts[1]:
        raise DataError(
            f"source and target differ in length: {source} has {counts[0]} lines, {target} has {counts[1]}"
        )
    run = load_run(run_dir)
    scorer = PairScorer(
        run.model,
        source_len=run.config.data.max_source_len,
        target_len=run.config.data.max_target_len,
        source_limit=run.source_lengths.longest,
        target_limit=run.target_lengths.longest,
    )
    state, pairs = run.state, zip(stream_lines(source), stream_lines(target), strict=True)
    total, num_tokens, num_unknown, num_left_out, number = 0.0, 0, 0, 0, 0
    with opened_output(output_path) as out, progress_bar(counts[0]) as progress:
        while group := list(itertools.islice(pairs, GROUP_LINES)):
            sources = run.taken_sources(
                [a for a, _ in group], too_long=too_long, where=str(source), first_line=number + 1
            )
            targets = run.taken_targets(
                [b for _, b in group], too_long=too_long, where=str(target), first_line=number + 1
            )
            pairs_taken = {
                index: (a, b)
                for index, (a, b) in enumerate(zip(sources, targets))
                if a is not None and b is not None
            }
            scores = scorer(state, [a for a, _ in pairs_taken.values()], [b for _, b in pairs_taken.values()])
            rows = ["nan\t0\n"] * len(group)
            for index, score in zip(pairs_taken, scores):
                rows[index] = f"{score:.4f}\t{len(pairs_taken[index][1]) + 1}\n"
            out.write("".join(rows).encode())
            out.flush()
            total += math.fsum(scores)
            num_unknown += sum(run.target_tokenizer.count_unknown(b) for _, b in pairs_taken.values())
            num_tokens += sum(len(b) + 1 for _, b in pairs_taken.values())
            num_left_out += len(group) - len(pairs_taken)
            number += len(group)
            progress(number)
    run.report_lines()
    if num_unknown:
        note(f"note: {num_unknown:,} target tokens never seen in training were scored as <unk>")
    if num_left_out:
        are = " is" if num_left_out == 1 else "s are"
        note(f"note: {num_left_out:,} pair{are} too long: the score is 'nan'")
    perplexity = math.exp(min(-total / num_tokens, 700.0)) if num_tokens else math.nan
    note(f"{number - num_left_out:,} pairs, {num_tokens:,} target tokens, perplexity {perplexity:.3f}")
