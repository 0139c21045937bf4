"""The publisher: sends every event of history to a topic of Apache Kafka, in order, for as long as this relay leads.

Two ways to come by the events, one position between them:

    MEMORY    appends as they are announced, while they follow the position without a gap
    HISTORY   pages, by the journal of appends, until memory follows: at the start, after an error, an overflow, a hole

`announce` never waits: a queue with a bound is filled, and emptied when the bound is reached, since history has it
all. So capture and history never wait for a broker. A backlog waits a little for room in the queue, and only while
brokers take what they are sent (`keep_pace`). What was acknowledged is stored in the hub (`publication.py`); an error
ends the run (`run.py`), and the next one goes on from what is stored, after a pause that grows.
"""

import asyncio
import logging
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from itertools import accumulate
from typing import Final, NamedTuple

from aiokafka.errors import KafkaError

from streamhub.backoff import Backoff
from streamhub.core.drafts import ids_of, sizes_of
from streamhub.core.events import StoredEvent
from streamhub.history import journal
from streamhub.history.ahead import one_ahead
from streamhub.history.append import Appended
from streamhub.kafka.brokers import AwayError, Brokers
from streamhub.kafka.publication import Publication
from streamhub.kafka.run import Run, RunError
from streamhub.kafka.topic import Topic, open_topic
from streamhub.postgres.connections import DATABASE_ERRORS, Pool

log = logging.getLogger(__name__)

MOST_EVENTS: Final = 100_000  # in memory
MOST_BYTES: Final = 64 * 1024 * 1024
PIECE_EVENTS: Final = 2_000  # sent at once, of more than one append
PIECE_BYTES: Final = 1_000_000  # sent at once, unless a single event has more; what a processor's cache holds
PACE: Final = 0.25  # seconds that an append of a backlog waits for room in memory, at the most
ADVANCING: Final = 0.2  # seconds since brokers took a piece
STORE_EVERY: Final = 0.15  # seconds
LOOK_EVERY: Final = 2.0  # seconds between two looks for what was not announced, while nothing is to be done
PAUSE_FIRST: Final = 0.25
PAUSE_LONGEST: Final = 5.0
SAID_EVERY: Final = 60.0  # seconds between two lines about a fault that lasts
STORED_WITHIN: Final = 1.0  # seconds, when the publisher ends

Report = Callable[[str, str | None, str], None]

SENTENCES: Final = (RunError, AwayError)
ERRORS: Final = (*SENTENCES, KafkaError, *DATABASE_ERRORS)


class Piece(NamedTuple):
    """All events there are from the position up to `until`."""

    events: Sequence[StoredEvent]
    until: str


class Queued(NamedTuple):
    """An append: `first` and `last` are ids of its events, `previous` that of the event before."""

    previous: str
    first: str
    last: str
    events: Sequence[StoredEvent]
    bytes: int


