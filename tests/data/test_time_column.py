"""Columns of times: which calendar they follow, and how a forecast goes on with it."""

import datetime

import pytest

from transformer_jax.data.time_column import read_time_axis
from transformer_jax.errors import DataError


def read(texts):
    return read_time_axis(texts, where="a.csv")


def days(first, count, step=1):
    start = datetime.date.fromisoformat(first)
    return [(start + datetime.timedelta(days=step * one)).isoformat() for one in range(count)]


CASES = [
    ("daily", days("2024-02-26", 5), "seconds", ["2024-03-02"]),
    ("daily over weekends", days("2024-02-26", 9), "seconds", ["2024-03-06"]),
    ("hourly", ["2024-02-28 22:00", "2024-02-28 23:00"], "seconds", ["2024-02-29 00:00:00"]),
    ("ten a second", [f"2024-01-01 00:00:00.{one}" for one in range(1, 9)], "seconds", None),
    ("weekly", days("2024-01-07", 4, 7), "seconds", ["2024-02-04", "2024-02-11"]),
    ("every fourth week", days("2023-02-01", 4, 28), "seconds", ["2023-05-24"]),
    ("weekdays", ["2024-01-03", "2024-01-04", "2024-01-05", "2024-01-08"], "weekdays", ["2024-01-09"]),
    ("weekdays to Friday", ["2024-01-05", *days("2024-01-08", 5)], "weekdays", ["2024-01-15", "2024-01-16"]),
    ("month start", ["2023-12-01", "2024-01-01", "2024-02-01"], "months", ["2024-03-01"]),
    (
        "month end, leap year",
        ["2024-01-31", "2024-02-29", "2024-03-31", "2024-04-30"],
        "months",
        ["2024-05-31", "2024-06-30"],
    ),
    ("month end, last of February", ["2022-12-31", "2023-01-31", "2023-02-28"], "months", ["2023-03-31"]),
    ("the 30th", ["2023-12-30", "2024-01-30", "2024-02-29"], "months", ["2024-03-30", "2024-04-30"]),
    ("quarter end", ["2023-09-30", "2023-12-31", "2024-03-31"], "months", ["2024-06-30", "2024-09-30"]),
    ("quarters", ["2023-Q3", "2023-Q4", "2024-Q1"], "months", ["2024-Q2"]),
    ("years", ["2022-01-01", "2023-01-01", "2024-01-01"], "months", ["2025-01-01"]),
    ("year ends", ["2022-12-31", "2023-12-31", "2024-12-31"], "months", ["2025-12-31"]),
    ("years alone", ["2022", "2023", "2024"], "numbers", ["2025"]),
    ("months by name", ["2023-11", "2023-12"], "months", ["2024-01"]),
    ("at noon", ["2024-01-31 12:00", "2024-02-29 12:00"], "months", ["2024-03-31 12:00:00"]),
    ("compact days", ["20240227", "20240228", "20240229"], "seconds", ["20240301"]),
    ("compact month ends", ["20240131", "20240229", "20240331"], "months", ["20240430"]),
    ("compact months", ["202311", "202312", "202401"], "months", ["202402"]),
    ("compact hours", ["20240131T2200", "20240131T2300"], "seconds", ["20240201T0000"]),
    ("compact minutes", ["202401312358", "202401312359"], "seconds", ["202402010000"]),
    ("compact seconds", ["20240131235900", "20240131235930"], "seconds", ["20240201000000"]),
    ("counted", ["1", "2", "3"], "numbers", ["4", "5"]),
    ("counted by eight digits", ["20240130", "20240131", "20240132"], "numbers", ["20240133"]),
    ("decimals", ["0.1", "0.2", "0.30000000000000004"], "numbers", ["0.4"]),
    ("epoch seconds", ["1704067200", "1704070800"], "numbers", ["1704074400"]),
    ("epoch milliseconds", ["1704067200000", "1704070800000"], "numbers", ["1704074400000"]),
    ("epoch nanoseconds", ["1704067200000000000", "1704070800000000000"], "numbers", ["1704074400000000000"]),
    ("epoch, months", ["1704067200", "1706745600", "1709251200"], "months", ["1711929600"]),
    ("epoch of fractions", [f"{1704067200 + one / 10:.1f}" for one in range(50)], "numbers", ["1704067205"]),
]


