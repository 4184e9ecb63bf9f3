"""The device run on a CPU: tiny sizes through the same code, results into the record and the documents' tables."""

import contextlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks import document_tables
from benchmarks.device import attention, commit, contract, run, tables, train, training
from benchmarks.device.attention_cases import MODES, Case, groups
from benchmarks.tables import result_files
from transformer_jax.functional import AttentionMask, device_record
from transformer_jax.functional.attention import REFUSALS, choice, mosaic_gpu
from transformer_jax.runs.experiment import start_config
from transformer_jax.testing.attention_blocks import BLOCK_CASES
from transformer_jax.testing.attention_suite import case_names


def dry_run(output, *words, module="benchmarks.device"):
    """The program's words and the documents by stage."""
    command = [sys.executable, "-m", module, "--dry-run", "--output", str(output), *words]
    done = subprocess.run(command, cwd=run.ROOT, capture_output=True, text=True)
    log = "".join(path.read_text() for path in output.glob("*.log"))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{log}"
    paths = output.glob("device-*.json")
    return done.stdout, {path.stem.removeprefix("device-"): json.loads(path.read_text()) for path in paths}


def test_the_contract_runs_here_and_refuses_what_needs_a_gpu(tmp_path):
    told, documents = dry_run(tmp_path, "--stages", "contract")
    document = documents["contract"]
    outcomes = {one["item"]: one["outcome"] for one in document["records"]}
    assert outcomes == {
        "mosaic_gpu|plain|bfloat16": "refused", "cudnn|plain|bfloat16": "refused", "blockwise|plain|float32": "passed",
        "xla|plain|float32": "passed", "blockwise|blocks:lengths|64": "passed", "lstm cudnn|values|float32": "refused",
    }  # fmt: skip
    assert document["lost"] == []
    assert document["environment"]["platform"] == "cpu"
    assert "attention: blockwise" in told
    with pytest.raises(ValueError, match="dry run"):
        commit.take(tmp_path, results=tmp_path, record=tmp_path / "record.json")
    assert not (tmp_path / "record.json").exists()


@pytest.mark.full
def test_every_stage_runs_here(tmp_path):
    told, documents = dry_run(tmp_path)
    assert list(run.SECONDS) == [stage for stage in run.SECONDS if stage in documents]
    for stage, document in documents.items():
        assert document["lost"] == [], stage
        assert document["records"], stage
        assert tables.plain(*tables.TABLES[stage](document)) in told
    records = documents["attention"]["records"]
    timed = {one["implementation"] for one in records if one["median_ms"] is not None}
    assert timed >= {"xla", "blockwise"}
    assert all(one["difference"] < 2e-2 for one in records if one["median_ms"] is not None)
    notes = {one["implementation"]: one["note"] for one in records if one["note"] and "blocks" not in one}
    assert "NVIDIA GPU" in notes["mosaic_gpu"]
    assert "NVIDIA GPU" in notes["cudnn"]
    kernels = {one["mode"]: one["kernels"] for one in records if "blocks" in one}
    assert kernels == {MODES[0]: 1, MODES[1]: 3}, "other block sizes are lowered for CUDA"
    race = documents["race"]
    assert "cudnn" in race["notes"]["lstm:cudnn"]
    assert {one["extra"]["mode"] for one in race["records"]} == {
        "forward", "training_step", "first_token", "next_token",
    }  # fmt: skip
    if importlib.util.find_spec("torch") is None:
        return
    losses = [one["largest_loss_difference"] for one in documents["training"]["records"] if one.get("losses")]
    assert max(losses) < 1e-2


@pytest.mark.full
def test_the_second_command_trains_here(tmp_path):
    told, _ = dry_run(tmp_path, module="benchmarks.device.train")
    results = json.loads((tmp_path / "training-results.json").read_text())
    assert results["tiny"]["training"]["averaged"] == list(range(15, 25))
    assert "train.updates=24" in results["tiny"]["command"]
    assert (tmp_path / "training-tiny.tar.xz").stat().st_size > 1000
    assert "tiny: PER" in told
    (written,) = commit.take_scores(tmp_path, scores=tmp_path)
    assert json.loads(written.read_text())["per"] == results["tiny"]["per"]


