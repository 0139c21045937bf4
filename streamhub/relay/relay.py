"""The relay of a hub: it takes part in the leader election, and while it leads it relays every source.

It retries through anything that passes: a database that restarts, a source that is away, a lost election.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol

import asyncpg

from streamhub.backoff import Backoff, jittered
from streamhub.cancellation import ended
from streamhub.core import ids
from streamhub.history.append import Append, Appended
from streamhub.history.head import FencedError
from streamhub.history.plans import INDEX_ORDER
from streamhub.leases.leader import CANDIDATE_EVERY, RENEW_EVERY, Leadership, application_name
from streamhub.organizations.cache import Registry
from streamhub.postgres.connections import DATABASE_ERRORS, connect, create_pool
from streamhub.postgres.ownership import ForeignSourceError, claim, hub_id, remedy
from streamhub.relay.batches import Preparer
from streamhub.relay.outbox import read_times_as_integers
from streamhub.relay.source import SourceRelay
from streamhub.relay.upkeep import SETTINGS as UPKEEP_SETTINGS
from streamhub.relay.upkeep import Upkeep, keep_lean
from streamhub.relay.watch import watch_captures

log = logging.getLogger(__name__)

RETRY_FIRST: Final = 0.1
RETRY_LONGEST: Final = 5.0
STEADY_AFTER: Final = 10.0  # seconds
WEEKS_WITHIN: Final = 2.0  # seconds: after that it is relayed without
CLOCK_JUMP: Final = 60_000  # milliseconds

# A server ends a connection that went silent in the middle of a transaction: a relay that was stopped there holds the
# row of log_epoch.
_SETTINGS: Final = {"idle_in_transaction_session_timeout": "10s", "timezone": "UTC", "jit": "off", **INDEX_ORDER}


class Source(NamedTuple):
    """A database with an outbox. `in_hub`: it is the hub's own, so that one transaction appends and consumes."""

    name: str
    dsn: str
    in_hub: bool


class Publisher(Protocol):
    """Sends events elsewhere while this process leads."""

    def announce(self, appended: Appended) -> None:
        """An append that this process has just committed. Returns at once."""

    async def keep_pace(self) -> None:
        """Called between two appends of a backlog; returns within a fraction of a second."""

    async def run(self, hub: "asyncpg.Pool[Any]", report: Callable[[str, str | None, str], None]) -> None:
        """Until cancelled; deals with its errors itself. `report` takes incidents: kind, source, detail."""


