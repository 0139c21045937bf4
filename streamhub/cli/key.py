"""`streamhub key`: API keys, for programs that read broadcasts, publish events or manage webhooks."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime, timedelta
from pathlib import Path

import click

from streamhub import organizations
from streamhub.cli.database import data_dir_option, hub_connection, say
from streamhub.cli.options import DurationType, Group
from streamhub.cli.output import json_option, print_rows
from streamhub.config import load
from streamhub.core import ids
from streamhub.core.window import timestamp
from streamhub.keys import key, store
from streamhub.keys.store import LONGEST, SCOPES, Listed

COLUMNS = ("id", "org", "scopes", "test", "state", "created_at", "expires_at", "revoked_at", "last_used_at")


class ScopesType(click.ParamType[tuple[str, ...]]):
    """One of SCOPES, or several separated by commas or spaces."""

    name = "scope"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        scopes = tuple(scope for scope in re.split(r"[\s,]+", str(value)) if scope)
        wrong = store.wrong_scopes(scopes)
        if wrong is not None:
            self.fail(wrong, param, ctx)
        return scopes


@click.group("key", cls=Group)
def command() -> None:
    """API keys: tokens of this hub, for what a scope opens."""


@command.command("create")
@click.option("--org", "slug", metavar="SLUG", required=True, help="A registered organization.")
@click.option(
    "--scope", "scopes", type=ScopesType(), multiple=True, required=True, help=f"Repeatable: {', '.join(SCOPES)}."
)
@click.option("--test", is_flag=True, help="For the test environment. Default: live.")
@click.option(
    "--expires", "lifetime", type=DurationType(), help="How long it is valid, for example 90d. Default: without end."
)
@data_dir_option
def create(
    slug: str, scopes: tuple[tuple[str, ...], ...], test: bool, lifetime: timedelta | None, data_dir: Path | None
) -> None:
    """Make an API key and print it, this once: the hub keeps its hash alone.

    \b
      KEY=$(streamhub key create --org my-org --scope events:read)
      streamhub key create --org my-org --scope events:write --test --expires 90d
    """
    if lifetime is not None and lifetime > LONGEST:
        raise click.BadParameter(
            f"at most {LONGEST.days}d; leave it out for a key that never expires", param_hint="--expires"
        )
    granted = [scope for each in scopes for scope in each]

    async def run() -> str:
        async with hub_connection(load(data_dir=data_dir)) as hub:
            organization = await organizations.require(hub, slug)
            return await store.create(hub, organization, granted, test=test, lifetime=lifetime)

    made = asyncio.run(run())
    click.echo(made)
    presented = key.read(made)
    assert presented is not None, "it was made just now"
    say(f"This is shown once. To revoke it: streamhub key revoke {presented.id}")


@command.command("list")
@click.option("--org", "slug", metavar="SLUG", help="The keys of this organization alone.")
@json_option
@data_dir_option
def list_(slug: str | None, as_json: bool, data_dir: Path | None) -> None:
    """List API keys by organization, never their secrets.

    \b
      streamhub key list
      streamhub key list --json | jq '.[] | select(.state == "active")'
    """

    async def run() -> list[Listed]:
        async with hub_connection(load(data_dir=data_dir)) as hub:
            if slug is not None:
                await organizations.require(hub, slug)
            return await store.list_(hub, slug)

    _print(asyncio.run(run()), as_json)


@command.command("revoke")
@click.argument("id_", metavar="ID")
@json_option
@data_dir_option
def revoke(id_: str, as_json: bool, data_dir: Path | None) -> None:
    """Revoke an API key for good, by the id that key list shows. Streams that it opened end within seconds.

    \b
      streamhub key revoke 4Rk9TzQ2mVbX
    """
    whole = key.read(id_)  # a key that was found somewhere may be given whole
    wanted = key.masked(id_) if whole is None else whole.id

    async def run() -> Listed:
        async with hub_connection(load(data_dir=data_dir)) as hub:
            return await store.revoke(hub, wanted)

    _print([asyncio.run(run())], as_json)


def _print(found: list[Listed], as_json: bool) -> None:
    rows = [
        {
            "id": each.id,
            "org": each.slug,
            "scopes": list(each.scopes),
            "test": each.test,
            "state": each.state,
            "created_at": _time(each.created_at),
            "expires_at": _time(each.expires_at),
            "revoked_at": _time(each.revoked_at),
            "last_used_at": _time(each.last_used_at),
        }
        for each in found
    ]
    print_rows(rows, COLUMNS, as_json=as_json)


def _time(when: datetime | None) -> str | None:
    return None if when is None else timestamp(ids.ms_of(when))
