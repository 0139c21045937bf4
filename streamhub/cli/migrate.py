"""`streamhub migrate`: brings the schema of the hub's or a source's database up to date."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from streamhub.cli.database import data_dir_option, hub_connection, say, source_connection
from streamhub.config import load
from streamhub.errors import UserError
from streamhub.postgres.connections import Connection
from streamhub.postgres.migrate import migrate_hub, migrate_source, pending
from streamhub.postgres.ownership import hub_id, take_over


@click.command("migrate")
@click.option("--source", metavar="NAME", help="A source of STREAMHUB_SOURCE_URLS; the hub's database unless given.")
@click.option(
    "--take-over", "takes_over", is_flag=True, help="Consume its outbox from now on, which belongs to another hub."
)
@data_dir_option
def command(source: str | None, takes_over: bool, data_dir: Path | None) -> None:
    """Bring the hub's or a source's schema up to date. Prints the name of each migration that it applied.

    The hub's database gets both schemas: unless sources are named, the captured tables are in it.

    An outbox belongs to the hub whose relay came first. --take-over is for a hub that was created again. Stop
    the former one for good before: it reads nothing from there on.

    \b
      streamhub migrate
      streamhub migrate --source shop
      streamhub migrate --source shop --take-over
    """

    async def run() -> list[str]:
        settings = load(data_dir=data_dir)
        if source is not None:
            async with source_connection(settings, source) as connection:
                applied = [f"source/{name}" for name in await migrate_source(connection)]
                if takes_over:
                    async with hub_connection(settings) as hub:
                        await _take_over(connection, hub, source)
                return applied
        async with hub_connection(settings, migrate=False) as connection:
            applied = [f"hub/{name}" for name in await migrate_hub(connection)]
            applied += [f"source/{name}" for name in await migrate_source(connection)]
            if takes_over:
                await _take_over(connection, connection, "hub")
            return applied

    applied = asyncio.run(run())
    for name in applied:
        click.echo(name)
    if not applied:
        say("nothing to do: the schema is up to date")


async def _take_over(source: Connection, hub: Connection, name: str) -> None:
    if await pending(hub, "hub"):
        raise UserError("the hub's schema is not up to date: streamhub migrate, and then this again")
    former = await take_over(source, await hub_id(hub))
    say(f"{name}: this hub consumes its outbox" + (f" now, which was the hub {former}'s" if former else ""))
