"""``transformer-jax init``: a commented experiment file to begin with."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

DESCRIPTION = """Write an experiment file of your own: every setting with what it means, ready to be changed.

Without NAME it lists what there is: short names for the usual beginnings, and all experiments that come with the
library, which `train NAME` runs as they are.

Examples:
  transformer-jax init
  transformer-jax init translation mine.py
  transformer-jax train mine.py --source a.en --target a.de --run-dir runs/mine
  transformer-jax init classification reviews.py
  transformer-jax train reviews.py --text reviews.tsv --run-dir runs/reviews
  transformer-jax init pronunciation_bahdanau mine.py
  transformer-jax init runs/words/config.json again.py

NAME may also be an experiment file, or the config.json of a run."""

SHORT = {
    "captions": "handwriting_crohme",
    "classification": "classification_trec6",
    "code": "code_django",
    "forecasting": "series_etth1_lstm_attention",
    "language": "language_tinyshakespeare_gpt",
    "masked": "masked_bert",
    "pronunciation": "pronunciation_transformer",
    "speech": "speech_digits",
    "summaries": "summaries_aeslc",
    "tagging": "tagging_ewt",
    "translation": "translation_own_files",
    "vectors": "word_vectors_gcide_skip_gram",
}
"""Short names, and the experiment that each stands for."""


@dataclasses.dataclass(frozen=True)
class Command:
    name: tyro.conf.Positional[Annotated[str | None, tyro.conf.arg(metavar="NAME")]] = None
    """A short name, an experiment, or a saved config; left out, all are listed."""

    output: tyro.conf.Positional[Annotated[Path | None, tyro.conf.arg(metavar="FILE.py")]] = None
    """File to write; it must not be there yet."""

    def run(self) -> int:
        # Loaded here, not above: they bring jax, and --help does without.
        from transformer_jax.errors import ConfigError
        from transformer_jax.runs.bundled_experiments import bundled_experiments, summary

        if self.name is None:
            known = bundled_experiments()
            print("short names")
            for short, name in SHORT.items():
                print(f"  {short:<15}  {summary(known[name])}")
            print("\nexperiments")
            for name, path in known.items():
                print(f"  {name}\n      {summary(path)}")
            return 0
        if self.output is None:
            raise ConfigError(f"name the file to write: transformer-jax init {self.name} mine.py")
        if self.output.suffix != ".py":
            raise ConfigError(
                f"{self.output}: wanted a name that ends in .py, since it will be a Python file"
            )
        if self.output.exists():
            raise ConfigError(f"{self.output}: is there already; name another file")
        _write(self.name, self.output)
        print(f"wrote {self.output}")
        print(f"train it: transformer-jax train {self.output} --run-dir runs/{self.output.stem}")
        return 0


def _write(name: str, output: Path) -> None:
    from transformer_jax.files import write_whole
    from transformer_jax.runs.config_source import config_source
    from transformer_jax.runs.experiment import start_config

    found = start_config(SHORT.get(name, name))
    named = dataclasses.replace(found, name=output.stem)
    command = f"Command: transformer-jax train {output} --run-dir runs/{output.stem}"
    title = f"Experiment {output.stem}, begun as {found.name}.\n\n{command}"
    output.parent.mkdir(parents=True, exist_ok=True)
    write_whole(output, config_source(named, title=title))
