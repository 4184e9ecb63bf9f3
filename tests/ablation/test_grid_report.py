"""The table and the page of a grid, from rows that were made up."""

import pytest

from transformer_jax.ablation.grid import Grid
from transformer_jax.ablation.grid_report import write_grid_report
from transformer_jax.ablation.grid_summary import grid_document
from transformer_jax.ablation.grid_table import cells, markdown, remarks
from transformer_jax.ablation.grid_values import read_varied
from transformer_jax.ablation.member_checks import MemberCosts, update_flops
from transformer_jax.ladder.rungs import rung_config
from transformer_jax.models.build import build_model
from transformer_jax.planning import find_device, plan_step
from transformer_jax.runs.experiment import with_overrides
from transformer_jax.training.config import MeshShape


def row(score: float, seed: int) -> dict[str, object]:
    return {
        "score": score, "scores": {"per": score}, "best_score": score, "best_update": 4, "updates": 4,
        "parameters": 10, "train_seconds": 2.0 + seed, "compile_seconds": 1.0, "tokens_per_second": 1000.0,
        "peak_bytes": 2_000_000,
        "curve": [{"update": 2, "seconds": 1.0, "loss": 1.0, "score": score + 1},
                  {"update": 4, "seconds": 2.0, "loss": 0.5, "score": score}],
    }  # fmt: skip


def document(scores: dict[str, list[float]], num_seeds: int) -> dict:
    base = rung_config("quick", "transformer", seed=0)
    varied = read_varied(["model.normalization=layer,rms", "model.num_heads=2,3"])
    grid = Grid(
        base=with_overrides(base, ["model.num_heads=2", "model.num_kv_heads=2", "model.model_dim=8"]),
        varied=varied,
        num_seeds=num_seeds,
    )
    members = grid.members()
    costs = {one.folder: MemberCosts(parameters=10, update_flops=5e9) for one in members if one.config}
    rows = {(name, seed): row(score, seed) for name, own in scores.items() for seed, score in enumerate(own)}
    failures = {
        (one.folder, seed): "loss is nan | <b>"
        for one in members
        for seed in range(num_seeds)
        if one.config is not None and (one.folder, seed) not in rows
    }
    return grid_document(grid, members, costs, rows, failures)


RMS = "normalization-rms_num-heads-2"


def test_a_paired_difference_may_be_clear_though_the_intervals_overlap() -> None:
    found = document({"base": [10.0, 20.0, 30.0], RMS: [9.0, 18.9, 29.1]}, 3)
    member = found["members"][2]
    assert found["best"] == RMS
    assert member["verdict"] == "better"
    assert member["difference"]["mean"] == pytest.approx(-1.0)
    # Student's quantile of two degrees of freedom is 4.3027; the differences' deviation is 0.1.
    half = 4.302653 * 0.1 / 3**0.5
    assert member["difference"]["high"] == pytest.approx(-1.0 + half, abs=1e-5)
    assert member["quality"]["low"] < found["members"][0]["quality"]["mean"]
    assert member["train_seconds"] == 3.0
    table = cells(found)
    assert table[0][3] == "base"
    assert table[2][2] == "-1 ± 0"  # digits follow the spread over seeds
    assert table[2][-1] == "5"
    assert table[1][3] == "cannot be built"
    text = markdown(found)
    assert "| **normalization=rms, num\\_heads=2** |" in text
    assert "model\\_dim 8 must be divisible by num\\_heads 3" in text


def test_failed_runs_and_one_seed(tmp_path) -> None:
    found = document({"base": [10.0], RMS: []}, 1)
    assert found["best"] == "base"
    assert cells(found)[2][1:4] == ["–", "–", "1 of 1 failed"]
    assert any("seed 1 failed: loss is nan" in text for text in remarks(found))
    write_grid_report(tmp_path, found)
    page = (tmp_path / "ablation.html").read_text()
    assert "loss is nan | &lt;b&gt;" in page
    assert "no idea is better than the base" in page
    assert "prefers-color-scheme: dark" in page
    assert {path.name for path in tmp_path.iterdir()} == {
        "ablation.html", "results.json", "table.md", "quality.png", "speed.png", "curves.png",
    }  # fmt: skip
    half_failed = document({"base": [10.0, 11.0], RMS: [9.0]}, 2)
    assert half_failed["best"] == "base"  # a member with fewer runs is none to name
    assert cells(half_failed)[2][3] == "1 of 2 failed"


def test_operations_are_those_of_the_plan() -> None:
    config = with_overrides(
        rung_config("quick", "transformer", seed=0),
        ['data.dataset={"kind": "synthetic", "num_train": 60, "num_development": 6, "num_test": 7, "num_symbols": 6,'
         ' "max_len": 5}', "data.source_tokenizer.kind=words", "data.batch_size=8", "data.buckets.max_shapes=1",
         "data.max_source_len=6", "data.max_target_len=7", "model.model_dim=8"],
    )  # fmt: skip
    prepared = config.task.prepare()
    sizes = config.task.sizes(prepared.artifacts, is_training=True)
    (batch,) = prepared.train.abstract_batches()
    plan = plan_step(
        lambda: build_model(config.model, sizes, seed=0),
        config.task.objective,
        config.train,
        batch,
        mesh=MeshShape(),
        device=find_device("h100"),
    )
    assert update_flops(config, prepared) == plan.total_flops > 0
