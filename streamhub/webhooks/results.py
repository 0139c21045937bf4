"""What came of attempts, from when they ended until it is written down, many at once."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import asyncpg

from streamhub.backoff import Backoff
from streamhub.leases.node import Node
from streamhub.metrics import Metrics
from streamhub.postgres.connections import Pool
from streamhub.webhooks import deliveries
from streamhub.webhooks.deliveries import Endpoints, Result
from streamhub.webhooks.queue import Queue

log = logging.getLogger(__name__)

MOST_AT_ONCE: Final = 500  # in one transaction
LOCKED_FIRST, LOCKED_LONGEST = 0.1, 1.0  # seconds until what another transaction has locked is tried once more

_Key = tuple[str, str]  # endpoint, event


class Results:
    """Those of one process; `len` of it are not written yet.

    Of an endpoint that another transaction has locked they are put aside, so that they are in the way of no other, and
    nothing of it is to begin meanwhile. `written`: which were, for who reads queues to clear. `wake` is called when
    something may begin.
    """

    def __init__(
        self, pool: Pool, node: Node, endpoints: Endpoints, queues: Mapping[str, Queue], metrics: Metrics,
        wake: Callable[[], None],
    ) -> None:  # fmt: skip
        self.written: set[_Key] = set()
        self.disabled = asyncio.Event()  # some endpoint was
        self._pool = pool
        self._node = node
        self._endpoints = endpoints
        self._queues = queues
        self._metrics = metrics
        self._wake = wake
        self._waiting: dict[_Key, Result] = {}
        self._locked: set[str] = set()  # endpoints
        self._pause = Backoff(LOCKED_FIRST, LOCKED_LONGEST)
        self._tries_at = 0.0
        self._ended = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def is_locked(self, endpoint: str) -> bool:
        return endpoint in self._locked

    def add(self, result: Result) -> None:
        self._waiting[_key(result)] = result
        self._ended.set()
        self._wake()

    async def keep_writing(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._tries_at - time.monotonic() if self._locked else None):
                    await self._ended.wait()
            self._ended.clear()
            try:
                await self.write()
            except BaseException:
                self._ended.set()
                raise

    async def write(self) -> None:
        """Write down all, but those of endpoints that are locked. Raises what asyncpg raises."""
        if self._locked and time.monotonic() >= self._tries_at:
            await self._write(self._next(locked=True), waits=False)
        while results := self._next(locked=False):
            await self._write(results, waits=True)
        if not self._locked:
            self._pause.reset()
        elif time.monotonic() >= self._tries_at:
            self._tries_at = time.monotonic() + self._pause.next()

    def _next(self, *, locked: bool) -> list[Result]:
        found = [each for each in self._waiting.values() if (each.delivery.endpoint in self._locked) == locked]
        return found[:MOST_AT_ONCE]

    async def _write(self, results: Sequence[Result], *, waits: bool) -> None:
        ids = {each.delivery.endpoint for each in results}
        failures = {id_: self._queues[id_].failures for id_ in ids if id_ in self._queues}
        in_order = {id_ for id_ in ids if (known := self._endpoints.by_id.get(id_)) is not None and known.in_order}
        try:
            ours, busy = await deliveries.settle(self._pool, self._node.id, results, failures, in_order, waits=waits)
        except asyncpg.LockNotAvailableError:
            if waits:
                await self._write(results, waits=False)
                return
            if len(ids) > 1:  # a lock that came just now: each alone, so that one is in the way of no other
                for id_ in ids:
                    await self._write([each for each in results if each.delivery.endpoint == id_], waits=False)
                return
            ours, busy = set(), ids
        self._locked = (self._locked - ids) | busy
        for each in results:
            key = _key(each)
            del self._waiting[key]
            if each.delivery.endpoint in busy:
                self._waiting[key] = each  # behind the others
            else:
                self._is_written(each, is_ours=each.delivery.endpoint in ours)
        for id_ in ids - ours - busy:
            if id_ in self._queues:
                self._queues[id_].lose()
        self._wake()

    def _is_written(self, result: Result, *, is_ours: bool) -> None:
        id_, event = _key(result)
        if result.disables is not None and is_ours:
            log.warning("webhook endpoint %s was disabled: %s", id_, result.disables)
            self.disabled.set()
        self.written.add((id_, event))
        if result.state != "pending" and is_ours:
            self._metrics.webhook_ended(result.state)
        queue = self._queues.get(id_)
        if queue is not None:
            queue.held.discard(event)
            if result.state == "pending":
                queue.reads_at = min(queue.reads_at, time.monotonic() + result.pause)
            queue.wants_read = queue.wants_read or queue.endpoint.in_order


def _key(result: Result) -> _Key:
    return result.delivery.endpoint, result.delivery.event
