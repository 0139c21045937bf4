"""`streamhub org`: the registry of organizations."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from streamhub import organizations
from streamhub.cli.database import data_dir_option, hub_connection
from streamhub.cli.options import Group
from streamhub.cli.output import json_option, print_rows
from streamhub.config import load
from streamhub.organizations import Organization

COLUMNS = ("slug", "id", "enterprise", "slug_is_made")


@click.group("org", cls=Group)
def command() -> None:
    """Organizations: the tenants. Each has its own streams."""


@command.command("add")
@click.argument("slug")
@click.option("--id", "id_", metavar="ID", help="Its id in captured rows and tokens. Default: the slug.")
@click.option("--enterprise/--no-enterprise", default=True, help="Without enterprise its changes are dropped.")
@json_option
@data_dir_option
def add(slug: str, id_: str | None, enterprise: bool, as_json: bool, data_dir: Path | None) -> None:
    """Register an organization.

    \b
      streamhub org add my-org
      streamhub org add acme-outfitters --id org_42
    """

    async def run() -> Organization:
        async with hub_connection(load(data_dir=data_dir)) as hub:
            return await organizations.add(hub, slug, id_, enterprise)

    _print([asyncio.run(run())], as_json)


@command.command("list")
@json_option
@data_dir_option
def list_(as_json: bool, data_dir: Path | None) -> None:
    """List all organizations, by slug.

    \b
      streamhub org list
      streamhub org list --json | jq -r '.[].slug'
    """

    async def run() -> list[Organization]:
        async with hub_connection(load(data_dir=data_dir)) as hub:
            return await organizations.list_(hub)

    _print(asyncio.run(run()), as_json)


@command.command("set")
@click.argument("slug")
@click.option("--slug", "new_slug", metavar="SLUG", help="The new slug. Open streams keep the old one until they end.")
@click.option("--enterprise/--no-enterprise", default=None, help="Whether its changes are stored and streamed.")
@json_option
@data_dir_option
def set_(slug: str, new_slug: str | None, enterprise: bool | None, as_json: bool, data_dir: Path | None) -> None:
    """Change an organization.

    \b
      streamhub org set org-42 --slug acme-outfitters
      streamhub org set acme-outfitters --no-enterprise
    """
    if new_slug is None and enterprise is None:
        raise click.UsageError("nothing to change: give --slug, --enterprise or --no-enterprise")

    async def run() -> Organization:
        async with hub_connection(load(data_dir=data_dir)) as hub:
            return await organizations.set_(hub, slug, new_slug=new_slug, enterprise=enterprise)

    _print([asyncio.run(run())], as_json)


def _print(found: list[Organization], as_json: bool) -> None:
    print_rows([{name: getattr(row, name) for name in COLUMNS} for row in found], COLUMNS, as_json=as_json)
