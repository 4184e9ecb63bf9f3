"""Configs as Python source, and the experiments that come with the library."""

import dataclasses
from pathlib import Path

import pytest

from transformer_jax.errors import ConfigError
from transformer_jax.runs.bundled_experiments import bundled_experiments, experiment_path, summary
from transformer_jax.runs.config_source import config_source
from transformer_jax.runs.experiment import start_config

EXPERIMENTS = bundled_experiments()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_source_of_an_experiment_gives_the_same_config(name: str, tmp_path: Path) -> None:
    config = start_config(name)
    file = tmp_path / "mine.py"
    file.write_text(config_source(config, title="Mine."))
    assert start_config(str(file)) == config
    assert all(len(line) <= 120 for line in file.read_text().splitlines())


def test_every_field_has_its_meaning_above_it() -> None:
    source = config_source(start_config("translation_multi30k_transformer"), title="One.\n\nTwo.")
    assert source.startswith('"""One.\n\nTwo.\n"""\n\nfrom transformer_jax')
    lines = source.splitlines()
    place = next(number for number, line in enumerate(lines) if "label_smoothing=0.1," in line)
    assert "# Share of the target probability spread over the vocabulary" in "\n".join(
        lines[place - 2 : place]
    )
    body = lines[lines.index("def config() -> ExperimentConfig:") + 2 :]
    fields = [number for number, line in enumerate(body) if "=" in line and "#" not in line.split("=")[0]]
    commented = [number for number in fields if body[number - 1].strip().startswith("#")]
    assert len(commented) > 0.8 * len(fields)


def test_a_config_of_a_class_without_a_module_is_refused() -> None:
    @dataclasses.dataclass(frozen=True)
    class Local:
        number: int = 3

    with pytest.raises(ConfigError, match="cannot be imported"):
        config_source(Local(), title="")


def test_experiments_are_found_by_name_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    wanted = EXPERIMENTS["pronunciation_lstm"]
    for named in ("pronunciation_lstm", "pronunciation_lstm.py", "experiments/pronunciation_lstm.py"):
        assert experiment_path(named) == wanted
    own = tmp_path / "pronunciation_lstm.py"
    own.write_text("")
    assert experiment_path("pronunciation_lstm.py") == Path("pronunciation_lstm.py")
    with pytest.raises(ConfigError, match=r"no such file; did you mean 'pronunciation_lstm"):
        experiment_path("pronunciation_lst")
    with pytest.raises(ConfigError, match=r"other/pronunciation_lstm.*: no such file"):
        experiment_path("other/pronunciation_lstm.py")


def test_every_experiment_says_what_it_is() -> None:
    assert all(summary(path).endswith(".") and len(summary(path)) > 20 for path in EXPERIMENTS.values())