class Relay:
    """`announce` is called with every append of this process, on its event loop; `observe` with the number of its
    events, their bytes, and the seconds from the writing of its first change to its publication; `failed` with the name
    of a source that is to be retried."""

    def __init__(
        self,
        hub_dsn: str,
        sources: Sequence[Source],
        *,
        announce: Callable[[Append], None],
        max_event_bytes: int = 16 * 1024 * 1024,
        retention: timedelta | None = None,
        observe: Callable[[int, int, float], None] = lambda _events, _bytes, _waited: None,
        failed: Callable[[str], None] = lambda _source: None,
        publisher: Publisher | None = None,
    ) -> None:
        self._hub_dsn = hub_dsn
        self._sources = sources
        self._announce = announce
        self._max_event_bytes = max_event_bytes
        self._retention = retention
        self._observe = observe
        self._failed = failed
        self._publisher = publisher
        self._clock_offset: float | None = None
        self.lost: dict[str, str] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set. Errors that pass are logged and retried with back-off."""
        pause = Backoff(RETRY_FIRST, RETRY_LONGEST)
        ending = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                running = asyncio.create_task(self._take_part())
                await asyncio.wait({running, ending}, return_when=asyncio.FIRST_COMPLETED)
                if not running.done():
                    await ended(running)
                    return
                error = running.exception()
                if error is None or isinstance(error, FencedError):
                    pause.reset()
                elif isinstance(error, DATABASE_ERRORS):
                    log.warning("the relay lost the hub's database, retrying: %s: %s", type(error).__name__, error)
                else:
                    raise error
                with suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(ending), pause.next())
        finally:
            ending.cancel()

    async def _take_part(self) -> None:
        """Wait to be elected, lead until the lease is lost, and leave everything closed."""
        holder = str(uuid.uuid4())
        async with AsyncExitStack() as stack:
            connection = await _connect(self._hub_dsn, f"streamhub candidate {holder}")
            stack.push_async_callback(_close, connection)
            leadership = Leadership(connection, holder)
            while (epoch := await leadership.acquire()) is None:  # noqa: ASYNC110 - what is awaited is in the database
                await asyncio.sleep(jittered(CANDIDATE_EVERY))
            try:
                await self._lead(leadership, holder, epoch)
            finally:
                with suppress(*DATABASE_ERRORS):
                    await leadership.release(epoch)

    async def _lead(self, leadership: Leadership, holder: str, epoch: int) -> None:
        name = application_name(holder)
        async with AsyncExitStack() as stack:
            hub = await create_pool(self._hub_dsn, name, 4, command_timeout=30, server_settings=_SETTINGS)
            stack.push_async_callback(_close_pool, hub)
            registry = Registry(hub)
            listener = await _connect(self._hub_dsn, name)
            stack.push_async_callback(_close, listener)
            identity = await hub_id(listener)
            await registry.listen(listener)
            upkeep = Upkeep(lambda: _connect(self._hub_dsn, name, UPKEEP_SETTINGS), self._retention)
            tasks = [
                asyncio.create_task(_keep_lease(leadership, epoch)),
                asyncio.create_task(_until_closed(listener)),
                asyncio.create_task(upkeep.run()),
                *(
                    asyncio.create_task(self._keep_relaying(source, name, epoch, identity, hub, registry, upkeep))
                    for source in self._sources
                ),
            ]
            if self._publisher is not None:
                tasks.append(asyncio.create_task(self._publisher.run(hub, upkeep.report)))
            try:
                # None of them ends but by an error; the first one ends the leadership.
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                await ended(*tasks)

    async def _keep_relaying(
        self, source: Source, name: str, epoch: int, identity: str, hub: "asyncpg.Pool[Any]", registry: Registry,
        upkeep: Upkeep,
    ) -> None:  # fmt: skip
        """One source for as long as this process leads; the others go on while it is away."""
        with suppress(TimeoutError):  # an append waits for no week: what has none goes to the DEFAULT partition
            await asyncio.wait_for(upkeep.looked.wait(), WEEKS_WITHIN)
        task = asyncio.current_task()
        assert task is not None, "it runs in a task of its own"
        pause = Backoff(RETRY_FIRST, RETRY_LONGEST, steady_after=STEADY_AFTER)
        while True:
            started = time.monotonic()
            try:
                async with AsyncExitStack() as stack:
                    reader = await _connect(source.dsn, name)
                    stack.push_async_callback(_close, reader)
                    await claim(reader, identity)
                    await read_times_as_integers(reader)
                    consumer = await _connect(source.dsn, name)
                    stack.push_async_callback(_close, consumer)
                    appender = await _connect(self._hub_dsn, name)
                    stack.push_async_callback(_close, appender)
                    learner = await _connect(source.dsn, name)
                    stack.push_async_callback(_close, learner)
                    preparer = Preparer(source.name, learner, hub, registry, self._max_event_bytes)
                    relay = SourceRelay(
                        source.name,
                        in_hub=source.in_hub,
                        epoch=epoch,
                        hub_id=identity,
                        reader=reader,
                        consumer=consumer,
                        hub=appender,
                        preparer=preparer,
                        announce=self._announce,
                        appended=lambda done, written_at: self._note(done, written_at, upkeep),
                        journal=self._publisher is not None,
                        keep_pace=None if self._publisher is None else self._publisher.keep_pace,
                    )
                    self.lost.pop(source.name, None)
                    lean = asyncio.create_task(keep_lean(lambda: _connect(source.dsn, name), relay))
                    stack.callback(lean.cancel)
                    watch = asyncio.create_task(
                        watch_captures(lambda: _connect(source.dsn, name), source.name, upkeep.report)
                    )
                    stack.callback(watch.cancel)
                    await relay.run()
            except FencedError:
                raise
            except ForeignSourceError as error:
                self._tell_foreign(source, error, upkeep)
            except Exception as error:
                if task.cancelling():
                    # The end of a transaction whose connection is gone puts an error in the cancellation's place.
                    raise asyncio.CancelledError from error
                if not isinstance(error, DATABASE_ERRORS):
                    log.exception("relaying source %s failed", source.name)
                self.lost[source.name] = f"{type(error).__name__}: {error}"
                self._failed(source.name)
                log.warning("source %s cannot be relayed, retrying: %s: %s", source.name, type(error).__name__, error)
            await pause.sleep(time.monotonic() - started)

    def _tell_foreign(self, source: Source, error: ForeignSourceError, upkeep: Upkeep) -> None:
        """Once: it is tried again, as the other hub may give the source up."""
        told = f"{error}: nothing is read from it. To do: {remedy(source.name, in_hub=source.in_hub)}"
        if self.lost.get(source.name) != told:
            self.lost[source.name] = told
            log.error("source %s: %s", source.name, told)
            upkeep.report("source", source.name, told)

    def _note(self, done: Appended, written_at: float, upkeep: Upkeep) -> None:
        if done.append is not None:
            published_ms = ids.milliseconds(done.append.first_id)
            self._observe(len(done.append.events), done.bytes, published_ms / 1_000 - written_at)
            upkeep.types.note(done.types, published_ms)
            if self._publisher is not None:
                self._publisher.announce(done)
        # CLOCK_BOOTTIME goes on through a suspended machine, and nothing sets it.
        offset = done.clock_ms - time.clock_gettime(time.CLOCK_BOOTTIME) * 1000
        if self._clock_offset is not None and abs(offset - self._clock_offset) > CLOCK_JUMP:
            jump = f"the hub's clock jumped by {(offset - self._clock_offset) / 1000:+.1f} s; ids go on"
            log.error("%s", jump)
            upkeep.report("clock", None, jump)
        self._clock_offset = offset


async def _keep_lease(leadership: Leadership, epoch: int) -> None:
    while await leadership.renew(epoch):  # noqa: ASYNC110 - what is awaited is in the database
        await asyncio.sleep(RENEW_EVERY)
    raise FencedError(f"the lease of epoch {epoch} was lost")


async def _until_closed(connection: "asyncpg.Connection[Any]") -> None:
    """Raises once the connection is gone."""
    gone = asyncio.Event()
    connection.add_termination_listener(lambda _: gone.set())
    await gone.wait()
    raise ConnectionError("the connection that listens to the hub was lost")


async def _connect(
    dsn: str, name: str, settings: Mapping[str, str] = MappingProxyType({})
) -> "asyncpg.Connection[Any]":
    return await connect(dsn, command_timeout=60, server_settings={**_SETTINGS, **settings, "application_name": name})


async def _close(connection: "asyncpg.Connection[Any]") -> None:
    """At once: whatever was under way is undone by the server."""
    connection.terminate()


async def _close_pool(pool: "asyncpg.Pool[Any]") -> None:
    pool.terminate()