@pytest.mark.parametrize(
    ("texts", "unit", "ahead"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_a_regular_calendar_goes_on_behind_the_last_stamp(texts, unit, ahead):
    axis, rows = read(texts)
    assert axis.unit == unit
    assert rows.tolist() == list(range(len(texts)))
    if ahead is not None:
        assert [axis.text(len(texts) + one) for one in range(len(ahead))] == ahead
    if ":" not in texts[0] and "." not in texts[0]:
        assert [axis.text(row) for row in rows.tolist()] == texts


def test_months_and_weekdays_that_are_left_out_are_gaps():
    axis, rows = read(["2024-05-31", "2024-01-31", "2024-02-29", "2024-03-31"])
    assert (axis.unit, rows.tolist(), axis.text(3)) == ("months", [4, 0, 1, 2], "2024-04-30")
    # Thursday the 4th is missing, the weekend is not.
    axis, rows = read(["2024-01-02", "2024-01-03", "2024-01-05", "2024-01-08", "2024-01-09"])
    assert (axis.unit, rows.tolist()) == ("weekdays", [0, 1, 3, 4, 5])


@pytest.mark.parametrize("texts", [["9999-12-30", "9999-12-31"], ["9999-11-01", "9999-12-01"]])
def test_times_end_with_the_year_9999(texts):
    with pytest.raises(DataError, match="row 3 of the times lies behind the year 9999"):
        read(texts)[0].text(2)


def test_summer_time_without_an_offset():
    # The hour from 2 to 3 does not exist: a gap, as of any other missing row.
    assert read(["2024-03-31 00:00", "2024-03-31 01:00", "2024-03-31 03:00"])[1].tolist() == [0, 1, 3]
    with pytest.raises(
        DataError, match=r"line 3: time '2024-10-27 02:00' stands in line 2, too; .* summer time"
    ) as found:
        read(["2024-10-27 01:00", "2024-10-27 02:00", "2024-10-27 02:00", "2024-10-27 03:00"])
    assert "offset from UTC" in str(found.value)
    assert read(["2024-03-30", "2024-03-31", "2024-04-01"])[1].tolist() == [0, 1, 2]


def test_summer_time_with_offsets():
    autumn = [
        "2024-10-27T01:00+02:00",
        "2024-10-27T02:00+02:00",
        "2024-10-27T02:00+01:00",
        "2024-10-27T03:00+01:00",
    ]
    axis, rows = read(autumn)
    assert rows.tolist() == [0, 1, 2, 3]
    assert axis.text(4) == "2024-10-27 05:00:00+02:00"
    # Local midnights are 23 hours apart, and a day.
    axis, rows = read(["2024-03-30T00:00+01:00", "2024-03-31T00:00+01:00", "2024-04-01T00:00+02:00"])
    assert (rows.tolist(), axis.step, axis.text(3)) == ([0, 1, 2], 86_400.0, "2024-04-02 00:00:00")
    axis, _ = read(["2024-02-29T00:00+01:00", "2024-03-31T00:00+01:00", "2024-04-30T00:00+02:00"])
    assert (axis.unit, axis.text(3)) == ("months", "2024-05-31 00:00:00")


@pytest.mark.parametrize(
    ("texts", "parts"),
    [
        (["20240228", "20240230", "20240301"], ["line 2", "'20240230'", "no date"]),
        (["2024-01-31", "2024-02-27", "2024-03-31", "2024-04-30"], ["line 3", "2024-03-31", "27 days"]),
        (["202401", "202402", "202402"], ["line 3", "stands in line 2"]),
        (["1704067200", "1706745600", "1709251201"], ["line 2", "step"]),
        (["2024-13", "2024-01"], ["line 1", "wanted a time"]),
        (["1", "2", "3.5"], ["line 3", "most frequent step is 1;"]),
    ],
)
def test_stamps_off_any_calendar_are_refused(texts, parts):
    with pytest.raises(DataError) as found:
        read(texts)
    assert all(part in str(found.value) for part in parts), found.value
