"""``transformer-jax generate``: a language model writes on behind a prompt."""

import dataclasses
import itertools
import json
import sys
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import tyro

from transformer_jax.cli.flags import COUNT, SEED, Between
from transformer_jax.cli.streams import require_open
from transformer_jax.errors import ConfigError, DataError

DESCRIPTION = """Continue a prompt with a language model. A single text is written as it comes, token by token.

The prompt is --prompt TEXT, or standard input where that is no terminal; without either the model begins by itself.
--input FILE has many prompts, one a line (\\n in a line stands for a line break, \\\\ for a backslash). With several
prompts or --num-samples each text stands below a line "=== prompt N, sample M"; --json writes an object a line instead.

Examples:
  transformer-jax generate runs/shakespeare --prompt "ROMEO:"
  transformer-jax generate runs/shakespeare --prompt "ROMEO:" --max-tokens 500 --temperature 0.7 --seed 3
  echo "To be" | transformer-jax generate runs/shakespeare --stop "." --num-samples 3
  transformer-jax generate runs/shakespeare --input prompts.txt --json > texts.jsonl
  transformer-jax generate --pretrained shakespeare-chars --prompt "KING:"

A text follows from the prompt, the seed and the prompt's number alone, not from the prompts beside it. A single one is
computed alone, which may round its log-probability differently in the last digits; --invariant keeps those too."""


@dataclasses.dataclass(frozen=True)
class Command:
    run_dir: tyro.conf.Positional[Annotated[Path | None, tyro.conf.arg(metavar="RUN_DIR")]] = None
    """Folder of a trained language model, or of an exported one."""

    pretrained: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Instead of a folder: a model that comes with the library."""

    prompt: Annotated[str | None, tyro.conf.arg(metavar="TEXT")] = None
    """Beginning of the text."""

    input: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Prompts, one a line."""

    max_tokens: Annotated[int | None, tyro.conf.arg(metavar="N"), COUNT] = None
    """Most tokens behind a prompt; without it the run's own."""

    num_samples: Annotated[int, tyro.conf.arg(metavar="N"), COUNT] = 1
    """Texts behind each prompt."""

    temperature: Annotated[float | None, tyro.conf.arg(metavar="T"), Between(0, 1e6)] = None
    """Sharpen (below 1) or flatten (above 1) the probabilities; 0 takes the most probable token each time."""

    top_k: Annotated[int | None, tyro.conf.arg(metavar="N"), COUNT] = None
    """Draw only from the N most probable tokens."""

    top_p: Annotated[float | None, tyro.conf.arg(metavar="P"), Between(0, 1)] = None
    """Draw only from the fewest tokens that have probability P together."""

    min_p: Annotated[float | None, tyro.conf.arg(metavar="P"), Between(0, 1)] = None
    """Draw only from tokens at least P times as probable as the most probable one."""

    repetition_penalty: Annotated[float | None, tyro.conf.arg(metavar="R"), Between(0, 1e6)] = None
    """Make tokens that stand in prompt or text already less probable (above 1)."""

    stop: Annotated[tuple[str, ...], tyro.conf.arg(metavar="TEXT"), tyro.conf.UseAppendAction] = ()
    """End a text before TEXT; may be given several times."""

    seed: Annotated[int, tyro.conf.arg(metavar="N"), SEED] = 0
    """Of the draws."""

    beyond: Literal["window", "refuse"] = "window"
    """Choice where prompt and text pass the model's context: `window` rereads the last half of it and continues,
    `refuse` stops."""

    invariant: bool = False
    """Compute a single text as among others, to the last bit of its log-probability; it takes longer."""

    output: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where the texts go; without it standard output."""

    json: bool = False
    """Write a JSON object a line: prompt, sample, text, log_prob (null where no token was possible), finished, and the
    reason why the text ended: end, stop, length or impossible."""

    def run(self) -> int:
        # Loaded here, not above: they bring jax, and --help does without.
        from transformer_jax.cli.line_groups import opened_output, progress_bar
        from transformer_jax.cli.loaded import load_for
        from transformer_jax.config_json import finite_json
        from transformer_jax.files import require_other_file
        from transformer_jax.inference.text_generator import TextGenerator
        from transformer_jax.runs.model_folder import chosen_folder

        if self.output is None:
            require_open(1, "--output FILE")
        require_other_file("--output", self.output, [self.input])
        folder = chosen_folder(self.run_dir, self.pretrained)
        prompts = self._prompts()
        generator: TextGenerator = load_for("generate", TextGenerator, folder).predictor
        options: dict[str, Any] = {
            "max_tokens": self.max_tokens,
            "search": self._search(),
            "stop": self.stop,
            "seed": self.seed,
            "beyond": self.beyond,
            "invariant": self.invariant,
        }
        if len(prompts) == 1 and self.num_samples == 1 and not self.json:
            pieces = generator.stream(
                prompts[0], **options
            )  # what it refuses, it refuses before anything is written
            with opened_output(self.output) as out:
                for piece in itertools.chain([prompts[0]], pieces, ["\n"]):
                    _write(out, piece)
            return 0
        longest = self.max_tokens or generator.search.max_len
        with progress_bar(len(prompts) * self.num_samples * longest, unit="tokens") as progress:
            outputs = generator.generate(
                prompts, num_samples=self.num_samples, on_progress=progress, **options
            )
        with opened_output(self.output) as out:
            for place, one in enumerate(outputs):
                number, sample = divmod(place, self.num_samples)
                if self.json:
                    document = {
                        "prompt": one.prompt,
                        "sample": sample,
                        "text": one.text,
                        "log_prob": one.log_prob,
                        "finished": one.finished,
                        "reason": one.reason,
                    }
                    _write(out, json.dumps(finite_json(document), allow_nan=False) + "\n")
                else:
                    _write(out, f"=== prompt {number + 1}, sample {sample + 1}\n{one.prompt}{one.text}\n")
        return 0

    def _prompts(self) -> list[str]:
        from transformer_jax.data.line_breaks import unescape_line
        from transformer_jax.data.readers import stream_lines

        if self.prompt is not None and self.input is not None:
            raise ConfigError("--prompt and --input both name prompts: leave one of them out")
        if self.prompt is not None:
            if any("\ud800" <= one <= "\udfff" for one in self.prompt):  # how Python reads other bytes
                raise ConfigError("--prompt: not UTF-8 text")
            return [self.prompt]
        if self.input is not None:
            return [unescape_line(line) for line in stream_lines(self.input)]
        if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
            return [""]
        try:
            return [sys.stdin.buffer.read().decode().removesuffix("\n")]
        except UnicodeDecodeError as error:
            raise DataError(f"standard input: not UTF-8 text (byte {error.start})") from None

    def _search(self) -> Any:
        """What the options change in the run's own search; None where they change nothing."""
        from transformer_jax.inference.requested_search import Sampling

        sampling = Sampling(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
        )
        return None if sampling == Sampling() else sampling


def _write(out: BinaryIO, text: str) -> None:
    """Write at once, as UTF-8 wherever it goes."""
    out.write(text.encode())
    out.flush()
