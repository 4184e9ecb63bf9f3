"""Poolings of one bidirectional LSTM on sentence classification, over several seeds, beside TF-IDF and a linear model.

    python benchmarks/sentence_classification.py --runs runs/sentences --sets trec-6 sst-2 mr
    python benchmarks/sentence_classification.py --runs runs/sentences --test \\
        --json benchmarks/results/sentence_classification-cpu.json

Every run is an experiment of `experiments/` with another pooling, seed or fold, in a folder of its own below
``--runs``. Called again, the script continues: finished runs are read, one that was interrupted is resumed. Choices are
to be made on the development sets; ``--test`` scores the finished runs on the test sets, each once, and keeps the
scores beside the run.

The baseline is scikit-learn's ``TfidfVectorizer`` (words and pairs of words) with ``LogisticRegression``, fitted on the
same training texts; without scikit-learn it is left out. Seconds are those of training, with whatever else the machine
did.
"""

import argparse
import dataclasses
import itertools
import json
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console
from rich.table import Table

from transformer_jax.data.classes_config import NamedClasses
from transformer_jax.data.labelled_texts import ClassSplits
from transformer_jax.data.text_cleaning import clean_text
from transformer_jax.environment import environment
from transformer_jax.files import write_whole
from transformer_jax.models.poolings import AttentionPool, LastStatePool, MaxPool, MeanPool
from transformer_jax.objectives import ClassCrossEntropy
from transformer_jax.runs.experiment import ExperimentConfig, start_config
from transformer_jax.runs.experiment_runner import RunOptions, run_experiment
from transformer_jax.runs.folder import CONFIG_NAME, read_result
from transformer_jax.runs.loading import load_run

EXPERIMENTS = Path(__file__).resolve().parent.parent / "experiments"
FILES = {
    "trec-6": "classification_trec6.py",
    "trec-50": "classification_trec50.py",
    "sst-2": "classification_sst2.py",
    "mr": "classification_mr.py",
}
POOLINGS = {
    "structured": None,
    "attention": AttentionPool(attention_dim=64),
    "mean": MeanPool(),
    "max": MaxPool(),
    "last_state": LastStatePool(),
}
"""The poolings by name; None is the experiment's own."""

SCORES_NAME = "class_scores.json"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of the grid."""

    subset: str
    pooling: str
    seed: int
    fold: int | None

    @property
    def name(self) -> str:
        """Name of its folder."""
        fold = "" if self.fold is None else f"-fold{self.fold}"
        return f"{self.subset}{fold}-{self.pooling}-seed{self.seed}"


def grid(options: argparse.Namespace) -> list[Cell]:
    """All runs that are wanted: the seeds turn last, so that a grid that is cut off has whole comparisons."""
    cells = []
    for seed, subset in itertools.product(options.seeds, options.sets):
        folds: Iterable[int | None] = options.folds if subset == "mr" else [None]
        cells += [
            Cell(subset, pooling, seed, fold) for fold, pooling in itertools.product(folds, options.poolings)
        ]
    return cells


def config_of(cell: Cell, overrides: Sequence[str]) -> ExperimentConfig:
    """The experiment of a run."""
    config = start_config(
        str(EXPERIMENTS / FILES[cell.subset]),
        [
            f"train.seed={cell.seed}",
            f"data.seed={cell.seed}",
            *([] if cell.fold is None else [f"data.dataset.fold={cell.fold}"]),
            *overrides,
        ],
    )
    pooling = POOLINGS[cell.pooling]
    if pooling is None:
        return dataclasses.replace(config, name=cell.name)
    objective = ClassCrossEntropy(label_smoothing=config.task.objective.label_smoothing)
    return dataclasses.replace(
        config,
        name=cell.name,
        task=dataclasses.replace(config.task, objective=objective),
        model=dataclasses.replace(config.model, pooling=pooling),
    )


def trained(cell: Cell, runs: Path, overrides: Sequence[str]) -> Path:
    """Folder of a run that is trained to its end, now or before."""
    folder = runs / cell.name
    if read_result(folder) is None:
        resume = (folder / CONFIG_NAME).is_file()
        run_experiment(config_of(cell, overrides), folder, RunOptions(quiet=True, resume=resume))
    return folder


def scored(folder: Path, *, with_test: bool) -> dict[str, Any]:
    """Scores of a run by split; those that were taken before are read, so that the test set is looked at once."""
    path = folder / SCORES_NAME
    scores: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    run = None
    for split in ("development", "test") if with_test else ("development",):
        if split in scores:
            continue
        run = load_run(folder) if run is None else run
        found = run.evaluate(split=split)
        names = ("accuracy", "macro_f1", "cross_entropy", "calibration_error", "lines")
        scores[split] = {name: found[name] for name in names}
        write_whole(path, json.dumps(scores, indent=1) + "\n")
    return scores


def row_of(cell: Cell, folder: Path, *, with_test: bool) -> dict[str, Any]:
    """A run's row of the results."""
    result = read_result(folder) or {}
    return {
        **dataclasses.asdict(cell),
        **{name: result[name] for name in ("parameters", "updates", "train_seconds")},
        **scored(folder, with_test=with_test),
    }


