"""The benchmark of gradient norms: its members, its figure's panels, and a tiny run from one command."""

import json
from pathlib import Path

import pytest

from benchmarks import gradient_norms as benchmark
from transformer_jax.runs.experiment import start_config

EXPERIMENT = str(Path(__file__).resolve().parents[2] / "experiments" / "pronunciation_transformer.py")


def test_members_differ_in_their_norms_only() -> None:
    config = start_config(EXPERIMENT)
    found = dict(
        benchmark.members(config, layers=5, placements=["post", "deep"], normalizations=["layer", "batch"])
    )
    assert list(found) == ["post, layer", "post, batch", "deep, layer", "deep, batch"]
    for name, member in found.items():
        model = member.model
        assert f"{model.norm_placement}, {model.normalization}" == name
        assert (model.num_encoder_layers, model.num_decoder_layers) == (5, 5)
        assert (member.train, member.task) == (config.train, config.task)
    other = start_config(EXPERIMENT.replace("pronunciation_transformer", "word_vectors_gcide_cbow"))
    options = {"layers": None, "placements": ["deep"], "normalizations": ["layer"]}
    with pytest.raises(SystemExit, match="has no norm_placement"):
        next(benchmark.members(other, **options))


def test_a_panel_for_each_stack_and_moment() -> None:
    moments = [{"encoder": [1.0], "decoder": [2.0]}, {"encoder": [3.0], "decoder": [4.0]}]
    found = benchmark.panels({"updates": 1000, "norms": {"post": moments}})
    assert found == {
        "encoder, at initialisation": {"post": [1.0]},
        "decoder, at initialisation": {"post": [2.0]},
        "encoder, after 1,000 updates": {"post": [3.0]},
        "decoder, after 1,000 updates": {"post": [4.0]},
    }


@pytest.mark.full
def test_a_tiny_run_writes_norms_and_figure(tmp_path: Path) -> None:
    sizes = ["model.model_dim=8", "model.num_heads=2", "model.num_kv_heads=2", "model.feed_forward_dim=8"]
    overrides = [part for one in sizes for part in ("--set", one)]
    benchmark.main(
        ["--experiment", EXPERIMENT, *overrides, "--layers", "3", "--updates", "2", "--placements", "pre,deep",
         "--normalizations", "batch", "--json", str(tmp_path / "norms.json"), "--figure", str(tmp_path / "norms.svg")]
    )  # fmt: skip
    document = json.loads((tmp_path / "norms.json").read_text())
    assert document["norms"].keys() == {"pre", "deep"}
    for moments in document["norms"].values():
        assert [len(norms) for moment in moments for norms in moment.values()] == [3] * 4
        assert all(norm > 0 for moment in moments for norms in moment.values() for norm in norms)
        assert moments[0] != moments[1]
    assert (tmp_path / "norms.svg").stat().st_size > 1000
