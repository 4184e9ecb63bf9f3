"""Counts of what was done to lines, in words."""

import collections

from transformer_jax.inference.line_report import LineReport


def test_nothing_happened_nothing_is_said() -> None:
    report = LineReport()
    assert report.lines() == []
    assert report.take_remarks() == []


def test_one_line_too_long_is_said_by_its_remark_alone() -> None:
    assert LineReport(num_too_long=1, num_left_out=1).lines() == []


def test_kinds_of_unknown_pieces_are_counted_and_the_rest_summed() -> None:
    unknown = collections.Counter({letter: 20 - place for place, letter in enumerate("abcdefghij")})
    (line,) = LineReport(unknown=unknown, unit="character").lines()
    assert line.startswith("155 characters never seen in training became <unk>: 'a' 20, 'b' 19")
    assert line.endswith("'h' 13, and 2 more kinds")
    (line,) = LineReport(unknown=collections.Counter("x"), unit="word").lines()
    assert line == "1 word never seen in training became <unk>: 'x' 1"


def test_line_breaks_are_counted() -> None:
    assert LineReport(num_line_breaks=1).lines()[0].startswith("1 output holds a line break")
    assert LineReport(num_line_breaks=2000).lines()[0].startswith("2,000 outputs hold a line break")


def test_remarks_are_taken_once_in_their_order() -> None:
    report = LineReport()
    report.remark("first")
    report.remark("second")
    assert report.take_remarks() == ["first", "second"]
    assert report.take_remarks() == []
