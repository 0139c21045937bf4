"""Outbox and hub in two databases, and several sources: nothing is appended twice, and none waits for another."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from streamhub.core.identities import Identity, common, pack
from streamhub.embedded import EmbeddedPostgres
from streamhub.postgres.migrate import migrate_source
from streamhub.relay import Relay, Source
from streamhub.relay.outbox import Ranges, delete
from tests.integration.relay.conftest import NewDatabase
from tests.support.stage import Stage, kinds, rebuilt, running, until

INSERT = "INSERT INTO skus VALUES ({}, 'org_1', 1, 'a')"


@asynccontextmanager
async def relaying(hub: Stage, **sources: str) -> AsyncIterator[Relay]:
    named = [Source(name, url, in_hub=False) for name, url in sources.items()]
    async with running(Relay(hub.url, named, announce=hub.announced.append)) as relay:
        yield relay


async def published(hub: Stage, count: int) -> None:
    async def condition() -> bool:
        return bool(await hub.value("SELECT count(*) >= $1 FROM streamhub_hub.history", count))

    await until(condition, f"{count} events are published")


async def test_changes_of_another_database_are_published_and_consumed(stage: Stage, source: Stage) -> None:
    await source.shop()
    async with relaying(stage, other=source.url):
        for id_ in range(3):
            await source.sql(INSERT.format(id_))
        await source.sql("UPDATE skus SET price = 2", "DELETE FROM skus WHERE id = 1")
        await source.drained()
    events = await stage.new_events()
    assert len(events) == 7
    assert len(rebuilt(events)) == 2


async def test_the_rows_of_every_batch_are_noted_in_the_hub(stage: Stage, source: Stage) -> None:
    await source.shop()
    await source.sql("INSERT INTO skus SELECT i, 'org_1', 1, 'a' FROM generate_series(1, 50) AS i")
    async with relaying(stage, other=source.url):
        await source.drained()
    assert await stage.rows(
        "SELECT source, sum(rows), min(first_seq), max(last_seq) FROM streamhub_hub.consumed GROUP BY 1"
    ) == [("other", 50, 1, 50)]


@pytest.mark.parametrize("batch", [3, 2000])
async def test_a_relay_that_fails_between_appending_and_consuming_repeats_nothing(
    stage: Stage, source: Stage, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr("streamhub.relay.source.BATCH", batch)
    failures = 0

    async def failing(connection: Any, ranges: Ranges, count: int, hub: str) -> None:
        nonlocal failures
        failures += 1
        if failures % 2:
            raise ConnectionError("cut")
        await delete(connection, ranges, count, hub)

    monkeypatch.setattr("streamhub.relay.source.delete", failing)
    await source.shop()
    await source.sql("INSERT INTO skus SELECT i, 'org_1', 1, 'a' FROM generate_series(1, 10) AS i")
    async with relaying(stage, other=source.url):
        await published(stage, 10)
        await source.sql("UPDATE skus SET price = 2 WHERE id = 1")
        await source.drained()
    assert failures > 1
    assert kinds(await stage.new_events()) == [*(("create", str(id_)) for id_ in range(1, 11)), ("update", "1")]


async def test_sources_are_told_apart_by_their_names(stage: Stage, new_database: NewDatabase) -> None:
    """The same numbers in two sources are different changes."""
    urls = {name: await new_database() for name in ("one", "two")}
    for name, url in urls.items():
        application = Stage(url, await asyncpg.connect(url))
        await application.shop(resource_type=name)
        await application.sql(INSERT.format(1), "UPDATE skus SET price = 2")
        await application.connection.close()
    async with relaying(stage, **urls):
        await published(stage, 4)
    events = await stage.new_events()
    for name in urls:
        assert [event["event"] for event in events if event["resource_type"] == name] == ["create", "update"]


async def test_the_hubs_own_outbox_and_another_source_are_relayed_together(stage: Stage, source: Stage) -> None:
    await stage.shop(resource_type="here")
    await source.shop(resource_type="there")
    await stage.sql(INSERT.format(1))
    await source.sql(INSERT.format(1))
    both = [Source("hub", stage.url, in_hub=True), Source("other", source.url, in_hub=False)]
    async with running(Relay(stage.url, both, announce=stage.announced.append)):
        await published(stage, 2)
    assert {event["resource_type"] for event in await stage.new_events()} == {"here", "there"}


async def test_a_source_that_is_away_does_not_stop_the_others(stage: Stage, source: Stage) -> None:
    await source.shop()
    async with relaying(stage, away="postgresql://postgres@127.0.0.1:1/nowhere", other=source.url) as relay:
        await source.sql(INSERT.format(1))
        await published(stage, 1)
        assert list(relay.lost) == ["away"]


async def test_a_source_that_has_no_schema_yet_does_not_stop_the_others(
    stage: Stage, source: Stage, postgres_url: str
) -> None:
    await source.shop()
    async with relaying(stage, bare=postgres_url, other=source.url) as relay:
        await source.sql(INSERT.format(1))
        await published(stage, 1)

        async def told() -> bool:
            return "bare" in relay.lost

        await until(told, "the relay tells which source is lost")


async def test_a_source_whose_writers_commit_asynchronously_is_made_durable_before_it_is_appended(
    stage: Stage, own_stage: Stage
) -> None:
    """By the relay, not by a writer of the log that comes round."""
    source = own_stage
    await source.sql(
        "ALTER SYSTEM SET wal_writer_delay = '10s'", "SELECT pg_reload_conf()", "SET synchronous_commit = off"
    )
    await source.shop()
    async with relaying(stage, other=source.url):
        for id_ in range(1, 6):
            await source.sql(INSERT.format(id_))
            written = await source.value("SELECT pg_current_wal_insert_lsn()::text")
            await published(stage, id_)
            assert await source.value("SELECT pg_current_wal_flush_lsn() >= $1::text::pg_lsn", written)


async def test_making_a_source_durable_leaves_no_versions_behind(stage: Stage, source: Stage) -> None:
    await source.shop()
    version = "SELECT ctid::text FROM streamhub.relay_mark"
    async with relaying(stage, other=source.url):
        await source.sql(INSERT.format(0))
        await source.drained()  # and the claim was written
    before = await source.value(version)
    async with relaying(stage, other=source.url):
        for id_ in range(1, 20):
            await source.sql(INSERT.format(id_))
            await published(stage, id_ + 1)
    assert await source.value(version) == before


class Late:
    """Between a relay and its hub: cuts the relay off at the COMMIT of an append, which it hands on `delay` later."""

    def __init__(self, url: str, delay: float) -> None:
        self._server = urlsplit(url)
        self._delay = delay
        self.armed = False
        self.delivered = asyncio.Event()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """The URL of the hub by this way."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        user, _, _ = self._server.netloc.rpartition("@")
        yield self._server._replace(netloc=f"{user}@127.0.0.1:{port}").geturl()
        server.close()

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        hub, to_hub = await asyncio.open_connection(self._server.hostname, self._server.port)
        back = asyncio.create_task(self._pass(hub, to_client))
        appends = False
        with suppress(ConnectionError):
            while data := await client.read(65_536):
                appends = appends or b"append_few" in data
                late = self.armed and appends and b"COMMIT;" in data
                if late:
                    self.armed = False
                    to_client.transport.abort()
                    await asyncio.sleep(self._delay)
                to_hub.write(data)
                await to_hub.drain()
                if late:
                    self.delivered.set()
                    await back  # the hub's answer finds no client
        to_hub.close()
        await asyncio.gather(back, return_exceptions=True)
        to_client.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()


