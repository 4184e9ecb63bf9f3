"""What a card's scores are taken on is checked by the model's task before anything is written."""

from pathlib import Path

import pytest

from transformer_jax.errors import ConfigError
from transformer_jax.runs import export_model, pretrained_folder


@pytest.mark.parametrize("name", ["shakespeare-chars", "g2p-en"])
def test_options_of_another_task_are_refused_before_a_folder_is_made(name: str, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("cat\n")
    pairs = name == "g2p-en"
    reference = None if pairs else tmp_path / "in.txt"
    wanted = "wanted two files" if pairs else "language_modelling has no `reference`"
    with pytest.raises(ConfigError, match=wanted):
        export_model(
            pretrained_folder(name),
            tmp_path / "model",
            about="A test.",
            source=tmp_path / "in.txt",
            reference=reference,
        )
    assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]
