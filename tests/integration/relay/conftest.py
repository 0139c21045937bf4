"""The stages of the tests of the relay: databases, servers that may be killed, and relays that may be."""

import asyncio
import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

import streamhub
from servers.clusters import cluster_directory
from streamhub.embedded import EmbeddedPostgres
from streamhub.history.partitions import existing
from streamhub.postgres.migrate import migrate_hub, migrate_source
from tests.support.stage import Stage

_numbers = itertools.count(1)

NewDatabase = Callable[[], Awaitable[str]]
StartRelay = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
async def stage(database_url: str) -> AsyncIterator[Stage]:
    connection = await asyncpg.connect(database_url)
    yield Stage(database_url, connection)
    connection.terminate()


@pytest.fixture
async def without_weeks(stage: Stage) -> None:
    """Its database as it is before its first relay."""
    for week in await existing(stage.connection):
        await stage.sql(f"DROP TABLE streamhub_hub.{week.name}")


@pytest.fixture
async def new_database(postgres_url: str, template: str) -> AsyncIterator[NewDatabase]:
    """Makes further databases on the shared server; gives their URLs."""
    server = await asyncpg.connect(postgres_url)
    made: list[str] = []

    async def make() -> str:
        name = f"streamhub_source_{os.getpid()}_{next(_numbers)}"
        await server.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        made.append(name)
        return urlsplit(postgres_url)._replace(path=f"/{name}").geturl()

    yield make
    for name in made:
        await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await server.close()


@pytest.fixture
async def source(new_database: NewDatabase) -> AsyncIterator[Stage]:
    """A source apart from the hub, on the same server."""
    url = await new_database()
    connection = await asyncpg.connect(url)
    yield Stage(url, connection)
    connection.terminate()


@pytest.fixture
def own_postgres() -> Iterator[EmbeddedPostgres]:
    """A server of the test's own, to be killed and copied."""
    directory = cluster_directory()
    postgres = EmbeddedPostgres(directory, {"fsync": "off", "shared_buffers": "16MB", "max_prepared_transactions": 5})
    postgres.start()
    yield postgres
    postgres.stop("immediate")
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
async def own_stage(own_postgres: EmbeddedPostgres) -> AsyncIterator[Stage]:
    connection = await asyncpg.connect(own_postgres.url)
    await migrate_hub(connection)
    await migrate_source(connection)
    stage = Stage(own_postgres.url, connection)
    yield stage
    stage.connection.terminate()


@pytest.fixture
def start_relay() -> Iterator[StartRelay]:
    """Starts a relay in a process of its own: hub URL, then named sources."""
    started: list[subprocess.Popen[bytes]] = []

    def start(hub: str, **sources: str) -> subprocess.Popen[bytes]:
        named = [f"{name}={url}" for name, url in (sources or {"shop": hub}).items()]
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("runner.py")), hub, *named],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(Path(streamhub.__file__).parents[1])},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait(10)


@pytest.fixture(autouse=True)
async def nothing_is_left_running() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    left = {task for task in asyncio.all_tasks() - before if not task.done() and task is not asyncio.current_task()}
    assert not left, left
