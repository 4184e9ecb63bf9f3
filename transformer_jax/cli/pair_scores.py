"""The work of ``transformer-jax score``: log-probabilities of given targets, in batches of a few fixed shapes."""

import bisect
import itertools
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from transformer_jax.cli.attending import padded_lengths
from transformer_jax.cli.lines import require_other_file
from transformer_jax.cli.loaded_run import BATCH_ROWS, LoadedRun, load_run
from transformer_jax.cli.translating import GROUP_LINES, opened_output, progress_bar
from transformer_jax.data.batches import BOS_ID, EOS_ID, PAD_ID
from transformer_jax.data.readers import count_lines, stream_lines
from transformer_jax.errors import DataError


class PairScorer:
    """Log-probabilities of token sequences given others.

    Args:
      model: The model; only its structure is kept.
      source_len: Most source tokens.
      target_len: Most target tokens, the end token included.
    """

    def __init__(self, model: Any, *, source_len: int, target_len: int) -> None:
        self._source_lens, self._target_lens = padded_lengths(source_len), padded_lengths(target_len)
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
            shape = (_padded(self._source_lens, len(source)), _padded(self._target_lens, len(target) + 1))
            groups.setdefault(shape, []).append(index)
        found = [0.0] * len(sources)
        for (source_len, target_len), members in sorted(groups.items()):
            for first in range(0, len(members), BATCH_ROWS):
                chosen = members[first : first + BATCH_ROWS]
                tokens = np.full((BATCH_ROWS, source_len), PAD_ID, np.int32)
                lengths = np.zeros(BATCH_ROWS, np.int32)
                inputs = np.full((BATCH_ROWS, target_len), PAD_ID, np.int32)
                outputs = np.full((BATCH_ROWS, target_len), PAD_ID, np.int32)
                for row, index in enumerate(chosen):
                    source, target = sources[index], targets[index]
                    tokens[row, : len(source)], lengths[row] = source, len(source)
                    inputs[row, : len(target) + 1] = [BOS_ID, *target]
                    outputs[row, : len(target) + 1] = [*target, EOS_ID]
                scores = np.asarray(self._log_probs(state, tokens, lengths, inputs, outputs))
                for index, score in zip(chosen, scores.tolist()):
                    found[index] = score
        return found


def _padded(lengths: Sequence[int], length: int) -> int:
    return lengths[bisect.bisect_left(lengths, length)]


def score_files(
    run_dir: Path,
    source: Path,
    target: Path,
    *,
    output_path: Path | None,
    too_long: Literal["truncate", "fail"],
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
    data = run.config.data
    scorer = PairScorer(run.model, source_len=data.max_source_len, target_len=data.max_target_len)
    state, pairs = run.state, zip(stream_lines(source), stream_lines(target), strict=True)
    total, num_tokens, num_unknown, number = 0.0, 0, 0, 0
    with opened_output(output_path) as out, progress_bar(counts[0]) as progress:
        while group := list(itertools.islice(pairs, GROUP_LINES)):
            sources = run.encode(
                [a for a, _ in group], too_long=too_long, where=str(source), first_line=number + 1
            )
            targets = _targets(
                run, [b for _, b in group], too_long=too_long, where=str(target), first_line=number + 1
            )
            scores = scorer(state, sources, targets)
            out.write("".join(f"{s:.4f}\t{len(t) + 1}\n" for s, t in zip(scores, targets)).encode())
            out.flush()
            total += math.fsum(scores)
            num_unknown += sum(map(run.target_tokenizer.count_unknown, targets))
            num_tokens += sum(len(one) + 1 for one in targets)
            number += len(group)
            progress(number)
    run.report_lines()
    if num_unknown:
        print(
            f"note: {num_unknown:,} target tokens never seen in training were scored as <unk>",
            file=sys.stderr,
        )
    perplexity = math.exp(min(-total / num_tokens, 700.0))
    print(f"{number:,} pairs, {num_tokens:,} target tokens, perplexity {perplexity:.3f}", file=sys.stderr)


def _targets(
    run: LoadedRun,
    lines: Sequence[str],
    *,
    too_long: Literal["truncate", "fail"],
    where: str,
    first_line: int,
) -> list[list[int]]:
    capacity = run.config.data.max_target_len - 1
    encoded = run.target_tokenizer.encode_batch([run.reference(line) for line in lines])
    for index, ids in enumerate(encoded):
        if len(ids) > capacity:
            if too_long == "fail":
                raise DataError(
                    f"{where}: line {first_line + index}: {len(ids)} tokens; the model's capacity is {capacity} "
                    "(data.max_target_len, less the end): shorten it, or choose --too-long truncate"
                )
            encoded[index] = ids[:capacity]
    return encoded
