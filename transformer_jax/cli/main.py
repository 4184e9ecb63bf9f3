"""The console script ``transformer-jax``: picks the command and turns every failure into one line.

Exit status: 0 done; 2 something that the user can put right (one line on stderr says what); 130 interrupted
by Ctrl-C, 143 by SIGTERM; 141 the reader of standard output went away; 1 a fault of this program. No traceback is
shown unless ``TRANSFORMER_JAX_DEBUG=1``.
Commands are imported when they are named, and import jax when they run, so that ``--help`` is quick.
"""

import ast
import contextlib
import dataclasses
import importlib
import io
import logging
import os
import re
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformer_jax.allocator import keep_freed_memory, run_in_calling_thread
from transformer_jax.cli.flags import check_names, check_numbers, flag_of
from transformer_jax.cli.hints import with_flags
from transformer_jax.cli.interrupts import end_at_second_signal, keep_interrupts
from transformer_jax.cli.streams import drop_standard_output, flush_standard_output, own_standard_streams
from transformer_jax.compile_cache import KEEPING, keep_compiled_programs
from transformer_jax.errors import TransformerJaxError, nearest_hint, shortened
from transformer_jax.notes import listening, print_note
from transformer_jax.plugins import PluginWarning

PROGRAM = "transformer-jax"

COMMANDS = {
    "ablate": "Train a grid of values of one config with several seeds, and compare them with the base.",
    "average": "Mean of the parameters of a run's last checkpoints.",
    "caption": "Write what drawings say: a line for each file in.",
    "classify": "Classify lines: a class for each line in.",
    "compare": "Train six models, from a vanilla RNN to a Transformer, on real words and compare them.",
    "embed": "Vectors of words and lines, their neighbours, and analogies.",
    "train": "Train one model as a config file says, into a run folder.",
    "fill": "Fill hidden words in lines: the most probable words of a masked language model.",
    "evaluate": "Score a trained model on two files or a split of its data, or beside another.",
    "export": "Make a small folder of a trained model, with a card, to pass on.",
    "forecast": "Forecast the next steps of time series in a CSV file.",
    "generate": "Continue a prompt with a language model.",
    "init": "Write a commented experiment file to begin with.",
    "native": "Kernels in C++ for the CPU: whether they are there; build, clear.",
    "race": "Race recurrent networks against Transformers: speed, generation, quality over seconds.",
    "reproduce": "Retrain a run and verify that every log row is reproduced.",
    "score": "Log-probabilities of given pairs, or of the tokens of a text, under a trained model.",
    "summarise": "Summarise lines, e-mails or other long texts: translate on a run that does so.",
    "tag": "Label the words of lines: parts of speech, slots, names.",
    "tokenizer": "Train a subword tokenizer on text files.",
    "transcribe": "Write what is said in recordings: a line for each file in.",
    "translate": "Translate lines: stdin to stdout, or file to file.",
    "plan": "Memory, traffic and time of a run over many devices, by calculation.",
    "plot": "Draw the learning curves and attention maps of a run.",
}

NOT_COMPUTING = ("init", "native", "plan", "plot", "tokenizer")
"""Commands that run no model."""

SUBCOMMANDS: dict[tuple[str, ...], str] = {
    ("native", "build"): "native_build",
    ("native", "clear"): "native_clear",
    ("race", "compare"): "race_compare",
}
"""Commands of two words, and the modules that hold them."""

DESCRIPTION = """From the vanilla RNN to the Transformer: train, search and compare on real data.

Start here:
  transformer-jax compare                                       six models, a table and pictures, some minutes
  transformer-jax train experiments/pronunciation_transformer.py --run-dir runs/words
  echo transformer | transformer-jax translate runs/words       T R AE N S F AO R M ER
  transformer-jax train experiments/language_tinyshakespeare_gpt.py --run-dir runs/shakespeare
  transformer-jax generate runs/shakespeare --prompt "ROMEO:"

Every command has examples of its own: transformer-jax COMMAND --help"""