@pytest.mark.parametrize("delay", [0.0, 1.0])
async def test_an_append_whose_commit_is_delivered_late_is_not_appended_again(
    stage: Stage, source: Stage, delay: float
) -> None:
    await source.shop()
    late = Late(stage.url, delay)
    async with late.listening() as url:
        hub = Stage(url, stage.connection)
        async with relaying(hub, other=source.url):
            await source.sql(INSERT.format(0))
            await published(stage, 1)
            late.armed = True
            await source.sql("INSERT INTO skus SELECT i, 'org_1', 1, 'a' FROM generate_series(1, 5) AS i")
            await asyncio.wait_for(late.delivered.wait(), 30)
            await source.drained()
            await source.sql(INSERT.format(6))
            await published(stage, 7)
            await source.drained()
    assert kinds(await stage.new_events()) == [("create", str(id_)) for id_ in range(7)]


async def test_an_old_row_with_many_notes_behind_it_costs_no_look_at_them(stage: Stage, source: Stage) -> None:
    """A transaction took its number before 300,000 others, and commits once their rows have gone."""
    await source.shop()
    long = await asyncpg.connect(source.url)
    transaction = long.transaction()
    await transaction.start()
    await long.execute(INSERT.format(1))
    notes = []
    for first in range(10, 300_000, 1_000):
        identities = [Identity(seq, seq, seq * 1_000) for seq in range(first, first + 1_000)]
        notes.append(("other", first, first + 999, 1_000, pack(identities)))
    columns = ["source", "first_seq", "last_seq", "rows", "identities"]
    await stage.connection.copy_records_to_table(
        "consumed", schema_name="streamhub_hub", columns=columns, records=notes
    )
    await source.sql("SELECT setval('streamhub.outbox_seq_seq', 400000)")
    await transaction.commit()
    await long.close()
    read: list[bytes] = []

    def counting(packed: bytes, *more: Any) -> set[Identity]:
        read.append(packed)
        return common(packed, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streamhub.relay.notes.common", counting)
        async with relaying(stage, other=source.url):
            await source.sql(INSERT.format(2))
            await published(stage, 2)
            await source.drained()
    assert not read


def copy(postgres: EmbeddedPostgres, back: bool = False) -> None:
    """Keep the files of a stopped server, or put them back."""
    kept = postgres.data.with_name("kept")
    source, target = (kept, postgres.data) if back else (postgres.data, kept)
    subprocess.run(["rm", "-rf", str(target)], check=True)
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


@pytest.mark.parametrize("relaying_meanwhile", [True, False])
async def test_a_source_that_falls_back_to_an_older_state_brings_nothing_twice_and_nothing_new_is_lost(
    stage: Stage, own_postgres: EmbeddedPostgres, relaying_meanwhile: bool
) -> None:
    """A standby that was behind is promoted: rows that were consumed are back, and numbers are given a second time."""
    connection = await asyncpg.connect(own_postgres.url)
    await migrate_source(connection)
    application = Stage(own_postgres.url, connection)
    await application.shop()
    await application.sql(*(INSERT.format(id_) for id_ in (1, 2, 3)))
    await connection.close()
    own_postgres.stop()
    copy(own_postgres)
    own_postgres.start()

    async def go_on() -> None:
        application.connection = await asyncpg.connect(own_postgres.url)
        await application.sql(*(INSERT.format(id_) for id_ in (4, 5, 6)))
        await published(stage, 6)
        await application.connection.close()

    async def fall_back() -> None:
        own_postgres.stop("immediate")
        copy(own_postgres, back=True)
        own_postgres.start()

    async def write_again() -> None:
        application.connection = await asyncpg.connect(own_postgres.url)
        await application.sql(*(INSERT.format(id_) for id_ in (7, 8, 9)))
        await application.drained()
        await application.connection.close()

    if relaying_meanwhile:
        async with relaying(stage, other=own_postgres.url):
            await go_on()
            await fall_back()
            await write_again()
    else:
        async with relaying(stage, other=own_postgres.url):
            await go_on()
        await fall_back()
        async with relaying(stage, other=own_postgres.url):
            await write_again()
    assert kinds(await stage.new_events()) == [("create", str(id_)) for id_ in range(1, 10)]


async def test_a_large_backlog_that_was_noted_already_is_deleted_without_appending(
    stage: Stage, source: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamhub.relay.source.BATCH", 100)
    await source.shop()
    await source.sql("INSERT INTO skus SELECT i, 'org_1', 1, 'a' FROM generate_series(1, 1000) AS i")
    await source.sql("CREATE TABLE kept AS SELECT * FROM streamhub.outbox")
    async with relaying(stage, other=source.url):
        await source.drained()
    await source.sql("INSERT INTO streamhub.outbox SELECT * FROM kept WHERE seq % 3 > 0", INSERT.format(5000))
    async with relaying(stage, other=source.url):
        await source.drained()
    assert len(await stage.frames()) == 1001


async def test_noted_rows_that_a_former_leader_deletes_at_the_same_time_are_no_failure(
    stage: Stage, source: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await source.shop()
    await source.sql(INSERT.format(1), "CREATE TABLE kept AS SELECT * FROM streamhub.outbox")
    async with relaying(stage, other=source.url):
        await source.drained()
    await source.sql("INSERT INTO streamhub.outbox SELECT * FROM kept")
    waits = (
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')"
    )
    former = await asyncpg.connect(source.url)
    transaction = former.transaction()
    await transaction.start()
    await former.execute("DELETE FROM streamhub.outbox")
    async with relaying(stage, other=source.url):
        await until(lambda: source.value(waits), "the new leader wants to delete them too")
        await transaction.commit()
        await source.sql(INSERT.format(2))
        await published(stage, 2)
    await former.close()
    assert not caplog.records
