"""`streamhub doctor`: is everything as it should be, and if not, what to do."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import click
import orjson

from streamhub import capture
from streamhub.capture import CaptureFault
from streamhub.cli.database import data_dir_option, hub_connection, say, source_connection
from streamhub.cli.output import discard_stdout
from streamhub.config import Settings, load
from streamhub.errors import UserError
from streamhub.health.checks import CHECKS
from streamhub.health.findings import Finding, Patient
from streamhub.postgres.connections import DATABASE_ERRORS
from streamhub.postgres.failures import explain
from streamhub.runtime import logs

STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="One JSON array: check, state (ok, warn, fail), detail, fix.")
@click.option("--fix", "fixes", is_flag=True, help="First put right the captures of which it is plain what was meant.")
@data_dir_option
def command(as_json: bool, fixes: bool, data_dir: Path | None) -> None:
    """Check databases, triggers, relay, streams, replays, history, clocks and keys, and say how to fix what is wrong.

    Exits 1 if anything fails.

    \b
      streamhub doctor
      streamhub doctor --json | jq '.[] | select(.state != "ok")'
      streamhub doctor --fix
    """
    logs.quiet_libraries()
    if fixes:
        asyncio.run(fix_captures(load(data_dir=data_dir)))
    findings = asyncio.run(examine(load(data_dir=data_dir)))
    try:
        _print(findings, as_json=as_json)
    except BrokenPipeError:  # `streamhub doctor | head`: what was found still counts
        discard_stdout()
    if any(finding.state == "fail" for finding in findings):
        sys.exit(1)


def _print(findings: Sequence[Finding], *, as_json: bool) -> None:
    if as_json:
        click.echo(orjson.dumps([finding._asdict() for finding in findings], option=orjson.OPT_INDENT_2))
        return
    for finding in findings:
        state = click.style(f"{finding.state:4}", fg=STYLES[finding.state])
        click.echo(f"{state}  {finding.check:13}  {finding.detail}")
        if finding.fix:
            click.echo(f"{'':21}→ {finding.fix}")


async def fix_captures(settings: Settings) -> None:
    """Says on stderr what was done, and what could not be."""
    for name in (None, *settings.source_urls):
        source = name or "hub"
        try:
            async with source_connection(settings, name) as connection:
                done: list[CaptureFault] = []
                # One fix may make another needless, so each begins with a look.
                while fault := next(
                    (each for each in await capture.faults(connection) if each.fix and each not in done), None
                ):
                    done.append(fault)
                    await capture.fix(connection, fault)
                    say(f"fixed: {source}: {fault.table} {fault.fault}")
        except (UserError, *DATABASE_ERRORS) as error:
            say(f"not fixed: {source}: {explain(error)}")


async def examine(settings: Settings) -> list[Finding]:
    """All findings, in the order of the checks; a check that breaks is a finding too."""
    findings: list[Finding] = []
    async with AsyncExitStack() as stack:
        try:
            hub = await stack.enter_async_context(hub_connection(settings))
        except UserError as error:
            return [
                Finding("database", "fail", str(error), "see that it runs, and that STREAMHUB_DATABASE_URL is right")
            ]
        patient = Patient(settings, hub, {"hub": hub})
        for name in settings.source_urls:
            try:
                patient.sources[name] = await stack.enter_async_context(source_connection(settings, name))
            except UserError as error:
                fix = "see that it runs, and that STREAMHUB_SOURCE_URLS is right"
                findings.append(Finding("database", "fail", f"{name}: {error}", fix))
        for check in CHECKS:
            try:
                findings.extend([finding async for finding in check(patient)])
            except DATABASE_ERRORS as error:
                findings.append(Finding(check.__name__, "fail", explain(error)))
    return findings