class Queue:
    """Appends in memory, within a bound; over it, they are dropped."""

    def __init__(self, most_events: int = MOST_EVENTS, most_bytes: int = MOST_BYTES) -> None:
        self._most_events = most_events
        self._most_bytes = most_bytes
        self._appends: deque[Queued] = deque()
        self._events = self._bytes = 0
        self.filled = asyncio.Event()
        self.has_room = asyncio.Event()
        self.has_room.set()

    def put(self, queued: Queued) -> None:
        if self._events + len(queued.events) > self._most_events or self._bytes + queued.bytes > self._most_bytes:
            self.clear()
        self._appends.append(queued)
        self._events += len(queued.events)
        self._bytes += queued.bytes
        self.filled.set()
        self._look_for_room()

    def clear(self) -> None:
        self._appends.clear()
        self._events = self._bytes = 0
        self._look_for_room()

    def _look_for_room(self) -> None:
        """Half of the bound is left for what is being appended."""
        if self._events <= self._most_events // 2 and self._bytes <= self._most_bytes // 2:
            self.has_room.set()
        else:
            self.has_room.clear()

    def __bool__(self) -> bool:
        return bool(self._appends)

    def follows(self, position: str) -> bool:
        """What comes next is here. Drops what the position is beyond."""
        while self._appends and self._appends[0].last <= position:
            gone = self._appends.popleft()
            self._events -= len(gone.events)
            self._bytes -= gone.bytes
        self._look_for_room()
        return bool(self._appends) and self._appends[0].previous <= position

    def next(self, position: str) -> Piece | None:
        """What follows the position, and stays here until the position is beyond it; None where it is not here."""
        self.filled.clear()
        if not self.follows(position):
            return None
        runs: list[Sequence[StoredEvent]] = []
        count = size = 0
        for append in self._appends:
            if runs and (count + len(append.events) > PIECE_EVENTS or size + append.bytes > PIECE_BYTES):
                break
            runs.append(append.events)
            count += len(append.events)
            size += append.bytes
        events = runs[0] if len(runs) == 1 else [event for run in runs for event in run]
        until = self._appends[len(runs) - 1].last
        if self._appends[0].first <= position:
            events = events[bisect_right(ids_of(events), position) :]
        if size > PIECE_BYTES:  # of a single append
            sums = list(accumulate(sizes_of(events)))
            events = events[: bisect_left(sums, PIECE_BYTES) + 1]
            until = ids_of(events)[-1]
        return Piece(events, until)


