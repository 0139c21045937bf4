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


class Queue:
    """Times are of one monotonic clock, in seconds. `held`: events that are ready, under way, or not written yet."""

    def __init__(self, endpoint: Endpoint, failures: int, now: float) -> None:
        self.endpoint = endpoint
        self.failures = failures
        self.held: set[str] = set()
        self.in_flight = 0
        self.wants_read = True
        self.active_at = now
        self._ready: deque[Delivery] = deque()
        self._starts: deque[float] = deque()
        self._probe_pause = PROBE_FIRST
        self._probe_at = now

    @property
    def is_failing(self) -> bool:
        return self.failures >= FAILING_FROM

    @property
    def most_read(self) -> int:
        """How many to read: what is held is among what is due."""
        return len(self.held) + READ_AHEAD

    @property
    def has_room(self) -> bool:
        return len(self._ready) < READ_AHEAD // 2

    def add(self, found: Iterable[Delivery]) -> None:
        """The oldest that are due, in their order."""
        for delivery in found:
            if delivery.event not in self.held:
                self.held.add(delivery.event)
                self._ready.append(delivery)

    def clear(self) -> None:
        """Nothing more is begun; the rows stay as they are."""
        self.held.difference_update(delivery.event for delivery in self._ready)
        self._ready.clear()

    def begin(self, now: float) -> Delivery | None:
        """The next delivery, its attempt begun; None where none may begin now."""
        if not self._ready or not self.endpoint.enabled or self.wait(now) > 0:
            return None
        self.in_flight += 1
        self.active_at = now
        if self.endpoint.rate is not None:
            self._starts.append(now)
        return self._ready.popleft()

    def wait(self, now: float) -> float:
        """Seconds until the next attempt may begin, infinite where one has to end first; 0 where it may."""
        if not self._ready:
            return float("inf")
        if self.is_failing:
            return float("inf") if self.in_flight else max(0.0, self._probe_at - now)
        if self.in_flight >= self.endpoint.max_in_flight:
            return float("inf")
        if self.endpoint.rate is None:
            return 0.0
        while self._starts and self._starts[0] <= now - 1.0:
            self._starts.popleft()
        return 0.0 if len(self._starts) < self.endpoint.rate else self._starts[0] + 1.0 - now

    def ended(self, outcome: Outcome, now: float, *, was_probe: bool) -> None:
        self.in_flight -= 1
        self.active_at = now
        if outcome.succeeded:
            self.failures = 0
            self._probe_pause = PROBE_FIRST
            return
        self.failures += 1
        if self.is_failing:
            if was_probe:
                self._probe_pause = min(self._probe_pause * 2, PROBE_LONGEST)
            self._probe_at = now + self._probe_pause * random.uniform(1, 1 + JITTER)


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
