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
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, NamedTuple

from streamhub.backoff import Backoff, jittered, rest
from streamhub.history import notices as appends
from streamhub.leases.node import Node
from streamhub.metrics import Metrics
from streamhub.postgres.connections import Pool, connect
from streamhub.webhooks import deliveries
from streamhub.webhooks.addresses import Addresses
from streamhub.webhooks.bodies import Bodies
from streamhub.webhooks.deliveries import Delivery, Endpoints, Result
from streamhub.webhooks.fan_out import FanOut, Pass
from streamhub.webhooks.notices import Notices
from streamhub.webhooks.posting import MOST_CONNECTIONS, Outcome, Poster
from streamhub.webhooks.queue import Queue, pause_after
from streamhub.webhooks.shares import share_of

log = logging.getLogger(__name__)

CONNECTIONS: Final = 5  # of its pool; one more listens
LOOK_EVERY: Final = 1.0  # seconds, for what no notification has told
IDLE_FOR: Final = 3.0  # seconds, before an endpoint is given up
FORGET_EVERY: Final = 60.0
TELL_EVERY: Final = 10.0  # seconds, for notices that another process has left
RETRY_FIRST, RETRY_LONGEST = 0.2, 5.0
ENDS_WITHIN: Final = 0.3  # seconds that attempts have at a stop
MOST_AT_ONCE: Final = 500  # results in one transaction


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
        self._options = options
        self._bodies = Bodies(pool)
        self._endpoints = Endpoints()
        self._fan_out = FanOut(pool, self._endpoints, self._bodies)
        self._poster = Poster(options.addresses, proxy=options.proxy)
        self._notices = Notices(pool, options.smtp, metrics)
        self._queues: dict[str, Queue] = {}
        self._results: list[Result] = []
        self._settled: set[tuple[str, str]] = set()  # since the last read began, which may have seen them as they were
        self._attempts: dict[asyncio.Task[None], Queue] = {}
        self._under_way: Counter[int] = Counter()  # attempts, by organization
        self._tasks: list[asyncio.Task[None]] = []
        self._published = asyncio.Event()
        self._again = asyncio.Event()
        self._disabled = asyncio.Event()
        self._wake = asyncio.Event()
        self._ended = asyncio.Event()
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
                ("settle", self._keep_settling),
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
        if self._attempts:
            await asyncio.wait(self._attempts, timeout=ENDS_WITHIN)
        for each in self._attempts:
            each.cancel()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(ENDS_WITHIN):
                await self._settle()
                await deliveries.give_up(
                    self._pool, self._node.id, {id_: q.failures for id_, q in self._queues.items()}
                )
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
                version = self._endpoints.version
                step = await self._fan_out.step()
                if version != self._endpoints.version:
                    self._update()
                if step.again:
                    self._again.set()
                self._metrics.webhooks_fanned_out(step.deliveries)
                self._hand_on(step)
                more = step.more

    def _hand_on(self, step: Pass) -> None:
        """New deliveries, to queues that have read all that was due before: they need not be read."""
        now = time.time()
        for endpoint, event, resource_key in step.due:
            queue = self._queues.get(endpoint)
            if queue is not None and not queue.wants_read and queue.has_room:
                queue.add([Delivery(endpoint, event, 0, resource_key, None, now)])
        self._wake.set()

    async def _keep_looking_again(self) -> None:
        while True:
            await self._again.wait()
            self._again.clear()
            step = Pass(again=True)
            while step.again and self._node.trusted:
                step = await self._fan_out.step_again()
                self._metrics.webhooks_fanned_out(step.deliveries)
                if step.again and not step.deliveries:  # nothing there, or another process has it
                    await rest(jittered(0.02))

    def _update(self) -> None:
        """The endpoints have changed."""
        now = time.monotonic()
        for id_, queue in self._queues.items():
            endpoint = self._endpoints.by_id.get(id_)
            if endpoint is None:  # it was deleted
                for each in [task for task, its in self._attempts.items() if its is queue]:
                    each.cancel()
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
        self._settled.clear()
        try:
            tests = await deliveries.read_tests(self._pool, tested) if tested else []
            for each in await deliveries.read(self._pool, wanted) if wanted else []:
                found.setdefault(each.endpoint, []).append(each)
        except BaseException:
            for id_ in {*wanted, *tested}:
                self._queues[id_].wants_read = self._queues[id_].wants_tests = True
            raise
        for id_, its in [*found.items(), *((each.endpoint, [each]) for each in tests)]:
            self._queues[id_].add(each for each in its if (id_, each.event) not in self._settled)
        for id_, its in found.items():
            self._queues[id_].wants_read = self._queues[id_].wants_read or len(its) >= wanted[id_]

    def _begin(self) -> float:
        """Begin all attempts that may; seconds until another one may."""
        now = time.monotonic()
        wait = LOOK_EVERY
        if not self._node.trusted:
            return wait
        free = MOST_CONNECTIONS - len(self._attempts) - len(self._results)
        for id_, queue in list(self._queues.items()):
            organization = queue.organization
            while self._under_way[organization] < share_of(free, is_first=queue.goes_first):
                delivery = queue.begin(now)
                if delivery is None:
                    wait = min(wait, queue.wait(now))
                    break
                task = asyncio.create_task(self._attempt(queue, delivery, was_probe=queue.is_failing))
                self._attempts[task] = queue
                self._under_way[organization] += 1
                task.add_done_callback(self._is_over)
                free -= 1
            if queue.in_flight and len(self._queues) > 1:  # the next round begins with others
                self._queues[id_] = self._queues.pop(id_)
        return wait

    def _is_over(self, attempt: asyncio.Task[None]) -> None:
        self._under_way[self._attempts.pop(attempt).organization] -= 1

    async def _attempt(self, queue: Queue, delivery: Delivery, *, was_probe: bool) -> None:
        endpoint, at = queue.endpoint, time.time()
        missing = False
        try:
            body = delivery.body or await self._bodies.take(endpoint.organization, endpoint.id, delivery.event)
            if body is None:
                missing, outcome = True, Outcome(None, "the event is not in history any more", "", 0.0)
            else:
                secrets = endpoint.valid_secrets(at)
                try:
                    outcome = await self._poster.post(endpoint.url, body, delivery.event, secrets, endpoint.headers)
                finally:
                    if delivery.body is None:
                        self._bodies.release(endpoint.id, delivery.event)
        except BaseException as error:  # the database is away, or it was cancelled: the row stays as it is
            queue.left(delivery)
            queue.held.discard(delivery.event)
            if not isinstance(error, Exception):
                raise
            log.warning("a delivery to webhook endpoint %s was not attempted: %r", endpoint.id, error)
            return
        if missing:
            queue.left(delivery)
        else:
            queue.ended(delivery, outcome, time.monotonic(), was_probe=was_probe)
        self._results.append(self._judged(queue, delivery, outcome, at, missing=missing))
        self._ended.set()
        self._wake.set()

    def _judged(self, queue: Queue, delivery: Delivery, outcome: Outcome, at: float, *, missing: bool) -> Result:
        endpoint, attempts = queue.endpoint, delivery.attempts + 1
        lag = at - delivery.created_at if not delivery.attempts else None
        self._metrics.webhook_attempt("delivered" if outcome.succeeded else "failed", outcome.seconds, lag)
        if outcome.succeeded:
            return Result(delivery, "delivered", 0.0, outcome.document(at))
        schedule = () if delivery.is_test else self._options.schedule
        pause = pause_after(attempts, schedule, outcome.retry_after)
        if pause is not None and not outcome.gone and not missing:
            return Result(delivery, "pending", pause, outcome.document(at))
        why = None
        if outcome.gone:
            why = "it answered 410"
        elif endpoint.auto_disable and not missing and not delivery.is_test:
            why = f"a delivery has failed {attempts} times ({outcome.error})"
        if why is not None:  # nothing more is begun, until it is written and read back
            queue.change(endpoint._replace(enabled=False), time.monotonic())
        return Result(delivery, "failed", 0.0, outcome.document(at), why)

    # -- what came of them

    async def _keep_settling(self) -> None:
        while True:
            await self._ended.wait()
            self._ended.clear()
            await self._settle()

    async def _settle(self) -> None:
        busy: list[Result] = []
        try:
            await self._settle_all(busy)
        finally:
            if busy:
                self._results += busy
                asyncio.get_running_loop().call_later(jittered(LOOK_EVERY), self._ended.set)

    async def _settle_all(self, busy: list[Result]) -> None:
        """`busy` gets those of endpoints that another transaction has locked."""
        while self._results:
            results = self._results[:MOST_AT_ONCE]
            ids = {each.delivery.endpoint for each in results}
            failures = {id_: self._queues[id_].failures for id_ in ids if id_ in self._queues}
            in_order = {id_ for id_ in ids if (known := self._endpoints.by_id.get(id_)) is not None and known.in_order}
            try:
                ours, locked = await deliveries.settle(self._pool, self._node.id, results, failures, in_order)
            except BaseException:
                self._ended.set()
                raise
            del self._results[: len(results)]
            busy += [each for each in results if each.delivery.endpoint in locked]
            results = [each for each in results if each.delivery.endpoint not in locked]
            for each in results:
                if each.disables is not None and each.delivery.endpoint in ours:
                    log.warning("webhook endpoint %s was disabled: %s", each.delivery.endpoint, each.disables)
                    self._disabled.set()
                self._settled.add((each.delivery.endpoint, each.delivery.event))
                if each.state != "pending" and each.delivery.endpoint in ours:
                    self._metrics.webhook_ended(each.state)
                queue = self._queues.get(each.delivery.endpoint)
                if queue is not None:
                    queue.held.discard(each.delivery.event)
                    if each.state == "pending":
                        queue.reads_at = min(queue.reads_at, time.monotonic() + each.pause)
                    queue.wants_read = queue.wants_read or queue.endpoint.in_order
            for id_ in ids - ours - locked:
                if id_ in self._queues:
                    self._queues[id_].lose()
            self._wake.set()

    async def _give_up(self, now: float) -> None:
        idle = {id_: queue.failures for id_, queue in self._queues.items() if queue.is_idle(now, IDLE_FOR)}
        if idle:
            self._drop(idle)
            await deliveries.give_up(self._pool, self._node.id, idle)

    def _drop(self, endpoints: Iterable[str]) -> None:
        for id_ in list(endpoints):
            self._queues.pop(id_, None)

    async def _keep_telling(self) -> None:
        while True:
            while await self._notices.step():
                pass
            self._disabled.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(jittered(TELL_EVERY)):
                    await self._disabled.wait()

    async def _keep_forgetting(self) -> None:
        while True:
            await rest(jittered(FORGET_EVERY))
            while not await deliveries.forget(self._pool):
                await rest(0.05)
