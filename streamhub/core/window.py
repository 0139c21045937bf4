"""Windows of time: strict RFC 3339 instants, half-open windows as bounds of ids, and how a long one is cut.

A window runs over the time that events were published, which is the time of their ids: whole milliseconds. A bound
finer than that is rounded up, at both ends, so that windows that meet still meet.
"""

import math
import re
from calendar import monthrange
from collections.abc import Iterator
from datetime import date
from fractions import Fraction
from typing import Final, NamedTuple

from streamhub.core import ids

EXAMPLE: Final = "2026-11-22T10:00:00Z"

_RFC3339: Final = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})[Tt](\d{2}):(\d{2}):(\d{2})(?:\.(\d{1,1000}))?(?:([Zz])|([+-])(\d{2}):(\d{2}))", re.ASCII
)
_PLUS_LOST: Final = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)? \d{2}:\d{2}", re.ASCII)
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()


class Instant(NamedTuple):
    """A moment as asked, exact, in milliseconds of the Unix epoch."""

    exact_ms: Fraction

    @property
    def ms(self) -> int:
        """Rounded up to a whole millisecond, never before the epoch (no id is)."""
        return max(0, math.ceil(self.exact_ms))


def parse_instant(text: str) -> Instant:
    """RFC 3339's date-time (section 5.6), without the leap second. ValueError says what is wrong with `text`."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        if _PLUS_LOST.fullmatch(text):
            raise ValueError(
                f"{text!r} has a space where its offset begins: a + in a query string stands for a space, write it %2B"
            )
        raise ValueError(f"{text!r} is no RFC 3339 time with Z or an offset, such as {EXAMPLE}")
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    fraction, zulu, sign, offset_hour, offset_minute = match.groups()[6:]
    if hour > 23 or minute > 59:
        raise ValueError(f"{text!r} has no such time of day: hours go from 00 to 23 and minutes to 59")
    if second == 60:
        raise ValueError(f"{text!r} names a leap second, which has no place in Unix time: seconds go to 59")
    if second > 59:
        raise ValueError(f"{text!r} has no such time of day: seconds go to 59")
    if year == 0:
        raise ValueError(f"{text!r} has no such year: years go from 0001 to 9999")
    if not 1 <= month <= 12:
        raise ValueError(f"{text!r} has the month {month:02}: months go from 01 to 12")
    last = monthrange(year, month)[1]
    if not 1 <= day <= last:
        raise ValueError(f"{text!r} has the day {day:02}: {year:04}-{month:02} has 01 to {last}")
    days = date(year, month, day).toordinal() - _EPOCH_DAY
    offset = 0
    if zulu is None:
        if int(offset_hour) > 23 or int(offset_minute) > 59:
            raise ValueError(f"{text!r} has no such offset: it goes to 23:59")
        offset = (int(offset_hour) * 60 + int(offset_minute)) * (60 if sign == "+" else -60)
    seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - offset
    return Instant(
        Fraction(seconds * 1_000) + (Fraction(int(fraction) * 1_000, 10 ** len(fraction)) if fraction else 0)
    )


def timestamp(ms: int) -> str:
    """`2026-11-22T10:00:00.000Z` of milliseconds of the Unix epoch."""
    return f"{ids.datetime_of(ms):%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"


def before(ms: int) -> str:
    """The position just before every event of a millisecond: the last id that the one before it can have."""
    return ids.MIN_ID if ms <= 0 else ids.event_id(ms - 1, ids.MAX_COUNTER)


def cut(from_ms: int, to_ms: int, longest_ms: int) -> Iterator[tuple[int, int]]:
    """Half-open windows of at most `longest_ms` that together are [from_ms, to_ms), in order."""
    while from_ms < to_ms:
        end = min(from_ms + longest_ms, to_ms)
        yield from_ms, end
        from_ms = end
