"""``transformer-jax train``: one run, from a config file into a run folder."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from transformer_jax.cli.flags import COUNT, INT_MAX, Between
from transformer_jax.errors import ConfigError
from transformer_jax.notes import note

DESCRIPTION = """Train one model as CONFIG says; everything it needs later goes into the run folder.

CONFIG is a Python file with a function config() that returns an ExperimentConfig (the file is
executed, because you name it), or the config.json of an earlier run (never executed). A run that
was interrupted is continued by --resume, which reads the config in the run folder and the same data.

Examples:
  transformer-jax train experiments/pronunciation_transformer.py --run-dir runs/words
  transformer-jax train experiments/pronunciation_lstm.py --run-dir runs/try --set train.updates=200
  transformer-jax train runs/words/config.json --run-dir runs/wider --set model.hidden_dim=256 train.seed=1
  transformer-jax train --run-dir runs/words --resume
  transformer-jax train experiments/translation_own_files.py --source a.en --target a.de --run-dir runs/mine
  transformer-jax train experiments/language_tinyshakespeare_gpt.py --text diary.txt --run-dir runs/diary
  transformer-jax train CONFIG --run-dir runs/joint --tokenizer joint.json
  transformer-jax train CONFIG --run-dir runs/tuned --warm-start runs/words --set train.patience=4

