"""Events of one append, filtered and enveloped once for all subscribers of an organization on this gateway.

    tail ── receive(events) ──▶ Fan ── offer(frames) ──▶ each stream of each cohort that wants some of them

Subscribers who want the same are a cohort. An event is looked up in one index of cohorts, and put into each envelope
that is asked for once; its bytes are shared, and gone when the last stream has written them.
"""

import logging
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from streamhub.core import frames
from streamhub.core.events import StoredEvent
from streamhub.core.filter_index import Index
from streamhub.core.paths import paths_in
from streamhub.core.subscription import Framed
from streamhub.core.view import View
from streamhub.gateway.broadcast.request import Wanted, begins
from streamhub.tail import Receiver, Tail

log = logging.getLogger(__name__)


class Subscriber(Receiver, Protocol):
    """A stream. Its methods return at once and raise nothing."""

    @property
    def wanted(self) -> Wanted: ...

    def offer(self, before: str, events: Sequence[Framed]) -> None:
        """The next events that it wants, and the id up to which it was offered all before."""

    def overtaken(self, before: str, to: str) -> None:
        """It was offered all up to `before`; what follows up to `to` is in history."""


class Enveloped(NamedTuple):
    """An event as some subscribers get it."""

    id: str
    frame: bytes


class _Cohort:
    """Subscribers who want the same."""

    __slots__ = ("subscribers", "wanted")

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.subscribers: dict[Subscriber, None] = {}


class Fan:
    """One organization's. The tail calls `receive` and `fell_behind`."""

    def __init__(self, seen: str) -> None:
        """`seen`: the id beyond which the tail announces."""
        self.seen = seen
        self._cohorts: dict[Wanted, _Cohort] = {}
        self._indexes: dict[bool, Index[_Cohort]] = {False: Index(), True: Index()}

    def __bool__(self) -> bool:
        return bool(self._cohorts)

    def add(self, subscriber: Subscriber) -> None:
        wanted = subscriber.wanted
        cohort = self._cohorts.get(wanted)
        if cohort is None:
            cohort = self._cohorts[wanted] = _Cohort(wanted)
            self._indexes[wanted.test].add(cohort, wanted.choice.types, wanted.choice.filters)
        cohort.subscribers[subscriber] = None

    def remove(self, subscriber: Subscriber) -> None:
        """Unknown ones are ignored."""
        cohort = self._cohorts.get(subscriber.wanted)
        if cohort is None or subscriber not in cohort.subscribers:
            return
        del cohort.subscribers[subscriber]
        if not cohort.subscribers:
            del self._cohorts[cohort.wanted]
            self._indexes[cohort.wanted.test].remove(cohort)

    def receive(self, events: Sequence[StoredEvent]) -> None:
        try:
            due = self._due(events)
        except Exception:
            log.exception("events cannot be filtered or enveloped: subscribers meet them in history")
            self.fell_behind(events[-1].id)
            return
        before, self.seen = self.seen, max(self.seen, events[-1].id)
        for cohort, enveloped in due.items():
            for subscriber in tuple(cohort.subscribers):
                subscriber.offer(before, enveloped)

    def fell_behind(self, to: str) -> None:
        before, self.seen = self.seen, max(self.seen, to)
        for cohort in tuple(self._cohorts.values()):
            for subscriber in tuple(cohort.subscribers):
                subscriber.overtaken(before, to)

    def _due(self, events: Sequence[StoredEvent]) -> dict[_Cohort, list[Enveloped]]:
        due: dict[_Cohort, list[Enveloped]] = {}
        for event in events:
            index = self._indexes[event.test]
            if not len(index):
                continue
            view = View(frames.data_of(event.frame))
            paths: tuple[str, ...] | None = None
            made: dict[str, Enveloped] = {}
            for cohort in index.matching(event.type, view):
                wanted = cohort.wanted
                if wanted.path_prefix is not None:
                    paths = paths_in(view) if paths is None else paths
                    if not begins(paths, wanted.path_prefix):
                        continue
                found = made.get(wanted.envelope)
                if found is None:
                    frame = frames.enveloped(event, wanted.envelope)
                    found = made[wanted.envelope] = Enveloped(event.id, frame)
                due.setdefault(cohort, []).append(found)
        return due


class Fans:
    """Fans by organization; each is there as long as it has a subscriber. To its subscribers it is the tail."""

    def __init__(self, tail: Tail) -> None:
        self._tail: Final = tail
        self._fans: dict[int, Fan] = {}

    def subscribe(self, organization: int, organization_id: str, subscriber: Subscriber) -> str:
        """As Tail.subscribe."""
        fan = self._fans.get(organization)
        if fan is None:
            fan = Fan("")
            fan.seen = self._tail.subscribe(organization, organization_id, fan)
            self._fans[organization] = fan
            joint = fan.seen
        else:
            # A second registration tells the position from which a newcomer is served, and is given back at once.
            joint = max(fan.seen, self._tail.subscribe(organization, organization_id, fan))
            self._tail.unsubscribe(organization, fan)
        fan.add(subscriber)
        return joint

    def unsubscribe(self, organization: int, subscriber: Subscriber) -> None:
        """As Tail.unsubscribe."""
        fan = self._fans.get(organization)
        if fan is None:
            return
        fan.remove(subscriber)
        if not fan:
            del self._fans[organization]
            self._tail.unsubscribe(organization, fan)
