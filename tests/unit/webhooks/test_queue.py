"""One endpoint's deliveries in a process: how many at once, in which order, and after which pauses."""

from typing import Any, Final

import pytest

from streamhub.webhooks.deliveries import Delivery, Endpoint
from streamhub.webhooks.posting import Outcome
from streamhub.webhooks.queue import Queue, pause_after
from streamhub.webhooks.store import FAILING_FROM

GOOD: Final = Outcome(200, None, "", 0.0)
BAD: Final = Outcome(500, "it answered 500", "", 0.0)
SCHEDULE: Final = (60.0, 300.0, 1_800.0, 7_200.0, 86_400.0)


def queue_of(failures: int = 0, **fields: Any) -> Queue:
    endpoint = Endpoint(
        "e", 1, False, "https://x", None, (), fields.pop("in_order", False), 10, None, {}, True, True, "", ()
    )
    return Queue(endpoint._replace(**fields), failures, 0.0)


def delivery(event: int, resource: int | None = None, attempts: int = 0) -> Delivery:
    return Delivery("e", str(event), attempts, resource, None, 0.0)


def trial(name: str) -> Delivery:
    """A `webhook.test`."""
    return Delivery("e", name, 0, None, b"{}", 0.0)


def begun(queue: Queue, now: float = 0.0) -> list[str]:
    found = []
    if queue.wants_most_tried(now):
        queue.choose_probe(None)
    while (each := queue.begin(now)) is not None:
        found.append(each.event)
    return found


def fail(queue: Queue, now: float) -> None:
    was_probe = queue.is_failing
    if queue.wants_most_tried(now):
        queue.choose_probe(None)
    each = queue.begin(now)
    assert each is not None
    queue.ended(each, BAD, now, was_probe=was_probe)


def test_pauses_between_probes_double_from_one_second_to_sixty() -> None:
    queue = queue_of()
    queue.add(delivery(n) for n in range(30))
    for _ in range(FAILING_FROM):
        fail(queue, 0.0)
    now, pauses = 0.0, []
    for _ in range(8):
        wait = queue.wait(now)
        pauses.append(wait)
        assert queue.begin(now + wait - 0.001) is None
        now += wait
        fail(queue, now)
    for pause, right in zip(pauses, (1, 2, 4, 8, 16, 32, 60, 60), strict=True):
        assert right <= pause <= right * 1.1


def test_the_process_that_has_the_endpoint_next_goes_on_with_the_pauses() -> None:
    queue = queue_of(FAILING_FROM + 3)
    queue.add(delivery(n) for n in range(3))
    fail(queue, 0.0)
    assert 16 <= queue.wait(0.0) <= 16 * 1.1


def test_attempts_that_were_under_way_when_it_began_to_fail_lengthen_no_pause() -> None:
    queue = queue_of(max_in_flight=50)
    queue.add(delivery(n) for n in range(50))
    under_way = [queue.begin(0.0) for _ in range(50)]
    for each in under_way:
        assert each is not None
        queue.ended(each, BAD, 0.0, was_probe=False)
    queue.add([delivery(60)])
    assert 1 <= queue.wait(0.0) <= 1.1


def test_one_probe_is_under_way_at_a_time_and_a_success_ends_them() -> None:
    queue = queue_of(FAILING_FROM)
    queue.add(delivery(n) for n in range(5))
    queue.choose_probe(None)
    probe = queue.begin(0.0)
    assert probe is not None
    assert begun(queue) == []
    queue.ended(probe, GOOD, 0.0, was_probe=True)
    assert len(begun(queue)) == 4


def test_a_probe_is_of_the_delivery_that_has_most_attempts() -> None:
    queue = queue_of(FAILING_FROM)
    queue.add([delivery(1), delivery(2, attempts=1), delivery(3, attempts=2)])
    assert queue.begin(0.0) is None, "which one that is was not read yet"
    queue.choose_probe(delivery(9, attempts=4))
    assert begun(queue) == ["9"]


def test_what_is_under_way_is_no_probe() -> None:
    queue = queue_of()
    queue.add([delivery(1), delivery(2)])
    for _ in range(2):
        each = queue.begin(0.0)
        assert each is not None
        queue.ended(each, BAD, 0.0, was_probe=False)
    queue.failures = FAILING_FROM
    queue.add([delivery(3)])
    queue.choose_probe(delivery(1, attempts=3))  # of which nothing is written yet
    assert begun(queue) == ["3"]


def test_one_probe_of_four_is_of_a_delivery_that_was_not_attempted() -> None:
    queue = queue_of(FAILING_FROM)
    queue.add([delivery(1), delivery(2)])
    now, probes = 0.0, []
    for n in range(8):
        if queue.wants_most_tried(now):
            queue.choose_probe(delivery(10 + n, attempts=2))
        each = queue.begin(now)
        assert each is not None
        probes.append(each.event)
        queue.ended(each, BAD, now, was_probe=True)
        now = queue.probe_at
    assert probes == ["10", "11", "12", "1", "14", "15", "16", "2"]


