"""Windows and scaler: nothing of the development and the test part reaches training."""

import dataclasses

import numpy as np
import pytest

from transformer_jax.data.prepare_series import prepare_series
from transformer_jax.data.series import PARTS, Series, fill_gaps
from transformer_jax.data.series_config import SeriesConfig, SeriesFiles
from transformer_jax.data.series_scaler import SeriesScaler
from transformer_jax.errors import ConfigError, DataError

ROWS, TRAIN, DEVELOPMENT = 60, 36, 12


@pytest.fixture
def config(tmp_path):
    values = np.random.default_rng(0).normal(size=(ROWS, 2)) * [1.0, 50.0] + [0.0, 7.0]
    write(tmp_path, values)
    dataset = SeriesFiles(
        path=str(tmp_path / "a.csv"), num_development=DEVELOPMENT, num_test=ROWS - TRAIN - DEVELOPMENT
    )
    return SeriesConfig(dataset=dataset, context_len=8, horizon_len=4, batch_size=5)


def write(folder, values):
    rows = [",".join("" if np.isnan(one) else repr(float(one)) for one in row) for row in values]
    (folder / "a.csv").write_text("\n".join(["x,y", *rows]) + "\n")


def batches(prepared):
    return [prepared.train.batch_at(step) for step in range(2 * prepared.train.batches_per_epoch)]


def test_other_values_behind_the_training_part_change_neither_scaler_nor_batches(config, tmp_path):
    """The proof that nothing leaks: all rows from the development part on are replaced by others."""
    before = prepare_series(config)
    values = before.values[0].copy()
    values[TRAIN:] = 1e6
    write(tmp_path, values)
    after = prepare_series(config)
    assert after.scaler == before.scaler
    assert after.scaler.fingerprint() == before.scaler.fingerprint()
    for one, other in zip(batches(before), batches(after), strict=True):
        for leaf, same in zip(one, other, strict=True):
            np.testing.assert_array_equal(leaf, same)
    values[TRAIN - 1, 0] += 1.0  # and the last training row does change them
    write(tmp_path, values)
    assert prepare_series(config).scaler != before.scaler


def test_each_window_is_a_stretch_of_its_part(config):
    prepared = prepare_series(config)
    scaled = prepared.scaler.scaled(prepared.values[0])
    np.testing.assert_allclose(scaled[:TRAIN].mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(scaled[:TRAIN].std(axis=0), 1.0)
    ends = {
        "train": (8, TRAIN),
        "development": (TRAIN, TRAIN + DEVELOPMENT),
        "test": (TRAIN + DEVELOPMENT, ROWS),
    }
    for part in PARTS:
        start, stop = ends[part]
        windows = prepared.windows[part]
        assert windows.origins.tolist() == list(range(start, stop - 4 + 1))
        everything = np.arange(len(windows))
        for number, origin in enumerate(windows.origins):
            np.testing.assert_allclose(
                windows.inputs(everything)[number], scaled[origin - 8 : origin], rtol=1e-6
            )
            np.testing.assert_allclose(
                windows.targets(everything)[number], scaled[origin : origin + 4], rtol=1e-6
            )


def test_an_epoch_has_each_window_once_whatever_the_batch_size(config):
    for size in (1, 5, 64):
        prepared = prepare_series(dataclasses.replace(config, batch_size=size))
        train = prepared.train
        seen = np.concatenate([train.batch_at(step).example_ids for step in range(train.batches_per_epoch)])
        assert sorted(seen[seen >= 0]) == list(range(len(prepared.windows["train"])))
        assert {train.batch_at(step).inputs.shape for step in range(3)} == {(size, 8, 2)}
    last = train.batch_at(0)
    assert not last.weights[last.example_ids < 0].any()
    assert train.count_tokens(last) == len(prepared.windows["train"]) * 12


def test_held_values_are_inputs_and_no_targets(config, tmp_path):
    values = prepare_series(config).values[0].copy()
    values[20:23, 1] = np.nan
    write(tmp_path, values)
    with pytest.raises(
        DataError, match=r"3 of 120 values are missing, the first is 'y' at row 21.*`data.gaps=hold`"
    ):
        prepare_series(config)
    prepared = prepare_series(dataclasses.replace(config, gaps="hold"))
    np.testing.assert_array_equal(prepared.values[0][20:23, 1], values[19, 1])
    known = values[:TRAIN, 1][~np.isnan(values[:TRAIN, 1])]
    assert prepared.scaler.mean[1] == pytest.approx(known.mean())  # held values do not count
    windows = prepared.windows["train"]
    weights = windows.weights(np.arange(len(windows)))
    assert (weights == 0).sum() == 3 * 4  # each of the three stands in four windows
    assert any("3 missing value(s)" in note for note in prepared.report.notes)


def test_a_gap_at_the_beginning_cannot_be_held():
    values = np.array([[np.nan, 1.0], [2.0, 3.0]])
    with pytest.raises(DataError, match="begins with a gap in 'x'"):
        fill_gaps(Series(name="a", values=values), "hold", ("x", "y"))


def test_constant_and_empty_columns(config, tmp_path):
    values = np.ones((ROWS, 2)) * [0.1, 3.0]
    values[TRAIN:, 0] = 5.0
    write(tmp_path, values)
    prepared = prepare_series(config)
    assert prepared.scaler.scale == (1.0, 1.0)
    assert sum("constant in the training part" in note for note in prepared.report.notes) == 2
    values[:, 1] = np.nan
    with pytest.raises(DataError, match="column 'y' has no value in the training part"):
        SeriesScaler.fit([Series(name="a", values=values)], ("x", "y"))


def test_series_shorter_than_a_window(config):
    with pytest.raises(DataError, match=r"longest training part has 36 rows, a window 44"):
        prepare_series(dataclasses.replace(config, context_len=40))


def test_a_scaler_of_other_columns_is_refused(config):
    with pytest.raises(DataError, match="the scaler is of a, b"):
        prepare_series(config, scaler=SeriesScaler(("a", "b"), (0.0, 0.0), (1.0, 1.0)))


def test_scaler_in_a_file(tmp_path):
    scaler = SeriesScaler(("x", "é"), (1.5, -2.0), (1.0, 0.25))
    scaler.save(tmp_path / "scaler.json")
    assert SeriesScaler.load(tmp_path / "scaler.json") == scaler
    np.testing.assert_array_equal(scaler.unscaled(scaler.scaled(np.eye(2))), np.eye(2))
    for text in ('{"columns": ["x"]}', '{"columns": [1], "mean": [0], "scale": [1]}', "[]", "{"):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(DataError, match="not a scaler that this library saved"):
            SeriesScaler.load(tmp_path / "bad.json")
    with pytest.raises(DataError, match="above 0"):
        SeriesScaler(("x",), (0.0,), (0.0,))


@pytest.mark.parametrize(
    "change", [{"context_len": 0}, {"horizon_len": -1}, {"scaling": "log"}, {"gaps": "drop"}]
)
def test_impossible_configs(change):
    with pytest.raises(ConfigError):
        SeriesConfig(**change)