def test_the_limits_end_within_eight_minutes():
    assert sum(run.SECONDS.values()) <= run.ALL_SECONDS < 480
    assert sum(run.limits_of(list(run.SECONDS), run.ALL_SECONDS).values()) <= run.ALL_SECONDS
    assert run.limits_of(["contract"], 300.0) == {"contract": 300.0}
    assert run.limits_of(["contract"], 20.0) == {"contract": run.SECONDS["contract"]}, (
        "the end of all comes first"
    )


def test_every_case_that_is_served_is_asked_once():
    for name in contract.ATTENTION:
        items = contract.items_of(name)
        assert len(items) == len(set(items))
        asked = {item.split("|")[1] for item in items}
        served = {case for case in case_names() if case not in REFUSALS[name]}
        assert asked == served | {f"blocks:{case}" for case in BLOCK_CASES}
        assert items[0] == f"{name}|plain|{'bfloat16' if name in contract.OF_16_BITS else 'float32'}"


def outcome(item, outcome, **more):
    return {"item": item, "outcome": outcome, "message": "", **more}


def test_one_check_that_did_not_pass_is_enough():
    passed = [outcome("cudnn|plain|bfloat16", "passed"), outcome("cudnn|window|bfloat16", "refused")]
    verdict = contract.verdicts(passed)["attention"]["cudnn"]
    assert verdict == {"counts": {"passed": 1, "refused": 1}, "refused": ["window"], "passed": True}
    for ending in ("failed", "hung", "crashed", "not run"):
        found = contract.verdicts(
            [*passed, outcome("cudnn|causal|bfloat16", ending), outcome("warm", "hung")]
        )
        assert not found["attention"]["cudnn"]["passed"]
    assert not contract.verdicts([outcome("xla|plain|float32", "refused")])["attention"]["xla"]["passed"]


def test_an_implementation_that_loses_the_process_is_left_out_of_its_group():
    item = json.dumps({"group": "tiny", "without": []})
    again = attention.without_the_lost(item, "mosaic_gpu")
    assert json.loads(again) == {"group": "tiny", "without": ["mosaic_gpu"]}
    assert attention.without_the_lost(again, "mosaic_gpu") is None
    assert attention.without_the_lost(item, None) is None


@pytest.mark.parametrize("mask", ["full", "causal", "window", "padded"])
def test_pairs_are_those_of_the_mask(mask):
    case = Case(length=12, head_dim=8, mask=mask, tokens=36, width=16)
    found = attention.mask_of(case).materialize(12, 12)
    rows = found.shape[0]
    if mask == "padded":
        assert case.lengths() == [6, 9, 12]
    assert case.pairs == found.sum() * (case.batch if rows == 1 else 1)
    assert all(
        case.tokens // case.length == case.batch for group in groups(dry=False).values() for case in group
    )


def test_agreement_is_of_the_outputs_which_are_not_kept():
    def one(who, milliseconds, outputs):
        return {"case": "beam", "implementation": who, "median_ms": milliseconds, "outputs": outputs}

    document = {"records": [one("transformer_jax", 2.0, [[1], [2]]), one("transformers", 3.0, [[1], [3]])]}
    training.finish(document)
    assert [record.get("agreement") for record in document["records"]] == [1.0, 0.5]
    assert document["records"][1]["time_over_ours"] == 1.5
    assert "outputs" not in document["records"][0]


ENVIRONMENT = {"device": "Made-up H300", "platform": "gpu", "versions": {"jax": "1.0", "torch": "2.0+cu"}}


