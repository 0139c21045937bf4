"""`streamhub listen`: an organization's events as they happen, as lines, as JSON, or as webhooks to an address."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import urlsplit

import click

from streamhub.cli.database import say
from streamhub.cli.remote import Choice, Remote, choice_options, remote_options, spoken
from streamhub.core.unseen_types import unseen

if TYPE_CHECKING:
    from streamhub.cli.forwarding import Forwarder
    from streamhub.client import Event, Gap, StreamHub

    Show: TypeAlias = Callable[[Event], Awaitable[None]]

MOST_LISTED: Final = 1_000  # types; a hub that has more lists some of them
LISTED_WITHIN: Final = 5.0  # seconds; events wait meanwhile


class AddressType(click.ParamType[str]):
    """Where webhooks go; `localhost:3000/hooks` will do."""

    name = "url"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        try:
            url = urlsplit(text if "://" in text else f"http://{text}")
            is_right = url.scheme in {"http", "https"} and bool(url.hostname) and url.username is None
            is_right = is_right and url.port != 0
        except ValueError:
            is_right = False
        if not is_right:
            self.fail(f"{text!r} is no address, for example http://127.0.0.1:3000/webhooks", param, ctx)
        return url.geturl()


@click.command("listen")
@remote_options
@choice_options
@click.option("--live", is_flag=True, help="The live stream: every event, and one consumer at a time.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--forward-to", type=AddressType(), metavar="URL", help="Post each event there as a signed webhook.")
@click.option("--secret", metavar="WHSEC", help="What webhooks are signed with. Default: a new one, which is printed.")
def command(
    *, remote: Remote, choice: Choice, live: bool, as_json: bool, forward_to: str | None, secret: str | None
) -> None:
    """Print events as they happen, until Ctrl-C. It connects again by itself, and says so on stderr.

    By default it is one subscriber of many, for events from now on. --live takes the organization's live stream, which
    has one consumer: it goes on where the last one stopped, and what is printed counts as consumed.

    --forward-to shows the status and the time of each answer. Deliveries are tried once.

    \b
      streamhub listen --org my-org
      streamhub listen --org my-org --types 'orders.*' --filter resource.status_eq=paid
      streamhub listen --org my-org --json | jq .delta
      streamhub listen --org my-org --forward-to localhost:3000/webhooks
    """
    if live and choice:
        raise click.UsageError("the live stream has every event: leave --live out to choose some")
    if secret is not None and forward_to is None:
        raise click.UsageError("--secret signs what --forward-to sends: give both")
    import asyncio

    forwarder = None if forward_to is None else _forwarder(forward_to, secret)
    hub = remote.access("events:read").hub()
    with spoken():
        try:
            asyncio.run(_listen(hub, choice, is_live=live, as_json=as_json, forwarder=forwarder))
        except KeyboardInterrupt:
            return


def _forwarder(url: str, secret: str | None) -> Forwarder:
    from streamhub.cli.forwarding import Forwarder

    try:
        return Forwarder(url, secret)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--secret") from None


async def _listen(hub: StreamHub, choice: Choice, *, is_live: bool, as_json: bool, forwarder: Forwarder | None) -> None:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(hub)
        if forwarder is not None:
            await stack.enter_async_context(forwarder)
            say(f"forwarding to {forwarder.url}, signed with {forwarder.secret}")
        show = _shown(as_json=as_json, forwarder=forwarder)
        if is_live:
            tell = _tell_connection("listening to the live stream; Ctrl-C ends")
            async for event in hub.live(on_gap=_tell_filling, on_connection_change=tell):
                await show(event)
        else:
            await _subscribe(hub, choice, show)


async def _subscribe(hub: StreamHub, choice: Choice, show: Show) -> None:
    """Until it is cancelled. Raises what ended the subscription, and what `show` raises."""
    tell = _tell_connection("listening; Ctrl-C ends")

    async def connected(is_connected: bool) -> None:
        if tell(is_connected) and choice.types is not None:
            await _tell_unseen(hub, choice.types)

    async for event in hub.events(**choice.parameters, on_gap=_tell_gap, on_connection_change=connected):
        await show(event)


async def _tell_unseen(hub: StreamHub, types: str) -> None:
    """Who waits for a type that no event has would wait for ever. It is said, and nothing ends with it: the first
    event of a type may be to come."""
    import asyncio

    import aiohttp

    from streamhub.client import StreamHubError

    try:
        async with asyncio.timeout(LISTED_WITHIN):
            seen = await hub.types()
    except (StreamHubError, aiohttp.ClientError, OSError):
        return
    if len(seen) < MOST_LISTED:
        for _, words in unseen(types.split(","), seen):
            say(words)


def _shown(*, as_json: bool, forwarder: Forwarder | None) -> Show:
    from streamhub.cli.lines import EventLines, JsonLines

    lines, objects = EventLines(), JsonLines()

    async def show(event: Event) -> None:
        delivery = None if forwarder is None else await forwarder.deliver(event)
        if not as_json:
            lines.show(event, "" if delivery is None else f"  [{delivery}]")
            return
        objects.show(event)
        if delivery is not None:
            say(f"{event.id}: {delivery}")

    return show


def _tell_connection(words: str) -> Callable[[bool], bool]:
    """What tells, and whether it was the first connection."""
    is_first = True

    def tell(is_connected: bool) -> bool:
        nonlocal is_first
        if not is_connected:
            return False
        say(words if is_first else "connected again")
        was_first, is_first = is_first, False
        return was_first

    return tell


def _tell_gap(gap: Gap) -> None:
    start, end = _window(gap)
    say(f"events are left out, which are too old to be sent again: streamhub replay --from {start} --to {end}")


def _tell_filling(gap: Gap) -> None:
    say("the stream leaves out events from {} to {}: they come by replay now".format(*_window(gap)))


def _window(gap: Gap) -> tuple[str, str]:
    start, end = (when.isoformat(timespec="milliseconds").replace("+00:00", "Z") for when in (gap.start, gap.end))
    return start, end
