"""`streamhub listen`: an organization's events as they happen, as lines, as JSON, or as webhooks to an address."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import click
from yarl import URL

from streamhub.cli.database import say
from streamhub.cli.forwarding import Forwarder
from streamhub.cli.lines import EventLines, JsonLines
from streamhub.cli.remote import Choice, Remote, choice_options, remote_options, spoken
from streamhub.client import Event, Gap, StreamHub

Show = Callable[[Event], Awaitable[None]]


class AddressType(click.ParamType[str]):
    """Where webhooks go; `localhost:3000/hooks` will do."""

    name = "url"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        try:
            url = URL(text if "://" in text else f"http://{text}")
            is_right = url.scheme in {"http", "https"} and bool(url.host) and url.user is None
        except ValueError:
            is_right = False
        if not is_right:
            self.fail(f"{text!r} is no address, for example http://127.0.0.1:3000/webhooks", param, ctx)
        return str(url)


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
    try:
        forwarder = None if forward_to is None else Forwarder(forward_to, secret)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--secret") from None
    hub = remote.access("events:read").hub()
    with spoken():
        try:
            asyncio.run(_listen(hub, choice, is_live=live, as_json=as_json, forwarder=forwarder))
        except KeyboardInterrupt:
            return


async def _listen(hub: StreamHub, choice: Choice, *, is_live: bool, as_json: bool, forwarder: Forwarder | None) -> None:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(hub)
        if forwarder is not None:
            await stack.enter_async_context(forwarder)
            say(f"forwarding to {forwarder.url}, signed with {forwarder.secret}")
        show = _shown(as_json=as_json, forwarder=forwarder)
        if is_live:
            say("listening to the live stream; Ctrl-C ends")
            async for event in hub.live(on_gap=_tell_filling):
                await show(event)
        else:
            await _subscribe(hub, choice, show)


async def _subscribe(hub: StreamHub, choice: Choice, show: Show) -> None:
    """Until it is cancelled. Raises what ended the subscription, and what `show` raises."""
    failures: list[Exception] = []

    async def fail(error: Exception) -> None:
        failures.append(error)
        await realtime.destroy()

    realtime = hub.realtime(**choice.parameters)
    realtime.on_error(fail)
    realtime.on_gap(_tell_gap)
    realtime.on_connection_change(_tell_connection())
    realtime.on_any(show)
    try:
        await realtime.wait()
    finally:
        await realtime.destroy()
    for failure in failures:
        raise failure


def _shown(*, as_json: bool, forwarder: Forwarder | None) -> Show:
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


def _tell_connection() -> Callable[[bool], None]:
    words = iter(["listening; Ctrl-C ends"])

    def tell(is_connected: bool) -> None:
        if is_connected:
            say(next(words, "connected again"))

    return tell


def _tell_gap(gap: Gap) -> None:
    start, end = _window(gap)
    say(f"events are left out, which are too old to be sent again: streamhub replay --from {start} --to {end}")


def _tell_filling(gap: Gap) -> None:
    say("the stream leaves out events from {} to {}: they come by replay now".format(*_window(gap)))


def _window(gap: Gap) -> tuple[str, str]:
    start, end = (when.isoformat(timespec="milliseconds").replace("+00:00", "Z") for when in (gap.start, gap.end))
    return start, end
