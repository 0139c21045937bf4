"""Relays and brokers that stop, are killed or fall silent: events may come again, none is ever left out."""

import asyncio
import itertools
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest.mock import AsyncMock

import asyncpg
import pytest

import streamhub
from servers.kafka import Broker
from streamhub.kafka.publication import Publication
from tests.support.stage import until
from tests.support.tasks import ended
from tests.support.topics import Broadcasting

KILLS = 3


@pytest.fixture
async def stage(database_url: str, broker: Broker, topic: str) -> AsyncIterator[Broadcasting]:
    """On the broker that the test may stop."""
    connection = await asyncpg.connect(database_url)
    yield Broadcasting(database_url, connection, broker.bootstrap, topic)
    connection.terminate()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds in place of tens of them."""
    monkeypatch.setattr("streamhub.kafka.run.SENT_WITHIN", 1.5)
    monkeypatch.setattr("streamhub.kafka.topic.TIMEOUT", 1.0)
    monkeypatch.setattr("streamhub.kafka.publisher.PAUSE_LONGEST", 0.5)


@contextmanager
def relay_process(stage: Broadcasting) -> Iterator[Callable[[], None]]:
    """A publishing relay in a process of its own; what is given kills it outright."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("runner.py")), stage.url, stage.bootstrap, stage.topic],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(streamhub.__file__).parents[1])},
    )

    def kill() -> None:
        process.send_signal(signal.SIGKILL)
        process.wait(10)

    try:
        yield kill
    finally:
        kill()


async def restarted(broker: Broker) -> None:
    broker.spawn()
    await asyncio.to_thread(broker.wait_until_ready)


async def test_a_relay_killed_between_append_and_send_leaves_nothing_out(stage: Broadcasting, broker: Broker) -> None:
    await stage.shop()
    with relay_process(stage) as kill:
        await stage.started()
        await stage.write(1, 100)
        await stage.published()
        broker.suspend()
        await stage.write(1_000, 500)
        await stage.drained()
        kill()
        broker.resume()
    async with stage.relaying():
        await stage.published()
    await stage.audited()


async def test_what_was_sent_and_not_noted_is_sent_again(stage: Broadcasting, monkeypatch: pytest.MonkeyPatch) -> None:
    await stage.shop()
    with monkeypatch.context() as patched:
        patched.setattr(Publication, "move", AsyncMock())
        async with stage.relaying():
            await stage.started()
            await stage.write(1, 100)
            await until(lambda: _holds(stage, 100), "the topic holds them")
    async with stage.relaying():
        await stage.write(1_000, 100)
        await stage.published()
    assert len(await stage.audited()) == 300


async def _holds(stage: Broadcasting, count: int) -> bool:
    return sum(map(len, (await stage.records()).values())) >= count


async def test_relays_killed_at_any_moment_leave_nothing_out(stage: Broadcasting) -> None:
    chance = random.Random(7)
    await stage.shop()
    application = Broadcasting(stage.url, await asyncpg.connect(stage.url), stage.bootstrap, stage.topic)

    async def write() -> None:
        for first in itertools.count(0, 50):
            await application.write(first, 50, organizations=20)
            await asyncio.sleep(0.01)

    with relay_process(stage):
        await stage.started()
    writing = asyncio.create_task(write())
    for _ in range(KILLS):
        published = await stage.value("SELECT published_id FROM streamhub_hub.publications")
        with relay_process(stage) as kill:
            await until(partial(_moved, stage, published), "the new relay publishes")
            await asyncio.sleep(chance.uniform(0, 0.3))
            kill()
        await stage.sql("UPDATE streamhub_hub.relay_lease SET expires_at = '-infinity'")  # the next one need not wait
    await ended(writing)
    application.connection.terminate()
    async with stage.relaying():
        await stage.published()
    await stage.audited()


async def _moved(stage: Broadcasting, published: object) -> bool:
    return bool(await stage.value("SELECT published_id <> $1 FROM streamhub_hub.publications", published))


@pytest.mark.parametrize("end", [Broker.stop, Broker.kill], ids=["stopped", "killed"])
async def test_while_the_broker_is_away_history_goes_on_and_then_it_gets_all(
    stage: Broadcasting, broker: Broker, end: Callable[[Broker], None]
) -> None:
    await stage.shop()
    async with stage.relaying():
        await stage.started()
        await stage.write(1, 100)
        await stage.published()
        await asyncio.to_thread(end, broker)
        for piece in range(10):
            await stage.write(1_000 + piece * 100, 100)
            await stage.drained()
        await until(lambda: _tells_a_fault(stage), "the fault is told")
        assert await stage.value("SELECT count(*) FROM streamhub_hub.history") == 1_100
        await restarted(broker)
        await stage.published()
        await until(lambda: _tells_no_fault(stage), "the fault is over")
    await stage.audited()


async def _tells_a_fault(stage: Broadcasting) -> bool:
    return await stage.fault() is not None


async def _tells_no_fault(stage: Broadcasting) -> bool:
    return await stage.fault() is None


async def test_a_broker_that_falls_silent_holds_nothing_up(stage: Broadcasting, broker: Broker) -> None:
    await stage.shop()
    async with stage.relaying():
        await stage.started()
        await stage.write(1, 100)
        await stage.published()
        broker.suspend()
        for piece in range(10):
            await stage.write(1_000 + piece * 100, 100)
            await stage.drained()
        await until(lambda: _tells_a_fault(stage), "the fault is told")
        broker.resume()
        await stage.published()
    await stage.audited()


async def test_a_relay_leads_and_appends_where_no_broker_has_ever_been(stage: Broadcasting, broker: Broker) -> None:
    await stage.shop()
    await asyncio.to_thread(broker.kill)
    async with stage.relaying():
        await stage.write(1, 100)
        await stage.drained()
    assert await stage.value("SELECT count(*) FROM streamhub_hub.history") == 100


async def test_a_relay_stops_within_seconds_while_the_broker_is_silent(stage: Broadcasting, broker: Broker) -> None:
    await stage.shop()
    loop = asyncio.get_running_loop()
    async with stage.relaying():
        await stage.started()
        broker.suspend()
        await stage.write(1, 100)
        await stage.drained()
        asked = loop.time()
    assert loop.time() - asked < 4
