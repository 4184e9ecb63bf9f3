"""The work of ``transformer-jax score``: log-probabilities of given targets, line by line."""

import itertools
import json
from pathlib import Path

from transformer_jax.cli.line_groups import GROUP_LINES, note_lines, note_remarks, opened_output, progress_bar
from transformer_jax.cli.loaded import load_for
from transformer_jax.data.readers import count_lines, read_text_file, stream_lines
from transformer_jax.errors import DataError
from transformer_jax.files import require_other_file
from transformer_jax.inference.scored_lines import ScoredLines
from transformer_jax.inference.text_generator import TextGenerator
from transformer_jax.inference.token_scores import non_finite_note
from transformer_jax.inference.translator import TooLong, Translator
from transformer_jax.notes import note


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
    translator: Translator = load_for("score --source --target", Translator, run_dir).predictor
    scored = ScoredLines(translator, source_name=str(source), target_name=str(target), too_long=too_long)
    pairs = zip(stream_lines(source), stream_lines(target), strict=True)
    with opened_output(output_path) as out, progress_bar(counts[0]) as progress:
        while group := list(itertools.islice(pairs, GROUP_LINES)):
            rows = scored.score(group)
            note_remarks(translator.report)
            out.write("".join(f"{one.log_prob:.4f}\t{one.num_tokens}\n" for one in rows).encode())
            out.flush()
            progress(scored.num_lines)
    note_lines(translator.report)
    if scored.num_unknown:
        note(f"note: {scored.num_unknown:,} target tokens never seen in training were scored as <unk>")
    if scored.num_left_out:
        are = " is" if scored.num_left_out == 1 else "s are"
        note(f"note: {scored.num_left_out:,} pair{are} too long: the score is 'nan'")
    note(
        f"{scored.num_lines - scored.num_left_out:,} pairs, {scored.num_tokens:,} target tokens, perplexity "
        f"{scored.perplexity:.3f}"
    )


def score_text(run_dir: Path, text_path: Path, *, output_path: Path | None, stride: int | None) -> None:
    """Write a line for each token of a text: its log-probability and the token, as JSON text.

    Raises:
      DataError: If the file is missing, empty or binary.
      RunError: If ``run_dir`` holds no trained language model.
    """
    require_other_file("`output`", output_path, [text_path])
    generator: TextGenerator = load_for("score --input", TextGenerator, run_dir).predictor
    text = read_text_file(str(text_path))
    scores = generator.score([text], stride=stride)[0]
    with opened_output(output_path) as out:
        for piece, log_prob in zip(scores.pieces, scores.log_probs.tolist(), strict=True):
            out.write(f"{log_prob:.4f}\t{json.dumps(piece)}\n".encode())
        out.flush()
    non_finite = non_finite_note(scores.scores)
    if non_finite is not None:
        note(f"note: {non_finite}")
    note(
        f"{scores.num_characters:,} characters, {scores.num_tokens:,} tokens, perplexity {scores.perplexity:.3f}, "
        f"bits a character {scores.bits_per_character:.4f}"
    )
