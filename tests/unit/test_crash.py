"""What `make crash` says of a hub that loses, repeats or reorders: an audit that finds nothing has to be able to."""

import pytest

from crash import audit
from crash.audit import Committed, Delivered, Event, Mark, Posted, Record, Row
from crash.faults import BROKER, BROKERS_DECK, DECK, plan

ROW = Row("acme", False, "items", "7")
MARKS = [
    Mark("create", "life-1", 1, "a"),
    Mark("update", "life-1", 2, "b"),
    Mark("destroy", "life-1", 2, "b"),
    Mark("create", "life-2", 1, "c"),
]


def committed(marks: list[Mark] = MARKS) -> list[Committed]:
    return [Committed(ROW, mark, f"hub-1-{n}") for n, mark in enumerate(marks)]


def published(marks: list[Mark] = MARKS, **changes: str) -> list[Event]:
    return [Event(f"id-{n}", ROW, mark, b"bytes", changes.get("fault", "")) for n, mark in enumerate(marks)]


def delivered(*ids: int) -> list[Delivered]:
    return [Delivered(f"id-{n}", b"%d" % n) for n in ids]


def test_a_history_that_has_every_change_once_and_in_order_is_no_finding() -> None:
    assert audit.history_against(committed(), published()) == []


def test_a_change_that_is_not_in_history_is_lost() -> None:
    (finding,) = audit.history_against(committed(), published([MARKS[0], *MARKS[2:]]))
    assert finding == (
        "lost: items 7 of acme (live): update of version 2 (born life-1), committed in hub-1-1; "
        "create 1 is id-0; destroy 2 is id-1"
    )


def test_a_change_that_is_in_history_twice_is_found_with_its_ids() -> None:
    (finding,) = audit.history_against(committed(), published([*MARKS[:2], MARKS[1], *MARKS[2:]]))
    assert finding == "2 times instead of 1: items 7 of acme (live): update of version 2 (born life-1), as id-1, id-2"


def test_an_event_of_a_change_that_was_never_committed_is_found() -> None:
    foreign = Mark("update", "life-2", 2, "d")
    (finding,) = audit.history_against(committed(), published([*MARKS, foreign]))
    assert finding.startswith("never committed: items 7 of acme (live): update of version 2 (born life-2) as id-4")


def test_two_changes_in_the_wrong_order_are_found() -> None:
    (finding,) = audit.history_against(committed(), published([MARKS[1], MARKS[0], *MARKS[2:]]))
    assert finding.startswith("reordered: items 7 of acme (live): update of version 2 (born life-1) as id-0")


def test_lives_of_one_key_in_the_wrong_order_are_found() -> None:
    (finding,) = audit.history_against(committed(), published([MARKS[3], *MARKS[:3]]))
    assert finding.startswith("reordered:")


def test_an_event_that_holds_something_else_than_was_written_is_lost_and_never_committed() -> None:
    findings = audit.history_against(committed(), published([*MARKS[:3], MARKS[3]._replace(digest="z")]))
    assert [finding.partition(":")[0] for finding in findings] == ["lost", "never committed"]


def test_an_id_that_was_given_twice_is_found() -> None:
    events = [event._replace(id="id-0") for event in published()]
    assert "4 events have the id id-0" in audit.history_against(committed(), events)


def test_an_event_that_contradicts_itself_is_found() -> None:
    findings = audit.history_against(committed(MARKS[:1]), published(MARKS[:1], fault="its id has the values two"))
    assert findings == ["event id-0: its id has the values two"]


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (delivered(0, 1, 3), "missed 1: id-2"),
        (delivered(0, 1, 1, 2, 3), "received 1 more than once: id-1"),
        (delivered(0, 2, 1, 3), "received 1 after a later one: id-1"),
        (delivered(0, 1, 2, 3, 4), "received 1 of others: id-4"),
        ([*delivered(0, 1, 2), Delivered("id-3", b"other")], "received other bytes for 1: id-3"),
    ],
    ids=["gap", "repeat", "order", "foreign", "bytes"],
)
def test_what_a_reader_was_given_wrongly_is_found(log: list[Delivered], said: str) -> None:
    assert audit.reader_against("it", log, delivered(0, 1, 2, 3)) == [f"it {said}"]


def test_a_reader_that_got_everything_once_is_no_finding() -> None:
    assert audit.reader_against("it", delivered(0, 1, 2, 3), delivered(0, 1, 2, 3)) == []


def test_an_overlap_is_no_finding_for_a_reader_without_last_event_id() -> None:
    log = delivered(0, 1, 2, 1, 2, 3)
    assert audit.overlapping_reader_against("it", log, [0, 3], delivered(0, 1, 2, 3)) == []