def stage(name, records, lost=(), **header):
    return {
        "benchmark": f"device-{name}", "dry_run": False, "seconds": 1.0, "environment": ENVIRONMENT, **header,
        "records": records, "lost": list(lost),
    }  # fmt: skip


def attention_record(implementation, milliseconds, mode=MODES[1], difference=1e-3, **more):
    return {
        "case": "4 x 4096", "implementation": implementation, "mode": mode, "length": 4096, "head_dim": 64,
        "mask": "causal", "grouped": False, "dtype": "bfloat16", "median_ms": milliseconds, "difference": difference,
        "note": "", **more,
    }  # fmt: skip


@pytest.fixture
def results(tmp_path):
    """A folder with the results of two stages, as a GPU might have given them."""
    blocks = [
        attention_record("mosaic_gpu", milliseconds, mode, blocks=sizes)
        for mode, milliseconds, sizes in [
            (MODES[0], 2.0, [128, 128, 64]), (MODES[0], 1.0, [64, 128, 64]), (MODES[1], 5.0, [128, 128, 64]),
            (MODES[1], 4.0, [128, 64, 128]),
        ]
    ]  # fmt: skip
    documents = {
        "contract": stage(
            "contract",
            [outcome(f"{name}|plain|bfloat16", "passed") for name in ("cudnn", "mosaic_gpu")],
            [outcome("cudnn|blocks:causal|64", "hung")],
        ),
        "attention": stage(
            "attention",
            [
                attention_record("mosaic_gpu", 1.5), attention_record("cudnn", 1.0, difference=0.5),
                attention_record("xla", None), attention_record("torch flash", 0.9),
                attention_record("blockwise", 0.5, MODES[0]), *blocks,
            ],
        ),
    }  # fmt: skip
    for name, document in documents.items():
        (tmp_path / f"device-{name}.json").write_text(json.dumps(document))
    return tmp_path


def test_results_become_the_record_and_the_tables(results, monkeypatch):
    record = results / "record.json"
    (results / "committed").mkdir()
    entry, written = commit.take(results, results=results / "committed", record=record)
    assert entry["passed"] == {"attention": {"mosaic_gpu": []}}, "one hung check keeps cudnn out"
    (row,) = entry["times"]["attention"]
    assert row["milliseconds"] == {"mosaic_gpu": 1.5}, "no peer, none that was wrong, none without a time"
    assert entry["block_sizes"] == {"64": [64, 64, 128]}
    assert [path.name for path in written] == [
        "device-contract-made-up-h300.json", "device-attention-made-up-h300.json", "record.json",
    ]  # fmt: skip
    (parsed,) = device_record.parse(json.loads(record.read_text()))
    assert parsed.device == "Made-up H300"
    (results / "device-contract.json").unlink()
    again, _ = commit.take(results, results=results / "committed", record=record)
    assert again == entry, "what the folder lacks stays as it was"
    monkeypatch.setattr(result_files, "RESULTS", results / "committed")
    text = document_tables.filled_in(
        "<!-- table device-contract -->\n<!-- end -->\n<!-- table device-attention -->\n<!-- end -->\n"
        "<!-- table device-race -->\n<!-- end -->\n"
    )
    assert "### On a GPU: Made-up H300, JAX 1.0, PyTorch 2.0" in text
    assert "| attention: cudnn | 1 | 0 | 1 | blocks:causal 64 hung |" in text
    assert "| 4 x 4096, both | 1.500 (1e-03) | 1.000 (5e-01) | 0.900 (1e-03) |" in text
    assert "| 4 x 4096, forward | 64 / 128 / 64 | 1.000 |" in text
    assert text.endswith("<!-- table device-race -->\n<!-- end -->\n"), "no words where nothing was measured"


def test_a_folder_without_results_is_refused(tmp_path, capsys):
    assert commit.main([str(tmp_path)]) == 2
    assert "holds no device-STAGE.json" in capsys.readouterr().err


