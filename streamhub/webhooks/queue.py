"""One endpoint's deliveries in the process that has the endpoint: what may be attempted now, and what comes of it."""

import random
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from streamhub.webhooks.deliveries import Delivery, Endpoint
from streamhub.webhooks.posting import Outcome
from streamhub.webhooks.store import FAILING_FROM

PROBE_FIRST: Final = 1.0  # seconds
PROBE_LONGEST: Final = 60.0
JITTER: Final = 0.1  # of a pause, only ever longer
READ_AHEAD: Final = 100  # deliveries
FRESH_EVERY: Final = 4  # probes: one of so many is of a delivery that was not attempted yet
RATE_WITHIN: Final = 1.1  # seconds that count for `rate`: what is sent a second apart may arrive closer together


class Queue:
    """Times are of one monotonic clock, in seconds. `held`: events that are ready, under way, or not written yet.

    A test is begun before all others, one at a time, beside what `max_in_flight` counts and outside of back-off and
    order. It counts for `rate`. Its success counts as that of any delivery, its failure for nothing.

    A probe is of the delivery with most attempts of those that are due, so that one comes to the end of the schedule in
    its time, however many others are due before it. One of FRESH_EVERY is of one that was not attempted yet: those that
    the receiver will never take keep no endpoint from going on.

    `failures`: attempts that failed since the last that did not, up to FAILING_FROM; from there on those of probes
    alone, so that the number says how long the next pause is, to the process that has the endpoint next as well.
    """

    def __init__(self, endpoint: Endpoint, failures: int, now: float) -> None:
        self.endpoint = endpoint
        self.organization = endpoint.organization
        self.failures = failures
        self.held: set[str] = set()
        self.in_flight = 0
        self.is_lost = False  # another process may have it: what is under way ends, and nothing else begins
        self.wants_read = True
        self.wants_tests = True  # there may be some that are not read, however many others are
        self.was_read_at = float("-inf")  # when a read has ended last
        self.reads_at = float("inf")  # when something that is known of is due
        self.active_at = now
        self.probe_at = now
        self._is_probe_chosen = False  # of the next probe it is known which delivery goes first
        self._ready: deque[Delivery] = deque()
        self._tests: deque[Delivery] = deque()
        self._is_testing = False
        self._resources: set[int] = set()  # of which one is under way, with order `resource`
        self._starts: deque[float] = deque()

    @property
    def is_failing(self) -> bool:
        return self.failures >= FAILING_FROM

    @property
    def goes_first(self) -> bool:
        """Whether what begins next is a test, or the only attempt."""
        return not self.in_flight or (bool(self._tests) and not self._is_testing)

    @property
    def most_read(self) -> int:
        """How many to read: what is held is among what is due."""
        return len(self.held) + READ_AHEAD

    @property
    def has_room(self) -> bool:
        return not self.is_lost and len(self._ready) < READ_AHEAD // 2

    def wants_most_tried(self, now: float) -> bool:
        """Whether a probe may begin once it is known which delivery has most attempts."""
        return (
            self.is_failing and not self._is_fresh_next and not self._is_probe_chosen and not self.in_flight
            and now >= self.probe_at and bool(self._ready) and not self.is_lost
        )  # fmt: skip

    @property
    def _is_fresh_next(self) -> bool:
        return (self.failures - FAILING_FROM) % FRESH_EVERY == FRESH_EVERY - 1

    def choose_probe(self, most_tried: Delivery | None) -> None:
        """The one that goes first; None: nothing that is due was attempted before. One that is under way, or of which
        nothing is written yet, does not."""
        self._is_probe_chosen = True
        if most_tried is None:
            return
        if (known := next((each for each in self._ready if each.event == most_tried.event), None)) is not None:
            self._ready.remove(known)
            self.held.discard(known.event)
        if most_tried.event not in self.held:
            self.add([most_tried])
            self._ready.rotate(1)

    def is_idle(self, now: float, after: float) -> bool:
        """Nothing to do for so many seconds. One that waits for a probe is not: its pause would be forgotten, as would
        be what counts for the rate."""
        if self.held or self.is_lost or self.counted_for(now) > 0:
            return False
        return not self.endpoint.enabled or (now - self.active_at > after and now >= self.probe_at)

    def add(self, found: Iterable[Delivery]) -> None:
        """The oldest that are due, in their order."""
        for delivery in found:
            if delivery.event in self.held or self.is_lost:
                continue
            if self.endpoint.in_order and delivery.resource_key is not None:
                self._drop_newer(delivery)
            self.held.add(delivery.event)
            (self._tests if delivery.is_test else self._ready).append(delivery)

    def _drop_newer(self, added: Delivery) -> None:
        """What was due until an older event of its resource came back: its row waits behind that one now."""
        newer = [d for d in self._ready if d.resource_key == added.resource_key and d.event > added.event]
        for delivery in newer:
            self._ready.remove(delivery)
            self.held.discard(delivery.event)

    def look(self, now: float) -> float:
        """Note that what was put off is due; seconds until the next of it is."""
        if now >= self.reads_at:
            self.wants_read, self.reads_at = True, float("inf")
        return self.reads_at - now

    def lose(self) -> None:
        self.is_lost = True
        self.clear()

    def clear(self) -> None:
        """Nothing more is begun before it is read once more; the rows stay as they are."""
        self.held.difference_update(delivery.event for delivery in (*self._ready, *self._tests))
        self._ready.clear()
        self._is_probe_chosen = False
        self._tests.clear()
        self.wants_read = self.wants_tests = True

    def change(self, endpoint: Endpoint, now: float) -> None:
        """The endpoint as it is now."""
        before, self.endpoint = self.endpoint, endpoint
        if not endpoint.enabled or endpoint.in_order != before.in_order:
            self.clear()
        if endpoint.enabled and not before.enabled:
            self.failures = 0
            self.probe_at = now

    def begin(self, now: float) -> Delivery | None:
        """The next delivery, its attempt begun; None where none may begin now."""
        if self.is_lost or not self.endpoint.enabled:
            return None
        if self._wait_for_test(now) <= 0:
            delivery = self._tests.popleft()
            self._is_testing = True
        elif self._wait_for_next(now) <= 0 and not self.wants_most_tried(now):
            at = self._next()
            assert at is not None, "the wait has seen it"
            delivery = self._ready[at]
            del self._ready[at]
            self.in_flight += 1
            self._is_probe_chosen = False
            if self.endpoint.in_order and delivery.resource_key is not None:
                self._resources.add(delivery.resource_key)
        else:
            return None
        self.active_at = now
        if self.endpoint.rate is not None:
            self._starts.append(now)
        return delivery

    def wait(self, now: float) -> float:
        """Seconds until the next attempt may begin, infinite where one has to end first; 0 where it may."""
        return min(self._wait_for_test(now), self._wait_for_next(now))

    def _wait_for_test(self, now: float) -> float:
        return float("inf") if self._is_testing or not self._tests else self._wait_for_rate(now)

    def _wait_for_next(self, now: float) -> float:
        if self.in_flight and (self.is_failing or self.in_flight >= self.endpoint.max_in_flight):
            return float("inf")
        if self._next() is None:
            return float("inf")
        wait = self._wait_for_rate(now)
        return max(wait, self.probe_at - now) if self.is_failing else wait

    def counted_for(self, now: float) -> float:
        """Seconds for which an attempt still counts for the rate; 0 where none does. Until then no other process may
        have the endpoint: it would know of none."""
        if self.endpoint.rate is None or not self._starts:
            return 0.0
        return max(0.0, self._starts[-1] + RATE_WITHIN - now)

    def _wait_for_rate(self, now: float) -> float:
        if self.endpoint.rate is None:
            return 0.0
        while self._starts and self._starts[0] <= now - RATE_WITHIN:
            self._starts.popleft()
        return 0.0 if len(self._starts) < self.endpoint.rate else self._starts[0] + RATE_WITHIN - now

    def _next(self) -> int | None:
        if self.is_failing and self._is_fresh_next:  # none is under way
            return next((n for n, each in enumerate(self._ready) if not each.attempts), 0 if self._ready else None)
        if not self._resources:
            return 0 if self._ready else None
        return next((n for n, each in enumerate(self._ready) if each.resource_key not in self._resources), None)

    def left(self, delivery: Delivery) -> None:
        """An attempt is under way no more, and says nothing of the endpoint."""
        if delivery.is_test:
            self._is_testing = False
            return
        self.in_flight -= 1
        if delivery.resource_key is not None:
            self._resources.discard(delivery.resource_key)

    def ended(self, delivery: Delivery, outcome: Outcome, now: float, *, was_probe: bool) -> None:
        self.left(delivery)
        self.active_at = now
        if outcome.succeeded:
            self.failures = 0
        elif not delivery.is_test and (was_probe or not self.is_failing):
            self.failures += 1
            if self.is_failing:
                exponent = min(self.failures - FAILING_FROM, 10)
                pause = min(PROBE_FIRST * 2**exponent, PROBE_LONGEST)
                self.probe_at = now + pause * random.uniform(1, 1 + JITTER)


def pause_after(attempts: int, schedule: Sequence[float], retry_after: float | None) -> float | None:
    """Seconds until the attempt that follows `attempts` failed ones; None where none does.

    Up to a tenth longer than scheduled. A Retry-After lengthens it, at most to the pause that would follow.
    """
    if attempts > len(schedule):
        return None
    pause = schedule[attempts - 1]
    if retry_after is not None and retry_after > pause:
        pause = min(retry_after, max(pause, schedule[min(attempts, len(schedule) - 1)]))
    return pause * random.uniform(1, 1 + JITTER)
