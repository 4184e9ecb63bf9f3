"""Tables of systems that read words and sentences."""

import statistics

from benchmarks.tables.result_files import markdown_table, processor_of, read_results


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


TABLES = {"word-vectors": word_vectors_table}
"""Each table of the documents by its name."""
