"""Connections to the hub's database and to the sources', by name. An embedded PostgreSQL is started where none runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from streamhub.config import Settings
from streamhub.embedded import EmbeddedPostgres, url_of_running
from streamhub.errors import UserError
from streamhub.postgres.connections import Connection
from streamhub.postgres.failures import connect
from streamhub.postgres.migrate import migrate_hub, migrate_source, pending
from streamhub.postgres.ownership import hub_id, take_over

log = logging.getLogger(__name__)


@asynccontextmanager
async def hub_connection(
    settings: Settings, *, migrate: bool = True, report: Callable[[str], None] = log.info
) -> AsyncIterator[Connection]:
    """A connection to the hub's database. `report` gets a sentence about each slow step of a start.

    In embedded mode it uses the server that runs already, or starts one until the block ends, and applies the
    migrations unless `migrate` is false. An external database is its operator's to migrate. Raises UserError.
    """
    async with AsyncExitStack() as stack:
        url = settings.database_url
        if url is None:
            url = await asyncio.to_thread(url_of_running, settings.data_dir)
        if url is None:
            server = await stack.enter_async_context(EmbeddedPostgres(settings.data_dir, report=report))
            url = server.url
        connection = await connect(url)
        stack.push_async_callback(connection.close)
        if migrate and settings.embedded:
            await migrate_hub(connection)
            await migrate_source(connection)
        yield connection


@asynccontextmanager
async def source_connection(
    settings: Settings, name: str | None, *, report: Callable[[str], None] = log.info
) -> AsyncIterator[Connection]:
    """A connection to the database of the source `name`; None: the hub's own. Raises UserError for an unknown name."""
    if name is None:
        async with hub_connection(settings, report=report) as connection:
            yield connection
        return
    url = settings.source_urls.get(name)
    if url is None:
        known = ", ".join(sorted(settings.source_urls)) or "none"
        raise UserError(
            f"STREAMHUB_SOURCE_URLS has no source {name!r} (it has: {known}): add for example "
            f"{name}=postgresql://hub:secret@shop.example.com/shop"
        )
    connection = await connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def migrate(
    settings: Settings, source: str | None, *, takes_over: bool = False, report: Callable[[str], None] = log.info
) -> list[str]:
    """Migrate a source's database; None: the hub's, which gets both schemas. Returns the names of what was applied.

    With `takes_over` this hub consumes the outbox of that database from now on. Raises UserError.
    """
    if source is not None:
        async with source_connection(settings, source, report=report) as connection:
            applied = [f"source/{name}" for name in await migrate_source(connection)]
            if takes_over:
                async with hub_connection(settings, report=report) as hub:
                    await _take_over(connection, hub, source, report)
            return applied
    async with hub_connection(settings, migrate=False, report=report) as connection:
        applied = [f"hub/{name}" for name in await migrate_hub(connection)]
        applied += [f"source/{name}" for name in await migrate_source(connection)]
        if takes_over:
            await _take_over(connection, connection, "hub", report)
        return applied


async def _take_over(source: Connection, hub: Connection, name: str, report: Callable[[str], None]) -> None:
    if await pending(hub, "hub"):
        raise UserError("the hub's schema is not up to date: run streamhub migrate, then this command again")
    former = await take_over(source, await hub_id(hub))
    report(f"{name}: this hub consumes its outbox" + (f" now, which was the hub {former}'s" if former else ""))