class KafkaPublisher:
    """`sent` is called with the number of events that were sent, `failed` at each error."""

    def __init__(
        self,
        brokers: Brokers,
        topic: str,
        *,
        max_event_bytes: int = 16 * 1024 * 1024,
        sent: Callable[[int], None] = lambda _events: None,
        failed: Callable[[], None] = lambda: None,
    ) -> None:
        self._brokers = brokers
        self._topic = topic
        self._max_event_bytes = max_event_bytes
        self._sent = sent
        self._failed = failed
        self._queue = Queue()
        self._advanced_at = float("-inf")
        self._reported: set[str] = set()
        self._stored = ""
        self._stored_at = float("-inf")
        self._storing: asyncio.Task[None] | None = None

    def announce(self, appended: Appended) -> None:
        """An append that this process has just committed. Returns at once."""
        if appended.append is not None:
            its = appended.append
            self._queue.put(Queued(appended.previous_event, its.first_id, its.last_id, its.events, appended.bytes))

    async def keep_pace(self) -> None:
        """Between two appends of a backlog: returns when there is room in memory, after PACE at the latest, and at once
        unless brokers take what they are sent right now. What finds no room has to be read from history again, which
        costs more than the wait."""
        if asyncio.get_running_loop().time() - self._advanced_at < ADVANCING:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._queue.has_room.wait(), PACE)

    async def run(self, hub: Pool, report: Report) -> None:
        """Until cancelled. Errors are logged, told to the hub and tried again; `report` notes incidents."""
        loop = asyncio.get_running_loop()
        publication = Publication(hub, self._topic)
        pause = Backoff(PAUSE_FIRST, PAUSE_LONGEST, steady_after=2 * PAUSE_LONGEST)
        said = dict[str, float]()  # by fault, when it was said last
        self._queue.clear()
        while True:
            began = loop.time()
            try:
                await self._publish(hub, publication, report)
                pause.reset()
            except Exception as error:
                fault = str(error) if isinstance(error, SENTENCES) else f"{type(error).__name__}: {error}"
                self._failed()
                said = {each: at for each, at in said.items() if loop.time() - at < SAID_EVERY}
                if fault not in said:
                    said[fault] = loop.time()
                    log.warning(
                        "publishing to Kafka failed, retrying; no events lost: %s",
                        fault,
                        exc_info=not isinstance(error, ERRORS),
                    )
                with suppress(*DATABASE_ERRORS):
                    await publication.tell(fault)
            await pause.sleep(loop.time() - began)

    async def _publish(self, hub: Pool, publication: Publication, report: Report) -> None:
        """One run. Returns where the next one is to have another number of partitions."""
        topic = await open_topic(self._brokers, self._topic, self._max_event_bytes)
        start = await publication.begin(topic.partitions)
        self._examine(topic, publication, report)
        if topic.partitions != publication.partitions:
            await publication.divide(topic.partitions)
        run = Run(self._brokers, topic, start)
        self._stored = start
        time = asyncio.get_running_loop().time
        looked_at, works = float("-inf"), False
        try:
            await run.open()
            while not run.redivided:
                piece = self._queue.next(run.taken)
                if piece is not None:
                    await self._send(run, piece, publication)
                elif self._queue or time() - looked_at >= LOOK_EVERY:
                    await self._from_history(run, hub, publication, report)
                    looked_at = time()
                else:
                    await self._rest(run, publication)
                if not works and (run.acknowledged > start or run.taken == start):
                    works = True
                    await publication.tell(None)
                    log.info("publishing to topic %s, %d partitions, from %s on", topic.name, topic.partitions, start)
        finally:
            await self._end(run, publication)

    def _examine(self, topic: Topic, publication: Publication, report: Report) -> None:
        """What is worth an operator's look, once for each thing."""
        found = [f"{problem.what}; {problem.fix}" for problem in topic.problems]
        if topic.partitions != publication.partitions:
            found.append(
                f"topic {topic.name} has {topic.partitions} partitions where it had {publication.partitions}: "
                "organizations are in other ones from here on"
            )
        for each in found:
            if each not in self._reported:
                log.warning("%s", each)
                report("kafka", None, each)
        self._reported = set(found)

    async def _send(self, run: Run, piece: Piece, publication: Publication) -> None:
        await run.send(piece.events, piece.until)
        self._sent(len(piece.events))
        self._advanced_at = asyncio.get_running_loop().time()
        if self._storing is not None and self._storing.done():
            await self._stored_before()
        if self._storing is None and self._advanced_at - self._stored_at >= STORE_EVERY:
            self._storing = asyncio.create_task(self._store(run, publication))  # nothing that is sent waits for it

    async def _store(self, run: Run, publication: Publication) -> None:
        if run.acknowledged > self._stored:
            stored = run.acknowledged
            await publication.move(stored)
            self._stored, self._stored_at = stored, asyncio.get_running_loop().time()

    async def _stored_before(self) -> None:
        """What is being stored is stored. Raises what asyncpg raises."""
        storing, self._storing = self._storing, None
        if storing is not None:
            await storing

    async def _rest(self, run: Run, publication: Publication) -> None:
        """Until there is something to send, or it is time to look whether there is."""
        try:
            async with asyncio.timeout(STORE_EVERY if run.taken > self._stored else LOOK_EVERY):
                await self._queue.filled.wait()
        except TimeoutError:
            await run.settled()
            await self._stored_before()
            await self._store(run, publication)

    async def _from_history(self, run: Run, hub: Pool, publication: Publication, report: Report) -> None:
        """Send what there is beyond the position, until memory follows; the next page is read while one is sent."""
        async with aclosing(one_ahead(self._pages(run.taken, hub, report))) as pages:
            async for piece in pages:
                if run.redivided:
                    return
                await self._send(run, piece, publication)
                if self._queue.follows(run.taken):
                    return

    async def _pages(self, position: str, hub: Pool, report: Report) -> AsyncGenerator[Piece, None]:
        while True:
            found = await journal.look(hub, position)
            match found:
                case journal.Stretch(until, organizations):
                    while position < until:
                        events, position = await journal.page(hub, organizations, position, until)
                        yield Piece(events, position)
                case journal.Hole(until):
                    what = f"appends from {position} to {until} were not noted for Kafka; looking for them in history"
                    log.warning("%s", what)
                    report("kafka", None, what)
                    await journal.fill(hub, position, until)
                case journal.End(head):
                    if head > position:
                        yield Piece((), head)
                    return

    async def _end(self, run: Run, publication: Publication) -> None:
        try:
            await run.close()
        finally:
            with suppress(*DATABASE_ERRORS):
                async with asyncio.timeout(STORED_WITHIN):
                    await self._stored_before()
                    await self._store(run, publication)
