"""`streamhub webhook`: endpoints that get events by signed POST, and what became of their deliveries."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import asyncpg
import click

from streamhub import organizations
from streamhub.cli.database import data_dir_option, hub_connection, say
from streamhub.cli.options import Group
from streamhub.cli.output import json_option, print_rows
from streamhub.cli.replay import InstantType
from streamhub.config import load
from streamhub.core.window import parse_instant
from streamhub.errors import UserError
from streamhub.postgres.connections import AnyConnection
from streamhub.webhooks import endpoint, store
from streamhub.webhooks.addresses import Addresses
from streamhub.webhooks.endpoint import InvalidEndpoint, Wrong
from streamhub.webhooks.store import Scope, TooManyEndpoints, TooManySecrets, TooManyTests

COLUMNS: Final = ("id", "org", "test", "url", "events", "filters", "state", "disabled_reason", "created_at")
SECRET_COLUMNS: Final = ("id", "url", "events", "secret")
DELIVERY_COLUMNS: Final = ("id", "type", "state", "attempts", "last_attempt", "next_attempt_at", "finished_at")
LOOK_EVERY: Final = 0.2  # seconds

Work = Callable[[AnyConnection, Scope, str], Awaitable[dict[str, Any] | None]]


class PairType(click.ParamType[tuple[str, str]]):
    """NAME=VALUE."""

    name = "name=value"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        name, is_pair, text = str(value).partition("=")
        if not is_pair or not name:
            self.fail(f"{value!r} is no NAME=VALUE", param, ctx)
        return name, text


@click.group("webhook", cls=Group)
def command() -> None:
    """Webhooks: each event by signed POST to the endpoints of an organization."""


@command.command("add")
@click.argument("url")
@click.option("--org", "slug", metavar="SLUG", required=True, help="A registered organization.")
@click.option(
    "--events", metavar="TYPE", multiple=True, required=True,
    help="Types, separated by commas: skus.update, skus.*, or * for all. Repeatable.",
)  # fmt: skip
@click.option("--test", is_flag=True, help="Events of the test environment. Default: live.")
@click.option(
    "--filter", "filters", type=PairType(), multiple=True,
    help="Which of them, for example resource.status_eq=paid; all must hold. Repeatable.",
)  # fmt: skip
@click.option("--order", type=click.Choice(["none", "resource"]), help="resource: each resource's events in turn.")
@click.option("--max-in-flight", type=int, help="How many at once. Default: 10.")
@click.option("--rate", type=int, help="At most so many attempts in any second. Default: no bound.")
@click.option("--header", "headers", type=PairType(), multiple=True, help="Sent along. Repeatable, up to 10.")
@click.option("--auto-disable/--no-auto-disable", default=None, help="Disable it after the last attempt. Default: yes.")
@click.option("--description", help="For people.")
@click.option("--owner-email", metavar="ADDRESS", help="Who is told when it is disabled.")
@json_option
@data_dir_option
def add(
    url: str, slug: str, events: Sequence[str], test: bool, filters: Sequence[tuple[str, str]],
    headers: Sequence[tuple[str, str]], as_json: bool, data_dir: Path | None, **more: Any,
) -> None:  # fmt: skip
    """Make an endpoint and print its secret, this once.

    \b
      streamhub webhook add https://shop.example.com/hooks --org my-org --events 'skus.*,prices.update'
      streamhub webhook add https://shop.example.com/hooks --org my-org --events '*' --filter resource.status_eq=paid
    """
    settings = load(data_dir=data_dir)
    document: dict[str, Any] = {
        "url": url,
        "events": [each.strip() for given in events for each in given.split(",")],
        **({"filters": _once("--filter", filters)} if filters else {}),
        **({"headers": _once("--header", headers)} if headers else {}),
        **{name: value for name, value in more.items() if value is not None},
    }
    try:
        fields = endpoint.read(document, Addresses.of(settings), whole=True)
    except InvalidEndpoint as error:
        raise click.UsageError(" ".join(map(_in_options, error.wrong))) from None

    async def run() -> dict[str, Any]:
        async with hub_connection(settings) as hub:
            organization = await organizations.require(hub, slug)
            scope = Scope(organization.key, test)
            for each in await store.unseen_events(hub, scope, fields):
                say(each.detail)
            try:
                return await store.create(hub, scope, fields)
            except TooManyEndpoints:
                raise UserError(f"{slug} has {store.MOST_ENDPOINTS} endpoints, the most there may be") from None

    _print_secret(asyncio.run(run()), as_json)


@command.command("list")
@click.option("--org", "slug", metavar="SLUG", required=True, help="A registered organization.")
@json_option
@data_dir_option
def list_(slug: str, as_json: bool, data_dir: Path | None) -> None:
    """List an organization's endpoints, those of the test environment last, never their secrets.

    \b
      streamhub webhook list --org my-org
      streamhub webhook list --org my-org --json | jq '.[] | select(.state != "ok")'
    """

    async def run() -> list[dict[str, Any]]:
        async with hub_connection(load(data_dir=data_dir)) as hub:
            organization = await organizations.require(hub, slug)
            scopes = [Scope(organization.key, test) for test in (False, True)]
            found = [(scope, each) for scope in scopes for each in await store.list_(hub, scope)]
            for scope, each in found:
                await _say_failing(hub, scope, each)
            return [each for _, each in found]

    _print(asyncio.run(run()), as_json)


def _switch(name: str, words: str, *, enabled: bool) -> None:
    """The commands `enable` and `disable`."""

    @command.command(name, help=f"{words}\n\n\b\n  streamhub webhook {name} 7f7c7f0e-6f0f-4c0e-9d5c-2f6f7f0e6f0f")
    @click.argument("id_", metavar="ID")
    @json_option
    @data_dir_option
    def switch(id_: str, as_json: bool, data_dir: Path | None) -> None:
        _print(
            [_on(id_, data_dir, lambda hub, scope, id_: store.change(hub, scope, id_, {"enabled": enabled}))], as_json
        )


_switch("enable", "Enable an endpoint. What came while it was disabled is delivered now.", enabled=True)
_switch("disable", "Disable an endpoint. What comes meanwhile is kept for it.", enabled=False)


@command.command("remove")
@click.argument("id_", metavar="ID")
@data_dir_option
def remove(id_: str, data_dir: Path | None) -> None:
    """Remove an endpoint for good, with what waits for it and what is known of its deliveries.

    \b
      streamhub webhook remove 7f7c7f0e-6f0f-4c0e-9d5c-2f6f7f0e6f0f
    """

    async def work(hub: AnyConnection, scope: Scope, id_: str) -> dict[str, Any] | None:
        return {} if await store.delete(hub, scope, id_) else None

    _on(id_, data_dir, work)
    say(f"{id_} is removed.")


@command.command("rotate-secret")
@click.argument("id_", metavar="ID")
@json_option
@data_dir_option
def rotate_secret(id_: str, as_json: bool, data_dir: Path | None) -> None:
    """Give an endpoint a new secret and print it, this once. The one before stays valid for 24 hours.

    \b
      streamhub webhook rotate-secret 7f7c7f0e-6f0f-4c0e-9d5c-2f6f7f0e6f0f
    """
    try:
        found = _on(id_, data_dir, store.rotate_secret)
    except TooManySecrets as error:
        raise UserError(str(error).removesuffix(".")) from None
    _print_secret(found, as_json)
    say("Deliveries carry signatures of both for 24 hours.")


@command.command("recover")
@click.argument("id_", metavar="ID")
@click.option(
    "--since", type=InstantType(), metavar="TIME", required=True, help="2026-11-22T10:00:00Z, or how long ago: 2h."
)
@json_option
@data_dir_option
def recover(id_: str, since: str, as_json: bool, data_dir: Path | None) -> None:
    """Deliver what was published since a time and failed or was missed. Enables the endpoint.

    \b
      streamhub webhook recover 7f7c7f0e-6f0f-4c0e-9d5c-2f6f7f0e6f0f --since 2d
    """
    since_ms = parse_instant(since).ms
    if since_ms > time.time() * 1_000:
        raise click.BadParameter(f"{since} lies in the future", param_hint="--since")
    _print([_on(id_, data_dir, lambda hub, scope, id_: store.recover(hub, scope, id_, since_ms))], as_json)


@command.command("test")
@click.argument("id_", metavar="ID")
@click.option("--wait", default=10.0, show_default=True, help="Seconds to wait for the first attempt.")
@json_option
@data_dir_option
def test(id_: str, wait: float, as_json: bool, data_dir: Path | None) -> None:
    """Send a webhook.test event to an endpoint, and show what came of it. Exit code 1 where it was not delivered.

    \b
      streamhub webhook test 7f7c7f0e-6f0f-4c0e-9d5c-2f6f7f0e6f0f
    """

    async def work(hub: AnyConnection, scope: Scope, id_: str) -> dict[str, Any] | None:
        found = await store.get(hub, scope, id_)
        _refuse_disabled(found, id_)
        try:
            sent = await store.send_test(hub, scope, id_)
        except TooManyTests:
            raise UserError(f"{id_} has {store.MOST_TESTS} tests pending: streamhub webhook deliveries {id_}") from None
        return None if sent is None else await _attempted(hub, scope, id_, sent["id"], wait)

    delivery = _on(id_, data_dir, work)
    _print_deliveries([delivery], as_json)
    if not delivery["attempts"]:
        raise UserError(f"no attempt within {wait:g} s: is a process with the role webhooks up?")
    if delivery["state"] != "delivered":
        raise UserError(f"it was not delivered: {delivery['attempts'][-1]['error']}")


def _refuse_disabled(found: dict[str, Any] | None, id_: str) -> None:
    """Raises UserError: nothing would be sent."""
    if found is not None and found["state"] == "disabled":
        raise UserError(
            f"{id_} is disabled: "
            + (found["disabled_reason"] if found["enabled"] else f"streamhub webhook enable {id_}")
        )


async def _attempted(hub: AnyConnection, scope: Scope, id_: str, event: str, wait: float) -> dict[str, Any] | None:
    """The delivery once it was attempted, or as it is after `wait` seconds."""
    give_up = time.monotonic() + wait
    after = str(uuid.UUID(int=uuid.UUID(event).int + 1))
    while True:
        found = await store.deliveries(hub, scope, id_, before=after, limit=1, state=None)
        if not found or found[0]["attempts"] or time.monotonic() > give_up:
            return found[0] if found else None
        await asyncio.sleep(LOOK_EVERY)


@command.command("deliveries")
@click.argument("id_", metavar="ID")
@click.option("--state", type=click.Choice(["pending", "delivered", "failed"]), help="Those in this state alone.")
@click.option(
    "--limit", type=click.IntRange(1, store.MOST_LISTED), default=20, show_default=True, help="How many at most."
)
@click.option("--before", metavar="DELIVERY", help="The next page: the id of the last one of this page.")
@json_option
@data_dir_option
def deliveries(
    id_: str, state: str | None, limit: int, before: str | None, as_json: bool, data_dir: Path | None
) -> None:
    """List an endpoint's deliveries of the last 30 days, the newest first. --json has every attempt.

    \b
      streamhub webhook deliveries 7f7c7f0e-6f0f-4c0e-9d5c-2f6f7f0e6f0f --state failed
    """
    if before is not None and not store.is_id(before):
        raise click.BadParameter(f"{before!r} is no id of a delivery", param_hint="--before")

    async def run() -> list[dict[str, Any]]:
        async with hub_connection(load(data_dir=data_dir)) as hub:
            scope = await _scope(hub, id_)
            found = await store.deliveries(hub, scope, id_, before=before, limit=limit, state=state) or []
            if (its := await store.get(hub, scope, id_)) is not None:
                await _say_failing(hub, scope, its)
                if its["state"] == "disabled" and any(each["state"] == "pending" for each in found):
                    say(f"{id_} is disabled: what is pending is sent after streamhub webhook enable {id_}")
            return found

    _print_deliveries(asyncio.run(run()), as_json)


@command.command("retry")
@click.argument("id_", metavar="ID")
@click.argument("delivery")
@data_dir_option
def retry(id_: str, delivery: str, data_dir: Path | None) -> None:
    """Deliver an event to an endpoint once more, with all attempts of a new delivery.

    \b
      streamhub webhook retry 7f7c7f0e-6f0f-4c0e-9d5c-2f6f7f0e6f0f 01a22be0-1d03-7000-8000-000000000000
    """

    async def work(hub: AnyConnection, scope: Scope, id_: str) -> dict[str, Any] | None:
        _refuse_disabled(await store.get(hub, scope, id_), id_)
        found = await store.retry(hub, scope, id_, delivery) if store.is_id(delivery) else None
        if found is None:
            raise UserError(f"{id_} has no delivery {delivery!r}: streamhub webhook deliveries {id_}")
        return found

    _on(id_, data_dir, work)
    say(f"{delivery} is pending again.")


def _on(id_: str, data_dir: Path | None, work: Work) -> dict[str, Any]:
    """What `work` gives of an endpoint that is there. Raises UserError."""

    async def run() -> dict[str, Any]:
        async with hub_connection(load(data_dir=data_dir)) as hub:
            try:
                found = await work(hub, await _scope(hub, id_), id_)
            except asyncpg.LockNotAvailableError:
                raise UserError(f"another transaction is changing {id_} just now: try again") from None
            if found is None:
                raise _unknown(id_)  # removed meanwhile
            return found

    return asyncio.run(run())


async def _scope(hub: AnyConnection, id_: str) -> Scope:
    found = await store.find(hub, id_)
    if found is None:
        raise _unknown(id_)
    return found[0]


def _unknown(id_: str) -> UserError:
    return UserError(f"there is no webhook endpoint {id_[:64]!r}: streamhub webhook list --org SLUG")


async def _say_failing(hub: AnyConnection, scope: Scope, its: dict[str, Any]) -> None:
    """What `failing` means, and why it is so."""
    if its["state"] == "failing":
        error = await store.pending_error(hub, scope, its["id"])
        say(
            f"{its['id']} is failing: {store.FAILING_FROM} attempts or more failed in a row"
            f"{f' ({error})' if error else ''}. "
            "One delivery at a time is tried, about a minute apart at most, whatever is due, until one succeeds."
        )


def _in_options(wrong: Wrong) -> str:
    """As the person who typed the command knows the fields."""
    field = wrong.pointer.split("/")[1] if wrong.pointer else ""
    option = {"url": "URL", "filters": "--filter", "headers": "--header"}.get(field, "--" + field.replace("_", "-"))
    is_named = field and wrong.detail.startswith(f"{field} ")
    return option + wrong.detail.removeprefix(field) if is_named else wrong.detail


def _once(option: str, pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise click.UsageError(f"{option} has a name twice: give each once")
    return found


def _print(found: Sequence[dict[str, Any]], as_json: bool) -> None:
    rows = [{"org" if name == "organization" else name: value for name, value in each.items()} for each in found]
    print_rows(rows, COLUMNS, as_json=as_json)


def _print_secret(made: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _print([made], as_json)
    else:
        print_rows([made], SECRET_COLUMNS, as_json=False)
    say("The secret is shown once: give it to the receiver.")


def _print_deliveries(found: Sequence[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_rows(found, (), as_json=True)
        return
    rows = [{**each, "attempts": len(each["attempts"]), "last_attempt": _shown(each["attempts"])} for each in found]
    print_rows(rows, DELIVERY_COLUMNS, as_json=False)


def _shown(attempts: Sequence[dict[str, Any]]) -> str | None:
    """What came of the last one: `204 in 12 ms`, or why there was no answer."""
    if not attempts:
        return None
    last = attempts[-1]
    if last["status"] is None:
        return str(last["error"])
    hint = " (redirects are not followed)" if 300 <= last["status"] < 400 else ""
    return f"{last['status']}{hint} in {last['latency_ms']} ms"