def baseline(splits: ClassSplits, *, lowercase: bool) -> dict[str, float] | None:
    """Accuracies of TF-IDF with logistic regression; None without scikit-learn."""
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        return None

    def texts(part: Sequence[Any]) -> list[str]:
        return [clean_text(one.text, lowercase=lowercase, splits_punctuation=True) for one in part]

    vectorizer = TfidfVectorizer(token_pattern=r"\S+", ngram_range=(1, 2), sublinear_tf=True)
    # Its regularisation is chosen on the development set, as choices of the models are.
    train, labels = vectorizer.fit_transform(texts(splits.train)), [one.label for one in splits.train]
    best: dict[str, float] = {}
    for strength in (1.0, 3.0, 10.0, 30.0, 100.0):
        model = LogisticRegression(C=strength, max_iter=2000).fit(train, labels)
        found = {"C": strength}
        for name in ("development", "test"):
            part = getattr(splits, name)
            found[name] = float(model.score(vectorizer.transform(texts(part)), [one.label for one in part]))
        if not best or found["development"] > best["development"]:
            best = found
    return best


def summary(rows: Sequence[dict[str, Any]], split: str) -> list[tuple[str, str, int, float, float]]:
    """Set, pooling, runs, mean accuracy and half of its range, for each set and pooling."""
    groups: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if split in row:
            groups.setdefault((row["subset"], row["pooling"]), []).append(row[split]["accuracy"])
    return [
        (subset, pooling, len(values), statistics.mean(values), (max(values) - min(values)) / 2)
        for (subset, pooling), values in groups.items()
    ]


def show(rows: Sequence[dict[str, Any]], baselines: dict[str, Any]) -> None:
    """Print a table of means over seeds and folds."""
    table = Table("set", "pooling", "runs", "development %", "test %")
    test = {found[:2]: found for found in summary(rows, "test")}

    def shown(found: Any) -> str:
        return "" if found is None else f"{100 * found[3]:.2f} ± {100 * found[4]:.2f}"

    for found in summary(rows, "development"):
        table.add_row(found[0], found[1], str(found[2]), shown(found), shown(test.get(found[:2])))
    for name, found in baselines.items():
        if found is not None:
            cells = [f"{100 * found[part]:.2f}" if part in found else "" for part in ("development", "test")]
            table.add_row(name, "TF-IDF, logistic regression", "1", *cells)
    Console().print(table)


def main() -> None:
    """Train what is missing, print the table, write the JSON after each run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, required=True, help="folder of the run folders")
    parser.add_argument("--sets", nargs="+", choices=FILES, default=["trec-6", "sst-2", "mr"])
    parser.add_argument("--poolings", nargs="+", choices=POOLINGS, default=list(POOLINGS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--folds", nargs="+", type=int, default=[0], help="of mr (default 0)")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], help="path=value changes of every config"
    )
    parser.add_argument("--test", action="store_true", help="score the test sets, too")
    parser.add_argument("--json", type=Path, help="write the results here")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    baselines: dict[str, Any] = {}
    for subset in options.sets:
        splits = NamedClasses(subset=subset, fold=options.folds[0] if subset == "mr" else None).load()
        found = baseline(splits, lowercase=True)
        if found is not None and not options.test:
            del found["test"]
        baselines[subset] = found
    for cell in grid(options):
        rows.append(row_of(cell, trained(cell, options.runs, options.set), with_test=options.test))
        accuracy = rows[-1]["development"]["accuracy"]
        print(f"{cell.name}: development {accuracy:.2%}, {rows[-1]['train_seconds']:.0f} s", flush=True)
        if options.json is not None:
            document = {
                "environment": environment(),
                "overrides": options.set,
                "baselines": baselines,
                "rows": rows,
            }
            options.json.parent.mkdir(parents=True, exist_ok=True)
            write_whole(options.json, json.dumps(document, indent=1) + "\n")
    show(rows, baselines)


if __name__ == "__main__":
    main()
