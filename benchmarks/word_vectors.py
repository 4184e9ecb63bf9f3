"""Word vectors beside gensim's on the same text, settings and passes, in one run: Spearman and words a second.

gensim runs in a Python of its own, since it wants other versions of NumPy and SciPy:

    python -m venv /tmp/gensim && /tmp/gensim/bin/pip install gensim==4.4.0
    python -m benchmarks.word_vectors experiments/word_vectors_gcide_skip_gram.py --gensim /tmp/gensim/bin/python

Both read the same sentences of the same words, one after the other for each seed, gensim from a file with as many
workers as there are cores (its fastest way). Words a second are the words of the training text that are in the
vocabulary, times the passes, over the seconds of training: reading and counting the text is timed apart on both sides,
and compiling on ours. Both sets of vectors are scored by the same code.
"""

import argparse
import dataclasses
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from transformer_jax.allocator import keep_freed_memory, num_cores
from transformer_jax.data.prepare_words import PreparedWords
from transformer_jax.data.sources.registry import locate
from transformer_jax.data.vector_files import read_vectors
from transformer_jax.data.word_judgements import read_analogies, read_judgements
from transformer_jax.environment import environment
from transformer_jax.evaluate.vector_scores import analogies, correlation, unit_rows
from transformer_jax.files import write_json
from transformer_jax.models import WordVectorsConfig
from transformer_jax.objectives import NegativeSampling
from transformer_jax.runs.experiment import ExperimentConfig, start_config
from transformer_jax.runs.experiment_runner import RunOptions, run_experiment
from transformer_jax.runs.loading import load_run

PEER = Path(__file__).resolve().parent / "peers" / "gensim_word2vec.py"
MOST_WORDS = 10_000
"""Longer sentences are cut by gensim, which leaves the rest out: they are written as several."""


def scores(words: tuple[str, ...], vectors: np.ndarray) -> dict[str, float]:
    """Spearman's rho on both sets of judgements, accuracy on analogies, shares out of vocabulary."""
    places = {word: place for place, word in enumerate(words)}
    found: dict[str, float] = {}

    def vector(word: str) -> Any:
        return None if (place := places.get(word.lower())) is None else vectors[place]

    for name, file in (("wordsim353", "wordsim353.tsv"), ("simlex999", "simlex999.txt")):
        one = correlation(vector, read_judgements(locate("word-similarity", file)))
        found |= {name: one.spearman, f"{name}_unknown": one.unknown_share}
    questions = read_analogies(locate("word-similarity", "questions-words.txt"))
    ids: Any = [tuple(places.get(word.lower()) for word in one[1:]) for one in questions]
    answered = analogies(unit_rows(vectors), ids)
    return found | {"analogies": answered.accuracy, "analogies_unknown": answered.unknown_share}


def write_sentences(prepared: PreparedWords, path: Path) -> None:
    """The training text, a sentence a line, the words of the vocabulary separated by spaces."""
    names, stream = prepared.vocabulary.words, prepared.train
    ends = np.flatnonzero(np.diff(stream.sentences)) + 1
    with path.open("w") as file:
        for part in np.split(stream.ids, ends):
            for start in range(0, len(part), MOST_WORDS):
                file.write(" ".join(names[one] for one in part[start : start + MOST_WORDS]) + "\n")


def train_ours(config: ExperimentConfig, folder: Path, seed: int, prepared: Any) -> dict[str, Any]:
    """Our side: the experiment as ``transformer-jax train`` runs it."""
    train = dataclasses.replace(config.train, seed=seed)
    data = dataclasses.replace(config.task.data, seed=seed)
    seeded = dataclasses.replace(config, train=train, task=dataclasses.replace(config.task, data=data))
    result = run_experiment(
        seeded, folder, RunOptions(quiet=True), prepared=seeded.task.prepare(prepared.artifacts)
    )
    embedder = load_run(folder).predictor
    return {
        "seed": seed,
        "train_seconds": result.training.train_seconds,
        "compile_seconds": result.compile_seconds,
        **scores(embedder.vocabulary.words, embedder.vectors),
    }


