"""One run: start everything, apply the faults, wait until everything is delivered, and audit."""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp

from crash import audit, evidence
from crash.consumers import Consumer
from crash.faults import CONSUMER, DONE, Fault
from crash.receiver import ENDPOINTS, Receiver
from crash.replays import Replay
from crash.report import Outcome
from crash.scene import HUB, PREFIXES, SHOP, TOPIC, Scene, scene
from crash.topic import records
from crash.wire import session
from crash.workload import FORGETFUL, RESUMING
from crash.writers import Writer

log = logging.getLogger(__name__)

# Writers of each database. The last of each commits asynchronously.
WRITERS: Final = {HUB: 4, SHOP: 3}
PAUSE: Final = 0.08  # average seconds between a writer's transactions
BEGINS_WITHIN: Final = 30.0
SETTLES_WITHIN: Final = 90.0
REPLAYED_EACH: Final = 3.0


class Run:
    """A run with its files in `directory`. `findings` grows during the run."""

    def __init__(self, directory: Path, seed: int, faults: list[Fault], *, kafka: bool) -> None:
        self.findings: list[str] = []
        self._directory = directory
        self._seed = seed
        self._faults = faults
        self._kafka = kafka
        self._chance = random.Random(f"run {seed}")
        self._replays: list[Replay] = []
        self._receiver = Receiver(random.Random(f"receiver {seed}"), self.report)

    async def run(self) -> Outcome:
        async with scene(self._directory, self.report, kafka=self._kafka) as on, session() as http:
            await self._receiver.start()
            await self._receiver.register(
                http, on.gateway_ports[0],
                lambda each: on.token(each.organization, test=each.test, scope="webhooks:manage"),
            )  # fmt: skip
            began_ms = time.time_ns() // 1_000_000
            consumers = [self._consumer(on, name) for name in (*RESUMING, FORGETFUL)]
            writers = [
                Writer(
                    f"{database}-{n}", self._seed, on.url(database), prefix, hasty=n == WRITERS[database], pause=PAUSE
                )
                for database, prefix in PREFIXES.items()
                for n in range(1, WRITERS[database] + 1)
            ]
            began = time.monotonic()
            async with _running(*(consumer.run(http, n) for n, consumer in enumerate(consumers))):
                # A stream begins at its opening, so open all before the first write.
                await self._until(lambda: all(consumer.starts for consumer in consumers), "every consumer is connected")
                await self._under_faults(on, http, writers, consumers, began_ms)
                seconds = time.monotonic() - began
                await self._settle(on, consumers)
            replays = self._last_replays(on, began_ms)
            await asyncio.gather(*(replay.run(http, on.gateway_ports) for replay in replays))
            await self._receiver.stop()
            for consumer in consumers:
                consumer.close()
            for role in on.roles:
                if role.tracebacks():
                    self.report(f"{role.name} logged {role.tracebacks()} tracebacks")
            return await self._audited(on, writers, consumers, seconds)

    def report(self, finding: str) -> None:
        log.warning("%s", finding)
        self.findings.append(finding)

    async def _under_faults(
        self, on: Scene, http: aiohttp.ClientSession, writers: list[Writer], consumers: list[Consumer], began_ms: int
    ) -> None:
        stop = asyncio.Event()
        writing = [asyncio.create_task(writer.run(stop)) for writer in writers]
        async with _running(self._keep_replaying(on, http, began_ms)):
            start = time.monotonic()
            async with asyncio.TaskGroup() as faults:
                for fault in self._faults:
                    await asyncio.sleep(max(0.0, start + fault.at - time.monotonic()))
                    faults.create_task(self._apply(on, fault, consumers))
        stop.set()
        await asyncio.gather(*writing)

    async def _apply(self, on: Scene, fault: Fault, consumers: list[Consumer]) -> None:
        if fault.target == CONSUMER:
            consumer = self._chance.choice(consumers)
            log.info("%s: %s", consumer.name, DONE[fault.action])
            consumer.reset()
            return
        victim = on.victim(fault.target)
        log.info("%s (%s): %s, %.1f s", fault.target, victim.name, DONE[fault.action], fault.seconds)
        await victim.actions[fault.action](fault.seconds)
        log.info("%s (%s): %s is over", fault.target, victim.name, DONE[fault.action])

    async def _keep_replaying(self, on: Scene, http: aiohttp.ClientSession, began_ms: int) -> None:
        while True:
            await asyncio.sleep(self._chance.uniform(0.5, 1.5) * REPLAYED_EACH)
            replay = self._replay(on, self._chance.choice(RESUMING), self._chance.random() < 0.3, began_ms)
            await replay.run(http, on.gateway_ports)

    def _last_replays(self, on: Scene, began_ms: int) -> list[Replay]:
        """Replays of all events of each organization and environment. Each is cut twice."""
        return [
            self._replay(on, organization, test, began_ms, cuts=2)
            for organization in (*RESUMING, FORGETFUL)
            for test in (False, True)
        ]

    def _replay(self, on: Scene, organization: str, test: bool, began_ms: int, cuts: int = 0) -> Replay:
        window = (began_ms, time.time_ns() // 1_000_000)
        token = on.token(organization, test=test)
        replay = Replay(organization, test, window, token, random.Random(self._chance.random()), self.report, cuts)
        self._replays.append(replay)
        return replay

    def _consumer(self, on: Scene, organization: str) -> Consumer:
        return Consumer(
            organization, on.token(organization), on.gateway_ports, self._directory / f"consumer-{organization}.sse",
            self.report, resuming=organization in RESUMING,
        )  # fmt: skip

    async def _settle(self, on: Scene, consumers: list[Consumer]) -> None:
        """Wait until all changes are published and received. Reports a finding after SETTLES_WITHIN."""
        give_up = time.monotonic() + SETTLES_WITHIN
        checks = [(evidence.waiting, "changes were not published")]
        if self._kafka:
            checks.append((evidence.unsent, "events were not sent to the topic"))
        for waiting, what in checks:
            while (left := await waiting(on)) != 0:
                if time.monotonic() > give_up:
                    self.report(f"{left} {what} {SETTLES_WITHIN:.0f} s after the last fault")
                    return
                await asyncio.sleep(0.2)
        events = await evidence.history(on)
        while self._receiver.lacks(events) and time.monotonic() < give_up:  # noqa: ASYNC110 - the audit tells the rest
            await asyncio.sleep(0.5)
        last = {name: given[-1].id for name, given in evidence.by_organization(events).items()}
        for consumer in consumers:
            while consumer.organization in last and not consumer.has(last[consumer.organization]):
                if time.monotonic() > give_up:
                    self.report(f"{consumer.name} did not receive everything within {SETTLES_WITHIN:.0f} s")
                    break
                await asyncio.sleep(0.1)

    async def _audited(self, on: Scene, writers: list[Writer], consumers: list[Consumer], seconds: float) -> Outcome:
        committed, events = await evidence.committed(on), await evidence.history(on)
        acknowledged = [name for writer in writers if not writer.hasty for name in writer.acknowledged]
        undone = [name for writer in writers for name in writer.undone]
        self.findings += audit.ledger_against(acknowledged, undone, committed)
        of_enterprise = evidence.of_enterprise(committed)
        self.findings += audit.history_against(of_enterprise, events)
        given = evidence.by_organization(events)
        for consumer in consumers:
            expected = given.get(consumer.organization, [])
            if consumer.resuming:
                self.findings += audit.reader_against(consumer.name, consumer.log, expected)
            else:
                self.findings += audit.overlapping_reader_against(
                    consumer.name, consumer.log, consumer.starts, expected
                )
        for replay in self._replays:
            if replay.complete:
                expected = evidence.within(events, replay.organization, replay.test, replay.from_ms, replay.to_ms)
                self.findings += audit.reader_against(replay.name, replay.log, expected)
        for endpoint in ENDPOINTS:
            log_of_it, wanted = self._receiver.log[endpoint], endpoint.expected(events)
            self.findings += audit.endpoint_against(endpoint.name, log_of_it, wanted, in_order=endpoint.in_order)
        sent = await records(on.broker.bootstrap, TOPIC) if on.broker is not None else {}
        if on.broker is not None:
            self.findings += audit.topic_against(sent, events)
        known = {change.transaction for change in committed}
        found_committed = sum(name in known for writer in writers for name in writer.unknown)
        return Outcome(
            self._faults, seconds, writers, found_committed, len(of_enterprise), len(events), consumers,
            [replay for replay in self._replays if replay.complete], sum(map(len, sent.values())), on.roles,
            self._receiver.log, self.findings,
        )  # fmt: skip

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        try:
            async with asyncio.timeout(BEGINS_WITHIN):
                while not condition():  # noqa: ASYNC110 - several tasks may make it true
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise SystemExit(f"not within {BEGINS_WITHIN:.0f} s: {what}") from None


@asynccontextmanager
async def _running(*coroutines: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Run the coroutines until the block ends. Raises an error of one at its end."""
    tasks = [asyncio.create_task(each) for each in coroutines]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