def test_an_endpoint_that_fails_uses_up_the_schedule_in_its_time_however_busy_it_is() -> None:
    """An event every 2 min; of what is due the oldest are read."""
    queue, now, made = queue_of(), 0.0, 0
    pending: dict[int, tuple[float, int]] = {}  # when it is due, and how often it was attempted
    while now < 35 * 3600:
        for n in range(made, int(now // 120) + 1):
            pending[n], made = (n * 120.0, 0), n + 1
        due = sorted((at, n) for n, (at, _) in pending.items() if at <= now)
        queue.add(delivery(n, attempts=pending[n][1]) for _, n in due[: queue.most_read])
        if queue.wants_most_tried(now):
            attempts, _, n = max((pending[n][1], -at, n) for at, n in due)
            queue.choose_probe(delivery(n, attempts=attempts) if attempts else None)
        was_probe = queue.is_failing
        each = queue.begin(now)
        if each is None:
            now += min(queue.wait(now), 60.0)
            continue
        queue.ended(each, BAD, now, was_probe=was_probe)
        queue.held.discard(each.event)
        if (pause := pause_after(each.attempts + 1, SCHEDULE, None)) is None:
            break
        pending[int(each.event)] = (now + pause, each.attempts + 1)
    assert sum(SCHEDULE) <= now <= sum(SCHEDULE) * 1.1 + 5 * 2 * 66


def test_one_that_waits_for_a_probe_is_not_given_up() -> None:
    queue = queue_of(FAILING_FROM + 4)
    queue.add([delivery(1)])
    fail(queue, 0.0)
    queue.held.clear()
    assert not queue.is_idle(20.0, 3.0)
    assert queue.is_idle(40.0, 3.0)


def test_of_a_resource_one_is_under_way_at_a_time() -> None:
    queue = queue_of(in_order=True)
    queue.add([delivery(1, 7), delivery(2, 8), delivery(3, None), delivery(4, None)])
    assert begun(queue) == ["1", "2", "3", "4"]
    queue.add([delivery(5, 7)])
    assert begun(queue) == []
    queue.ended(delivery(1, 7), GOOD, 0.0, was_probe=False)
    assert begun(queue) == ["5"]


def test_an_older_event_that_comes_back_takes_the_place_of_a_newer_one() -> None:
    queue = queue_of(in_order=True)
    queue.add([delivery(5, 7), delivery(6, 8)])
    queue.add([delivery(1, 7)])
    assert begun(queue) == ["6", "1"]


def test_rate_counts_any_second_and_a_tenth_for_what_arrives_late() -> None:
    queue = queue_of(rate=3)
    queue.add(delivery(n) for n in range(9))
    assert [len(begun(queue, now)) for now in (0.0, 0.5, 1.001, 1.099, 1.101, 1.5)] == [3, 0, 0, 0, 3, 0]


def test_a_queue_whose_attempts_count_for_its_rate_is_not_idle_even_when_it_is_disabled() -> None:
    queue = queue_of(rate=3)
    queue.add([delivery(1)])
    assert begun(queue) == ["1"]
    queue.ended(delivery(1), GOOD, 0.0, was_probe=False)
    queue.held.clear()
    queue.change(queue.endpoint._replace(enabled=False), 0.1)
    assert [queue.is_idle(now, 0.0) for now in (0.5, 1.099, 1.101)] == [False, False, True]


def test_a_pause_is_that_of_the_schedule_or_up_to_a_tenth_longer() -> None:
    for attempts, right in enumerate(SCHEDULE, 1):
        pause = pause_after(attempts, SCHEDULE, None)
        assert pause is not None
        assert right <= pause <= right * 1.1
    assert pause_after(6, SCHEDULE, None) is None


@pytest.mark.parametrize(
    ("attempts", "retry_after", "right"),
    [(1, 30.0, 60.0), (1, 200.0, 200.0), (1, 4_000.0, 300.0), (5, 90_000.0, 86_400.0), (4, 90_000.0, 86_400.0)],
)
def test_retry_after_lengthens_a_pause_at_most_to_the_next_one(attempts: int, retry_after: float, right: float) -> None:
    pause = pause_after(attempts, SCHEDULE, retry_after)
    assert pause is not None
    assert right <= pause <= right * 1.1


def test_of_a_queue_that_was_lost_nothing_begins() -> None:
    queue = queue_of()
    queue.add([delivery(1), delivery(2)])
    assert queue.begin(0.0) == delivery(1)
    queue.lose()
    assert begun(queue) == []
    assert queue.held == {"1"}
    assert not queue.has_room
    queue.add([delivery(3)])  # what a read that was under way has found
    assert queue.held == {"1"}


def test_a_test_goes_before_all_others_one_at_a_time_and_outside_of_back_off() -> None:
    queue = queue_of(FAILING_FROM + 5)
    queue.add([delivery(1), delivery(2)])
    fail(queue, 0.0)
    queue.add([trial("a"), trial("b")])
    assert begun(queue) == ["a"]
    queue.ended(trial("a"), BAD, 0.0, was_probe=True)
    assert begun(queue) == ["b"]
    assert queue.failures == FAILING_FROM + 6


def test_the_success_of_a_test_ends_the_back_off() -> None:
    queue = queue_of(FAILING_FROM + 5)
    queue.add([delivery(1), delivery(2)])
    fail(queue, 0.0)
    queue.add([trial("a")])
    assert begun(queue) == ["a"]
    queue.ended(trial("a"), GOOD, 0.0, was_probe=True)
    assert begun(queue) == ["2"]


def test_a_test_counts_for_the_rate() -> None:
    queue = queue_of(rate=2)
    queue.add([delivery(1), delivery(2)])
    assert begun(queue) == ["1", "2"]
    queue.add([trial("a")])
    assert [begun(queue, now) for now in (0.5, 1.2)] == [[], ["a"]]