_CLI_MODULES = (
    "tyro", "pydantic", "rich", "safetensors", "tokenizers", "grain", "pooch", "platformdirs", "orbax", "sacrebleu",
    "sacremoses", "rapidfuzz", "matplotlib", "tensorboardX", "filelock",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; never raises (``SystemExit`` included).

    Args:
      arguments: The words after the program's name; ``None`` takes them from ``sys.argv``.
    """
    from_terminal = arguments is None
    if from_terminal:
        own_standard_streams()
        keep_freed_memory()
        keep_interrupts()
        end_at_second_signal()
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = os.environ.get("TRANSFORMER_JAX_DEBUG", "") not in ("", "0")
    if from_terminal:
        _hush_libraries(debug)
    try:
        with listening(_say):
            status = _status_of(words, from_terminal)
        flush_standard_output()  # here, not when the interpreter ends: an error has its status and its line
        return status
    except KeyboardInterrupt as interrupt:
        if from_terminal:  # a second Ctrl-C, while threads are joined, would only print a traceback
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        said = with_flags(str(interrupt))
        status = 128 + getattr(interrupt, "signal_number", signal.SIGINT)
        _fail(f"interrupted{': ' + said if said else ''}", status=status, label="")
        if from_terminal:  # threads that compile would be waited for, minutes on a GPU; all files are written
            os._exit(status)
        return status
    except BrokenPipeError:
        # The reader of our output has gone, as in `... | head`: stop, and keep the flush at exit quiet.
        drop_standard_output()
        return 141
    except Exception as error:
        if debug:
            raise
        return _fail(*_explain(error))


def _say(text: str) -> None:
    """Print a remark of the library, its arguments written as flags."""
    print_note(with_flags(text))


def _status_of(words: list[str], from_terminal: bool) -> int:
    try:
        if from_terminal and words[:1] and words[0] in KEEPING and not {"-h", "--help"} & set(words):
            keep_compiled_programs()
        return _dispatch(words, in_own_process=from_terminal)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else _fail(str(stop.code))


def _dispatch(words: list[str], *, in_own_process: bool) -> int:
    if words[:1] == ["--version"]:
        import transformer_jax

        print(f"{PROGRAM} {transformer_jax.__version__}")
        return 0
    if not words or words[0] in ("-h", "--help") or words[0] not in COMMANDS:
        return _no_command(words)
    used = 2 if tuple(words[:2]) in SUBCOMMANDS else 1
    name = SUBCOMMANDS.get(tuple(words[:2]), words[0])
    prog = " ".join([PROGRAM, *words[:used]])
    try:
        module = importlib.import_module(f"transformer_jax.cli.{name}")
        command = parse(module.Command, words[used:], prog=prog, description=module.DESCRIPTION)
    except ModuleNotFoundError as error:
        if error.name != "tyro" or not {"-h", "--help"} & set(words):
            raise
        print(_help_without_options(name, prog))
        return 0
    if in_own_process and words[0] not in NOT_COMPUTING:
        run_in_calling_thread()
    return int(command.run() or 0)


def _help_without_options(name: str, prog: str) -> str:
    """A command's description, read from its source: what lists the options is not installed."""
    path = Path(__file__).with_name(f"{name}.py")
    for part in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(part, ast.Assign) and ast.unparse(part.targets[0]) == "DESCRIPTION":
            description = ast.literal_eval(part.value)
    extra = "pip install 'transformer-jax[cli]'"
    return f"usage: {prog} ...\n\n{description}\n\nTo run it, and for the list of options: {extra}"


def _no_command(words: list[str]) -> int:
    if not words:
        return _fail(f"which command? one of {', '.join(COMMANDS)} (see {PROGRAM} --help)")
    if words[0] not in ("-h", "--help"):
        name = words[0]
        wanted = nearest_hint(name, COMMANDS) or f"; known: {', '.join(COMMANDS)}"
        return _fail(f"unknown {'option' if name.startswith('-') else 'command'} '{name}'{wanted}")
    listing = "\n".join(f"  {name:<10}  {text}" for name, text in COMMANDS.items())
    options = "  -h, --help  show this text\n  --version   show the version"
    print(f"usage: {PROGRAM} COMMAND ...\n\n{DESCRIPTION}\n\ncommands:\n{listing}\n\noptions:\n{options}")
    return 0


def parse(cls: type[Any], words: Sequence[str], *, prog: str, description: str) -> Any:
    """Parse a command's own words with tyro; a usage error becomes one line instead of tyro's box.

    Raises:
      SystemExit: After a usage error or the help text.
      ConfigError: If a number is out of its range, or a name is empty.
    """
    import tyro

    check_names(words)
    captured = io.StringIO()
    try:
        with contextlib.redirect_stderr(captured):
            command = tyro.cli(
                cls,
                prog=prog,
                description=description,
                args=list(words),
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        message = _unboxed(captured.getvalue())
        unknown = re.search(r"Unrecognized options: (--[\w-]+)", message)
        if unknown:
            message += nearest_hint(unknown[1], [flag_of(field.name) for field in dataclasses.fields(cls)])
        raise SystemExit(_fail(f"{message} (see {prog} --help)")) from None
    check_numbers(command)
    return command


def _unboxed(text: str) -> str:
    """The first paragraph inside tyro's box."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    rows = [row.strip("│|").rstrip() for row in plain.splitlines() if not re.match(r"\s*[╭╰+]", row)]
    rules = [index for index, row in enumerate(rows) if re.fullmatch(r"\s*[─-]*\s*", row)]
    message = " ".join(row.strip() for row in rows[: rules[0] if rules else None])
    message = re.sub(
        r"no type matching \S*\b(INT|FLOAT|STR)\S* could be instantiated from \['(.*)'\]\.?",
        lambda found: f"wanted {_KINDS[found[1]]}, got '{found[2]}'",
        message,
    )
    return message.rstrip(".")


_KINDS = {"INT": "a whole number", "FLOAT": "a number", "STR": "a text"}


def _explain(error: Exception) -> tuple[str, int]:
    """(one line, exit status) for an exception that reached the top."""
    if isinstance(error, TransformerJaxError):
        return with_flags(str(error)), 2
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in _CLI_MODULES:
        return f"the Python package '{error.name}' is missing: pip install 'transformer-jax[cli]'", 2
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}", 2
    if isinstance(error, UnicodeEncodeError):
        return f"{shortened(ascii(error.object))}: not UTF-8, which is needed here: rename the file", 2
    if isinstance(error, NotImplementedError):
        return f"not possible: {error}", 2
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return "out of memory: choose a smaller batch (--set data.batch_size=...) or a smaller model", 2
    missing = _missing_platform(error)
    if missing is not None:
        return missing, 2
    name = type(error).__name__
    return f"a fault of this program: {name}: {error} (TRANSFORMER_JAX_DEBUG=1 shows where)", 1


def _missing_platform(error: Exception) -> str | None:
    """One line where JAX, which this process has imported, has no device to compute on; None otherwise."""
    if "jax" not in sys.modules:
        return None
    import jax

    unfit = error if str(error).startswith("Unable to initialize backend") else None
    try:
        jax.devices()
    except Exception as without_device:
        unfit = without_device
    if unfit is None:
        return None
    wanted = jax.config.values.get("jax_platforms")
    reason = shortened(" ".join(str(unfit).partition(" (set JAX_PLATFORMS")[0].split()), 200)
    advice = (
        f"JAX_PLATFORMS is '{wanted}'; leave it empty to let JAX choose"
        if wanted
        else "check the installation of JAX"
    )
    return f"JAX has no device here: {advice} ({reason or type(unfit).__name__})"


def _fail(message: str, status: int = 2, label: str = "error: ") -> int:
    line = " ".join(message.split())
    with contextlib.suppress(OSError, ValueError):
        flush_standard_output()
    print_note(f"{label}{line}")
    return status


def _hush_libraries(debug: bool) -> None:
    """Keep other libraries' logs and warnings off the terminal: our lines are the only ones to read."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    os.environ.setdefault("MPLBACKEND", "Agg")
    if debug:
        return
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    for name in ("absl", "jax", "orbax", "matplotlib", "grain"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", PluginWarning)
        warnings.showwarning = _show_in_one_line


def _show_in_one_line(message: Warning | str, *_: Any, **__: Any) -> None:
    print_note(f"note: {message}")


if __name__ == "__main__":
    sys.exit(main())
