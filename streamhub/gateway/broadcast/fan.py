"""Events of one append, filtered and enveloped once for all subscribers of an organization on this gateway.

    tail ── receive(events) ──▶ Fan ── offer(run) ──▶ each stream of each cohort that matches some of them

Subscribers of the same interest are a cohort. An event is looked up in one index of cohorts, and put into each envelope
that is asked for once; its bytes are shared, and gone when the last stream has written them.
"""

import logging
from collections.abc import Sequence
from typing import Final, Protocol

from streamhub.core import frames
from streamhub.core.events import StoredEvent
from streamhub.core.filter_index import Index
from streamhub.core.paths import paths_in
from streamhub.core.view import View
from streamhub.gateway.broadcast.latest import Enveloped
from streamhub.gateway.broadcast.request import Interest
from streamhub.gateway.streams.channel import Run
from streamhub.metrics import Sent
from streamhub.tail import Tail

log = logging.getLogger(__name__)


class Subscriber(Protocol):
    """A stream. Its methods return at once."""

    interest: Interest

    def offer(self, before: str, events: Sequence[Enveloped], run: Run) -> bool:
        """The next events that match, one by one and as a run; it was offered all that matched up to `before`. True
        where the stream has written the run and not counted it."""

    def overtaken(self, before: str, to: str) -> None:
        """It was offered all that matched up to `before`; what follows up to `to` is in history."""

    def failed(self) -> None:
        """It raised an error, so it may have missed something: it has to end."""


class _Cohort:
    """Subscribers of the same interest."""

    __slots__ = ("interest", "subscribers")

    def __init__(self, interest: Interest) -> None:
        self.interest = interest
        self.subscribers: dict[Subscriber, None] = {}

    def offer(self, before: str, events: Sequence[Enveloped], sent: Sent) -> None:
        run = Run.of(b"".join(event.frame for event in events), events[0].id, events[-1].id)
        written = 0
        for subscriber in tuple(self.subscribers):
            try:
                written += subscriber.offer(before, events, run)
            except Exception:
                log.exception("a broadcast stream failed, the others go on")
                subscriber.failed()
        if written:
            sent.count(written * len(events), written * run.size)


class Fan:
    """One organization's. The tail calls `receive` and `fell_behind`."""

    def __init__(self, sent: Sent) -> None:
        """`sent` counts what streams have written."""
        self.seen = ""  # history has all up to there, and subscribers hear of everything beyond
        self._sent = sent
        self._cohorts: dict[Interest, _Cohort] = {}
        self._indexes: dict[bool, Index[_Cohort]] = {False: Index(), True: Index()}

    def __bool__(self) -> bool:
        return bool(self._cohorts)

    def add(self, subscriber: Subscriber) -> None:
        cohort = self._cohorts.get(subscriber.interest)
        if cohort is None:
            interest = subscriber.interest
            cohort = self._cohorts[interest] = _Cohort(interest)
            self._indexes[interest.test].add(cohort, interest.choice.types, interest.choice.filters)
        subscriber.interest = cohort.interest  # one copy for all of them
        cohort.subscribers[subscriber] = None

    def remove(self, subscriber: Subscriber) -> None:
        """Unknown ones are ignored."""
        cohort = self._cohorts.get(subscriber.interest)
        if cohort is None or subscriber not in cohort.subscribers:
            return
        del cohort.subscribers[subscriber]
        if not cohort.subscribers:
            del self._cohorts[cohort.interest]
            self._indexes[cohort.interest.test].remove(cohort)

    def receive(self, events: Sequence[StoredEvent]) -> None:
        try:
            due = self._due(events)
        except Exception:
            log.exception("events cannot be filtered or enveloped, subscribers read them from history")
            self.fell_behind(events[-1].id)
            return
        before, self.seen = self.seen, max(self.seen, events[-1].id)
        for cohort, enveloped in due.items():
            cohort.offer(before, enveloped, self._sent)

    def fell_behind(self, to: str) -> None:
        before, self.seen = self.seen, max(self.seen, to)
        for cohort in tuple(self._cohorts.values()):
            for subscriber in tuple(cohort.subscribers):
                try:
                    subscriber.overtaken(before, to)
                except Exception:
                    log.exception("a broadcast stream failed, the others go on")
                    subscriber.failed()

    def _due(self, events: Sequence[StoredEvent]) -> dict[_Cohort, list[Enveloped]]:
        due: dict[_Cohort, list[Enveloped]] = {}
        for event in events:
            index = self._indexes[event.test]
            if event.id <= self.seen or not len(index):
                continue
            data = frames.data_of(event.frame)
            view = View(data)
            paths: tuple[str, ...] | None = None
            made: dict[str, Enveloped] = {}
            for cohort in index.matching(event.type, view):
                interest = cohort.interest
                if interest.path_prefix is not None:
                    paths = paths_in(view) if paths is None else paths
                    if not interest.has_path(paths):
                        continue
                found = made.get(interest.envelope)
                if found is None:
                    frame = frames.enveloped(event.frame, interest.envelope)
                    found = made[interest.envelope] = Enveloped(event.id, frame, frames.resource_in(data))
                due.setdefault(cohort, []).append(found)
        return due


class Fans:
    """Fans by organization (the registry's key); each is there as long as it has a subscriber."""

    def __init__(self, tail: Tail, sent: Sent) -> None:
        self._tail: Final = tail
        self._sent = sent
        self._fans: dict[int, Fan] = {}

    def __len__(self) -> int:
        return len(self._fans)

    def subscribe(self, organization: int, organization_id: str, subscriber: Subscriber) -> str:
        """From now on `subscriber` is offered every event that matches and is beyond the position returned; up to that
        position history has them all."""
        fan = self._fans.get(organization)
        if fan is None:
            fan = self._fans[organization] = Fan(self._sent)
            fan.seen = self._tail.subscribe(organization, organization_id, fan)
        fan.add(subscriber)
        return fan.seen

    def unsubscribe(self, organization: int, subscriber: Subscriber) -> None:
        """Nothing more for `subscriber`; unknown ones are ignored."""
        fan = self._fans.get(organization)
        if fan is None:
            return
        fan.remove(subscriber)
        if not fan:
            del self._fans[organization]
            self._tail.unsubscribe(organization, fan)
