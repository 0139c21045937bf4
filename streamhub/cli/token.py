"""`streamhub token`: prints a token signed with the development key."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from streamhub.cli.database import data_dir_option, hub_connection
from streamhub.cli.options import DurationType


@click.command("token")
@click.option("--org", "slug", metavar="SLUG", required=True, help="A registered organization.")
@click.option("--test", is_flag=True, help="For the test environment. Default: live.")
@click.option(
    "--kind", default="integration", show_default=True, help="The kind of application. Streams need integration."
)
@click.option("--scope", "scopes", multiple=True, help="Repeatable, for example events:read.")
@click.option("--ttl", type=DurationType(), default="2h", show_default=True, help="How long it is valid.")
@data_dir_option
def command(slug: str, test: bool, kind: str, scopes: tuple[str, ...], ttl: timedelta, data_dir: Path | None) -> None:
    """Print a token signed with the development key.

    \b
      TOKEN=$(streamhub token --org my-org)
      curl -N -H "Authorization: Bearer $TOKEN" http://127.0.0.1:8080/my-org
      streamhub token --org my-org --test --ttl 7d
    """
    from streamhub import organizations
    from streamhub.config import load
    from streamhub.tokens import DevelopmentKey, claims_for

    settings = load(data_dir=data_dir)
    key = DevelopmentKey.of(settings)

    async def find() -> organizations.Organization:
        async with hub_connection(settings) as hub:
            return await organizations.require(hub, slug)

    claims = claims_for(
        asyncio.run(find()),
        now=datetime.now(UTC),
        ttl=ttl,
        test=test,
        kind=kind,
        scope=" ".join(scopes).replace(",", " ").split(),
        audience=settings.jwt_audience,
    )
    click.echo(key.sign(claims))
