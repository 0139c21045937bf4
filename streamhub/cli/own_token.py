"""Tokens of a hub on this machine, for client commands that were given none. In a file of its own because it needs the
server's libraries, which take longer to import than such a command takes to run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from streamhub import organizations
from streamhub.cli.database import hub_connection
from streamhub.config import load
from streamhub.embedded import url_of_running
from streamhub.errors import UserError
from streamhub.organizations import Organization
from streamhub.tokens import DevelopmentKey, claims_for

TOKEN_TTL = timedelta(hours=1)  # the client asks for another when it has expired
SHOWN = 5  # organizations in a message


def make(data_dir: Path | None, org: str | None, scopes: Sequence[str], *, test: bool) -> tuple[str, Callable[[], str]]:
    """The organization's slug, and a function that makes a token of it with the development key. `org` may be None
    where the hub has one organization alone. Raises UserError and UsageError."""
    settings = load(data_dir=data_dir)
    if settings.embedded and url_of_running(settings.data_dir) is None:
        raise UserError(
            f"no hub runs in {settings.data_dir} to make a token for: start one with streamhub serve, name its "
            "--data-dir, or give --token TOKEN"
        )
    key = DevelopmentKey.of(settings)

    async def find() -> Organization:
        async with hub_connection(settings) as hub:
            if org is not None:
                return await organizations.require(hub, org)
            registered = await organizations.list_(hub)
        if len(registered) != 1:
            names = ", ".join([each.slug for each in registered[:SHOWN]]) + (", …" if len(registered) > SHOWN else "")
            raise click.UsageError(
                f"give --org SLUG (or STREAMHUB_ORG); this hub has {names or 'none yet: streamhub org add SLUG'}"
            )
        return registered[0]

    organization = asyncio.run(find())

    def token() -> str:
        now = datetime.now(UTC)
        claims = claims_for(
            organization, now=now, ttl=TOKEN_TTL, test=test, scope=scopes, audience=settings.jwt_audience
        )
        return key.sign(claims)

    return organization.slug, token
