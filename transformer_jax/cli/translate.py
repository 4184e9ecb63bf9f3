"""``transformer-jax translate``: lines in, lines out."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from transformer_jax.cli.flags import BEAMS, COUNT, INT_MAX, SEED, Between

DESCRIPTION = """Translate lines with a trained model: one line out for each line in, in order, as they come.

An empty line gives an empty line. Characters (or words) that training never saw are read as <unk>;
how many there were is said on standard error at the end.

Examples:
  echo attention | transformer-jax translate --pretrained g2p-en
  echo attention | transformer-jax translate runs/words
  transformer-jax translate runs/words --input words.txt --output phonemes.txt --beam 4
  transformer-jax translate runs/words --input words.txt --output phonemes.txt --beam 4 --continue
  transformer-jax translate runs/words --input words.txt --beam 4 --n-best 3
  transformer-jax translate runs/words --input words.txt --temperature 0.7 --top-p 0.9 --seed 3
  transformer-jax translate runs/words --input words.txt --temperature 1 --num-samples 5
  transformer-jax translate runs/words --input words.txt --attention maps.npz --alignments words.pharaoh

A line break inside an output (a byte-level tokenizer can write one) is written as \\n, \\r, \\u2028 and the like.
--n-best N writes up to N lines for each line in, best first: number of the line (from 1), score,
output, separated by tabs; the score is the log-probability, divided by the length penalty if the
run has one.
--attention FILE.npz holds for each line n the arrays n/source and n/target (texts of the tokens)
and n/NAME for each attention of the model, [heads, target, source].
--alignments FILE has lines such as "0-0 2-1": source token 0 with output token 0, source token 2 with output token 1,
by the mean of the last attention's heads. They are the tokens that n/source and n/target of --attention name.

A line's translation, its tokens and its score do not depend on the lines beside it: every batch has one
shape, chosen by the line alone. --verify-invariance shows it on your lines, at about three times the work.
One or two lines that come by themselves are searched in a batch of one row, some times as fast: their scores can
differ from those among others in the last digits, and their tokens where two candidates are within 1e-4.
--invariant does without that."""


@dataclasses.dataclass(frozen=True)
class Command:
    run_dir: tyro.conf.Positional[Annotated[Path | None, tyro.conf.arg(metavar="RUN_DIR")]] = None
    """Folder of a trained run, or of an exported model."""

    pretrained: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Instead of a folder: a model that comes with the library."""

    input: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Lines to translate; without it standard input."""

    output: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where the translations go; without it standard output."""

    continue_: Annotated[bool, tyro.conf.arg(name="continue")] = False
    """Continue after the whole lines that --output holds already, as after a full disk or Ctrl-C."""

    beam: Annotated[int | None, tyro.conf.arg(metavar="N"), BEAMS] = None
    """Beams of the search, 1 is greedy; without it the run's own search."""

    n_best: Annotated[int | None, tyro.conf.arg(metavar="N"), BEAMS] = None
    """Write the N best translations of each line; at most the number of beams."""

    length_penalty: Annotated[float | None, tyro.conf.arg(metavar="A"), Between(0, 1e6)] = None
    """Divide log-probabilities by ((5 + length) / 6) ** A when beams are ranked; without it the run's own."""

    coverage_penalty: Annotated[float | None, tyro.conf.arg(metavar="B"), Between(0, 1e6)] = None
    """Rank the outputs of a beam by B times the log of the attention that each source token got, too: against words
    left out. Usual are 0.1 to 0.4."""

    stepwise_coverage: bool = False
    """Let --coverage-penalty count at each step of the search, where prefixes compete, not only among its outputs."""

    min_len: Annotated[int | None, tyro.conf.arg(metavar="N"), Between(0, INT_MAX)] = None
    """Fewest tokens of an output."""

    no_repeat_ngram: Annotated[int | None, tyro.conf.arg(metavar="N"), Between(0, INT_MAX)] = None
    """No N tokens in a row come twice in an output."""

    replace_unknown: bool = False
    """Replace unknown words of outputs by the source word with the highest attention."""

    prefix: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Required beginning of each output, a line for each line of --input; an empty line leaves it free."""

    temperature: Annotated[float | None, tyro.conf.arg(metavar="T"), Between(0, 1e6)] = None
    """Draw the output at random, from probabilities sharpened (below 1) or flattened (above 1)."""

    top_k: Annotated[int | None, tyro.conf.arg(metavar="N"), COUNT] = None
    """Draw only from the N most probable tokens."""

    top_p: Annotated[float | None, tyro.conf.arg(metavar="P"), Between(0, 1)] = None
    """Draw only from the fewest tokens that have probability P together."""

    seed: Annotated[int, tyro.conf.arg(metavar="N"), SEED] = 0
    """Of the draws: a line's output follows from the seed, the line and its number."""

    num_samples: Annotated[int, tyro.conf.arg(metavar="N"), COUNT] = 1
    """With --temperature: draw N outputs of each line, written in the form of --n-best, in the order of the draws."""

    ensemble: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="RUN_DIR")] = ()
    """Further runs with the same tokenizers: at each step the mean of all their probabilities is searched."""

    attention: Annotated[Path | None, tyro.conf.arg(metavar="FILE.npz")] = None
    """Save the model's attention weights."""

    alignments: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Save which source token each output token looked at most, in the format of Pharaoh: a line for each line."""

    too_long: Literal["whole", "skip", "truncate", "fail"] = "whole"
    """Sources longer than data.max_source_len: `whole` takes them as they are (those over the model's own limit are
    left out), `skip` leaves them out, `truncate` cuts them, `fail` stops. One that is left out is an empty
    line of the output."""

    devices: Annotated[int, tyro.conf.arg(metavar="N"), COUNT] = 1
    """Devices (GPUs) of this machine that share the lines, each with the whole model; the output has the same bits."""

    invariant: bool = False
    """Give a line the same bits of tokens and score even where it comes alone; without it, one or two lines that come
    by themselves are searched by themselves, some times as fast, and two candidates within 1e-4 may change places."""

    verify_invariance: bool = False
    """Translate each line again in other batches and another order; stop if a token or a bit of a score differs."""

    def run(self) -> int:
        # Loaded here, not above: they bring jax, and --help does without.
        from transformer_jax.cli.line_groups import LineFiles, LineOptions, translate_lines
        from transformer_jax.inference.search_change import SearchChange
        from transformer_jax.runs.model_folder import chosen_folder

        change = SearchChange(
            beam=self.beam,
            num_best=self.n_best,
            length_penalty=self.length_penalty,
            min_len=self.min_len,
            no_repeat_ngram=self.no_repeat_ngram,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            coverage=self.coverage_penalty,
            stepwise_coverage=self.stepwise_coverage,
        )
        translate_lines(
            chosen_folder(self.run_dir, self.pretrained),
            LineFiles(
                input=self.input,
                output=self.output,
                prefixes=self.prefix,
                attention=self.attention,
                alignments=self.alignments,
                goes_on=self.continue_,
            ),
            LineOptions(
                change=change,
                seed=self.seed,
                num_samples=self.num_samples,
                replaces_unknown=self.replace_unknown,
                too_long=self.too_long,
                num_devices=self.devices,
                invariant=self.invariant,
                verify_invariance=self.verify_invariance,
                ensemble=self.ensemble,
            ),
        )
        return 0