def train_gensim(
    python: str, config: ExperimentConfig, corpus: Path, seed: int, passes: int
) -> dict[str, Any]:
    """Their side, by the peer's own Python."""
    data, objective, model = config.task.data, config.task.objective, config.model
    assert isinstance(model, WordVectorsConfig)
    vectors = corpus.with_suffix(f".{seed}.bin")
    options = {
        "corpus": str(corpus),
        "vectors": str(vectors),
        "architecture": objective.architecture,
        "width": model.embedding_dim,
        "window": data.window,
        "min_count": 1,  # the corpus holds the words of the vocabulary alone
        "sample": data.sample,
        "num_negatives": objective.num_negatives if isinstance(objective, NegativeSampling) else 0,
        "learning_rate": 0.025 if objective.architecture == "skip_gram" else 0.05,
        "seed": seed,
        "workers": num_cores(),
        "passes": passes,
    }
    ran = subprocess.run(
        [python, str(PEER)], input=json.dumps(options), capture_output=True, text=True, check=False
    )
    if ran.returncode:
        raise SystemExit(
            f"error: {python}: {ran.stderr.strip().splitlines()[-1] if ran.stderr else 'failed'}"
        )
    return {"seed": seed, **json.loads(ran.stdout), **scores(*read_vectors(vectors))}


def summary(rows: list[dict[str, Any]], name: str) -> str:
    """Mean and spread over the seeds."""
    values = np.array([row[name] for row in rows], np.float64)
    spread = f" ± {values.std(ddof=1):.3g}" if len(values) > 1 else ""
    return f"{values.mean():,.0f}{spread}" if values.mean() > 100 else f"{values.mean():.3f}{spread}"


def main() -> None:
    """Train both for each seed and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="an experiment of word vectors")
    parser.add_argument("--gensim", required=True, metavar="PYTHON", help="a Python that has gensim")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--passes", type=int, help="passes over the text; without it those of the experiment")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="changes of the config")
    parser.add_argument("--output", type=Path, help="a JSON file for what was measured")
    given = parser.parse_args()
    keep_freed_memory()
    config = start_config(given.config, given.set)
    prepared = config.task.prepare()
    per_epoch = prepared.train.batches_per_epoch
    if given.passes is not None:
        updates = given.passes * per_epoch
        config = dataclasses.replace(config, train=dataclasses.replace(config.train, updates=updates))
    passes = round(config.train.updates / per_epoch)
    every = config.train.updates
    train = dataclasses.replace(config.train, updates=every, evaluate_every=every, checkpoint_every=every)
    config = dataclasses.replace(config, train=train)
    known = len(prepared.words.train.ids)
    ours: list[dict[str, Any]] = []
    theirs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "sentences.txt"
        write_sentences(prepared.words, corpus)
        for seed in range(given.seeds):
            theirs.append(train_gensim(given.gensim, config, corpus, seed, passes))
            ours.append(train_ours(config, Path(folder) / f"run-{seed}", seed, prepared))
            for row in (theirs[-1], ours[-1]):
                row["words_per_second"] = passes * known / row["train_seconds"]
    table = Table(
        title=f"{config.name}: {known:,} words, {passes} passes, {given.seeds} seeds, {num_cores()} cores"
    )
    for heading in ("", "ours", theirs[0]["version"]):
        table.add_column(heading)
    for name in (
        "wordsim353",
        "simlex999",
        "analogies",
        "wordsim353_unknown",
        "words_per_second",
        "train_seconds",
    ):
        table.add_row(name, summary(ours, name), summary(theirs, name))
    Console().print(table)
    if given.output is not None:
        measured = {
            "environment": environment(),
            "experiment": config.name,
            "words": known,
            "passes": passes,
            "ours": ours,
            "gensim": theirs,
        }
        write_json(given.output, measured)


if __name__ == "__main__":
    main()
