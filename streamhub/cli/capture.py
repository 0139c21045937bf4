"""`streamhub capture`: adds, lists, removes and backfills captures."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from streamhub import capture, organizations
from streamhub.capture import (
    RATE,
    AddResult,
    BackfillResult,
    CaptureSpec,
    ListedCapture,
    RemoveResult,
    check_type,
)
from streamhub.cli.database import data_dir_option, hub_connection, say, source_connection
from streamhub.cli.options import Group
from streamhub.cli.output import ProgressLine, json_option, print_rows
from streamhub.config import load
from streamhub.core.rendering import EVENTS
from streamhub.errors import UserError

SOURCE = click.option(
    "--source", metavar="NAME", help="A source of STREAMHUB_SOURCE_URLS. Default: the hub's database."
)


class Names(click.ParamType[tuple[str, ...]]):
    """Column names, separated by commas."""

    name = "columns"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(part.strip() for part in str(value).split(","))
        if not all(names):
            self.fail(f"{value!r} has an empty name; separate columns with commas: a,b", param, ctx)
        return names


class TypeName(click.ParamType[tuple[str, str]]):
    """`EVENT=TYPE`."""

    name = "type name"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        event, _, name = str(value).partition("=")
        if event not in EVENTS or not name:
            self.fail(
                f"{value!r} is not EVENT=TYPE, for example update=product.updated; EVENT is one of {', '.join(EVENTS)}",
                param,
                ctx,
            )
        try:
            check_type(name)
        except UserError as error:
            self.fail(str(error), param, ctx)
        return event, name


@click.group("capture", cls=Group)
def command() -> None:
    """The tables whose changes become events."""


@command.command("add")
@click.argument("table")
@SOURCE
@click.option("--resource-type", metavar="TYPE", required=True, help="The resource type of the rows, for example skus.")
@click.option(
    "--id-column",
    "id_columns",
    type=Names(),
    default=(),
    metavar="COL,…",
    help="The columns of the resource id. Default: the primary key.",
)
@click.option("--org-column", metavar="COL", help="The column that holds the organization's id.")
@click.option("--org", "slug", metavar="SLUG", help="The registered organization of all rows.")
@click.option("--test-column", metavar="COL", help="A boolean column, true for rows of the test environment.")
@click.option("--test", is_flag=True, help="All rows belong to the test environment.")
@click.option("--exclude", type=Names(), default=(), metavar="COL,…", help="Columns that no event has.")
@click.option("--redact", type=Names(), default=(), metavar="COL,…", help="Columns whose values no event has.")
@click.option("--type-name", "type_names", type=TypeName(), multiple=True, metavar="EVENT=TYPE", help="Repeatable.")
@click.option("--anonymization-column", metavar="COL", help="A value in place of null is an anonymization request.")
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
    type_names: tuple[tuple[str, str], ...],
    anonymization_column: str | None,
    data_dir: Path | None,
) -> None:
    """Capture every change of TABLE from now on. Other options than before replace the capture.

    \b
      streamhub capture add public.skus --org my-org --resource-type skus
      streamhub capture add shop.customers --org-column organization_id --test-column test \\
          --resource-type customers --exclude password_digest --redact email \\
          --anonymization-column anonymization_requested_at
      streamhub capture add public.skus --source shop --org my-org --resource-type skus \\
          --type-name update=product.updated
    """
    if (org_column is None) == (slug is None):
        raise click.UsageError("give either --org-column COL (the column of the organization's id) or --org SLUG")
    if test and test_column is not None:
        raise click.UsageError("give either --test-column or --test, not both")

    async def run() -> AddResult:
        settings = load(data_dir=data_dir)
        organization = None
        if slug is not None:
            async with hub_connection(settings) as hub:
                organization = await organizations.require(hub, slug)
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
            type_names=dict(type_names),
            anonymization_column=anonymization_column,
        )
        async with source_connection(settings, source) as connection:
            return await capture.add(connection, spec)

    result = asyncio.run(run())
    for warning in result.warnings:
        say(f"warning: {warning}")
    click.echo(f"{result.table} {result.state}")


@command.command("list")
@SOURCE
@json_option
@data_dir_option
def list_(source: str | None, as_json: bool, data_dir: Path | None) -> None:
    """List the captures, by table.

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
    """Stop capturing TABLE. Changes already written are still published. History stays.

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
@click.option("--restart", is_flag=True, help="Start at the first row, not where an earlier run stopped.")
@click.option(
    "--rate",
    type=click.IntRange(min=1),
    default=RATE,
    show_default=True,
    metavar="ROWS",
    help="The most rows a second.",
)
@json_option
@data_dir_option
def backfill(table: str, source: str | None, restart: bool, rate: int, as_json: bool, data_dir: Path | None) -> None:
    """Send every row of a captured TABLE as it is now: as create, with "backfill":true.

    The next run resumes a run that was stopped (Ctrl-C) or failed. A row may come twice, never stale. A relay must
    run: the backfill waits while the outbox has over 10,000 rows.

    \b
      streamhub capture backfill public.skus
      streamhub capture backfill public.skus --source shop --restart --rate 5000
    """

    async def run() -> BackfillResult:
        async with source_connection(load(data_dir=data_dir), source) as connection:
            return await capture.backfill(connection, table, restart=restart, rate=rate, report=progress.show)

    progress = ProgressLine()
    try:
        result = asyncio.run(run())
    except (KeyboardInterrupt, asyncio.CancelledError):
        progress.end()
        say("stopped: run the same command to resume")
        raise
    finally:
        progress.end()
    print_rows([result._asdict()], BackfillResult._fields, as_json=as_json)
