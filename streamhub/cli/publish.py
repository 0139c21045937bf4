"""`streamhub publish`: one event of an application's own, over HTTP."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import orjson

from streamhub.cli.remote import Remote, remote_options, spoken
from streamhub.core.names import wrong_type, wrong_with

if TYPE_CHECKING:
    from streamhub.client import StreamHub

MOST_BYTES: Final = 1024 * 1024


class JudgedType(click.ParamType[str]):
    """Text of which `wrong` says what is wrong, None where nothing is."""

    def __init__(self, name: str, wrong: Callable[[str], str | None], between: str) -> None:
        """`between` stands in the message between the text and that."""
        self.name = name
        self._wrong = wrong
        self._between = between

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        wrong = self._wrong(text)
        if wrong:
            self.fail(f"{text[:80]!r}{self._between}{wrong}", param, ctx)
        return text


EVENT_TYPE: Final = JudgedType("type", wrong_type, ": ")
NAME: Final = JudgedType("name", wrong_with, " ")  # of a resource, or an event


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
@click.argument("type_", metavar="TYPE", type=EVENT_TYPE)
@remote_options
@click.option("--data", type=JsonType(), required=True, metavar="JSON", help="Any JSON; @FILE reads a file, - stdin.")
@click.option("--resource-type", type=NAME, metavar="TYPE", help="Default: TYPE without its last segment.")
@click.option("--resource-id", type=NAME, metavar="ID", help="What it is about. Default: nothing.")
@click.option("--publish-id", type=NAME, metavar="ID", help="One is published once in 24 hours. Default: a new one.")
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
    import asyncio

    hub = remote.access("events:write").hub()

    async def publish(hub: StreamHub) -> str:
        async with hub:
            return await hub.publish(
                type_,
                orjson.Fragment(data),  # as it was written: reading and writing it again would change numbers
                resource_type=resource_type,
                resource_id=resource_id,
                publish_id=publish_id,
            )

    with spoken():
        click.echo(asyncio.run(publish(hub)))
