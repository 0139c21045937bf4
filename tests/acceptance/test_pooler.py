"""A hub whose database is behind Debian's PgBouncer."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from servers.pgbouncer import NoPoolerError, PgBouncer
from streamhub.postgres.connections import is_pooled_by_transaction
from tests.acceptance.conftest import Running
from tests.conftest import database_of, missing

Start = Callable[..., Running]
Run = Callable[..., subprocess.CompletedProcess[str]]
Bash = Callable[..., str]
Pooler = Callable[..., PgBouncer]

_numbers = itertools.count(1)


@pytest.fixture
def pooler(debian_url: str) -> Iterator[Pooler]:
    """Starts one in front of Debian's PostgreSQL."""
    started: list[PgBouncer] = []

    def start(mode: str, **settings: str) -> PgBouncer:
        try:
            started.append(PgBouncer(debian_url, mode, **settings))
        except NoPoolerError as error:
            missing(str(error), "REQUIRE_PGBOUNCER")
        started[-1].start()
        return started[-1]

    yield start
    for each in started:
        each.stop()


@pytest.fixture
def database(debian_url: str) -> Iterator[str]:
    """The name of a database with nothing in it."""
    name = f"streamhub_pooled_{os.getpid()}_{next(_numbers)}"
    sql(debian_url, f"CREATE DATABASE {name}")
    yield name
    sql(debian_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def production(environment: dict[str, str], data_dir: Path) -> dict[str, str]:
    """Settings of a hub with a database of its operator's."""
    environment["STREAMHUB_SIGNING_KEY_FILE"] = str(data_dir / "key.pem")
    return environment


def sql(url: str, *statements: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(url)
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    asyncio.run(run())


def test_through_pgbouncer_in_session_mode_all_of_a_hub_works(
    start: Start, streamhub: Run, bash: Bash, pooler: Pooler, database: str, debian_url: str, production: dict[str, str]
) -> None:
    pooled = pooler("session", default_pool_size="60").url(database)
    production["STREAMHUB_DATABASE_URL"] = pooled
    serving = start("serve")
    url = serving.wait_for(r"gateway, relay and webhooks on (http://\S+)$", within=60)[1]
    own = database_of(debian_url, database)
    sql(own, "CREATE TABLE skus (id text PRIMARY KEY, code text)")
    for command in ("org add my-org", "capture add public.skus --org my-org --resource-type skus"):
        done = streamhub(*command.split())
        assert done.returncode == 0, done.stderr
    authorization = f'-H "Authorization: Bearer {streamhub("token", "--org", "my-org").stdout.strip()}"'
    live = subprocess.Popen(
        ["bash", "-c", f"exec curl -sN --max-time 60 {authorization} {url}/my-org"],
        stdout=subprocess.PIPE, text=True, env=production,
    )  # fmt: skip
    assert live.stdout is not None
    try:
        next(line for line in live.stdout if line.startswith("event: heartbeat"))
        sql(own, "INSERT INTO skus VALUES ('a', 'TSHIRT')")
        pushed = next(line for line in live.stdout if line.startswith("data: {"))
    finally:
        live.kill()
        live.communicate()
    assert json.loads(pushed[6:])["resource"] == {"id": "a", "code": "TSHIRT"}
    replayed = bash(f'curl -sN {authorization} "{url}/my-org/replay?resource_type_eq=skus&resource_id_in=a"')
    assert pushed in replayed
    assert "event: stream_complete" in replayed
    assert serving.end(signal.SIGTERM) == 0, serving.output


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_a_pooler_that_lends_its_connections_ends_the_start_in_a_sentence(
    streamhub: Run, pooler: Pooler, database: str, production: dict[str, str], mode: str, workers: str
) -> None:
    production["STREAMHUB_DATABASE_URL"] = pooler(mode).url(database)
    done = streamhub("serve", "--workers", workers)
    assert done.returncode == 1
    assert "set pool_mode = session" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_source_whose_connections_are_lent_ends_the_start_too(
    streamhub: Run, pooler: Pooler, database: str, debian_url: str, production: dict[str, str]
) -> None:
    production["STREAMHUB_DATABASE_URL"] = database_of(debian_url, database)
    production["STREAMHUB_SOURCE_URLS"] = f"shop={pooler('transaction').url('postgres')}"
    done = streamhub("serve")
    assert done.returncode == 1
    assert "source shop" in done.stderr
    assert "set pool_mode = session" in done.stderr


@pytest.mark.parametrize("settings", [{}, {"server_round_robin": "1"}, {"default_pool_size": "2"}])
def test_transaction_pooling_is_detected(pooler: Pooler, database: str, settings: dict[str, str]) -> None:
    url = pooler("transaction", **settings).url(database)

    async def seen_beside_others() -> list[bool]:
        busy = [await asyncpg.connect(url, statement_cache_size=0) for _ in range(6)]

        async def work(connection: asyncpg.Connection[asyncpg.Record]) -> None:
            while True:
                await connection.execute("SELECT pg_sleep(random() / 500)")

        tasks = [asyncio.create_task(work(connection)) for connection in busy]
        found = [await is_pooled_by_transaction(url) for _ in range(20)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in busy:
            connection.terminate()
        return [*found, *[await is_pooled_by_transaction(url) for _ in range(5)]]

    assert all(asyncio.run(seen_beside_others()))


def test_whole_sessions_are_not_taken_for_transaction_pooling(pooler: Pooler, database: str, debian_url: str) -> None:
    async def seen() -> list[bool]:
        urls = [pooler("session").url(database), database_of(debian_url, database)]
        return [await is_pooled_by_transaction(url) for url in urls for _ in range(10)]

    assert not any(asyncio.run(seen()))


def test_a_parameter_that_a_pooler_does_not_take_ends_the_start_at_once(
    streamhub: Run, pooler: Pooler, database: str, production: dict[str, str]
) -> None:
    production["STREAMHUB_DATABASE_URL"] = pooler("session").url(database) + "?options=-c%20geqo%3Doff"
    done = streamhub("serve")
    assert done.returncode == 1
    assert "unsupported startup parameter: options" in done.stderr
    assert "retrying" not in done.stderr
