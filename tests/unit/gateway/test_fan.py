"""Cohorts against asking each subscriber about each event, and what one is told of its position."""

import json
from collections.abc import Sequence
from typing import Any, Final, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamhub.core import filters, frames, ids
from streamhub.core.events import StoredEvent
from streamhub.core.filters import Filters
from streamhub.core.type_patterns import TypePatterns
from streamhub.gateway.broadcast.fan import Fan, Fans
from streamhub.gateway.broadcast.latest import Enveloped
from streamhub.gateway.broadcast.request import Interest
from streamhub.gateway.streams.channel import Run
from streamhub.gateway.streams.choice import Choice
from streamhub.metrics import Sent
from streamhub.tail import Receiver, Tail

ALL: Final = Interest(test=False, choice=Choice(), path_prefix=None, envelope="event")
ORGANIZATION: Final = 7


class Count:
    """In the place of Sent."""

    def __init__(self) -> None:
        self.events = 0

    def count(self, events: int, _size: int) -> None:
        self.events += events


class Reader:
    """A subscriber that takes all that it is offered."""

    def __init__(self, interest: Interest) -> None:
        self.interest = interest
        self.got: list[bytes] = []
        self.told: list[tuple[str, ...]] = []

    def offer(self, before: str, events: Sequence[Enveloped], run: Run) -> bool:
        self.told.append((before, events[0].id, run.last_id))
        assert run.frames == b"".join(event.frame for event in events)
        self.got += [event.frame for event in events]
        return True

    def overtaken(self, before: str, to: str) -> None:
        self.told.append((before, to))

    def failed(self) -> None:
        self.told.append(("failed",))


class OneTail:
    """A tail that stands at an id, and whose receiver the test calls."""

    def __init__(self, at: str) -> None:
        self.at = at
        self.receivers: list[Receiver] = []

    def subscribe(self, organization: int, organization_id: str, receiver: Receiver) -> str:
        assert (organization, organization_id) == (ORGANIZATION, "org_1")
        self.receivers.append(receiver)
        return self.at

    def unsubscribe(self, _organization: int, receiver: Receiver) -> None:
        self.receivers.remove(receiver)


def stored(number: int, type_: str = "skus.update", own: Any = None, *, test: bool = False) -> StoredEvent:
    id_ = ids.event_id(number, 0)
    data = {
        "id": id_, "type": type_, "event": "update", "resource_type": "skus", "resource_id": f"sku_{number % 3}",
        "organization": {"id": "org_1", "slug": "my-org"}, "test": test, "created_at": "2026-11-22T10:00:00.123456Z",
        "transaction_id": "7", "resource": None if own else {"n": number % 4}, "delta": None, "who": None,
    }  # fmt: skip
    data |= {"publish_id": "p", "data": own} if own else {}
    frame = frames.of_data("update", id_, json.dumps(data, separators=(",", ":")).encode())
    return StoredEvent(ORGANIZATION, id_, test, type_, "skus", f"sku_{number % 3}", frame)


def at(number: int) -> str:
    return ids.event_id(number, 0)


INTERESTS = st.builds(
    Interest,
    test=st.booleans(),
    choice=st.builds(
        Choice,
        st.none() | st.sampled_from(["skus.*", "*.create", "*"]).map(TypePatterns.parse),
        st.sampled_from([[], [("resource.n_eq", "1")], [("resource.n_gt", "1")], [("data.path_present", "true")]])
        .map(filters.parse)
        .flatmap(lambda each: st.sampled_from([each, each.with_resources("skus", ["sku_1"])])),
    ),
    path_prefix=st.none() | st.sampled_from(["/a", "/a/b"]),
    envelope=st.sampled_from(frames.ENVELOPES),
)
EVENTS = st.tuples(
    st.sampled_from(["skus.update", "skus.create", "orders.create"]),
    st.none() | st.sampled_from([{"path": "/a"}, {"entries": [{"path": "/a/b/c"}]}, {"entries": 1}]),
    st.booleans(),
)
# A subscriber comes, one goes, or an append is announced.
STEPS = st.lists(INTERESTS | st.integers(0, 5) | st.lists(EVENTS, min_size=1, max_size=3), max_size=25)


