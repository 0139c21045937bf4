"""Event ids: UUIDv7 (RFC 9562, section 5.7) as the one position that users see.

An id is handled as its canonical text of 36 lower-case characters, so that comparing two texts compares the ids.
Ours hold the publish time in milliseconds and a counter in the 62 bits of rand_b; rand_a is 0. Any UUIDv7 is a
position, so reading one accepts every value of rand_a and rand_b.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

MAX_MS: Final = (1 << 48) - 1
MAX_COUNTER: Final = (1 << 62) - 1
MIN_ID: Final = "00000000-0000-7000-8000-000000000000"
MAX_ID: Final = "ffffffff-ffff-7fff-bfff-ffffffffffff"

_VERSION: Final = 7 << 12
_VARIANT: Final = 0b10 << 62
_LAST_DIGITS: Final = [f"{i:03x}" for i in range(1 << 12)]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_UUID7: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def event_id(ms: int, counter: int) -> str:
    """The id of the `counter`-th event of a millisecond.

    Raises ValueError where `ms` (of the Unix epoch) does not fit 48 bits or `counter` 62.
    """
    if not 0 <= ms <= MAX_MS:
        raise ValueError(f"{ms} ms is outside a UUIDv7's 48 bits")
    if not 0 <= counter <= MAX_COUNTER:
        raise ValueError(f"{counter} is outside a UUIDv7's 62 bits of rand_b")
    time = f"{ms:012x}"
    rest = f"{_VARIANT | counter:016x}"
    return f"{time[:8]}-{time[8:]}-7000-{rest[:4]}-{rest[4:]}"


def event_ids(ms: int, first_counter: int, count: int) -> list[str]:
    """`count` successive ids of one millisecond, in order; as `event_id`, but quick for a whole chunk."""
    if count == 0:
        return []
    first, last = event_id(ms, first_counter), event_id(ms, first_counter + count - 1)
    if first[:24] != last[:24]:  # the counter carries into the group that the variant shares: not in our lifetime
        return [event_id(ms, counter) for counter in range(first_counter, first_counter + count)]
    low = int(first[24:], 16)
    made: list[str] = []
    while len(made) < count:
        at = low + len(made)
        prefix, start = f"{first[:24]}{at >> 12:09x}", at & 0xFFF
        made += [prefix + digits for digits in _LAST_DIGITS[start : start + count - len(made)]]
    return made


def halves_of(ms: int, counter: int) -> tuple[int, int]:
    """The upper and the lower 64 bits of `event_id`, whose next ids have the same upper ones."""
    return ms << 16 | _VERSION, _VARIANT | counter


def normalize(text: str) -> str:
    """The canonical text of a UUIDv7 in any case; ValueError for anything else."""
    lowered = text.lower()
    if not _UUID7.fullmatch(lowered):
        raise ValueError(f"{text!r} is not a UUIDv7")
    return lowered


def parse(text: str) -> tuple[int, int]:
    """(milliseconds, the 62 bits of rand_b) of a UUIDv7; ValueError for anything else. rand_a is left out."""
    value = int(normalize(text).replace("-", ""), 16)
    return value >> 80, value & MAX_COUNTER


def milliseconds(event: str) -> int:
    """The time part of a canonical id, in milliseconds of the Unix epoch."""
    return int(event[:8] + event[9:13], 16)


def first_id_of(ms: int) -> str:
    """The lowest id of a millisecond: the lower bound of a half-open window."""
    return event_id(ms, 0)


def ms_of(when: datetime) -> int:
    """Milliseconds of the Unix epoch, rounded down. `when` carries a time zone."""
    return (when - _EPOCH) // _MILLISECOND


def ceil_ms(when: datetime) -> int:
    """Milliseconds of the Unix epoch, rounded up: how a bound finer than a millisecond is read."""
    return -((_EPOCH - when) // _MILLISECOND)


def datetime_of(ms: int) -> datetime:
    """The UTC time of so many milliseconds of the Unix epoch."""
    return _EPOCH + ms * _MILLISECOND
