"""A server from its start to its stop: settings, schemas, and its roles in one process or in several workers."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress

import uvloop

from streamhub.backoff import jittered, rest
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
from streamhub.runtime.workers import WorkerConfig, Workers, metrics_directory

log = logging.getLogger(__name__)

RETRY_PAUSE = 1.5  # seconds, before jitter


def run(overrides: Mapping[str, object], workers: int) -> None:
    """Serve until a signal. `overrides` that are not None win over the environment's settings. Raises UserError."""
    settings = load(**overrides)
    settings.require_verifiable_tokens()
    check_ports(settings, "serve")
    logs.configure(settings.log_format)
    for warning in unknown_variables():
        log.warning("%s", warning)
    if workers == 1:
        uvloop.run(_serve(settings))
    else:
        given = {name: str(value) for name, value in overrides.items() if value is not None}
        uvloop.run(_serve_with_workers(settings, given, workers))


async def _serve(settings: Settings) -> None:
    stop = stop_on_signals()
    with suppress(Stopped):
        async with AsyncExitStack() as stack:
            hub = await unless_stopped(stop, _started(settings, stack))
            log.info("%s on %s", settings.described_roles, hub.server.url)
            await hub.serve_until(stop)
    log.info("stopped")


async def _started(settings: Settings, stack: AsyncExitStack) -> Hub:
    """Migrate and start all roles. Starts over where the database goes away meanwhile."""
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
            pause = jittered(RETRY_PAUSE)
            log.warning("the database went away during the start: %s; retrying in %.1f s", explain(error), pause)
            await rest(pause)


async def _serve_with_workers(settings: Settings, given: Mapping[str, str], count: int) -> None:
    stop = stop_on_signals()
    with suppress(Stopped):
        async with AsyncExitStack() as stack:
            url = await unless_stopped(stop, stack.enter_async_context(hub_database(settings, count)))
            sources = await unless_stopped(stop, prepare(settings, url))
            config = WorkerConfig(os.getpid(), given, url, sources)
            with metrics_directory() as metrics_dir:
                await Workers(count, config, settings, metrics_dir).serve_until(stop)
    log.info("stopped")
