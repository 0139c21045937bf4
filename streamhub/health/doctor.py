"""Runs all checks of `streamhub doctor`, and applies the fixes of `doctor --fix`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AsyncExitStack

from streamhub import capture
from streamhub.config import Settings
from streamhub.databases import hub_connection, source_connection
from streamhub.embedded import has_server
from streamhub.errors import UserError
from streamhub.health.checks import CHECKS
from streamhub.health.findings import Finding, Patient
from streamhub.postgres.connections import DATABASE_ERRORS
from streamhub.postgres.failures import explain

log = logging.getLogger(__name__)


async def examine(settings: Settings, report: Callable[[str], None] = log.info) -> list[Finding]:
    """All findings, in the order of the checks. A check that raises a database error is a failed finding.

    It creates no hub. `report` gets a sentence about each slow step of a start of the embedded PostgreSQL.
    """
    try:
        if (nowhere := _nowhere(settings)) is not None:
            return [nowhere]
    except UserError as error:
        return [Finding("database", "fail", str(error))]
    findings: list[Finding] = []
    async with AsyncExitStack() as stack:
        try:
            hub = await stack.enter_async_context(hub_connection(settings, report=report))
        except UserError as error:
            advice = "check that it runs, and that STREAMHUB_DATABASE_URL is right"
            return [Finding("database", "fail", str(error), advice)]
        patient = Patient(settings, hub, {"hub": hub})
        for name in settings.source_urls:
            try:
                patient.sources[name] = await stack.enter_async_context(source_connection(settings, name))
            except UserError as error:
                advice = "check that it runs, and that STREAMHUB_SOURCE_URLS is right"
                findings.append(Finding("database", "fail", f"{name}: {error}", advice))
        for check in CHECKS:
            try:
                findings.extend([finding async for finding in check(patient)])
            except DATABASE_ERRORS as error:
                findings.append(Finding(check.__name__, "fail", explain(error)))
    return findings


def _nowhere(settings: Settings) -> Finding | None:
    """Raises UserError."""
    if not settings.embedded or has_server(settings.data_dir):
        return None
    advice = "give the hub's own directory with --data-dir (STREAMHUB_DATA_DIR), or its STREAMHUB_DATABASE_URL"
    return Finding("database", "fail", f"there is no hub in {settings.data_dir}", advice)


async def fix_captures(settings: Settings, report: Callable[[str], None] = log.info) -> None:
    """Fix the captures of the hub's database and of all sources. `report` gets a sentence for each fix and failure."""
    if _nowhere(settings) is not None:
        return  # `examine` says so
    for name in (None, *settings.source_urls):
        source = name or "hub"
        try:
            async with source_connection(settings, name, report=report) as connection:
                async for fault in capture.fix_all(connection):
                    report(f"fixed: {source}: {fault.table} {fault.fault}")
        except (UserError, *DATABASE_ERRORS) as error:
            report(f"not fixed: {source}: {explain(error)}")
