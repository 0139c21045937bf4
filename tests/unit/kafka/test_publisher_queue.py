"""What the publisher keeps in memory: the next events after a position, or nothing."""

import asyncio

from streamhub.core import ids
from streamhub.core.events import StoredEvent
from streamhub.history.append import Append, Appended
from streamhub.kafka.brokers import Brokers
from streamhub.kafka.publisher import PACE, PIECE_BYTES, KafkaPublisher, Piece, Queue, Queued


def at(number: int) -> str:
    return ids.event_id(1_795_000_000_000, number)


def append(first: int, count: int, *, size: int = 10) -> Queued:
    events = [StoredEvent(1, at(first + i), False, "a.b", "a", "1", b"x" * size) for i in range(count)]
    return Queued(at(first - 1), at(first), at(first + count - 1), events, count * size)


def numbers(piece: Piece | None) -> list[str] | None:
    return None if piece is None else [event.id for event in piece.events]


def test_successive_appends_are_one_piece() -> None:
    queue = Queue()
    queue.put(append(1, 2))
    queue.put(append(3, 1))
    assert numbers(queue.next(at(0))) == [at(1), at(2), at(3)]


def test_a_piece_stays_until_the_position_is_beyond_it() -> None:
    queue = Queue()
    queue.put(append(1, 2))
    assert numbers(queue.next(at(0))) == numbers(queue.next(at(0)))
    assert queue.next(at(2)) is None
    assert not queue


def test_a_position_within_an_append_gives_the_rest_of_it() -> None:
    queue = Queue()
    queue.put(append(1, 4))
    assert numbers(queue.next(at(2))) == [at(3), at(4)]


def test_a_gap_before_the_first_append_gives_nothing_and_keeps_it() -> None:
    queue = Queue()
    queue.put(append(5, 2))
    assert queue.next(at(3)) is None
    assert numbers(queue.next(at(4))) == [at(5), at(6)]


def test_it_follows_a_position_within_what_it_holds_and_none_before() -> None:
    queue = Queue()
    queue.put(append(5, 2))
    queue.put(append(7, 2))
    assert [queue.follows(at(n)) for n in (3, 4, 5, 7, 8)] == [False, True, True, True, False]


def test_over_its_bound_it_keeps_the_newest_append_alone() -> None:
    queue = Queue(most_events=10)
    queue.put(append(1, 6))
    queue.put(append(7, 6))
    assert queue.next(at(0)) is None
    assert numbers(queue.next(at(6))) == [at(n) for n in range(7, 13)]


def test_what_was_sent_makes_room() -> None:
    queue = Queue(most_events=10)
    queue.put(append(1, 6))
    queue.next(at(6))
    queue.put(append(7, 6))
    queue.put(append(13, 4))
    assert len(numbers(queue.next(at(6))) or ()) == 10


def test_an_append_of_great_size_comes_in_pieces() -> None:
    queue = Queue()
    queue.put(append(1, 5, size=PIECE_BYTES // 2))
    assert numbers(queue.next(at(0))) == [at(1), at(2)]
    assert numbers(queue.next(at(2))) == [at(3), at(4)]
    assert numbers(queue.next(at(4))) == [at(5)]


def test_a_single_event_of_great_size_is_a_piece() -> None:
    queue = Queue()
    queue.put(append(1, 2, size=PIECE_BYTES * 2))
    assert numbers(queue.next(at(0))) == [at(1)]


def test_there_is_room_while_half_of_the_bound_is_free() -> None:
    queue = Queue(most_events=10)
    queue.put(append(1, 5))
    assert queue.has_room.is_set()
    queue.put(append(6, 1))
    assert not queue.has_room.is_set()
    queue.next(at(5))
    assert queue.has_room.is_set()


def test_a_queue_that_was_emptied_has_room() -> None:
    queue = Queue(most_bytes=100)
    queue.put(append(1, 6))
    queue.clear()
    assert queue.has_room.is_set()


async def test_a_backlog_does_not_wait_for_brokers_that_take_nothing() -> None:
    publisher = KafkaPublisher(Brokers(["127.0.0.1:9"]), "events")
    publisher.announce(Appended(Append(at(0), at(1), at(60_000), append(1, 60_000).events), 0, 60_000, (), at(0)))
    async with asyncio.timeout(PACE / 2):
        await publisher.keep_pace()
