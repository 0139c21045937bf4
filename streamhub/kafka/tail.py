"""The tail over a Kafka topic: a gateway reads the partitions of the organizations it serves, and no others.

    topic    ── records of the followed partitions ─────────────▶ receivers
    history  ── each second, whatever did not come that way ────▶ receivers

An event is in history before it is in the topic, so the hub's head of any moment covers whatever was published until
then. Each source hands over an organization's events in order and leaves none out, so the two may take turns at any
moment; what one has handed over, the other leaves away. What that rests on:

1. Joining a partition. Its end offset E is read first, the hub's head J after it. What is beyond J was published after
   E was read, so it is at E or later. History is read up to J, and records are taken from E on.
2. Following it. `last` is the greatest id seen in the partition. Each record names an id after which it is the
   partition's next. Its own id not beyond `last`: a repeat, dropped. The named id beyond both `last` and what history
   was read up to: something is missing, whether the topic was made again, cut, compacted or passed over, and the
   partition is joined again. So it is where the broker does not have the offset asked for.
3. Reading history. Each organization is read beyond what was certainly handed over: the greatest of its own last
   event, the id up to which history was read before, and `last` of its partition as it was before the hub was asked.
   It is read up to the head while the publisher or the broker is behind. While all is well it is read up to what was
   published a second ago, which finds nothing, unless an event was lost at the end of a quiet partition.
4. The partition of an organization follows from the number of partitions that the publisher says it sends to
   (`publications`), not from what the broker says at the moment. The publisher says so before it sends; when the
   number changes, everything is joined again. Until then `last` may count records of a time at which an organization's
   own events went elsewhere: hence "before the hub was asked" in 3.

Whether position and high watermark agree, and how far the publisher is, tells only up to where to read history, never
what was handed over.

A relay in this process announces for nothing: its events come through the topic like everybody's. They could be some
milliseconds earlier, but then this gateway's delay would tell nothing about the others', and a third source would have
to keep to the rules above.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
from aiokafka import ConsumerRecord

from streamhub.backoff import jittered, rest
from streamhub.core import ids
from streamhub.core.events import StoredEvent
from streamhub.core.records import AFTER, ID, event_of
from streamhub.history.append import Append
from streamhub.history.head import head_of
from streamhub.history.pieces import TIMEOUT, read_piece
from streamhub.kafka.brokers import Brokers
from streamhub.kafka.consumer import TopicReader, partition_of
from streamhub.kafka.publication import PUBLISHED
from streamhub.postgres.connections import DATABASE_AWAY, Pool
from streamhub.tail import Receiver

log = logging.getLogger(__name__)

LOOK_EVERY: Final = 1.0  # seconds
JOINED_WITHIN: Final = 1.0  # before it counts as not to be had
CALM_LOOKS: Final = 3  # after which the topic is trusted again
LINGER: Final = 60.0  # seconds that a partition is followed after its last receiver left
STOPPED_WITHIN: Final = 4.0
JOIN_PAUSE: Final = 0.1  # seconds between two joins
JOIN_RETRY: Final = 0.75
WARN_EVERY: Final = 10.0  # seconds; a topic that was made again has all partitions joined again


class _Hub(NamedTuple):
    """What the hub says at a moment. `published`: how far the topic is; `partitions` 0: nothing was published yet."""

    head: str
    published: str
    partitions: int


class _Partition:
    """One that is followed, or to be joined. `organizations` are those served here, by their records' key."""

    __slots__ = ("empty_since", "end", "joined", "last", "number", "organizations", "position", "wanted_since")

    def __init__(self, number: int) -> None:
        self.number = number
        self.organizations: dict[bytes, int] = {}
        self.joined = False
        self.last = ids.MIN_ID
        self.position = 0  # the next record's offset
        self.end = 0  # as the last look saw it
        self.wanted_since = time.monotonic()
        self.empty_since = 0.0


class _Organization:
    """Somebody here listens to it. `last`: all of its events up to that id were handed over."""

    __slots__ = ("key", "last", "partition", "receivers")

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.last = ids.MIN_ID
        self.partition: _Partition | None = None
        self.receivers: list[Receiver] = []