@pytest.mark.parametrize(
    ("log", "starts", "said"),
    [
        (delivered(0, 2, 3), [0, 1], "missed 1 before id-2, the first after it connected again"),
        (delivered(0, 1, 3), [0], "received id-3 right after id-1, which it does not follow in history"),
        (delivered(0, 1, 0, 1), [0, 2], "missed the last 2, from id-2 on"),
        (delivered(0, 4), [0], "received 1 of others: id-4"),
    ],
    ids=["between connections", "within one", "at the end", "foreign"],
)
def test_a_gap_is_a_finding_for_a_reader_without_last_event_id(
    log: list[Delivered], starts: list[int], said: str
) -> None:
    assert audit.overlapping_reader_against("it", log, starts, delivered(0, 1, 2, 3)) == [f"it {said}"]


def test_a_transaction_that_postgresql_acknowledged_and_lost_is_found() -> None:
    assert audit.ledger_against(["hub-1-9"], [], committed()) == [
        "PostgreSQL acknowledged hub-1-9 and does not have it"
    ]


def test_a_transaction_that_was_rolled_back_and_is_there_is_found() -> None:
    assert audit.ledger_against([], ["hub-1-0"], committed()) == ["PostgreSQL has hub-1-0, which was rolled back"]


def records(*ids: int, key: str = "acme", frame: bytes = b"bytes") -> list[Record]:
    return [Record(offset, f"id-{n}", key, frame) for offset, n in enumerate(ids)]


def test_a_topic_with_every_event_and_repeats_after_a_crash_is_no_finding() -> None:
    assert audit.topic_against({0: records(0, 1, 0, 1, 2, 3)}, published()) == []


@pytest.mark.parametrize(
    ("partitions", "said"),
    [
        ({0: records(0, 1, 3)}, "the topic lacks 1: id-2"),
        ({0: records(0, 2, 1, 3)}, "the topic has id-1 (partition 0, offset 2) for the first time after id-2"),
        ({0: records(0, 1, 2, 3, 4)}, "the topic has id-4 (partition 0, offset 4), which history does not have"),
        (
            {0: records(0, 1, 2, 3), 1: records(3)},
            "the topic has id-3 (partition 1, offset 0) in another partition too",
        ),
        (
            {0: [*records(0, 1, 2), Record(3, "id-3", "acme", b"other")]},
            "the topic has another key or other bytes for id-3 (partition 0, offset 3)",
        ),
        (
            {0: [*records(0, 1, 2), Record(3, "id-3", "birch", b"bytes")]},
            "the topic has another key or other bytes for id-3 (partition 0, offset 3)",
        ),
    ],
    ids=["gap", "order", "foreign", "two partitions", "bytes", "key"],
)
def test_what_stands_wrongly_in_the_topic_is_found(partitions: dict[int, list[Record]], said: str) -> None:
    assert audit.topic_against(partitions, published()) == [said]


def posted(*ids: int, refused: tuple[int, ...] = (), frame: bytes = b"bytes") -> list[Posted]:
    """`refused`: places in the log."""
    return [Posted(f"id-{n}", frame, place not in refused) for place, n in enumerate(ids)]


def test_an_endpoint_that_got_everything_some_of_it_again_is_no_finding() -> None:
    log = posted(1, 0, 1, 3, 2, 2, refused=(0,))
    assert audit.endpoint_against("it", log, published(), in_order=False) == []


def test_an_endpoint_that_got_each_event_once_the_one_before_was_taken_is_no_finding() -> None:
    log = posted(0, 0, 1, 0, 2, 3, refused=(0,))
    assert audit.endpoint_against("it", log, published(), in_order=True) == []


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (posted(0, 1, 3), "missed 1: id-2"),
        (posted(0, 1, 2, 3, refused=(2,)), "missed 1: id-2"),
        (posted(0, 1, 2, 3, 4), "received 1 of others: id-4"),
        ([*posted(0, 1, 2), *posted(3, frame=b"other")], "received other bytes for 1: id-3"),
        (posted(0, 2, 1, 3), "received 1 before an earlier one of the row: id-2"),
        (posted(0, 1, 2, 1, 2, 3, refused=(1,)), "received 1 before an earlier one of the row: id-2"),
    ],
    ids=["gap", "refused alone", "foreign", "bytes", "order", "order after a refusal"],
)
def test_what_an_endpoint_was_given_wrongly_is_found(log: list[Posted], said: str) -> None:
    assert audit.endpoint_against("it", log, published(), in_order=True)[:1] == [f"it {said}"]


def test_a_seed_gives_the_same_plan_again() -> None:
    assert plan(7, 50, 3.0, broker=True) == plan(7, 50, 3.0, broker=True)


def test_every_kind_of_fault_comes_before_any_comes_more_often_than_the_deck_has_it() -> None:
    faults = plan(7, len(DECK), 3.0, broker=False)
    assert sorted((fault.target, fault.action) for fault in faults) == sorted(DECK)


def test_a_plan_without_a_broker_does_nothing_to_it() -> None:
    assert BROKER not in {fault.target for fault in plan(7, 99, 3.0, broker=False)}


def test_a_plan_with_a_broker_does_all_there_is_to_it() -> None:
    faults = plan(7, len(DECK + BROKERS_DECK), 3.0, broker=True)
    assert {(fault.target, fault.action) for fault in faults} >= set(BROKERS_DECK)
