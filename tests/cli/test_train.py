"""train: what it leaves behind, and every kind of bad input refused in one line."""

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from transformer_jax.data.pairs_config import SavedTokenizer
from transformer_jax.data.tokenizers import Tokenizer, train_subword_tokenizer
from transformer_jax.errors import ConfigError
from transformer_jax.notes import listening, print_note
from transformer_jax.runs.experiment import OwnFiles, resume_config, saved_config, start_config
from transformer_jax.runs.experiment_runner import RunOptions, run_experiment
from transformer_jax.runs.loading import load_run
from transformer_jax.training.schedules import build_schedule

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def test_run_folder_holds_all_that_a_reload_needs(tiny_run: Path, tiny_experiment: Path) -> None:
    names = {path.name for path in tiny_run.iterdir()}
    assert {
        "config.json",
        "source_tokenizer.json",
        "target_tokenizer.json",
        "checkpoints",
        "metrics.jsonl",
    } <= names
    assert saved_config(tiny_run) == start_config(str(tiny_experiment))
    result = json.loads((tiny_run / "result.json").read_text())
    assert result["updates"] == 4
    assert result["development"]["per"] >= 0
    assert result["parameters"] == 1400


def test_a_saved_config_trains_the_same(
    tiny_run: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    ran = run_command("train", tiny_run / "config.json", "--run-dir", tmp_path / "again")
    assert ran.status == 0
    losses = [
        [json.loads(line).get("loss") for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
        for run_dir in (tiny_run, tmp_path / "again")
    ]
    assert losses[0] == losses[1]


@pytest.mark.smoke
def test_a_run_goes_on_to_more_updates(
    tiny_experiment: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run_command("train", tiny_experiment, "--run-dir", whole, "--set", "train.updates=6").status == 0
    assert run_command("train", tiny_experiment, "--run-dir", parts).status == 0
    ran = run_command("train", "--run-dir", parts, "--resume", "--set", "train.updates=6")
    assert ran.status == 0
    assert saved_config(parts).train.updates == 6
    rows = [
        [
            {name: value for name, value in json.loads(line).items() if "second" not in name}
            for line in (folder / "metrics.jsonl").read_text().splitlines()
        ]
        for folder in (whole, parts)
    ]
    assert rows[0] == rows[1]


def test_a_folder_that_holds_a_run_is_refused(
    tiny_run: Path, tiny_experiment: Path, tmp_path: Path, fails: Callable[..., str]
) -> None:
    before = {path: path.read_bytes() for path in tiny_run.rglob("*") if path.is_file()}
    message = fails("train", tiny_experiment, "--run-dir", tiny_run)
    assert "already holds a run" in message
    assert "--resume" in message
    assert "--overwrite" in message
    assert "exclude each other" in fails(
        "train", tiny_experiment, "--run-dir", tiny_run, "--resume", "--overwrite"
    )
    assert {path: path.read_bytes() for path in tiny_run.rglob("*") if path.is_file()} == before
    assert "holds no run to resume" in fails("train", "--run-dir", tmp_path / "none", "--resume")
    (tmp_path / "file").write_text("")
    assert "is a file: name a folder" in fails("train", tiny_experiment, "--run-dir", tmp_path / "file")


def test_overwrite_removes_the_run_and_nothing_else(
    tiny_experiment: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    assert run_command("train", tiny_experiment, "--run-dir", tmp_path).status == 0
    (tmp_path / "notes.txt").write_text("mine")
    ran = run_command(
        "train", tiny_experiment, "--run-dir", tmp_path, "--overwrite", "--set", "train.updates=2"
    )
    assert ran.status == 0
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["00000002"]


def test_resume_executes_no_file(tiny_run: Path, tmp_path: Path) -> None:
    trap = tmp_path / "config.json"
    trap.write_text("raise SystemExit('executed')")
    with pytest.raises(ConfigError, match="not JSON"):
        resume_config(tmp_path)
    with pytest.raises(ConfigError, match="not JSON"):
        start_config(str(trap))
    with pytest.raises(ConfigError, match=r"`overrides=model\.model_dim=16`: cannot change"):
        resume_config(tiny_run, ["model.model_dim=16"])


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("model.modle_dim=16", ["unknown key 'model.modle_dim'", "did you mean 'model_dim'"]),
        ("trian.updates=16", ["unknown key 'trian'", "did you mean 'train'"]),
        ("train.updates=2.5", ["train.updates", "whole number", "2.5"]),
        ("train.updates=many", ["train.updates", "whole number", '"many"']),
        ("train.updates=0", ["updates", "at least 1", "0"]),
        ("train.updates", ["wanted path=value"]),
        ("model.kind=transfomer", ["unknown kind", "transfomer"]),
        ("model.num_heads=3", ["8", "3"]),
        ("model.num_kv_heads=3", ["2", "3"]),
        ("train.accumulation=3", ["8", "3"]),
        ("model.padding_id=1", ["padding_id", "0", "1"]),
        ("model.dropout_rate=1.5", ["dropout_rate", "1.5"]),
        ("train.metric=bleu", ["'bleu'", "per, wer"]),
        (
            "objective.r_drop_weight=5",
            ["objective.r_drop_weight is 5", "no dropout", "model.dropout_rate above 0"],
        ),
        ("data.dataset.train_source=/no/such/file", ["/no/such/file: no such file"]),
    ],
)
def test_bad_values(
    override: str, parts: list[str], tiny_experiment: Path, tmp_path: Path, fails: Any
) -> None:
    message = fails("train", tiny_experiment, "--run-dir", tmp_path / "run", "--set", override)
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.py")), ids=lambda path: path.stem)
def test_every_experiment_can_be_shortened(path: Path) -> None:
    # Word vectors count words, series have none, and copies of unknown words need a vocabulary of words.
    takes_none = path.stem.startswith(("word_vectors", "series")) or getattr(
        start_config(str(path)).task.data, "copies_unknown", False
    )
    files = OwnFiles() if takes_none else OwnFiles(tokenizer="joint.json")
    config = start_config(str(path), ["train.updates=40"], files)
    assert config.train.updates == 40
    data = config.task.data
    tokenizers = [getattr(data, one.name) for one in dataclasses.fields(data) if "tokenizer" in one.name]
    saved = [one for one in tokenizers if not isinstance(one, str | None)]
    assert takes_none or saved, "a task has a tokenizer, or one a side"
    assert takes_none or saved == [SavedTokenizer(path="joint.json")] * len(saved)
    rates = build_schedule(config.train.schedule, updates=40)
    assert float(rates(39)) < float(rates(20)) < float(rates(3)), "the rate falls within the run"
    warms_up = config.train.schedule.warmup_updates >= 40  # past the run's end, of which there is a note
    assert len(config.train.notes()) == warms_up


def test_one_tokenizer_for_both_sides(
    tiny_experiment: Path, tiny_run: Path, tmp_path: Path, run_command: Callable[..., Any], fails: Any
) -> None:
    joint = tmp_path / "joint.json"
    train_subword_tokenizer(["cat tack C A T K S"] * 9, algorithm="bpe", vocab_size=30).save(joint)
    schedule = 'train.schedule={"kind": "cosine", "peak_learning_rate": 0.01, "warmup_updates": 100}'
    words = ("train", tiny_experiment, "--run-dir", tmp_path / "run", "--tokenizer", joint, "--set", schedule)
    ran = run_command(
        *words, "train.updates=1", "data.max_target_len=20", "search.max_len=20", "data.max_source_len=20"
    )
    assert ran.status == 0, ran.err
    assert "note: schedule.warmup_updates (100) is not below updates (1)" in ran.err
    saved = saved_config(tmp_path / "run").task.data
    assert saved.source_tokenizer == saved.target_tokenizer == SavedTokenizer(path=str(joint))
    assert saved.share_vocabulary
    run = load_run(tmp_path / "run")
    assert (
        run.artifacts["source_tokenizer"].fingerprint()
        == run.artifacts["target_tokenizer"].fingerprint()
        == Tokenizer.load(joint).fingerprint()
    )
    more = ("--tokenizer", joint)
    assert "cannot change when a run is resumed" in fails(
        "train", "--run-dir", tmp_path / "run", "--resume", *more
    )
    assert "leave --tokenizer out" in fails(*words[:4], "--warm-start", tiny_run, *more)
    assert "cannot read the tokenizer" in fails(
        *words[:3], tmp_path / "b", "--tokenizer", tmp_path / "none.json"
    )


def test_unknown_key_in_a_saved_config(tiny_run: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    document = json.loads((tiny_run / "config.json").read_text())
    document["train"]["udpates"] = document["train"].pop("updates")
    path = tmp_path / "config.json"
    path.write_text(json.dumps(document))
    message = fails("train", path, "--run-dir", tmp_path / "run")
    assert "config.json: unknown key 'train.udpates'; did you mean 'updates'?" in message
    assert not (tmp_path / "run").exists()


def test_bad_data_files(tiny_experiment: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    path = tmp_path / "bad.txt"

    def message(content: bytes) -> str:
        path.write_bytes(content)
        return fails(
            "train",
            tiny_experiment,
            "--run-dir",
            tmp_path / "run",
            "--overwrite",
            "--set",
            f"data.dataset.train_source={path}",
        )

    assert "empty" in message(b"")
    assert "binary file" in message(b"\x00\x01\x02")
    assert "not UTF-8 at line 1" in message(b"caf\xe9\n" * 48)
    counts = message(b"cat\n" * 47)
    assert "47 lines" in counts
    assert "48" in counts


@pytest.mark.parametrize("choice", ["skip", "truncate", "fail"])
def test_lines_over_the_capacity(
    choice: str, tiny_data: Path, tiny_experiment: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    lines = (tiny_data / "train.src").read_text().splitlines()
    lines[4] = "a" * 9
    (tmp_path / "long.src").write_text("".join(f"{line}\n" for line in lines))
    ran = run_command(
        "train", tiny_experiment, "--run-dir", tmp_path / "run", "--too-long", choice,
        "--set", f"data.dataset.train_source={tmp_path / 'long.src'}", "train.updates=2",
    )  # fmt: skip
    assert ran.status == (2 if choice == "fail" else 0), ran.err
    assert "line 5: 9 source" in ran.err
    assert "max_source_len is 8" in ran.err
    assert "Traceback" not in ran.err
    if choice == "fail":
        assert ran.err.startswith("error: ")
        assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("def config(:\n", "line 1: not Python"),
        ("x = 1\ny = unknown\n", "line 2: NameError: name 'unknown'"),
        ("def config():\n  return 1 / 0\n", "line 2: ZeroDivisionError"),
        ("x = 1\n", "has no function config()"),
        ("def config():\n  return {}\n", "returned dict, wanted ExperimentConfig"),
        ("import no_such_module\n", "line 1: ModuleNotFoundError"),
        ("\0", "binary file"),
        ("raise SystemExit(3)", "stopped the program"),
    ],
)
def test_experiment_files_that_do_not_work(
    text: str, part: str, tmp_path: Path, fails: Callable[..., str]
) -> None:
    path = tmp_path / "experiment.py"
    path.write_text(text)
    message = fails("train", path, "--run-dir", tmp_path / "run")
    assert "experiment.py: " in message
    assert part in message


def test_an_experiment_imports_the_modules_of_its_folder(tiny_experiment: Path, tmp_path: Path) -> None:
    before, modules = list(sys.path), set(sys.modules)
    for name, updates in (("one", 3), ("two", 5)):
        (tmp_path / name / "package_beside").mkdir(parents=True)
        (tmp_path / name / "package_beside" / "sizes.py").write_text(f"UPDATES = {updates}\n")
        (tmp_path / name / "sizes_beside.py").write_text("from package_beside.sizes import UPDATES\n")
        text = tiny_experiment.read_text().replace("updates=4", "updates=sizes_beside.UPDATES")
        text = text.replace("def config():", "def config():\n    import sizes_beside\n")
        (tmp_path / name / "experiment.py").write_text(text)
        config = start_config(str(tmp_path / name / "experiment.py"))
        assert config.train.updates == updates  # not those of a module of the same name in another folder
    assert sys.path == before
    assert not {name for name in set(sys.modules) - modules if "beside" in name}


def test_a_config_that_is_not_there(tmp_path: Path, fails: Callable[..., str]) -> None:
    (tmp_path / "words.py").write_text("")
    assert "no such file; did you mean 'words.py'?" in fails(
        "train", tmp_path / "word.py", "--run-dir", tmp_path / "run"
    )
    assert "No such file" in fails("train", tmp_path / "word.json", "--run-dir", tmp_path / "run")
    assert "is a folder; wanted an experiment" in fails("train", tmp_path, "--run-dir", tmp_path / "run")
    (tmp_path / "latin.json").write_bytes(b'{"name": "caf\xe9"}')
    assert "not UTF-8" in fails("train", tmp_path / "latin.json", "--run-dir", tmp_path / "run")


def test_overwrite_keeps_the_old_run_where_the_new_one_is_not_possible(
    tiny_run: Path, tiny_experiment: Path, fails: Callable[..., str]
) -> None:
    before = {path: path.read_bytes() for path in tiny_run.rglob("*") if path.is_file()}
    for wrong, part in [
        ("data.dataset.train_source=typo", "typo"),
        ("search.forbidden_ids=[99]", "99"),
        ('model.positions={"kind": "learned", "max_len": 5}', "5 learned positions"),
    ]:
        message = fails("train", tiny_experiment, "--run-dir", tiny_run, "--overwrite", "--set", wrong)
        assert part in message
    assert {path: path.read_bytes() for path in tiny_run.rglob("*") if path.is_file()} == before


def test_a_folder_with_half_a_run_can_be_overwritten(
    tiny_experiment: Path, tmp_path: Path, run_command: Callable[..., Any], fails: Callable[..., str]
) -> None:
    (tmp_path / "checkpoints" / "00000002").mkdir(parents=True)  # as an interrupted --overwrite leaves it
    assert "already holds a run" in fails("train", tiny_experiment, "--run-dir", tmp_path)
    assert "--overwrite" in fails("train", "--run-dir", tmp_path, "--resume")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]
    assert run_command("train", tiny_experiment, "--run-dir", tmp_path, "--overwrite").status == 0


def test_changed_data_and_fewer_updates_are_refused_on_resume(
    tiny_data: Path, tiny_experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    run_command: Callable[..., Any], fails: Callable[..., str],
) -> None:  # fmt: skip
    source = tmp_path / "own.src"
    source.write_text((tiny_data / "train.src").read_text())
    monkeypatch.chdir(tmp_path)
    run_dir = tmp_path / "run"
    named = ("--set", "data.dataset.train_source=own.src")
    assert run_command("train", tiny_experiment, "--run-dir", run_dir, *named).status == 0
    config = (run_dir / "config.json").read_text()
    message = fails("train", "--run-dir", run_dir, "--resume", "--set", "train.updates=2")
    assert "has 4 updates already" in message
    assert (run_dir / "config.json").read_text() == config

    monkeypatch.chdir(tiny_data)  # the path was kept whole
    more = ("train", "--run-dir", run_dir, "--resume", "--set", "train.updates=6")
    source.write_text(source.read_text().replace("cat\n", "cut\n", 1))
    message = fails(*more)
    assert "its training data's fingerprint was" in message
    assert "--allow-other-data continues all the same" in message
    assert run_command(*more[:-1], "train.updates=5", "--allow-other-data").status == 0
    source.write_text(source.read_text().replace("cut\n", "cat\n", 1))
    assert "fingerprint" in fails(*more), "the run is of the other data now"
    assert run_command(*more, "--allow-other-data").status == 0


def test_a_longer_schedule_is_told(
    tiny_experiment: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    schedule = 'train.schedule={"kind": "cosine", "peak_learning_rate": 0.01, "warmup_updates": 1}'
    assert run_command("train", tiny_experiment, "--run-dir", tmp_path, "--set", schedule).status == 0
    ran = run_command("train", "--run-dir", tmp_path, "--resume", "--set", "train.updates=6")
    assert ran.status == 0
    assert "schedule is stretched from 4 to 6 updates" in ran.err


def test_two_files_of_ones_own(
    tiny_experiment: Path, tmp_path: Path, run_command: Callable[..., Any], fails: Callable[..., str]
) -> None:
    (tmp_path / "a.src").write_text("cab\nback\n" * 30)
    (tmp_path / "a.tgt").write_text("C A B\nB A C K\n" * 30)
    own = ("--source", tmp_path / "a.src", "--target", tmp_path / "a.tgt")
    development = ("--development-source", tmp_path / "a.src", "--development-target", tmp_path / "a.tgt")
    words = (
        "train",
        tiny_experiment,
        "--run-dir",
        tmp_path / "run",
        *own,
        *development,
        "--set",
        "train.updates=2",
    )
    ran = run_command(*words)
    assert ran.status == 0, ran.err
    dataset = json.loads((tmp_path / "run" / "config.json").read_text())["task"]["data"]["dataset"]
    assert dataset["train_source"] == str(tmp_path / "a.src")
    assert dataset["development_target"] == str(tmp_path / "a.tgt")
    assert "go together" in fails("train", tiny_experiment, "--run-dir", tmp_path / "new", *own[:2])
    assert "go together" in fails("train", tiny_experiment, "--run-dir", tmp_path / "new", *development)
    assert "cannot change when a run is resumed" in fails(
        "train", "--run-dir", tmp_path / "run", "--resume", *own
    )
    assert not (tmp_path / "new").exists()


def test_packed_rows_train_and_go_on(
    tiny_experiment: Path, tmp_path: Path, run_command: Callable[..., Any]
) -> None:
    packing = 'data.packing={"source_len": 16, "target_len": 18}'
    settings = ("--set", packing, "model.dropout_rate=0.1", "objective.r_drop_weight=2")
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    ran = run_command("train", tiny_experiment, "--run-dir", whole, *settings, "--strict-compile")
    assert "pairs in each" in ran.err
    run_command("train", tiny_experiment, "--run-dir", halved, *settings, "train.updates=2")
    run_command("train", "--resume", "--run-dir", halved, "--set", "train.updates=4")
    last = [json.loads((run / "result.json").read_text()) for run in (whole, halved)]
    assert last[0]["development"] == last[1]["development"]
    assert last[0]["best_score"] == last[1]["best_score"]
    rows = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert all(row["r_drop"] > 0 for row in rows if row["kind"] == "train")


def test_packed_rows_need_a_model_that_keeps_pairs_apart(
    tiny_experiment: Path, tmp_path: Path, fails: Callable[..., str]
) -> None:
    packing = 'data.packing={"source_len": 16, "target_len": 18}'
    said = fails(
        "train", tiny_experiment, "--run-dir", tmp_path / "run", "--set", packing,
        "--set", "model.decoder_self_attention=linear",
    )  # fmt: skip
    assert "only a Transformer with softmax attention keeps apart" in said
    assert "a packed row holds 4 source" in fails(
        "train",
        tiny_experiment,
        "--run-dir",
        tmp_path / "run",
        "--set",
        'data.packing={"source_len": 4, "target_len": 18}',
    )


def test_a_run_goes_on_in_another_setting_only_when_told(
    tiny_experiment: Path, tmp_path: Path, run_command: Callable[..., Any], fails: Callable[..., str]
) -> None:
    run_dir = tmp_path / "run"
    assert run_command("train", tiny_experiment, "--run-dir", run_dir).status == 0
    path = run_dir / "run.lock"
    (session,) = json.loads(path.read_text())["sessions"]
    assert session["from_update"] == 0
    assert {"jax", "device", "processor", "xla_flags", "training data", "batches"} <= session.keys()
    more = ("train", "--run-dir", run_dir, "--resume", "--set", "train.updates=6")
    path.write_text(path.read_text().replace(f'"jax": "{session["jax"]}"', '"jax": "0.0.1"'))
    said = fails(*more)
    assert f"jax was 0.0.1, now it is {session['jax']}" in said
    assert "--allow-inexact" in said
    assert run_command(*more, "--allow-inexact").status == 0
    sessions = json.loads(path.read_text())["sessions"]
    assert [one["from_update"] for one in sessions] == [0, 4]
    assert run_command(*more[:-1], "train.updates=8").status == 0
    assert len(json.loads(path.read_text())["sessions"]) == 2, "nothing changed this time"
    path.write_text("{}")
    assert "run.lock: damaged" in fails(*more[:-1], "train.updates=10")
    path.unlink()
    assert run_command(*more[:-1], "train.updates=10").status == 0
    assert path.exists()


class Removing:
    """A tracker that removes a run's files at its first row."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir, self.is_first = run_dir, True

    def write(self, row: Any) -> None:
        if self.is_first:
            for name in ("config.json", "source_tokenizer.json", "target_tokenizer.json", "run.lock"):
                (self.run_dir / name).unlink()
        self.is_first = False

    def close(self) -> None:
        pass


def test_files_that_somebody_removes_while_it_trains_are_restored(
    tiny_experiment: Path, tiny_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    with listening(print_note):
        run_experiment(
            start_config(str(tiny_experiment)), run_dir, RunOptions(quiet=True), tracker=Removing(run_dir)
        )
    notes = capfd.readouterr().err.splitlines()
    for name in ("config.json", "source_tokenizer.json", "target_tokenizer.json", "run.lock"):
        assert f"note: {run_dir / name} was removed by somebody else: it is restored" in notes
        assert (run_dir / name).read_bytes() == (tiny_run / name).read_bytes()
    load_run(run_dir)
