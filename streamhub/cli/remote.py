"""What commands share that are clients of a running hub: where it is, the token, and which events are asked for."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import click

from streamhub.cli.database import data_dir_option, say
from streamhub.core.type_patterns import TypePatterns
from streamhub.errors import UserError

if TYPE_CHECKING:
    from streamhub.client import StreamHub
    from streamhub.client.endpoint import Token

Command = Callable[..., None]

DEFAULT_URL = "http://127.0.0.1:8080"

# A hub's messages name its parameters.
_OPTIONS = {
    "date_from": "--from",
    "date_to": "--to",
    "resource_type_eq": "--resource-type",
    "resource_id_in": "--resource-ids",
}


class Access(NamedTuple):
    """What a client is made of."""

    url: str
    org: str
    token: Token

    def hub(self) -> StreamHub:
        """Raises UsageError where the address is none."""
        from streamhub.client import StreamHub

        try:
            return StreamHub(self.url, org=self.org, token=self.token, fails_fast=True)
        except ValueError as error:
            raise click.UsageError(str(error)) from None


class Remote(NamedTuple):
    """A hub as the options name it."""

    url: str
    org: str | None
    token: str | None
    test: bool
    data_dir: Path | None

    def access(self, *scopes: str) -> Access:
        """Without a token, one with these scopes is made with the development key. Raises UserError and UsageError."""
        if self.token is None:
            return Access(self.url, *self._made(scopes))
        org = self.org or _slug_in(self.token)
        if org is None:
            raise click.UsageError("give --org SLUG (or STREAMHUB_ORG): this token does not tell its organization")
        return Access(self.url, org, self.token)

    def _made(self, scopes: Sequence[str]) -> tuple[str, Token]:
        """The organization's slug, and a function that makes a token of it."""
        if not _is_here(self.url):
            raise click.UsageError(
                f"give --token TOKEN or STREAMHUB_TOKEN: one is made only for a hub on this machine, not for {self.url}"
            )
        from streamhub.cli.own_token import make

        return make(self.data_dir, self.org, scopes, test=self.test)


def remote_options(function: Command) -> Command:
    """`--url`, `--org`, `--token`, `--test` and `--data-dir`, as the argument `remote`."""

    @click.option(
        "--url", envvar="STREAMHUB_URL", default=DEFAULT_URL, show_default=True, help="The hub (STREAMHUB_URL)."
    )
    @click.option(
        "--org", envvar="STREAMHUB_ORG", metavar="SLUG", help="The organization (STREAMHUB_ORG). Default: the token's."
    )
    @click.option(
        "--token",
        envvar="STREAMHUB_TOKEN",
        metavar="TOKEN",
        help="A JWT or an API key (STREAMHUB_TOKEN). Default: one made with the development key of a hub here.",
    )
    @click.option("--test", is_flag=True, help="Without a token: one for the test environment.")
    @data_dir_option
    @functools.wraps(function)
    def wrapped(
        *, url: str, org: str | None, token: str | None, test: bool, data_dir: Path | None, **others: Any
    ) -> None:
        token = (token or "").strip() or None
        function(remote=Remote(url, org or None, token, test, data_dir), **others)

    return wrapped


class Choice(NamedTuple):
    """The events that are asked for; None: all."""

    types: str | None
    filters: Mapping[str, str]
    resource_type: str | None
    resource_ids: str | None

    def __bool__(self) -> bool:
        return self != Choice(None, {}, None, None)

    @property
    def parameters(self) -> dict[str, Any]:
        """As methods of StreamHub take them."""
        return {
            "types": self.types,
            "filters": self.filters,
            "resource_type_eq": self.resource_type,
            "resource_id_in": self.resource_ids,
        }


class TypesType(click.ParamType[str]):
    """Types with wildcards, separated by commas."""

    name = "types"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            TypePatterns.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)


def choice_options(function: Command) -> Command:
    """`--types`, `--filter`, `--resource-type` and `--resource-ids`, as the argument `choice`."""

    @click.option("--types", type=TypesType(), metavar="TYPE,…", help="For example skus.update, ticket.* or *.create.")
    @click.option(
        "--filter",
        "pairs",
        multiple=True,
        metavar="PATH_PREDICATE=VALUE",
        help="Repeatable; all must hold. For example resource.status_eq=paid.",
    )
    @click.option("--resource-type", metavar="TYPE", help="For example skus.")
    @click.option("--resource-ids", metavar="ID,…", help="Up to 500 resources.")
    @functools.wraps(function)
    def wrapped(
        *,
        types: str | None,
        pairs: tuple[str, ...],
        resource_type: str | None,
        resource_ids: str | None,
        **others: Any,
    ) -> None:
        function(choice=Choice(types, _filters(pairs), resource_type, resource_ids), **others)

    return wrapped


def _filters(pairs: Sequence[str]) -> dict[str, str]:
    if not pairs:
        return {}
    from streamhub.core import filters

    split = [(name, value) for name, _, value in (pair.partition("=") for pair in pairs)]
    for pair in pairs:
        if "=" not in pair:
            raise click.BadParameter(
                f"{pair!r} is not PATH_PREDICATE=VALUE, for example resource.status_eq=paid", param_hint="--filter"
            )
    try:
        filters.parse(split)
    except filters.FilterProblems as problems:
        raise click.BadParameter(str(problems), param_hint="--filter") from None
    return dict(split)


@contextmanager
def spoken() -> Iterator[None]:
    """Say on stderr what the client logs: each connection that was lost, and when the next try is. What ends a stream
    for good is a UserError."""
    from streamhub.client import StreamHubError

    log = logging.getLogger("streamhub.client")
    handler = _Spoken(logging.WARNING)
    log.addHandler(handler)
    before, log.propagate = log.propagate, False
    try:
        yield
    except StreamHubError as error:
        raise UserError(_in_options(str(error))) from None
    finally:
        log.removeHandler(handler)
        log.propagate = before


class _Spoken(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(_in_options(record.getMessage()))


def _in_options(message: str) -> str:
    """What a hub said, as who typed a command reads it."""
    return re.sub(
        r"\b(?:date_from|date_to|resource_type_eq|resource_id_in)\b", lambda found: _OPTIONS[found[0]], message
    )


def _slug_in(token: str) -> str | None:
    """Of a JWT's claims, which the hub verifies; None of anything else."""
    import jwt

    try:
        slug = jwt.decode(token, options={"verify_signature": False})["organization"]["slug"]
    except (jwt.PyJWTError, KeyError, TypeError):
        return None
    return slug if isinstance(slug, str) and slug else None


def _is_here(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
