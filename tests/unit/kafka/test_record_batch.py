"""A batch of records is, byte for byte, the one that aiokafka's own builder makes of the same records."""

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from streamhub.core import frames, ids
from streamhub.core.events import StoredEvent
from streamhub.core.record_batch import Encoded, varint
from streamhub.core.records import record_of, shared_of
from streamhub.core.rendering import tail_of
from streamhub.kafka.record_batch import RecordBatch

MS = 1_795_000_000_000
PRODUCER = (4_711, 3, 99)


def event(number: int, size: int = 10, organization: str = "org_1", type_: str = "skus.update") -> StoredEvent:
    id_ = ids.event_id(MS, number)
    tail = tail_of(False, "2026-11-22T10:00:00", 123_456, 7_412, b'"%b"' % (b"x" * size), b"{}", b"null", b"")
    frame = frames.build(
        frames.start_of("update"), id_.encode(), frames.end_of(frames.head_of(type_, "update", "skus"), b'"1"',
        frames.organization_of(organization, "my-org"), tail))  # fmt: skip
    return StoredEvent(1, id_, False, type_, "skus", "1", frame)


def add(batch: RecordBatch, event: StoredEvent, after: str, ms: int) -> bool:
    value = frames.data_of(event.frame)
    return batch.add(Encoded(shared_of(event, value)), (value,), len(value), event.id.encode(), after.encode(), ms)


def built(batch: RecordBatch) -> bytes:
    batch._set_producer_state(*PRODUCER)
    return batch._build()


def of_aiokafka(events: list[StoredEvent], times: list[int]) -> bytes:
    builder = BatchBuilder(1 << 30, 0)
    after = ids.MIN_ID
    for each, ms in zip(events, times, strict=True):
        record = record_of(each, after)
        assert builder.append(timestamp=ms, key=record.key, value=record.value, headers=record.headers)
        after = each.id
    builder._set_producer_state(*PRODUCER)
    return bytes(builder._build())


def ours(events: list[StoredEvent], times: list[int]) -> RecordBatch:
    batch = RecordBatch(1 << 30)
    after = ids.MIN_ID
    for each, ms in zip(events, times, strict=True):
        assert add(batch, each, after, ms)
        after = each.id
    return batch


@given(
    st.lists(
        st.tuples(
            st.integers(0, 200) | st.sampled_from([9_000, 70_000]),
            st.sampled_from(["org_1", "ö"]),
            st.sampled_from(["skus.update", "a.b"]),
            st.integers(-3, 3) | st.just(100_000),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_a_batch_is_what_aiokafka_would_make(given_records: list[tuple[int, str, str, int]]) -> None:
    events = [event(n, size, organization, type_) for n, (size, organization, type_, _) in enumerate(given_records)]
    times = [MS + since for *_, since in given_records]
    batch = ours(events, times)
    assert (batch.record_count(), batch.size()) == (len(events), len(of_aiokafka(events, times)))
    assert built(batch) == of_aiokafka(events, times)


def test_many_records_are_numbered_as_aiokafka_does() -> None:
    events = [event(n, 0) for n in range(9_000)]
    times = [MS] * len(events)
    assert built(ours(events, times)) == of_aiokafka(events, times)


def test_a_batch_that_is_sent_again_has_the_same_bytes() -> None:
    batch = ours([event(0)], [MS])
    assert built(batch) == batch._build()


def test_a_full_batch_takes_no_more() -> None:
    batch = RecordBatch(1_000)
    assert add(batch, event(0, 300), ids.MIN_ID, MS)
    assert not add(batch, event(1, 300), ids.MIN_ID, MS)
    assert batch.record_count() == 1


def test_a_single_record_may_be_larger_than_a_batch() -> None:
    assert add(RecordBatch(100), event(0, 5_000), ids.MIN_ID, MS)


@pytest.mark.parametrize(
    ("number", "encoded"), [(0, b"\0"), (-1, b"\1"), (1, b"\2"), (64, b"\x80\1"), (-65, b"\x81\1"), (300, b"\xd8\4")]
)
def test_a_number_is_written_with_seven_bits_a_byte(number: int, encoded: bytes) -> None:
    assert varint(number) == encoded
