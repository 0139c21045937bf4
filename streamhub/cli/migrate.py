"""`streamhub migrate`: brings the schema of the hub's or a source's database up to date."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from streamhub.cli.database import data_dir_option, hub_connection, say, source_connection
from streamhub.config import load
from streamhub.postgres.migrate import migrate_hub, migrate_source


@click.command("migrate")
@click.option("--source", metavar="NAME", help="A source of STREAMHUB_SOURCE_URLS; the hub's database unless given.")
@data_dir_option
def command(source: str | None, data_dir: Path | None) -> None:
    """Bring the hub's or a source's schema up to date. Prints the name of each migration that it applied.

    The hub's database gets both schemas: unless sources are named, the captured tables are in it.

    \b
      streamhub migrate
      streamhub migrate --source shop
    """

    async def run() -> list[str]:
        settings = load(data_dir=data_dir)
        if source is not None:
            async with source_connection(settings, source) as connection:
                return [f"source/{name}" for name in await migrate_source(connection)]
        async with hub_connection(settings, migrate=False) as connection:
            of_hub = [f"hub/{name}" for name in await migrate_hub(connection)]
            return of_hub + [f"source/{name}" for name in await migrate_source(connection)]

    applied = asyncio.run(run())
    for name in applied:
        click.echo(name)
    if not applied:
        say("nothing to do: the schema is up to date")
