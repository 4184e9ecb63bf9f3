"""CSV files of series: columns, times, gaps, and everything that can be wrong with them."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from transformer_jax.data.series_config import NamedSeries, SeriesFiles
from transformer_jax.data.sources.series_files import parse_series, read_series_file
from transformer_jax.data.time_column import read_time_axis
from transformer_jax.errors import ConfigError, DataError


def read(text, **options):
    return parse_series(text.strip().split("\n"), "a.csv", **options)


def refused(text, **options):
    """The message of the `DataError`; always one line."""
    with pytest.raises(DataError) as caught:
        read(text, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_columns_of_numbers_beside_a_column_of_times():
    found = read("day;load;wind\n2024-01-01;1;-2e1\n2024-01-02;3;4")
    assert found.columns == ("load", "wind")
    (series,) = found.series
    assert series.values.tolist() == [[1, -20], [3, 4]]
    assert series.axis.text(3) == "2024-01-04"
    assert found.notes == ()
    chosen = read("when,load,name\n1,2,x\n2,3,y", time_column="when", columns=("load",))
    assert chosen.columns == ("load",)
    assert chosen.series[0].axis.text(2) == "3"


def test_a_file_without_names_or_times():
    found = read("1\t2\n3\t4\n5\t6")
    assert found.columns == ("column 1", "column 2")
    assert found.series[0].axis is None
    assert found.series[0].values.shape == (3, 2)


def test_rows_are_sorted_and_missing_rows_are_gaps():
    found = read("time,x\n2024-01-01 03:00,4\n2024-01-01 00:00,1\n2024-01-01 01:00,2\n")
    np.testing.assert_array_equal(found.series[0].values[:, 0], [1, 2, np.nan, 4])
    assert found.series[0].axis.text(4) == "2024-01-01 04:00:00"
    assert len(found.notes) == 2
    assert "sorted" in found.notes[0]
    assert "1 row(s) are missing" in found.notes[1]


@pytest.mark.parametrize("field", ["", "NA", "nan", "-", " null "])
def test_fields_that_stand_for_missing_values(field):
    values = read(f"x,y\n1,{field}\n2,3").series[0].values
    np.testing.assert_array_equal(values, [[1, np.nan], [2, 3]])


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("time,x\n2024-01-01,1\n2024-01-02,2\n2024-01-01,3", ["line 4", "'2024-01-01' stands in line 2"]),
        ("time,x\n2024-01-01,1\nyesterday,2", ["line 3", "wanted a time", "yesterday"]),
        (
            "time,x\n2024-01-01,1\n2024-01-02,oops",
            ["line 3", "column 'x'", "'oops'", "`data.dataset.columns`"],
        ),
        ("x\n1\ninf", ["line 3", "'inf'"]),
        ('x,y\n1,2\n"3,5",4', ["line 3", "'3,5'"]),
        ("x,y\n1,2\n3", ["line 3", "wanted 2 fields, got 1"]),
        ("x,x\n1,2", ["two columns", "'x'"]),
        ("time,x", ["no row of numbers"]),
        ("time,x\n2024-01-01,1", ["at least two rows"]),
        ("time\n2024-01-01\n2024-01-02", ["no column of numbers"]),
        (
            "time,x\n2024-01-01 00:00,1\n2024-01-01 01:00,1\n2024-01-01 02:00,1\n2024-01-01 03:20,1",
            ["line 5", "step"],
        ),
        (
            "time,x\n0001-01-01,1\n2024-01-01,2\n2024-01-02,3\n2024-01-03,3",
            ["4 rows reach over", "wrong time"],
        ),
        ("time,x\n2024-01-01T00:00+01:00,1\n2024-01-01T01:00,2", ["offset from UTC"]),
    ],
)
def test_bad_files_are_refused_in_one_line(text, parts):
    message = refused(text)
    assert all(part in message for part in ["a.csv", *parts]), message


def test_columns_that_are_not_there():
    assert "did you mean 'load'" in refused("load,x\n1,2", columns=("laod",))
    assert "no column 'when'" in refused("load,x\n1,2", time_column="when")
    assert "holds 'x'" in refused("load,name\n1,x\n2,y")
    # What a run reads is chosen where it is there; otherwise all columns are read.
    assert read("load,name\n1,x\n2,y", wanted=("load",)).columns == ("load",)
    assert read("load,wind\n1,2", wanted=("other",)).columns == ("load", "wind")


def test_months_years_and_numbers_are_counted():
    axis, rows = read_time_axis(["2023-11-30", "2024-01-30", "2023-12-30", "2024-03-30"], where="a.csv")
    assert (axis.unit, axis.step, rows.tolist()) == ("months", 1.0, [0, 2, 1, 4])
    assert axis.text(1) == "2023-12-30"
    quarters, _ = read_time_axis(["2023-01-01", "2023-04-01", "2023-07-01"], where="a.csv")
    assert (quarters.step, quarters.text(4)) == (3.0, "2024-01-01")
    years, _ = read_time_axis(["1999", "2000", "2001"], where="a.csv")
    assert years.text(3) == "2002"
    summer, _ = read_time_axis(
        ["2024-03-31T00:00+01:00", "2024-03-31T01:00+01:00", "2024-03-31T03:00+02:00"], where="a.csv"
    )
    assert summer.text(3) == "2024-03-31 03:00:00+01:00"


def test_a_file_is_cut_into_its_parts(tmp_path: Path):
    path = tmp_path / "mine.csv.gz"
    path.write_bytes(gzip.compress(b"x\n" + b"".join(b"%d\n" % one for one in range(40))))
    (series,) = SeriesFiles(path=str(path)).load().series
    assert [series.rows(part) for part in ("train", "development", "test")] == [(0, 28), (28, 32), (32, 40)]
    (whole,) = SeriesFiles(path=str(path), num_development=0, num_test=0).load().series
    assert whole.ends == (40, 40, 40)
    with pytest.raises(DataError, match="none is left to train on"):
        SeriesFiles(path=str(path), num_test=40).load()
    with pytest.raises(DataError, match="no such file"):
        read_series_file(tmp_path / "none.csv")
    with pytest.raises(ConfigError, match="twice"):
        SeriesFiles(path="a.csv", columns=("x", "x"))


def test_named_sets():
    assert len(NamedSeries(name="ett").columns) == 7
    with pytest.raises(ConfigError, match="must be one of"):
        NamedSeries(name="cmudict")
