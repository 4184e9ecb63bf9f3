"""Writes the run folder of a tiny run as the present version leaves it, and what becomes of it, for later versions.

    python tests/runs/make_golden_run.py tests/runs/golden/NAME

makes NAME.zip (data, and the run folder after two updates) and NAME.json (translations of that run, and the log and
the translations of the same run after two more updates). Uses the command line alone, so that a version may be asked
for its own run; what earlier versions wrote stays.
"""

import json
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

FOLDER = "FOLDER"
"""Stands in config.json for the folder that the data lie in."""

WORDS = ("cat", "tack", "at", "act", "tact", "attack", "cactus", "tic", "cut", "suit", "is", "sit")

CONFIG: dict[str, Any] = {
    "name": "golden",
    "task": "pronunciation",
    "data": {
        "dataset": {
            "kind": "parallel",
            "train_source": "train.src",
            "train_target": "train.tgt",
            "development_source": "dev.src",
            "development_target": "dev.tgt",
        },
        "batch_size": 8,
        "buckets": {"kind": "chosen", "max_shapes": 1},
        "max_source_len": 8,
        "max_target_len": 9,
    },
    "model": {
        "kind": "recurrent_seq2seq",
        "embedding_dim": 6,
        "hidden_dim": 8,
        "cell": "gru",
        "num_encoder_layers": 1,
        "num_decoder_layers": 1,
        "bidirectional": True,
        "attention": {"kind": "bahdanau", "attention_dim": 8},
        "dropout_rate": 0.1,
        "residual": False,
    },
    "train": {
        "updates": 2,
        "optimizer": {"kind": "adam"},
        "schedule": {"kind": "constant", "peak_learning_rate": 0.01},
        "label_smoothing": 0.1,
        "scheduled_sampling_rate": 0.2,
        "scheduled_sampling_updates": 2,
        "log_every": 1,
        "evaluate_every": 2,
        "checkpoint_every": 2,
        "keep_best": 1,
        "keep_last": 1,
        "metric": "per",
    },
    "search": {"kind": "beam", "max_len": 9, "num_beams": 2},
}


def run(*words: str) -> None:
    """A command in this process."""
    from transformer_jax.cli.main import main

    assert main(list(words)) == 0, words


def write_data(folder: Path) -> None:
    """Words and their letters."""
    for name, words in (("train", WORDS * 2), ("dev", WORDS[:4])):
        (folder / f"{name}.src").write_text("".join(f"{word}\n" for word in words))
        (folder / f"{name}.tgt").write_text("".join(f"{' '.join(word.upper())}\n" for word in words))


def translations(run_dir: str) -> list[list[str]]:
    """Rows of `translate --n-best 2`: line, score, output."""
    run("translate", run_dir, "--input", "dev.src", "--n-best", "2", "--output", "found.tsv")
    return [line.split("\t") for line in Path("found.tsv").read_text().splitlines()]


def log_rows(run_dir: Path) -> list[dict[str, Any]]:
    """The log's rows without times."""
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{key: row[key] for key in ("kind", "update", "loss", "per", "wer") if key in row} for row in rows]


def main() -> None:
    """Train, keep the folder, resume a copy of it."""
    target = Path(sys.argv[1]).absolute()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        os.chdir(folder)
        write_data(folder)
        (folder / "golden.json").write_text(json.dumps(CONFIG))
        run("train", "golden.json", "--run-dir", "run")
        found: dict[str, Any] = {"translations": translations("run")}
        shutil.copytree("run", "resumed")
        run("train", "--resume", "--run-dir", "resumed", "--set", "train.updates=4")
        found |= {"log": log_rows(folder / "resumed"), "resumed_translations": translations("resumed")}
        config = folder / "run" / "config.json"
        config.write_text(config.read_text().replace(str(folder), FOLDER))
        with zipfile.ZipFile(target.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(folder.rglob("*")):
                is_kept = path.parts[len(folder.parts)] not in ("resumed", "golden.json", "found.tsv")
                if path.is_file() and is_kept and "tensorboard" not in path.parts:
                    archive.write(path, path.relative_to(folder))
    target.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
