"""`streamhub migrate`: applies the migrations of the hub's or a source's database."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from streamhub import databases
from streamhub.cli.database import data_dir_option, say
from streamhub.config import load


@click.command("migrate")
@click.option("--source", metavar="NAME", help="A source of STREAMHUB_SOURCE_URLS. Default: the hub's database.")
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
    settings = load(data_dir=data_dir)
    applied = asyncio.run(databases.migrate(settings, source, takes_over=takes_over, report=say))
    for name in applied:
        click.echo(name)
    if not applied:
        say("nothing to do: the schema is up to date")
