"""Watching the captures of a source while it is relayed: what is wrong with one becomes an incident, and what is left
of tables that are gone is removed. A table's new owner gets what the former one had, so that it can make partitions."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import asyncpg

from streamhub import capture
from streamhub.backoff import jittered, rest
from streamhub.capture import CaptureFault
from streamhub.errors import UserError
from streamhub.postgres.connections import DATABASE_ERRORS

log = logging.getLogger(__name__)

FIRST: Final = 2.0  # seconds
EVERY: Final = 60.0


async def watch_captures(
    connect: Callable[[], Awaitable["asyncpg.Connection[Any]"]], source: str, report: Callable[[str, str, str], None]
) -> None:
    """Until cancelled. `report` takes incidents: kind, source, detail. After an error it goes on with a new
    connection."""
    told: set[tuple[str, str]] = set()
    pause = FIRST
    while True:
        await rest(jittered(pause))
        try:
            connection = await connect()
            try:
                faults = await _left(connection, source)
                await capture.forget_dropped(connection)
            finally:
                connection.terminate()
        except (*DATABASE_ERRORS, UserError) as error:
            log.warning("the captures of %s were not checked, retrying in about %.0f s: %s", source, EVERY, error)
        else:
            found = {(fault.table, fault.fault) for fault in faults}
            for fault in faults:
                if (fault.table, fault.fault) not in told:
                    report("capture", source, f"{fault.table} {fault.fault}: {fault.remedy}")
            told = found
        pause = EVERY


async def _left(connection: "asyncpg.Connection[Any]", source: str) -> list[CaptureFault]:
    """The faults that are left once those were put right that need no decision."""
    left = []
    for fault in await capture.faults(connection):
        if fault.unattended:
            try:
                await capture.fix(connection, fault)
            except asyncpg.PostgresError as error:
                log.warning("%s: %s %s, and %s failed: %s", source, fault.table, fault.fault, fault.remedy, error)
            else:
                log.info("%s: %s %s: fixed by %s", source, fault.table, fault.fault, fault.remedy)
                continue
        left.append(fault)
    return left
