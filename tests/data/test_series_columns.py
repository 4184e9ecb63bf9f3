"""Columns of a CSV of series: names that are numbers, times without a name, and columns of text."""

import pytest

from transformer_jax.data.series_config import SeriesFiles
from transformer_jax.data.sources.series_files import parse_series
from transformer_jax.errors import DataError


def read(text, **options):
    return parse_series(text.split("\n"), "a.csv", **options)


@pytest.mark.parametrize(
    ("text", "options", "columns", "first"),
    [
        ("time,101,102\n2024-01-01,1.5,2\n2024-01-02,3,4", {}, ("101", "102"), [1.5, 2]),
        ("date;2020;2021\n20240101;7;8\n20240102;7;8", {}, ("2020", "2021"), [7, 8]),
        # An index without a name, as pandas writes it.
        (",101,102\n2024-01-01,1,2\n2024-01-02,3,4", {}, ("101", "102"), [1, 2]),
        # A bad stamp does not turn the names into data.
        ("load,101\n1,2\n3,4\noops,6", {"columns": ("101",)}, ("101",), [2]),
        # Numbers alone are data, unless their names are given or it is said.
        ("101,102\n1,2", {}, ("column 1", "column 2"), [101, 102]),
        ("101,102\n1,2", {"columns": ("102", "101")}, ("102", "101"), [2, 1]),
        ("101,102,103\n1,2,3", {"wanted": ("103", "101")}, ("103", "101"), [3, 1]),
        ("101,102\n1,2", {"has_header": True}, ("101", "102"), [1, 2]),
        ("101,102\n1,2\n3,4", {"time_column": "101"}, ("102",), [2]),
        ("2024-01-01,1\n2024-01-02,2", {}, ("column 2",), [1]),
        ("2024-01-01,NA\n2024-01-02,2\n2024-01-03,3", {}, ("column 2",), None),
        # A text above texts is a name, unless it comes again.
        ("note,101,102\na,1,2", {"skip_text": True}, ("101", "102"), [1, 2]),
        ("a,1,2\nb,3,4\na,5,6", {"skip_text": True}, ("column 2", "column 3"), [1, 2]),
        ("name,x\na,1\nb,2", {"skip_text": True}, ("x",), [1]),
        # Dates of digits in growing order are times by themselves.
        ("when,load\n20240131,1\n20240229,2", {}, ("load",), [1]),
        ("when,load\n20240131,1\n20240229,2", {"columns": ("when",)}, ("when",), [20240131]),
        ("when,load\n20240131,1\n20240129,2", {}, ("when", "load"), [20240131, 1]),
        # Of columns with such names, one whose texts differ.
        ("day,month,x\n31,2024-01,5\n31,2024-03,6", {}, ("day", "x"), [31, 5]),
        ("hour,date,x\n1,2024-01-01,5\n1,2024-01-02,6", {}, ("hour", "x"), [1, 5]),
    ],
)
def test_names_times_and_numbers_are_told_apart(text, options, columns, first):
    found = read(text, **options)
    assert found.columns == columns
    if first is not None:
        assert found.series[0].values[0].tolist() == first


def test_what_is_ambiguous_is_noted():
    (note,) = read("101,102\n1.5,2\n3,4.25").notes
    assert note == "a.csv: the first row, 101, 102, is read as data; `data.dataset.has_header` settles it"
    (note, _) = read("name,7\na,1\nb,2", skip_text=True).notes
    assert note == "a.csv: the first row, name, 7, is read as names; `data.dataset.has_header` settles it"
    assert read("101,102\n1,2\n3,4").notes == ()
    assert read("101,102\n1.5,2\n3,4.25", has_header=False).notes == ()
    (note,) = read("name,x,place\na,1,b\nb,2,", skip_text=True).notes
    assert note == "a.csv: columns of text are left out: name, place"
    with pytest.raises(DataError, match="no column of numbers"):
        read("name\na\nb", skip_text=True)
    with pytest.raises(DataError, match="line 2: column 'name' holds 'a'"):
        read("name,x\na,1\nb,2")


def test_a_config_says_whether_there_are_names(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("1,2\n3,4\n5,6\n")
    options = {"path": str(path), "num_development": 0, "num_test": 0}
    assert SeriesFiles(**options, has_header=True).load().columns == ("1", "2")
    assert len(SeriesFiles(**options).load().series[0].values) == 3
