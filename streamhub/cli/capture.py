"""`streamhub capture`: which tables are captured, and how."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import click

from streamhub import capture, organizations
from streamhub.capture import (
    RATE,
    AddResult,
    BackfillResult,
    CaptureSpec,
    ListedCapture,
    Progress,
    RemoveResult,
    check_type,
)
from streamhub.cli.database import data_dir_option, hub_connection, say, source_connection
from streamhub.cli.output import json_option, print_rows
from streamhub.config import load
from streamhub.core.rendering import EVENTS
from streamhub.errors import UserError

SOURCE = click.option("--source", metavar="NAME", help="A source of STREAMHUB_SOURCE_URLS; the hub's unless given.")


class Names(click.ParamType[tuple[str, ...]]):
    """Columns, separated by commas."""

    name = "columns"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(part.strip() for part in str(value).split(","))
        if not all(names):
            self.fail(f"{value!r} has an empty name; columns are separated by commas: a,b", param, ctx)
        return names


@click.group("capture")
def command() -> None:
    """The tables whose changes become events."""


@command.command("add")
@click.argument("table")
@SOURCE
@click.option("--resource-type", metavar="TYPE", required=True, help="What the events call a row, for example skus.")
@click.option(
    "--id-column", "id_columns", type=Names(), default=(), metavar="COL,…", help="Instead of the primary key."
)
@click.option("--org-column", metavar="COL", help="The column that holds the organization's id.")
@click.option("--org", "slug", metavar="SLUG", help="The registered organization that all rows belong to.")
@click.option("--test-column", metavar="COL", help="A boolean column: whether the row is of the test environment.")
@click.option("--test", is_flag=True, help="All rows are of the test environment.")
@click.option("--exclude", type=Names(), default=(), metavar="COL,…", help="Columns that never appear in any event.")
@click.option("--redact", type=Names(), default=(), metavar="COL,…", help="Columns that appear without their value.")
@click.option("--type-name", "renamed", multiple=True, metavar="EVENT=TYPE", help="May be given several times.")
@click.option("--anonymization-column", metavar="COL", help="Its going from null to a value asks for anonymization.")
@data_dir_option
def add(
    table: str,
    source: str | None,
    resource_type: str,
    id_columns: tuple[str, ...],
    org_column: str | None,
    slug: str | None,
    test_column: str | None,
    test: bool,
    exclude: tuple[str, ...],
    redact: tuple[str, ...],
    renamed: tuple[str, ...],
    anonymization_column: str | None,
    data_dir: Path | None,
) -> None:
    """Capture every change of TABLE from now on. With other options than before: change how it is captured.

    \b
      streamhub capture add public.skus --org my-org --resource-type skus
      streamhub capture add shop.customers --org-column organization_id --test-column test \\
          --resource-type customers --exclude password_digest --redact email \\
          --anonymization-column anonymization_requested_at
      streamhub capture add public.skus --source shop --org my-org --resource-type skus \\
          --type-name update=product.updated
    """
    if (org_column is None) == (slug is None):
        raise click.UsageError("give either --org-column COL (it holds the organization's id) or --org SLUG")
    if test and test_column is not None:
        raise click.UsageError("give either --test-column or --test, not both")
    type_names = _type_names(renamed)

    async def run() -> AddResult:
        settings = load(data_dir=data_dir)
        organization = None
        if slug is not None:
            async with hub_connection(settings) as hub:
                organization = await organizations.with_slug(hub, slug)
            if organization is None:
                raise UserError(f"there is no organization {slug!r}: streamhub org add {slug} registers it")
        spec = CaptureSpec(
            table=table,
            resource_type=resource_type,
            id_columns=id_columns,
            organization_column=org_column,
            organization_id=None if organization is None else organization.id,
            test_column=test_column,
            test=test,
            exclude=exclude,
            redact=redact,
            type_names=type_names,
            anonymization_column=anonymization_column,
        )
        async with source_connection(settings, source) as connection:
            return await capture.add(connection, spec)

    result = asyncio.run(run())
    for warning in result.warnings:
        say(f"warning: {warning}")
    click.echo(f"{result.table} {result.state}")


def _type_names(renamed: tuple[str, ...]) -> dict[str, str]:
    """`EVENT=TYPE` of each `--type-name`; a wrong one is wrong usage."""
    names = {}
    for word in renamed:
        event, _, name = word.partition("=")
        if event not in EVENTS or not name:
            raise click.UsageError(
                f"--type-name is {word!r}: give EVENT=TYPE, for example update=product.updated, "
                f"and EVENT is one of {', '.join(EVENTS)}"
            )
        try:
            check_type(name)
        except UserError as error:
            raise click.UsageError(f"--type-name is {word!r}: {error}") from None
        names[event] = name
    return names


@command.command("list")
@SOURCE
@json_option
@data_dir_option
def list_(source: str | None, as_json: bool, data_dir: Path | None) -> None:
    """What is captured now, by table.

    \b
      streamhub capture list
      streamhub capture list --source shop --json
    """

    async def run() -> list[ListedCapture]:
        async with source_connection(load(data_dir=data_dir), source) as connection:
            return await capture.list_captures(connection)

    rows = [found._asdict() for found in asyncio.run(run())]
    print_rows(rows, ListedCapture._fields, as_json=as_json)


@command.command("remove")
@click.argument("table")
@SOURCE
@data_dir_option
def remove(table: str, source: str | None, data_dir: Path | None) -> None:
    """Capture no more of TABLE. What was written before still comes; its history stays.

    \b
      streamhub capture remove public.skus
    """

    async def run() -> RemoveResult:
        async with source_connection(load(data_dir=data_dir), source) as connection:
            return await capture.remove(connection, table)

    result = asyncio.run(run())
    for warning in result.warnings:
        say(f"warning: {warning}")
    click.echo(f"{result.table} removed")


@command.command("backfill")
@click.argument("table")
@SOURCE
@click.option("--restart", is_flag=True, help="From the first row, not from where an earlier run was stopped.")
@click.option(
    "--rate", type=click.IntRange(min=1), default=RATE, show_default=True, metavar="ROWS", help="A second, at the most."
)
@json_option
@data_dir_option
def backfill(table: str, source: str | None, restart: bool, rate: int, as_json: bool, data_dir: Path | None) -> None:
    """Send every row of TABLE, which is captured, as it stands now: as create, with "backfill":true.

    Stopped (Ctrl-C) or failed, it goes on with the next run. A row may come twice, never stale. The relay has to run,
    since no more than 10,000 changes are left waiting for it.

    \b
      streamhub capture backfill public.skus
      streamhub capture backfill public.skus --source shop --restart --rate 5000
    """

    async def run() -> BackfillResult:
        async with source_connection(load(data_dir=data_dir), source) as connection:
            return await capture.backfill(connection, table, restart=restart, rate=rate, report=shown)

    shown = _Shown()
    try:
        result = asyncio.run(run())
    except (KeyboardInterrupt, asyncio.CancelledError):
        shown.end()
        say("stopped: the same command goes on from here")
        raise
    finally:
        shown.end()
    print_rows([result._asdict()], BackfillResult._fields, as_json=as_json)


class _Shown:
    """Progress on stderr: one line that changes on a terminal, else a line now and then."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._every = 0.2 if self._terminal else 5.0  # seconds
        self._last = time.monotonic()
        self._open = False

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last < self._every:
            return
        self._last = now
        line = f"{progress.table}: {progress.rows:,}"
        line += f" of about {progress.expected:,} rows" if progress.expected else " rows"
        if progress.waiting:
            line += ", waiting for the relay to empty the outbox"
        click.echo(f"\r\x1b[K{line}" if self._terminal else line, err=True, nl=not self._terminal)
        self._open = self._terminal

    def end(self) -> None:
        if self._open:
            click.echo(err=True)
            self._open = False
