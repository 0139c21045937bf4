"""`streamhub publish`: one event of an application's own, over HTTP."""

from __future__ import annotations

import asyncio
import inspect
import sys
import uuid
from pathlib import Path
from typing import Final

import aiohttp
import click
import orjson

from streamhub import __version__
from streamhub.backoff import Backoff
from streamhub.cli.database import say
from streamhub.cli.remote import Access, Remote, remote_options
from streamhub.client import Refused
from streamhub.client.endpoint import Endpoint, refusal
from streamhub.client.errors import reason_of
from streamhub.core.names import wrong_with
from streamhub.core.published import wrong_type
from streamhub.errors import UserError

TRIES: Final = 5
LONGEST_PAUSE: Final = 30.0  # seconds, whatever an answer asks for
MOST_BYTES: Final = 1024 * 1024

_TIMEOUT: Final = aiohttp.ClientTimeout(total=30)


class TypeType(click.ParamType[str]):
    """The type of an event that an application publishes."""

    name = "type"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        wrong = wrong_type(text)
        if wrong:
            self.fail(f"{text[:80]!r}: {wrong}", param, ctx)
        return text


class NameType(click.ParamType[str]):
    """What a request calls a resource, or an event."""

    name = "name"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        wrong = wrong_with(text)
        if wrong:
            self.fail(f"{text[:80]!r} {wrong}", param, ctx)
        return text


class JsonType(click.ParamType[bytes]):
    """JSON, `@FILE` or `-` for stdin. It is sent as it is written."""

    name = "json"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        if isinstance(value, bytes):
            return value
        text = str(value)
        try:
            data = self._read(text)
        except OSError as error:
            self.fail(f"{text[1:]} cannot be read: {error.strerror}", param, ctx)
        if len(data) > MOST_BYTES:
            self.fail(f"it has over {MOST_BYTES} bytes, which an event may have at most", param, ctx)
        try:
            orjson.loads(data)
        except ValueError as error:
            shown = repr(text) if len(text) <= 80 else "it"
            self.fail(f"{shown} is no JSON ({error}), for example '{{\"query\": 7}}', @query.json or -", param, ctx)
        return data.strip()

    def _read(self, text: str) -> bytes:
        if text == "-":
            return sys.stdin.buffer.read(MOST_BYTES + 1)
        if text.startswith("@"):
            with Path(text[1:]).open("rb") as file:
                return file.read(MOST_BYTES + 1)
        return text.encode("utf-8", "surrogateescape")


@click.command("publish")
@click.argument("type_", metavar="TYPE", type=TypeType())
@remote_options
@click.option("--data", type=JsonType(), required=True, metavar="JSON", help="Any JSON; @FILE reads a file, - stdin.")
@click.option("--resource-type", type=NameType(), metavar="TYPE", help="Default: TYPE without its last segment.")
@click.option("--resource-id", type=NameType(), metavar="ID", help="What it is about. Default: nothing.")
@click.option(
    "--publish-id", type=NameType(), metavar="ID", help="One is published once in 24 hours. Default: a new one."
)
def command(
    *,
    type_: str,
    remote: Remote,
    data: bytes,
    resource_type: str | None,
    resource_id: str | None,
    publish_id: str | None,
) -> None:
    """Publish an event that is no change of a row. Prints its publish id once the hub has it.

    It tries again by itself while the hub is away, with the same publish id, so nothing is published twice.

    \b
      streamhub publish query.received --org my-org --data '{"query": 7}'
      streamhub publish query.received --org my-org --data @query.json --resource-id 7 --publish-id query-7
    """
    body = _body(type_, data, resource_type, resource_id, publish_id or str(uuid.uuid4()))
    access = remote.access("events:write")
    try:
        endpoint = Endpoint(*access)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    try:
        click.echo(asyncio.run(_publish(access, f"{endpoint.url}{endpoint.path('events')}", body)))
    except Refused as refused:
        raise UserError(str(refused)) from None


def _body(type_: str, data: bytes, resource_type: str | None, resource_id: str | None, publish_id: str) -> bytes:
    """`data` is sent as it was written: reading and writing it again would change numbers."""
    named = {"type": type_, "resource_type": resource_type, "resource_id": resource_id, "publish_id": publish_id}
    given = orjson.dumps({name: value for name, value in named.items() if value is not None})
    return b'%b,"data":%b}' % (given[:-1], data)


async def _publish(access: Access, url: str, body: bytes) -> str:
    """The publish id. Raises Refused and UserError."""
    backoff = Backoff(0.5, 8.0)
    async with aiohttp.ClientSession(timeout=_TIMEOUT, cookie_jar=aiohttp.DummyCookieJar()) as session:
        for left in reversed(range(TRIES)):
            asked = 0.0
            try:
                return await _post(session, access, url, body)
            except Refused as refused:
                if refused.is_final or not left:
                    raise
                reason, asked = reason_of(refused), min(refused.retry_after or 0.0, LONGEST_PAUSE)
            except (aiohttp.ClientError, OSError) as error:
                timed_out = isinstance(error, TimeoutError)
                reason = f"no answer within {_TIMEOUT.total:.0f} s" if timed_out else reason_of(error)
                if not left:
                    raise UserError(f"not published after {TRIES} tries: {reason}") from None
            pause = max(asked, backoff.next())
            say(f"{reason}; the next try is in {pause:.1f} s")
            await asyncio.sleep(pause)
    raise AssertionError("the last try returned or raised")


async def _post(session: aiohttp.ClientSession, access: Access, url: str, body: bytes) -> str:
    token = access.token() if callable(access.token) else access.token
    headers = {
        "Authorization": f"Bearer {await token if inspect.isawaitable(token) else token}",
        "Content-Type": "application/json",
        "User-Agent": f"streamhub-publish/{__version__}",
    }
    async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
        if response.status != 202:
            raise await refusal(response)
        answer = orjson.loads(await response.read())
        return str(answer["data"][0]["publish_id"])
