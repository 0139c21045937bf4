"""How a command reaches the hub's database: one that is named, an embedded one that runs, or one started for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from streamhub.config import Settings
from streamhub.embedded import EmbeddedPostgres, url_of_running
from streamhub.errors import UserError
from streamhub.postgres.connections import Connection
from streamhub.postgres.failures import connect
from streamhub.postgres.migrate import migrate_hub, migrate_source

Command = TypeVar("Command")


def data_dir_option(command: Command) -> Command:
    """`--data-dir`, for every command that may use the embedded PostgreSQL."""
    option: Any = click.option(
        "--data-dir",
        type=click.Path(file_okay=False, path_type=Path),
        help="Where the embedded PostgreSQL and the development key are (STREAMHUB_DATA_DIR).",
    )
    decorated: Command = option(command)
    return decorated


@asynccontextmanager
async def hub_connection(settings: Settings, *, migrate: bool = True) -> AsyncIterator[Connection]:
    """A connection to the hub's database. Embedded: to the running server, else one started for as long as this.

    An embedded one is brought up to date unless `migrate` is false; another is its operator's to migrate.
    """
    async with AsyncExitStack() as stack:
        url = settings.database_url
        if url is None:
            url = await asyncio.to_thread(url_of_running, settings.data_dir)
        if url is None:
            server = await stack.enter_async_context(EmbeddedPostgres(settings.data_dir, report=say))
            url = server.url
        connection = await connect(url)
        stack.push_async_callback(connection.close)
        if migrate and settings.embedded:
            await migrate_hub(connection)
            await migrate_source(connection)
        yield connection


@asynccontextmanager
async def source_connection(settings: Settings, name: str | None) -> AsyncIterator[Connection]:
    """A connection to a source's database; None: the hub's own. UserError where no source has this name."""
    if name is None:
        async with hub_connection(settings) as connection:
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


def say(sentence: str) -> None:
    """Words go to stderr."""
    click.echo(sentence, err=True)
