"""Configs that earlier versions saved are read as they were meant."""

import json

import pytest

from transformer_jax.errors import ConfigError
from transformer_jax.objectives import PairCrossEntropy
from transformer_jax.runs.experiment import saved_config, start_config
from transformer_jax.runs.model_folder import pretrained_folder, pretrained_names


@pytest.mark.parametrize("name", pretrained_names())
def test_options_of_the_objective_leave_those_of_training(name: str) -> None:
    document = json.loads((pretrained_folder(name) / "config.json").read_text())
    assert document["train"]["label_smoothing"] == 0.1, "a config of the first format"
    assert saved_config(pretrained_folder(name)).objective == PairCrossEntropy(label_smoothing=0.1)


def test_option_in_both_places_is_refused(tmp_path) -> None:
    document = json.loads((pretrained_folder("g2p-en") / "config.json").read_text())
    document["objective"] = {"kind": "cross_entropy", "label_smoothing": 0.2}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ConfigError, match=r"train\.label_smoothing"):
        start_config(str(path))
    del document["train"]["label_smoothing"], document["train"]["scheduled_sampling_rate"]
    del document["train"]["scheduled_sampling_updates"]
    path.write_text(json.dumps(document))
    assert start_config(str(path)).objective.label_smoothing == 0.2
