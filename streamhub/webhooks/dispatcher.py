"""The role `webhooks`: makes deliveries of events, and delivers those of the endpoints that this process has.

    append, change of an endpoint ─▶ fan out ─▶ deliveries ─▶ take endpoints, read ─▶ attempts ─▶ settle

Any number of processes may run. Each endpoint with something due is taken by one of them, for as long as its node's row
holds, and given up after a while without work. An attempt is written down when it has ended: after a crash it is made
again, with the same webhook-id.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, NamedTuple

from streamhub.backoff import Backoff, jittered, rest
from streamhub.history import notices as appends
from streamhub.leases.node import Node
from streamhub.metrics import Metrics
from streamhub.postgres.connections import Pool, connect
from streamhub.webhooks import deliveries
from streamhub.webhooks.addresses import Addresses
from streamhub.webhooks.attempts import Attempts
from streamhub.webhooks.bodies import Bodies
from streamhub.webhooks.deliveries import Delivery, Endpoints
from streamhub.webhooks.fan_out import FanOut, Pass
from streamhub.webhooks.notices import Notices
from streamhub.webhooks.posting import Poster
from streamhub.webhooks.queue import Queue
from streamhub.webhooks.results import Results

log = logging.getLogger(__name__)

CONNECTIONS: Final = 5  # of its pool; one more listens
LOOK_EVERY: Final = 1.0  # seconds, for what no notification has told
IDLE_FOR: Final = 3.0  # seconds, before an endpoint is given up
FORGET_EVERY: Final = 60.0
TELL_EVERY: Final = 10.0  # seconds, for notices that another process has left
AGAIN_FIRST: Final = 0.02  # seconds, where other transactions have all that is to be looked through again
RETRY_FIRST, RETRY_LONGEST = 0.2, 5.0
ENDS_WITHIN: Final = 0.3  # seconds, at a stop


class Options(NamedTuple):
    """`schedule`: pauses before the second and each later attempt, in seconds."""

    schedule: Sequence[float]
    addresses: Addresses
    proxy: str | None = None
    smtp: str | None = None


class Dispatcher:
    """`async with`: it runs until the block ends."""

    def __init__(self, dsn: str, pool: Pool, node: Node, metrics: Metrics, options: Options) -> None:
        self._dsn = dsn
        self._pool = pool
        self._node = node
        self._metrics = metrics
        self._bodies = Bodies(pool)
        self._endpoints = Endpoints()
        self._fan_out = FanOut(pool, self._endpoints, self._bodies)
        self._poster = Poster(options.addresses, proxy=options.proxy)
        self._notices = Notices(pool, options.smtp, metrics)
        self._wake = asyncio.Event()
        self._queues: dict[str, Queue] = {}
        self._results = Results(pool, node, self._endpoints, self._queues, metrics, self._wake.set)
        self._attempts = Attempts(self._queues, self._results, self._bodies, self._poster, metrics, options.schedule)
        self._updated_to = -1  # the version of the endpoints that queues have
        self._tasks: list[asyncio.Task[None]] = []
        self._published = asyncio.Event()
        self._again = asyncio.Event()
        self._looks_at = 0.0
        self._takes = True  # there may be more to take
        self._gives_up_at = 0.0

    async def __aenter__(self) -> "Dispatcher":
        await self._poster.__aenter__()
        self._published.set()
        self._tasks = [
            asyncio.create_task(self._forever(work, name), name=f"webhooks: {name}")
            for name, work in (
                ("listen", self._listen),
                ("fan out", self._keep_fanning_out),
                ("look again", self._keep_looking_again),
                ("deliver", self._keep_delivering),
                ("settle", self._results.keep_writing),
                ("tell", self._keep_telling),
                ("forget", self._keep_forgetting),
            )
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=ENDS_WITHIN)
        await self._attempts.stop()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(ENDS_WITHIN):
                await self._results.write()
                await self._give_up_counted(0.0)
        counted = max((queue.counted_for(time.monotonic()) for queue in self._queues.values()), default=0.0)
        if counted > 0:
            await asyncio.sleep(counted)
            with contextlib.suppress(Exception):
                async with asyncio.timeout(ENDS_WITHIN):
                    await self._give_up_counted(float("inf"))
        await self._poster.__aexit__()

    async def _forever(self, work: Callable[[], Awaitable[None]], name: str) -> None:
        pause = Backoff(RETRY_FIRST, RETRY_LONGEST, steady_after=10.0)
        while True:
            began = time.monotonic()
            try:
                await work()
            except Exception as error:  # noqa: BLE001 - whatever it is, the role has to go on
                wait = pause.next(time.monotonic() - began)
                log.warning("webhooks: %s failed, retrying in %.1f s; no deliveries lost: %r", name, wait, error)
                await rest(wait)

    # -- hearing of it

    async def _listen(self) -> None:
        connection = await connect(self._dsn, server_settings={"application_name": "streamhub webhooks"})
        try:
            await appends.listen(connection, lambda *_: self._published.set())
            await connection.add_listener(await deliveries.channel(connection), self._notified)
            while not connection.is_closed():
                for each in (self._published, self._again):
                    each.set()
                await asyncio.sleep(jittered(LOOK_EVERY))
        finally:
            connection.terminate()
        raise ConnectionError("the connection that listens was lost")

    def _notified(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        what, *named = str(payload).split(" ")
        if what in ("endpoints", "deliveries"):
            self._published.set()
        if what == "deliveries":
            self._woken(None)
        elif what == "again":
            self._woken(named, again=True)
        elif what != "endpoints":
            self._woken([what, *named])

    def _woken(self, endpoints: Sequence[str] | None, *, again: bool = False) -> None:
        """Something of these is due; None: of any. `again`: what goes before what was read, perhaps."""
        for id_ in self._queues if endpoints is None else endpoints:
            queue = self._queues.get(id_)
            if queue is None:
                self._looks_at = 0.0
            else:
                queue.wants_read = True
                queue.wants_tests = queue.wants_tests or again
                if again and queue.endpoint.in_order:
                    queue.clear()
        if endpoints is None:
            self._looks_at = 0.0
        self._wake.set()

    # -- events into deliveries

    async def _keep_fanning_out(self) -> None:
        while True:
            await self._published.wait()
            self._published.clear()
            if not self._node.trusted:
                await rest(LOOK_EVERY)
                self._published.set()
                continue
            more = True
            while more:
                began = time.monotonic()
                step = await self._fan_out.step()
                if self._updated_to != self._endpoints.version:  # it may have been loaded by a step that failed
                    self._updated_to = self._endpoints.version
                    self._update()
                if step.again:
                    self._again.set()
                self._metrics.webhooks_fanned_out(step.deliveries)
                self._hand_on(step, began)
                more = step.more

    def _hand_on(self, step: Pass, began: float) -> None:
        """New deliveries, to queues that have read all that was due before: they need not be read. What a queue has
        read since the step `began` may be among them, and delivered already."""
        now = time.time()
        for endpoint, event, resource_key in step.due:
            queue = self._queues.get(endpoint)
            if queue is not None and not queue.wants_read and queue.has_room and queue.was_read_at < began:
                queue.add([Delivery(endpoint, event, 0, resource_key, None, now)])
        self._wake.set()

    async def _keep_looking_again(self) -> None:
        while True:
            await self._again.wait()
            self._again.clear()
            step = Pass(again=True)
            pause = Backoff(AGAIN_FIRST, LOOK_EVERY)
            while step.again and self._node.trusted:
                step = await self._fan_out.step_again()
                self._metrics.webhooks_fanned_out(step.deliveries)
                if step.more:
                    pause.reset()
                elif step.again:
                    await pause.sleep()

    def _update(self) -> None:
        """The endpoints have changed."""
        now = time.monotonic()
        for id_, queue in self._queues.items():
            endpoint = self._endpoints.by_id.get(id_)
            if endpoint is None:  # it was deleted
                self._attempts.cancel(queue)
                queue.lose()
                queue.held.clear()  # so that it is dropped
            if endpoint is None or endpoint.choice is None:
                endpoint = queue.endpoint._replace(enabled=False)
            queue.change(endpoint, now)
        self._woken(None)

    # -- deliveries into attempts

    async def _keep_delivering(self) -> None:
        while True:
            now = time.monotonic()
            if not self._node.trusted:
                for queue in self._queues.values():
                    queue.lose()
            self._drop(id_ for id_, queue in self._queues.items() if queue.is_lost and not queue.held)
            if not self._node.trusted:
                await rest(LOOK_EVERY)
                continue
            if now >= self._looks_at:
                self._looks_at = now + jittered(LOOK_EVERY)
                self._takes = True
                for queue in self._queues.values():
                    queue.wants_read = queue.wants_tests = True
            if self._takes:
                self._takes = await self._take(now)
            soon = min((queue.look(now) for queue in self._queues.values()), default=LOOK_EVERY)
            await self._read()
            await self._choose_probes(time.monotonic())
            wait = min(self._begin(), soon, 0.0 if self._takes else LOOK_EVERY)
            if now >= self._gives_up_at:
                self._gives_up_at = now + LOOK_EVERY
                await self._give_up(now)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(wait, max(0.0, self._looks_at - time.monotonic()))):
                    await self._wake.wait()
            self._wake.clear()

    async def _take(self, now: float) -> bool:
        """Whether there may be more."""
        others = [id_ for id_ in self._endpoints.enabled if id_ not in self._queues]
        if not others:
            return False
        taken = await deliveries.take(self._pool, self._node.id, others)
        for id_, failures in taken.items():
            if id_ in self._endpoints.by_id:  # else it was deleted just now
                self._queues[id_] = Queue(self._endpoints.by_id[id_], failures, now)
        return len(taken) >= deliveries.MOST_TAKEN

    async def _read(self) -> None:
        wanted = {
            id_: queue.most_read
            for id_, queue in self._queues.items()
            if queue.wants_read and queue.has_room and queue.endpoint.enabled
        }
        tested = [id_ for id_, queue in self._queues.items() if queue.wants_tests and queue.endpoint.enabled]
        for id_ in wanted:
            self._queues[id_].wants_read = False
        for id_ in tested:
            self._queues[id_].wants_tests = False
        found: dict[str, list[Delivery]] = {}
        self._results.written.clear()  # of which the read may see nothing yet
        try:
            tests = await deliveries.read_tests(self._pool, tested) if tested else []
            for each in await deliveries.read(self._pool, wanted) if wanted else []:
                found.setdefault(each.endpoint, []).append(each)
        except BaseException:
            for id_ in {*wanted, *tested}:
                self._queues[id_].wants_read = self._queues[id_].wants_tests = True
            raise
        for id_, its in [*found.items(), *((each.endpoint, [each]) for each in tests)]:
            self._queues[id_].add(each for each in its if (id_, each.event) not in self._results.written)
        for id_ in wanted:
            self._queues[id_].was_read_at = time.monotonic()
        for id_, its in found.items():
            self._queues[id_].wants_read = self._queues[id_].wants_read or len(its) >= wanted[id_]

    async def _choose_probes(self, now: float) -> None:
        wanted = {id_: queue for id_, queue in self._queues.items() if queue.wants_most_tried(now)}
        if not wanted:
            return
        self._results.written.clear()
        found = {each.endpoint: each for each in await deliveries.read_most_tried(self._pool, list(wanted))}
        for id_, queue in wanted.items():
            each = found.get(id_)
            queue.choose_probe(None if each is None or (id_, each.event) in self._results.written else each)

    def _begin(self) -> float:
        """Seconds until another attempt may begin. The node may not be trusted any more by now."""
        return self._attempts.begin(LOOK_EVERY) if self._node.trusted else LOOK_EVERY

    async def _give_up(self, now: float) -> None:
        idle = {id_: queue.failures for id_, queue in self._queues.items() if queue.is_idle(now, IDLE_FOR)}
        if idle:
            self._drop(idle)
            await deliveries.give_up(self._pool, self._node.id, idle)

    async def _give_up_counted(self, most: float) -> None:
        """Those of which no attempt counts for the rate any longer than so many seconds."""
        now = time.monotonic()
        free = {id_: queue.failures for id_, queue in self._queues.items() if queue.counted_for(now) <= most}
        self._drop(free)
        await deliveries.give_up(self._pool, self._node.id, free)

    def _drop(self, endpoints: Iterable[str]) -> None:
        for id_ in list(endpoints):
            self._queues.pop(id_, None)

    async def _keep_telling(self) -> None:
        while True:
            while await self._notices.step():
                pass
            self._results.disabled.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(jittered(TELL_EVERY)):
                    await self._results.disabled.wait()

    async def _keep_forgetting(self) -> None:
        while True:
            await rest(jittered(FORGET_EVERY))
            while not await deliveries.forget(self._pool):
                await rest(0.05)
