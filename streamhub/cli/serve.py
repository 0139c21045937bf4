"""`streamhub serve`: the server, in one process or in several."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import click
import uvloop

from streamhub.backoff import jittered
from streamhub.cli.database import data_dir_option
from streamhub.config import Settings, load, unknown_variables
from streamhub.postgres.connections import DATABASE_AWAY
from streamhub.postgres.failures import explain
from streamhub.runtime import logs
from streamhub.runtime.process import (
    DATABASE_COMES_WITHIN,
    Hub,
    Stopped,
    check_ports,
    hub_database,
    prepare,
    running_hub,
    stop_on_signals,
    unless_stopped,
)
from streamhub.runtime.workers import MOST_WORKERS, HandOver, Workers, counting_directory

log = logging.getLogger(__name__)


class WorkersType(click.ParamType[int]):
    """How many processes."""

    name = "workers"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        number = int(text) if text.isascii() and text.isdigit() else 0
        if not 1 <= number <= MOST_WORKERS:
            self.fail(f"{text!r} is no number from 1 to {MOST_WORKERS}, for example 4", param, ctx)
        return number


@click.command("serve")
@click.option("--roles", metavar="ROLE,…", help="relay, gateway (STREAMHUB_ROLES); all unless given.")
@click.option("--host", help="The address to listen on (STREAMHUB_HOST); 127.0.0.1 unless given.")
@click.option("--port", metavar="PORT", help="The port to listen on (STREAMHUB_PORT); 8080 unless given.")
@click.option(
    "--workers", type=WorkersType(), default=1, metavar="N", help="So many processes share the port; 1 unless given."
)
@data_dir_option
def command(roles: str | None, host: str | None, port: str | None, workers: int, data_dir: Path | None) -> None:
    """Run the server, until SIGTERM or Ctrl-C, which drain its streams first.

    Brings the schema of the hub's database, and of each source, up to date. Without STREAMHUB_DATABASE_URL it runs a
    PostgreSQL of its own in STREAMHUB_DATA_DIR. Logs go to stderr, as STREAMHUB_LOG_FORMAT says (text or json).

    \b
      streamhub serve
      streamhub serve --host 0.0.0.0 --port 9000 --workers 4
      STREAMHUB_DATABASE_URL=postgresql://hub:secret@db/hub streamhub serve --roles gateway
    """
    given = {"roles": roles, "host": host, "port": port, "data_dir": data_dir}
    settings = load(**given)
    settings.require_verifiable_tokens()
    check_ports(settings, "serve")
    logs.configure(settings.log_format)
    for sentence in unknown_variables():
        log.warning("%s", sentence)
    if workers == 1:
        uvloop.run(_serve(settings))
    else:
        told = {name: str(value) for name, value in given.items() if value is not None}
        uvloop.run(_serve_with_workers(settings, told, workers))


async def _serve(settings: Settings) -> None:
    stop = stop_on_signals()
    with suppress(Stopped):
        async with AsyncExitStack() as stack:
            hub = await unless_stopped(stop, _started(settings, stack))
            log.info("%s on %s", settings.described_roles, hub.server.url)
            await hub.serve_until(stop)
    log.info("stopped")


async def _started(settings: Settings, stack: AsyncExitStack) -> Hub:
    """Schemas up to date and all roles running. Where the database goes meanwhile, once more from the beginning."""
    url = await stack.enter_async_context(hub_database(settings))
    loop = asyncio.get_running_loop()
    give_up = loop.time() + DATABASE_COMES_WITHIN
    while True:
        try:
            sources = await prepare(settings, url)
            return await stack.enter_async_context(running_hub(settings, url, sources))
        except DATABASE_AWAY as error:
            if loop.time() > give_up:
                raise
            log.warning("the database went away during the start, retrying: %s", explain(error))
            await asyncio.sleep(jittered(1.5))


async def _serve_with_workers(settings: Settings, given: Mapping[str, str], count: int) -> None:
    stop = stop_on_signals()
    with suppress(Stopped):
        async with AsyncExitStack() as stack:
            url = await unless_stopped(stop, stack.enter_async_context(hub_database(settings, count)))
            sources = await unless_stopped(stop, prepare(settings, url))
            hand_over = HandOver(os.getpid(), given, url, sources)
            with counting_directory() as metrics_dir:
                await Workers(count, hand_over, settings, metrics_dir).serve_until(stop)
    log.info("stopped")