--source and --target put two files of your own, aligned by line, in the place of the config's data set;
--text does the same for a language model, for a classifier with labels and texts separated by tabs, and for a
forecaster with a CSV of series.
--set changes one value by its path in config.json: numbers, true, false, null, lists and objects as in JSON,
anything else is a text. --set train.schedule.kind=linear changes the kind of a part; --set
data.source_tokenizer=words names one in short, and data.source_tokenizer=en.json a saved tokenizer.
--tokenizer FILE puts one saved tokenizer on both sides."""


@dataclasses.dataclass(frozen=True)
class Command:
    config: tyro.conf.Positional[Annotated[str | None, tyro.conf.arg(metavar="CONFIG")]] = None
    """Experiment file (*.py) or saved config (*.json); left out with --resume."""

    run_dir: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Run folder (needed); made if it is not there."""

    set: Annotated[
        tuple[tuple[str, ...], ...], tyro.conf.arg(metavar="KEY=VALUE ..."), tyro.conf.UseAppendAction
    ] = ()
    """Change values of the config, such as train.updates=200."""

    source: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Source lines to train on; with --target, instead of the config's data set."""

    target: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Target lines to train on."""

    development_source: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Source lines of the development set; without it some of the training lines are held out."""

    development_target: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Target lines of the development set."""

    text: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE"), tyro.conf.UseAppendAction] = ()
    """Text to train a language model on, instead of the config's data set; may be given several times. Of a
    classifier one file: a label, a tab and a text a line. Of a forecaster one CSV file of series."""

    development_text: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Development text of a language model or classifier; without it a tenth of the training text is held out."""

    tokenizer: Annotated[Path | None, tyro.conf.arg(metavar="FILE.json")] = None
    """A saved tokenizer (of pairs for both sides): of `tokenizer train`, or another program's tokenizer.json."""

    resume: bool = False
    """Resume the run in the folder from its last checkpoint."""

    overwrite: bool = False
    """Remove the run in the folder first."""

    warm_start: Annotated[Path | None, tyro.conf.arg(metavar="OTHER_RUN")] = None
    """Begin with the parameters and the tokenizers of another run (or model folder) of the same model; of a masked
    language model, a classifier or tagger takes the encoder and the tokenizer."""

    vectors: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Begin with the word vectors of a file in word2vec's format (binary where its name ends in .bin) as the input
    embeddings of tokens that are words of it."""

    allow_partial: bool = False
    """With --warm-start: take what fits of another model's arrays, and list what does not."""

    strict_compile: bool = False
    """Make a batch for which no program was planned an error; without it the program is compiled then."""

    allow_inexact: bool = False
    """Resume a run although versions, flags, processor or device differ from its own (see run.lock)."""

    allow_other_data: bool = False
    """Resume a run although its training or development data have changed."""

    distributed: bool = False
    """One of several processes that train the run together; Slurm, GKE, Open MPI or the TPU pod gives its number."""

    coordinator: Annotated[str | None, tyro.conf.arg(metavar="HOST:PORT")] = None
    """The same without such a cluster: address of the first process, given to all."""

    num_hosts: Annotated[int | None, tyro.conf.arg(metavar="N"), COUNT] = None
    """With --coordinator: processes in all."""

    host_id: Annotated[int | None, tyro.conf.arg(metavar="I"), Between(0, INT_MAX)] = None
    """With --coordinator: number of this process, from 0."""

    host_timeout: Annotated[float, tyro.conf.arg(metavar="SECONDS"), Between(0, 1e6)] = 300.0
    """How long the processes wait for each other at the beginning; then it is said which are missing."""

    too_long: Literal["skip", "truncate", "fail"] | None = None
    """Treatment of lines longer than data.max_source_len or data.max_target_len (as --set data.too_long=...)."""

    def run(self) -> int:
        if self.run_dir is None:
            raise ConfigError("--run-dir DIR is missing: where shall the run go?")
        # Loaded here, not above: they bring jax, and --help does without.
        from transformer_jax.training import hosts

        if self.distributed or self.coordinator or self.num_hosts is not None or self.host_id is not None:
            # Before anything is computed.
            hosts.connect(self.coordinator, self.num_hosts, self.host_id, timeout=self.host_timeout)
        from transformer_jax.runs.experiment import resume_config, start_config
        from transformer_jax.runs.experiment_runner import RunOptions, run_experiment
        from transformer_jax.tasks.spoken_scores import spoken

        overrides = [text for group in self.set for text in group]
        if self.too_long is not None:
            overrides.append(f"data.too_long={self.too_long}")
        own = self._own_files()
        if self.tokenizer is not None and self.warm_start is not None:
            raise ConfigError("--warm-start takes the other run's tokenizers: leave --tokenizer out")
        if self.resume and not self.overwrite:
            if self.tokenizer is not None:
                raise ConfigError("--tokenizer cannot change when a run is resumed: leave it out")
            if own.training:
                names = " and ".join(f"--{name.replace('_', '-')}" for name in own.training)
                raise ConfigError(f"{names} cannot change when a run is resumed: leave them out")
            if self.config is not None:
                note(f"note: --resume reads {self.run_dir}/config.json; {self.config} is not read")
            if self.too_long is not None:
                raise ConfigError("--too-long cannot change when a run is resumed: leave it out")
            config = resume_config(self.run_dir, overrides)
        elif self.config is None:
            raise ConfigError(
                "CONFIG is missing: name an experiment (*.py) or a config.json, or add --resume"
            )
        else:
            config = start_config(self.config, overrides, own)
        start: Any = None
        if self.allow_partial and self.warm_start is None:
            raise ConfigError("--allow-partial goes with --warm-start: a resumed run needs all its arrays")
        if self.warm_start is not None and self.vectors is not None:
            raise ConfigError("--warm-start takes the other run's embeddings: leave --vectors out")
        if self.warm_start is not None:
            from transformer_jax.runs.warm_start import start_from

            start = start_from(self.warm_start, allow_partial=self.allow_partial)
        elif self.vectors is not None:
            from transformer_jax.runs.vector_start import start_from_vectors

            start = start_from_vectors(self.vectors)
        result = run_experiment(
            config,
            self.run_dir,
            RunOptions(
                resume=self.resume,
                overwrite=self.overwrite,
                start=start,
                strict_compile=self.strict_compile,
                allow_inexact=self.allow_inexact,
                allow_other_data=self.allow_other_data,
            ),
        )
        if not hosts.is_first():
            return 0
        scores = spoken(result.scores) or "none"
        print(
            f"{config.name}: {result.updates:,} updates, {result.parameters:,} parameters; "
            f"development set: {scores}"
        )
        print(f"run folder: {self.run_dir}")
        return 0

    def _own_files(self) -> Any:
        """Files that the options name in the place of the config's."""
        from transformer_jax.runs.experiment import OwnFiles

        given = {
            "source": self.source,
            "target": self.target,
            "development_source": self.development_source,
            "development_target": self.development_target,
            "development_text": self.development_text,
        }
        training: dict[str, tuple[str, ...]] = {
            name: (str(path),) for name, path in given.items() if path is not None
        }
        if self.text:
            training["text"] = tuple(map(str, self.text))
        return OwnFiles(training=training, tokenizer=None if self.tokenizer is None else str(self.tokenizer))
