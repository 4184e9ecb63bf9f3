"""Tables of systems that read words and sentences."""

import json
import statistics
from typing import Any

from benchmarks.tables.result_files import EXPERIMENTS, markdown_table, processor_of, read_results


def _mean_and_deviation(values: list[float], digits: int) -> str:
    return f"{statistics.mean(values):,.{digits}f} ± {statistics.stdev(values):,.{digits}f}"


def word_vectors_table() -> str:
    """Word vectors beside gensim's: scores and speed, mean and standard deviation over the seeds."""
    rows = []
    for architecture in ("skip_gram", "cbow"):
        document = read_results(f"word_vectors_{architecture}-cpu.json")
        for side, name in (("ours", "ours"), ("gensim", document["gensim"][0]["version"])):
            found = document[side]
            scores = ("wordsim353", "simlex999", "analogies")
            rows.append(
                [
                    f"{architecture.replace('_', '-')}, {name}",
                    *(_mean_and_deviation([one[score] for one in found], 3) for score in scores),
                    _mean_and_deviation([one["train_seconds"] for one in found], 0),
                    _mean_and_deviation([one["words_per_second"] / 1000 for one in found], 0),
                    f"{document['environment']['cores']} cores, {processor_of(document)}",
                ]
            )
    titles = ["model", "WordSim-353", "SimLex-999", "analogies", "training s", "thousand words/s", "hardware"]
    return markdown_table(titles, rows)


def classification_table() -> str:
    """Accuracies of poolings, mean and standard deviation over the seeds, beside those of TF-IDF."""
    document = read_results("sentence_classification-cpu.json")
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in document["rows"]:
        groups.setdefault((row["subset"], row["pooling"]), []).append(row)
    rows = []
    for subset, baseline in document["baselines"].items():
        for (of, pooling), found in groups.items():
            if of == subset:
                scores = [
                    _mean_and_deviation([100 * one[split]["accuracy"] for one in found], 2)
                    for split in ("development", "test")
                ]
                seconds = statistics.mean(one["train_seconds"] for one in found)
                rows.append(
                    [
                        subset,
                        pooling.replace("_", " "),
                        f"{found[0]['parameters']:,}",
                        *scores,
                        f"{seconds:,.0f}",
                    ]
                )
        scores = [f"{100 * baseline[split]:.2f}" for split in ("development", "test")]
        rows.append([subset, "TF-IDF, logistic regression", "", *scores, ""])
    return markdown_table(["set", "pooling", "parameters", "development %", "test %", "training s"], rows)


def tagging_table() -> str:
    """Test scores of taggers, mean and standard deviation over the seeds."""
    rows = []
    for name, scores in (("ewt", ("accuracy", "unknown_accuracy")), ("snips", ("f1", "class_accuracy"))):
        found = [
            json.loads(path.read_text()) for path in sorted(EXPERIMENTS.glob(f"tagging-{name}-seed*.json"))
        ]
        training = [one["training"] for one in found]
        names = {"accuracy": "accuracy", "unknown_accuracy": "of unknown words", "f1": "slot F1"}
        shown = [
            f"{names.get(score, 'intents')} {_mean_and_deviation([100 * one[score] for one in found], 2)}"
            for score in scores
        ]
        rows.append(
            [
                f"tagging_{name}",
                f"{training[0]['parameters']:,}",
                f"{training[0]['updates']:,}",
                f"{len(found)}",
                f"{statistics.mean(one['train_seconds'] for one in training):,.0f}",
                ", ".join(shown),
                f"{training[0]['machine']['cores']} core, {training[0]['machine']['processor']}",
            ]
        )
    titles = ["experiment", "parameters", "updates", "seeds", "training s", "test scores %", "hardware"]
    return markdown_table(titles, rows)


TABLES = {
    "classification": classification_table,
    "tagging": tagging_table,
    "word-vectors": word_vectors_table,
}
"""Each table of the documents by its name."""
