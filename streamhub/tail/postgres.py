"""The tail over PostgreSQL alone: a call within the relay's process, one NOTIFY an append for all others.

    announce(append) ──── contiguous ─────────────▶ receivers        (the relay is in this process)
          └── not contiguous ──▶ wanted ─▶ one read of history ─▶ receivers
    NOTIFY previous first last keys ──▶ wanted ─┘
    log_head, every 2 s ──────────────▶ wanted ─┘                     (covers a lost NOTIFY or connection)

`seen` is the id up to which receivers have been served. What readers need beyond it is read from history in one bounded
piece, for the organizations subscribed here; where a piece does not hold it all, the receivers concerned fall behind
and read history each at its own pace.
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence, Set
from typing import Final

import asyncpg

from streamhub.backoff import Backoff, jittered, rest
from streamhub.core import ids
from streamhub.core.events import StoredEvent
from streamhub.history import head, notices
from streamhub.history.append import Append
from streamhub.history.notices import Notice
from streamhub.history.pieces import TIMEOUT, read_piece
from streamhub.history.plans import INDEX_ORDER
from streamhub.postgres.connections import Pool, connect
from streamhub.tail import Receiver

log = logging.getLogger(__name__)

POLL_EVERY: Final = 2.0  # seconds
RETRY_FIRST: Final = 0.2  # seconds
RETRY_LONGEST: Final = 5.0
RETRY_LISTEN: Final = 0.45
STOPPED_WITHIN: Final = 0.5
# A relay in this process announces within this time of the NOTIFY, so that history need not be read for it.
ANNOUNCED_WITHIN: Final = 0.02  # seconds


class PostgresTail:
    """See `Tail`. `dsn` is for a connection of its own that listens; `pool` for reads."""

    degraded = False  # it has nothing but history
    fault = None

    def __init__(self, dsn: str, pool: Pool, poll_every: float = POLL_EVERY) -> None:
        self._dsn = dsn
        self._pool = pool
        self._poll_every = poll_every
        self._receivers: dict[int, list[Receiver]] = {}
        self._seen = ids.MIN_ID
        self._wanted = ids.MIN_ID
        self._reading_to = ids.MIN_ID
        self._keys: set[int] | None = set()  # of what is still to be read; None: any
        self._wake = asyncio.Event()
        self._announced_at = float("-inf")
        self._tasks: list[asyncio.Task[None]] = []
        self._stopped = False

    async def start(self) -> None:
        async with self._pool.acquire(timeout=TIMEOUT) as connection:
            self._seen = self._wanted = self._reading_to = await head.read(connection, TIMEOUT)
        self._tasks = [
            asyncio.create_task(self._listen(), name="tail: listen"),
            asyncio.create_task(self._read(), name="tail: read"),
        ]

    async def stop(self) -> None:
        self._stopped = True
        self._receivers.clear()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOPPED_WITHIN)

    def subscribe(self, organization: int, organization_id: str, receiver: Receiver) -> str:  # noqa: ARG002
        self._receivers.setdefault(organization, []).append(receiver)
        # A read that is under way asked for the organizations of its beginning.
        return max(self._seen, self._reading_to)

    def unsubscribe(self, organization: int, receiver: Receiver) -> None:
        receivers = self._receivers.get(organization, [])
        with contextlib.suppress(ValueError):
            receivers.remove(receiver)
        if not receivers:
            self._receivers.pop(organization, None)

    def announce(self, append: Append) -> None:
        self._announced_at = asyncio.get_running_loop().time()
        if self._reading_to > self._seen or append.previous_head > self._seen:
            self._want(append.last_id, None)
        elif append.last_id > self._seen:
            self._seen = append.last_id
            if self._receivers:
                self._dispatch(append.events)

    def _dispatch(self, events: Sequence[StoredEvent]) -> None:
        by_organization: dict[int, list[StoredEvent]] = {}
        for event in events:
            if event.organization in self._receivers:
                by_organization.setdefault(event.organization, []).append(event)
        for organization, its_events in by_organization.items():
            for receiver in list(self._receivers.get(organization, ())):
                receiver.receive(its_events)

    def _want(self, to: str, keys: Set[int] | None) -> None:
        if to <= self._seen or self._stopped:
            return
        self._wanted = max(self._wanted, to)
        if keys is None or self._keys is None:
            self._keys = None
        else:
            self._keys |= keys
        self._wake.set()

    # -- reading what no announce brought

    async def _read(self) -> None:
        pause = Backoff(RETRY_FIRST, RETRY_LONGEST)
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._wanted <= self._seen:
                self._keys = set()
                continue
            to, wanted_keys, self._keys = self._wanted, self._keys, set()
            keys = [key for key in self._receivers if wanted_keys is None or key in wanted_keys]
            self._reading_to = to
            try:
                events = await read_piece(self._pool, dict.fromkeys(keys, self._seen), to)
                pause.reset()
            except Exception as error:  # noqa: BLE001 - whatever it is, the tail has to go on
                log.warning("the tail cannot read history, retrying: %r", error)
                self._keys = None
                self._wake.set()
                await pause.sleep()
                continue
            finally:
                self._reading_to = self._seen
            self._seen = to
            self._reading_to = to
            if events is not None:
                self._dispatch(events)
                continue
            for key in keys:
                for receiver in list(self._receivers.get(key, ())):
                    receiver.fell_behind(to)

    # -- hearing of it

    async def _listen(self) -> None:
        away = False
        while True:
            try:
                connection = await connect(self._dsn, server_settings=INDEX_ORDER)
                away = False
                try:
                    await self._follow(connection)
                finally:
                    connection.terminate()
            except Exception as error:  # noqa: BLE001 - whatever it is, the tail has to go on
                if not away:
                    log.warning("the tail cannot listen, retrying; streams go on more slowly: %r", error)
                away = True
            await rest(jittered(RETRY_LISTEN))

    async def _follow(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        await notices.listen(connection, self._notified)
        while True:
            # At first, and then now and again: what was appended while nothing listened.
            self._want(await head.read(connection, TIMEOUT), None)
            await asyncio.sleep(self._poll_every)

    def _notified(self, _connection: object, _pid: int, channel: str, payload: object) -> None:
        try:
            notice = Notice.parse(str(payload))
        except ValueError:
            log.warning("a notification on %s is not an append's, it is ignored: %.100r", channel, payload)
            return
        keys = notice.organizations
        if notice.previous > max(self._seen, self._wanted):
            keys = None  # what came between, and whose it is, is not known
        loop = asyncio.get_running_loop()
        if loop.time() - self._announced_at < 60:
            loop.call_later(ANNOUNCED_WITHIN, self._want, notice.last, keys)
        else:
            self._want(notice.last, keys)
