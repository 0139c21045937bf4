"""Instants as RFC 3339 has them, and windows."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamhub.core import ids, window

TEN = 1_795_341_600_000  # 2026-11-22T10:00:00Z


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-11-22T10:00:00Z", TEN),
        ("2026-11-22t10:00:00z", TEN),
        ("2026-11-22T10:00:00.5Z", TEN + 500),
        ("2026-11-22T10:00:00.123Z", TEN + 123),
        ("2026-11-22T12:00:00+02:00", TEN),
        ("2026-11-22T04:30:00-05:30", TEN),
        ("2026-11-22T10:00:00-00:00", TEN),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000),
        ("1970-01-01T00:00:00Z", 0),
        ("1969-12-31T23:59:59Z", 0),
        ("9999-12-31T23:59:59Z", 253_402_300_799_000),
    ],
)
def test_an_rfc_3339_time_is_read(text: str, ms: int) -> None:
    assert window.parse_instant(text).ms == ms


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "now", "1795341600", "2026-11-22", "2026-11-22T10:00Z", "2026-11-22T10:00:00", "2026-11-22 10:00:00Z",
        "2026-11-22T10:00:00.Z", "2026-11-22T10:00:00,5Z", "2026-11-22T10:00:00+0200", "2026-11-22T10:00:00+02",
        "2026-11-22T10:00:00Z ", "2026-11-22T24:00:00Z", "2026-11-22T23:60:00Z", "2026-11-22T10:00:61Z",
        "2026-02-29T10:00:00Z", "2026-13-01T10:00:00Z", "2026-11-31T10:00:00Z", "0000-01-01T00:00:00Z",
        "2026-11-22T10:00:00+24:00", "2026-11-22T10:00:00+02:60", "٢٠٢٦-11-22T10:00:00Z", "2026-11-22T10:00:00Z\n",
        "2026-W47-7T10:00:00Z", "+2026-11-22T10:00:00Z",
    ],
)  # fmt: skip
def test_anything_else_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        window.parse_instant(text)


def test_the_part_of_a_date_that_is_wrong_is_named() -> None:
    for text, said in {
        "2026-13-01T10:00:00Z": "has the month 13: months go from 01 to 12",
        "2026-02-29T10:00:00Z": "has the day 29: 2026-02 has 01 to 28",
        "2026-11-00T10:00:00Z": "has the day 00: 2026-11 has 01 to 30",
        "0000-01-01T10:00:00Z": "years go from 0001",
    }.items():
        with pytest.raises(ValueError, match=said):
            window.parse_instant(text)


def test_a_leap_second_is_refused_as_one() -> None:
    with pytest.raises(ValueError, match="leap second"):
        window.parse_instant("2016-12-31T23:59:60Z")


def test_a_plus_that_arrived_as_a_space_is_explained() -> None:
    with pytest.raises(ValueError, match="%2B"):
        window.parse_instant("2026-11-22T12:00:00 02:00")


@pytest.mark.parametrize("fraction", ["0001", "000000001", "00000000000000000000000000001"])
def test_a_bound_finer_than_a_millisecond_is_rounded_up(fraction: str) -> None:
    assert window.parse_instant(f"2026-11-22T10:00:00.123{fraction}Z").ms == TEN + 124


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=365 * 5_000)))
def test_what_python_writes_is_read_as_the_same_time(since_1970: timedelta) -> None:
    when = datetime(1970, 1, 1, tzinfo=UTC) + since_1970
    assert window.parse_instant(when.isoformat()).ms == ids.ceil_ms(when)


def test_the_position_before_a_millisecond_is_behind_the_one_before_and_in_front_of_all_of_it() -> None:
    assert ids.event_id(TEN - 1, 10**9) < window.before(TEN) < ids.event_id(TEN, 0)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 10**5))
def test_a_window_that_was_cut_is_whole(start: int, length: int, longest: int) -> None:
    longest = max(longest, length // 50 + 1)
    pieces = list(window.cut(start, start + length, longest))
    assert all(0 < end - begin <= longest for begin, end in pieces)
    assert [begin for begin, _ in pieces] == [start, *(end for _, end in pieces)][: len(pieces)]
    assert sum(end - begin for begin, end in pieces) == length