def test_the_command_of_the_readme_is_short():
    text = (run.ROOT / "benchmarks" / "device" / "README.md").read_text("utf-8")
    blocks = text.split("```bash\n")[1:]
    commands = [block.split("```")[0] for block in blocks]
    assert any("python3 -m benchmarks.device\n" in command for command in commands)
    assert all(len(command) < 2000 for command in commands)


@pytest.mark.parametrize("run_of", [*train.RUNS.values(), train.TINY], ids=lambda one: one.name)
def test_the_runs_of_the_second_command_are_experiments(run_of, tmp_path):
    words = train.train_words(run_of, tmp_path, train.LEAST_UPDATES)
    config = start_config(train.ROOT / words[1], words[words.index("--set") + 1 :])
    assert config.train.updates == config.train.evaluate_every == train.LEAST_UPDATES
    assert config.train.checkpoint_every * config.train.keep_last * 5 == train.LEAST_UPDATES
    cell = getattr(config.model, "cell", "none")
    assert (cell == "lstm") == (run_of.name == "g014b2b-bahdanau-lstm")


class Stopped:
    """Turns of a process that is alone."""

    rank, until = 0, None
    alone = staticmethod(contextlib.nullcontext)


@pytest.mark.parametrize("missing", [("arrays",), ("wanted",), ("difference",)])
def test_block_sizes_whose_programs_are_missing_have_a_note(missing, monkeypatch):
    class Programs(attention.Programs):
        def add(self, key, function, *shapes):
            what = key[0] if isinstance(key, tuple) and key[0] not in MODES else key
            if what in missing:
                self.notes[key] = f"no {what}"
            else:
                self.ready[key] = lambda *arrays: arrays

    monkeypatch.setattr(attention, "Programs", Programs)
    monkeypatch.setattr(mosaic_gpu, "device_refusals", list)
    found = list(attention.run_blocks(Stopped(), dry=False))
    assert {one["note"] for one in found} == {f"no {missing[0]}"}
    assert {one["head_dim"] for one in found} == {64, 128}
    json.dumps(found)


def test_timed_gradients_are_those_that_none_takes(monkeypatch):
    one = choice.IMPLEMENTATIONS["cudnn"]
    stand_in = one._replace(
        device_refusals=list, refusals=lambda call: [], attend=choice.IMPLEMENTATIONS["reference"].attend
    )
    monkeypatch.setitem(choice.IMPLEMENTATIONS, "cudnn", stand_in)
    shapes = [jax.ShapeDtypeStruct((1, 8, 2, 8), jnp.bfloat16)] * 4
    for name, is_wrapped in (("cudnn", True), ("reference", False)):
        traced = jax.make_jaxpr(attention.attend_by(name, MODES[0], AttentionMask()))(*shapes)
        assert ("name=_call" in str(traced)) == is_wrapped


def test_what_becomes_of_a_run_is_written_whatever_it_is(tmp_path, monkeypatch):
    results = {}
    options = {"updates": 1, "until": 0.0, "end": 0.0, "results": results}

    def train_with(status, run_command):
        monkeypatch.setattr(train, "run_until", lambda *arguments: status)
        monkeypatch.setattr(subprocess, "run", run_command)
        with (tmp_path / "log").open("w") as log:
            train.train_one(train.TINY, tmp_path / "run", tmp_path, log, **options)
        assert json.loads((tmp_path / train.RESULTS).read_text()) == results
        return results["tiny"]

    def hangs(words, *, timeout, **_):
        assert timeout == 5
        raise subprocess.TimeoutExpired(words, timeout)

    assert "train ended with status 1" in train_with(1, None)["error"]
    assert train_with(0, hangs) == {"error": "average did not end in time"}

    def hangs_in_export(words, **options):
        if "export" in words:
            return hangs(words, **options)
        return subprocess.CompletedProcess(words, 0, stdout='{"per": 1.0}')

    assert train_with(143, hangs_in_export)["per"] == 1.0
