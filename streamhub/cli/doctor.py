"""`streamhub doctor`: checks everything, and says how to fix what is wrong."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import orjson

from streamhub.cli.database import data_dir_option, say
from streamhub.cli.output import discard_stdout
from streamhub.config import load
from streamhub.health import doctor
from streamhub.health.findings import Finding
from streamhub.runtime import logs

STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="One JSON array: check, state (ok, warn, fail), detail, fix.")
@click.option("--fix", "fixes", is_flag=True, help="First fix the captures that have only one possible fix.")
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
    settings = load(data_dir=data_dir)
    if fixes:
        asyncio.run(doctor.fix_captures(settings, say))
    findings = asyncio.run(doctor.examine(settings, say))
    try:
        _print(findings, as_json=as_json)
    except BrokenPipeError:  # as in `streamhub doctor | head`; the exit code still says what was found
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
