"""Event ids: UUIDv7, in order, with the text as the one form."""

import uuid
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamhub.core import ids

MS = st.integers(0, ids.MAX_MS)
COUNTERS = st.integers(0, ids.MAX_COUNTER)
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(ms=MS, counter=COUNTERS)
def test_an_id_is_read_as_it_was_made(ms: int, counter: int) -> None:
    assert ids.parse(ids.event_id(ms, counter)) == (ms, counter)
    assert ids.milliseconds(ids.event_id(ms, counter)) == ms


@given(ms=MS, counter=COUNTERS)
def test_an_id_is_a_uuid_of_version_7_and_the_rfc_variant_with_rand_a_zero(ms: int, counter: int) -> None:
    made = uuid.UUID(ids.event_id(ms, counter))
    assert (made.version, made.variant, str(made)) == (7, uuid.RFC_4122, ids.event_id(ms, counter))
    assert (made.int >> 64) & 0xFFF == 0


@given(st.tuples(MS, COUNTERS), st.tuples(MS, COUNTERS))
def test_the_order_of_texts_is_the_order_of_times_and_counters(one: tuple[int, int], other: tuple[int, int]) -> None:
    assert (ids.event_id(*one) < ids.event_id(*other)) == (one < other)


@given(ms=MS, counter=st.integers(0, 2**62 - 2000), count=st.integers(0, 1000))
def test_many_ids_are_the_same_as_one_by_one(ms: int, counter: int, count: int) -> None:
    assert ids.event_ids(ms, counter, count) == [ids.event_id(ms, counter + i) for i in range(count)]


@pytest.mark.parametrize("carry", [2**12, 2**32, 2**48, 2**60, 2**61])
def test_many_ids_carry_over_every_group(carry: int) -> None:
    made = ids.event_ids(1, carry - 2, 4)
    assert made == [ids.event_id(1, carry - 2 + i) for i in range(4)]


@pytest.mark.parametrize(("ms", "counter"), [(-1, 0), (1 << 48, 0), (0, -1), (0, 1 << 62)])
def test_what_does_not_fit_is_refused(ms: int, counter: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        ids.event_id(ms, counter)


def test_more_ids_than_a_millisecond_has_are_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        ids.event_ids(1, ids.MAX_COUNTER, 2)


@given(st.uuids(), MS)
def test_any_uuid_of_version_7_is_a_position_in_any_case(random: uuid.UUID, ms: int) -> None:
    value = (ms << 80) | (random.int & ((1 << 80) - 1))
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(0b11 << 62) | 0b10 << 62
    text = str(uuid.UUID(int=value))
    assert ids.normalize(text.upper()) == text
    assert ids.milliseconds(text) == ms
    assert ids.MIN_ID <= text <= ids.MAX_ID


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "01a202b2-c57c-4000-8000-00000000002a", "01a202b2-c57c-7000-c000-00000000002a",
        "01a202b2-c57c-7000-7000-00000000002a", "{01a202b2-c57c-7000-8000-00000000002a}",
        "01a202b2c57c70008000000000000002a", "01a202b2-c57c-7000-8000-00000000002a\n",
        " 01a202b2-c57c-7000-8000-00000000002a",
        "01a202b2-c57c-7000-8000-00000000002g", "urn:uuid:01a202b2-c57c-7000-8000-00000000002a",
        "٠1a202b2-c57c-7000-8000-00000000002a", "01a202b2-c57c-7000-8000-00000000002\u212a",
    ],
)  # fmt: skip
def test_anything_else_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="UUIDv7"):
        ids.normalize(text)


@given(text=st.text())
def test_no_text_makes_it_fail_otherwise(text: str) -> None:
    with pytest.raises(ValueError, match="UUIDv7"):
        ids.normalize(text)


@given(TIMES)
def test_a_time_is_cut_down_and_rounded_up_to_the_milliseconds_around_it(when: datetime) -> None:
    low, high = ids.ms_of(when), ids.ceil_ms(when)
    assert ids.datetime_of(low) <= when <= ids.datetime_of(high)
    assert high - low == (1 if when.microsecond % 1000 else 0)


@given(TIMES, st.integers(-14, 14))
def test_a_time_is_the_same_in_every_zone(when: datetime, hours: int) -> None:
    when = when.replace(year=2000, day=1)
    elsewhere = when.astimezone(timezone(timedelta(hours=hours)))
    assert ids.ms_of(elsewhere) == ids.ms_of(when)


@given(ms=MS, counter=COUNTERS)
def test_the_first_id_of_a_millisecond_is_its_lower_bound(ms: int, counter: int) -> None:
    assert ids.first_id_of(ms) <= ids.event_id(ms, counter)
    assert ms == 0 or ids.event_id(ms - 1, counter) < ids.first_id_of(ms)
