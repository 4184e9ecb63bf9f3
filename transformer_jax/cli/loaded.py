"""The run that a command is given, and whether the command suits its task."""

from pathlib import Path
from typing import Any

from transformer_jax.errors import ConfigError, RunError
from transformer_jax.inference.captioner import Captioner
from transformer_jax.inference.mask_filler import MaskFiller
from transformer_jax.inference.sentence_tagger import SentenceTagger
from transformer_jax.inference.series_forecaster import SeriesForecaster
from transformer_jax.inference.text_classifier import TextClassifier
from transformer_jax.inference.text_generator import TextGenerator
from transformer_jax.inference.transcriber import Transcriber
from transformer_jax.inference.translator import Translator
from transformer_jax.inference.word_embedder import WordEmbedder
from transformer_jax.runs.loading import LoadedRun, load_run

_COMMANDS = {
    Translator: ("translate", "score --source FILE --target FILE"),
    TextGenerator: ("generate", "score --input FILE"),
    TextClassifier: ("classify",),
    Captioner: ("caption",),
    Transcriber: ("transcribe",),
    WordEmbedder: ("embed",),
    SentenceTagger: ("tag",),
    MaskFiller: ("fill", "embed"),
    SeriesForecaster: ("forecast",),
}
"""Commands of each predictor, the one that writes first."""


def load_for(command: str, wanted: type[Any] | tuple[type[Any], ...], run_dir: Path | None) -> LoadedRun:
    """Load a run whose predictor a command can use.

    Args:
      command: Its name.
      wanted: Class of the predictor, or several.
      run_dir: A run folder or model folder; None where the command line has none.

    Raises:
      ConfigError: If there is no folder.
      RunError: If the run is for another task; names the command that suits it.
    """
    if run_dir is None:
        raise ConfigError(f"name RUN_DIR, the folder of a run: transformer-jax {command} RUN_DIR ...")
    run = load_run(run_dir)
    if isinstance(run.predictor, wanted):
        return run
    own = next((names for kind, names in _COMMANDS.items() if isinstance(run.predictor, kind)), ())
    verb = command.partition(" ")[0]
    fitting = [name for name in own if name.partition(" ")[0] == verb] or own[:1]
    advice = f": use transformer-jax {fitting[0]}" if fitting else ""
    raise RunError(f"{run_dir} is for {run.config.task.kind}, which {command} does not do{advice}")