class KafkaTail:
    """See `Tail`. `pool` is the hub's; `start` does not wait for the broker."""

    def __init__(self, pool: Pool, brokers: Brokers, topic: str, look_every: float = LOOK_EVERY) -> None:
        self._pool = pool
        self._reader = TopicReader(brokers, topic, self)
        self._look_every = look_every
        self._organizations: dict[int, _Organization] = {}
        self._partitions: dict[int, _Partition] = {}
        self._hub = _Hub(ids.MIN_ID, ids.MIN_ID, 0)
        self._read_to = ids.MIN_ID  # history was read up to there for every organization
        self._to_join = asyncio.Event()
        self._warned_at = float("-inf")
        self._calm_looks = CALM_LOOKS
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def degraded(self) -> bool:
        return self._calm_looks < CALM_LOOKS

    @property
    def fault(self) -> str | None:
        return self._reader.fault

    @property
    def followed(self) -> frozenset[int]:
        """The numbers of the partitions that are read."""
        return frozenset(number for number, partition in self._partitions.items() if partition.joined)

    async def start(self) -> None:
        self._hub = await self._ask_hub()
        self._read_to = self._hub.head
        self._tasks = [
            asyncio.create_task(self._reader.run(), name="tail: topic"),
            asyncio.create_task(self._watch(), name="tail: watch"),
        ]

    async def stop(self) -> None:
        self._organizations.clear()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOPPED_WITHIN)

    def subscribe(self, organization: int, organization_id: str, receiver: Receiver) -> str:
        found = self._organizations.get(organization)
        if found is None:
            found = self._organizations[organization] = _Organization(organization_id.encode())
            self._place(organization, found)
        seen = found.partition.last if found.partition is not None else ids.MIN_ID
        position = max(self._hub.head, found.last, seen)
        if not found.receivers:
            found.last = position
        found.receivers.append(receiver)
        return position

    def unsubscribe(self, organization: int, receiver: Receiver) -> None:
        found = self._organizations.get(organization)
        if found is None:
            return
        with contextlib.suppress(ValueError):
            found.receivers.remove(receiver)
        if not found.receivers:
            del self._organizations[organization]
            if found.partition is not None:
                found.partition.organizations.pop(found.key, None)
                found.partition.empty_since = time.monotonic()

    def announce(self, append: Append) -> None:
        """Nothing: the topic will bring it."""

    # -- handing over

    def _hand_over(self, organization: int, events: Sequence[StoredEvent]) -> None:
        found = self._organizations.get(organization)
        if found is None:
            return
        new = [event for event in events if event.id > found.last]
        if new:
            found.last = new[-1].id
            for receiver in list(found.receivers):
                receiver.receive(new)

    def _leave_to_history(self, organization: int, to: str) -> None:
        found = self._organizations.get(organization)
        if found is not None:
            found.last = max(found.last, to)
            for receiver in list(found.receivers):
                receiver.fell_behind(to)

    # -- which partitions

    def _place(self, organization: int, found: _Organization) -> None:
        found.partition = None
        if not self._hub.partitions:
            return  # the first look that finds a publication places it
        number = partition_of(found.key, self._hub.partitions)
        found.partition = self._partitions.get(number)
        if found.partition is None:
            found.partition = self._partitions[number] = _Partition(number)
            self._to_join.set()
        found.partition.organizations[found.key] = organization

    def _place_again(self) -> None:
        for number in self._partitions:
            self._reader.leave(number)
        self._partitions = {}
        for organization, found in self._organizations.items():
            self._place(organization, found)

    def _unfollow_empty(self) -> None:
        long_ago = time.monotonic() - LINGER
        for partition in list(self._partitions.values()):
            if not partition.organizations and partition.empty_since < long_ago:
                del self._partitions[partition.number]
                self._reader.leave(partition.number)

    # -- the topic

    async def join(self) -> None:
        """Joins whatever is to be joined. Raises KafkaError and TimeoutError."""
        for partition in self._partitions.values():
            partition.joined = False
            partition.wanted_since = time.monotonic()
        self._to_join.set()
        while True:
            await self._to_join.wait()
            self._to_join.clear()
            joining = [partition for partition in self._partitions.values() if not partition.joined]
            if joining and not await self._join(joining):
                self._to_join.set()
            await asyncio.sleep(JOIN_PAUSE)

    async def _join(self, joining: Sequence[_Partition]) -> bool:
        ends = await self._reader.ends([partition.number for partition in joining])
        organizations = [organization for partition in joining for organization in partition.organizations.values()]
        try:
            hub = await self._ask_hub()
            after = self._handed_over(organizations, hub.head, {})
            events = await read_piece(self._pool, after, hub.head)
        except DATABASE_AWAY as error:
            log.warning("a partition of %s cannot be joined without the database: %r", self._reader.name, error)
            await rest(jittered(JOIN_RETRY))
            return False
        if hub.partitions != self._hub.partitions:
            await asyncio.sleep(self._look_every)  # for the look that places everything again
            return False
        for partition in joining:
            if self._partitions.get(partition.number) is partition:
                partition.position = partition.end = ends[partition.number]
                partition.last = hub.head
                partition.joined = True
                for organization in set(partition.organizations.values()).difference(organizations):
                    self._leave_to_history(organization, hub.head)  # it came while history was read
        self._take_over(after, events, hub.head)
        followed = (partition for partition in self._partitions.values() if partition.joined)
        self._reader.follow({partition.number: partition.position for partition in followed})
        return True

    def lost(self, number: int, why: str) -> None:
        partition = self._partitions.get(number)
        if partition is None or not partition.joined:
            return
        now = time.monotonic()
        if now - self._warned_at > WARN_EVERY:
            log.warning(
                "partition %d of %s is joined again, what is missing comes from history: %s",
                number,
                self._reader.name,
                why,
            )
            self._warned_at = now
        partition.joined = False
        partition.wanted_since = now
        self._to_join.set()

    def take(self, number: int, records: Sequence[ConsumerRecord]) -> None:
        partition = self._partitions.get(number)
        if partition is None or not partition.joined:
            return
        found: dict[int, list[StoredEvent]] = {}
        organizations = partition.organizations
        last, read_to = partition.last, self._read_to
        missing = ""
        for record in records:
            headers = dict(record.headers)
            named, named_after = headers.get(ID), headers.get(AFTER)
            if not named or not named_after:
                continue  # nothing of ours: the topic may be open to others
            id_ = named.decode("latin-1")
            if id_ <= last:
                continue
            after = named_after.decode("latin-1")
            if after > last and after > read_to:
                missing = f"what is between {last} and {after} is missing"
                break
            organization = organizations.get(record.key)
            if organization is not None and id_ > read_to:
                try:
                    found.setdefault(organization, []).append(event_of(organization, id_, record.value or b""))
                except msgspec.DecodeError as error:
                    missing = f"the record of {id_} is no event ({error})"
                    break
            last = id_
        partition.last = last
        partition.position = records[-1].offset + 1
        for organization, events in found.items():
            self._hand_over(organization, events)
        if missing:
            self._reader.leave(number)
            self.lost(number, missing)

    # -- the hub, and history

    async def _ask_hub(self) -> _Hub:
        async with self._pool.acquire(timeout=TIMEOUT) as connection:
            row = await connection.fetchrow(PUBLISHED, self._reader.name, timeout=TIMEOUT)
        assert row is not None, "log_head has a row from the migration on"
        return _Hub(head_of(row), row["published"] or ids.MIN_ID, row["partitions"] or 0)

    async def _watch(self) -> None:
        away = False
        while True:
            await rest(jittered(self._look_every))
            try:
                await self._look()
                away = False
            except Exception as error:  # noqa: BLE001 - whatever it is, the tail has to go on
                if not away:
                    log.warning("the tail cannot look at the hub, retrying: %r", error)
                away = True

    async def _look(self) -> None:
        lasts = {partition.number: partition.last for partition in self._partitions.values()}
        hub = await self._ask_hub()
        before, self._hub = self._hub, hub
        if hub.partitions != before.partitions:
            if before.partitions:
                log.warning("%s has %d partitions now, not %d", self._reader.name, hub.partitions, before.partitions)
            lasts = {}
            self._place_again()
        self._unfollow_empty()
        late = hub.published < before.head and self._read_to < hub.head
        self._note(late=late, away=not self._flows())
        await self._read_history(hub.head if self.degraded else before.published, lasts)

    def _note(self, *, late: bool, away: bool) -> None:
        before = self._calm_looks
        self._calm_looks = 0 if late or away else min(before + 1, CALM_LOOKS)
        if before == CALM_LOOKS and self._calm_looks == 0:
            why = "does not answer in time" if away else "does not have all that was published"
            log.warning("%s %s: live streams go on from history", self._reader.name, why)
        elif before < CALM_LOOKS == self._calm_looks:
            log.info("%s has caught up: live streams go on from the topic", self._reader.name)

    def _flows(self) -> bool:
        """Whether the broker answers, and each partition has come to where it ended at the last look."""
        flows = not self._reader.silent
        lately = time.monotonic() - JOINED_WITHIN
        for partition in self._partitions.values():
            if partition.joined:
                flows = flows and partition.position >= partition.end
                partition.end = max(partition.position, self._reader.end_seen(partition.number))
            else:
                flows = flows and partition.wanted_since > lately
        return flows

    async def _read_history(self, to: str, lasts: Mapping[int, str]) -> None:
        """Hand over what history has up to `to`, as far as that was not done."""
        after = self._handed_over(self._organizations, to, lasts)
        events = await read_piece(self._pool, after, to)
        self._read_to = max(self._read_to, to)
        self._take_over(after, events, to)

    def _handed_over(self, organizations: Iterable[int], to: str, lasts: Mapping[int, str]) -> dict[int, str]:
        """Up to where everything was handed over, for those organizations where that is not `to`."""
        after = {}
        for organization in organizations:
            found = self._organizations.get(organization)
            if found is not None:
                seen = lasts.get(found.partition.number, "") if found.partition is not None else ""
                known = max(found.last, self._read_to, seen)
                if known < to:
                    after[organization] = known
        return after

    def _take_over(self, after: Mapping[int, str], events: Sequence[StoredEvent] | None, to: str) -> None:
        """Hand over what history was found to have for these organizations; None: more than can be handed over."""
        if events is None:
            for organization in after:
                self._leave_to_history(organization, to)
            return
        by_organization: dict[int, list[StoredEvent]] = {}
        for event in events:
            by_organization.setdefault(event.organization, []).append(event)
        for organization, its_events in by_organization.items():
            self._hand_over(organization, its_events)