@given(STEPS)
def test_each_subscriber_gets_what_it_would_choose_by_itself(steps: list[Any]) -> None:
    count, number = Count(), 0
    fan = Fan(cast("Sent", count))
    readers: list[tuple[Reader, list[bytes]]] = []
    gone: list[tuple[Reader, list[bytes]]] = []
    for step in steps:
        if isinstance(step, Interest):
            readers.append((Reader(step), []))
            fan.add(readers[-1][0])
        elif isinstance(step, int):
            if step < len(readers):
                gone.append(readers.pop(step))
                fan.remove(gone[-1][0])
                fan.remove(gone[-1][0])
        else:
            events = [stored(number := number + 1, type_, own, test=test) for type_, own, test in step]
            fan.receive(events)
            for reader, expected in readers:
                expected += [
                    frames.enveloped(event.frame, reader.interest.envelope)
                    for event in events
                    if event.test == reader.interest.test and reader.interest.matches(frames.data_of(event.frame))
                ]
    for reader, expected in readers + gone:
        assert reader.got == expected
    assert count.events == sum(len(expected) for _, expected in readers + gone)
    assert bool(fan) == bool(readers)


def test_one_that_comes_later_begins_where_the_others_are() -> None:
    tail = OneTail(at(3))
    fans = Fans(cast("Tail", tail), cast("Sent", Count()))
    first, second = Reader(ALL), Reader(ALL)
    assert fans.subscribe(ORGANIZATION, "org_1", first) == at(3)
    tail.receivers[0].receive([stored(5), stored(6, test=True)])
    assert fans.subscribe(ORGANIZATION, "org_1", second) == at(6)
    assert len(tail.receivers) == 1


def test_a_subscriber_is_told_up_to_where_it_was_offered_all_before() -> None:
    tail = OneTail(at(3))
    fans = Fans(cast("Tail", tail), cast("Sent", Count()))
    skus = Reader(ALL._replace(choice=Choice(TypePatterns.parse("skus.*"), Filters())))
    fans.subscribe(ORGANIZATION, "org_1", skus)
    (fan,) = tail.receivers
    fan.receive([stored(4, "orders.create")])
    fan.receive([stored(5, "orders.create"), stored(6), stored(7, "orders.create")])
    fan.fell_behind(at(9))
    assert skus.told == [(at(4), at(6), at(6)), (at(7), at(9))]


def test_what_the_tail_repeats_is_offered_once() -> None:
    tail = OneTail(at(3))
    fans = Fans(cast("Tail", tail), cast("Sent", Count()))
    reader = Reader(ALL)
    fans.subscribe(ORGANIZATION, "org_1", reader)
    tail.receivers[0].receive([stored(2), stored(4)])
    tail.receivers[0].receive([stored(4), stored(5)])
    assert reader.got == [frames.enveloped(stored(n).frame, "event") for n in (4, 5)]


def test_events_that_cannot_be_enveloped_are_left_to_history(caplog: pytest.LogCaptureFixture) -> None:
    tail = OneTail(at(3))
    fans = Fans(cast("Tail", tail), cast("Sent", Count()))
    reader = Reader(ALL)
    fans.subscribe(ORGANIZATION, "org_1", reader)
    strange = StoredEvent(ORGANIZATION, at(4), False, "skus.update", "skus", "1", b"event: x\nid: y\ndata: {}\n\n")
    tail.receivers[0].receive([strange])
    assert reader.told == [(at(3), at(4))]
    assert "cannot be filtered or enveloped" in caplog.text


def fails(*_: object) -> bool:
    raise RuntimeError("closed")


def test_a_subscriber_that_fails_as_the_tail_falls_behind_is_told_to_end_and_the_others_read_history(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fan = Fan(cast("Sent", Count()))
    readers = [Reader(ALL) for _ in range(3)]
    for reader in readers:
        fan.add(reader)
    monkeypatch.setattr(readers[1], "overtaken", fails)
    fan.fell_behind(ids.event_id(9, 0))
    assert [reader.told for reader in readers] == [
        [("", ids.event_id(9, 0))],
        [("failed",)],
        [("", ids.event_id(9, 0))],
    ]


def test_a_subscriber_that_fails_is_told_to_end_and_keeps_no_event_from_the_others(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fan = Fan(cast("Sent", Count()))
    readers = [Reader(ALL) for _ in range(3)]
    for reader in readers:
        fan.add(reader)
    monkeypatch.setattr(readers[1], "offer", fails)
    fan.receive([stored(1)])
    assert [len(reader.got) for reader in readers] == [1, 0, 1]
    assert readers[1].told == [("failed",)]
    assert "the others go on" in caplog.text


def test_without_subscribers_the_tail_is_left() -> None:
    tail = OneTail(at(3))
    fans = Fans(cast("Tail", tail), cast("Sent", Count()))
    reader = Reader(ALL)
    fans.subscribe(ORGANIZATION, "org_1", reader)
    fans.unsubscribe(ORGANIZATION, Reader(ALL))
    assert len(tail.receivers) == 1
    fans.unsubscribe(ORGANIZATION, reader)
    fans.unsubscribe(ORGANIZATION, reader)
    assert tail.receivers == []
