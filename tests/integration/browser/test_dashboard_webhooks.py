"""Webhooks in the dashboard, from the form to the retry of a delivery that failed."""

import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import rsa

from streamhub.core import ids
from streamhub.metrics import Metrics
from streamhub.postgres.connections import AnyConnection
from streamhub.tokens import DevelopmentKey
from streamhub.webhooks import store
from streamhub.webhooks.addresses import Addresses
from streamhub.webhooks.dispatcher import Dispatcher, Options
from tests.integration.browser.shop import READS, Dashboard, Running, running

SCHEDULE = (60.0,)  # seconds: no attempt but the first one and those that are asked for
MANAGES = f"{READS} webhooks:manage"
LONG = "x" * 400  # without a place to break


class Receiver:
    """It answers with `status`; `url` is where it is."""

    def __init__(self) -> None:
        self.status = 503
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=self.status, text=f"no stock <b>today</b> {LONG}")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/hooks", receiver.take)
    async with TestServer(app, host="127.0.0.1") as server:
        receiver.url = str(server.make_url("/hooks"))
        yield receiver


@pytest.fixture
async def place(
    database_url: str, signing_key: rsa.RSAPrivateKey, token: Callable[..., str], tmp_path: Path
) -> AsyncIterator[Running]:
    """In development, so that a receiver on this machine may be given."""
    key = tmp_path / "key.pem"
    DevelopmentKey.load_or_create(key)
    async with (
        running(database_url, signing_key, token, signing_key_file=key) as place,
        asyncpg.create_pool(database_url, min_size=1, max_size=5) as pool,
        Dispatcher(
            database_url, pool, place.hub.gateway.node, Metrics(), Options(SCHEDULE, Addresses(development=True))
        ),
    ):
        yield place


async def test_an_endpoint_is_made_and_a_delivery_that_failed_is_sent_again(
    dashboard: Dashboard, place: Running, receiver: Receiver
) -> None:
    await place.shop.has_type(place.organization, "orders.update")
    await dashboard.signed_in(scope=MANAGES)
    await dashboard.goto("webhooks")
    await dashboard.seen("No endpoint yet")
    await dashboard.click("Add an endpoint")
    await dashboard.tab.get_by_label("URL").fill("ftp://127.0.0.1/hooks")
    await dashboard.click("Create")
    await dashboard.seen("its scheme is not https")
    await dashboard.tab.get_by_label("URL").fill(receiver.url)
    await dashboard.tab.get_by_label("These types").check()
    await dashboard.click("Create")
    await dashboard.seen("Tick at least one type")
    await dashboard.tab.get_by_label("orders.update").check()
    await dashboard.click("Create")
    secret = await dashboard.tab.locator(".secret code").inner_text()
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/=]+", secret)
    await dashboard.tab.get_by_role("link", name=receiver.url).click()
    await dashboard.seen("No delivery yet")
    assert await dashboard.tab.get_by_text(secret).count() == 0
    (event,) = (await place.shop.append(place.organization, resource_type="orders")).events
    delivery = dashboard.tab.locator("ul.deliveries > li")
    await delivery.locator("summary", has_text="503").click()
    await dashboard.seen(event.id)
    await dashboard.seen("no stock <b>today</b>")
    await dashboard.click("Edit")
    await dashboard.click("Add a header")
    await dashboard.is_for_all()
    await dashboard.click("Cancel")
    receiver.status = 204
    await place.shop.append(place.organization, resource_type="orders")
    await dashboard.click("Retry now")
    await delivery.locator("summary .state", has_text="delivered").wait_for()
    assert "2 attempts" in await delivery.inner_text()
    await dashboard.click("1 newer")
    await dashboard.until("() => document.querySelectorAll('ul.deliveries > li').length === 2")


async def test_an_endpoint_is_edited_and_each_fault_stands_at_its_field(
    dashboard: Dashboard, place: Running, receiver: Receiver
) -> None:
    fields: dict[str, Any] = {
        "url": receiver.url, "events": ["orders.update", "skus.*"], "filters": {"resource.code_not_eq": "0"},
        "headers": {"X-Shop": "42"}, "max_in_flight": 3, "rate": 5,
        "owner_email": "owner@example.com",
    }  # fmt: skip
    scope = store.Scope(place.organization, False)
    async with place.shop.pool.acquire() as connection:
        made = await store.create(connection, scope, fields)
        await _is_failing(connection, made["id"], "it answered 502")
    await dashboard.signed_in(scope=MANAGES)
    await dashboard.goto(f"webhooks/{made['id']}")
    await dashboard.seen("The hub tries one delivery at a time")
    await dashboard.seen("it answered 502")
    await dashboard.seen("within about a minute")
    await dashboard.click("Edit")
    form = dashboard.tab.locator("form.form")
    assert await form.get_by_label("Path", exact=True).input_value() == "resource.code"
    assert await form.get_by_label("Condition").input_value() == "not_eq"
    await form.get_by_label("Deliveries at once").fill("many")
    await dashboard.click("Add a header")
    await form.get_by_label("Name").nth(1).fill("Host")
    await form.get_by_label("Value").nth(2).fill("shop")
    await dashboard.click("Save")
    wrong = form.locator(".field", has_text="Deliveries at once").locator(".wrong")
    await wrong.wait_for()
    assert await wrong.inner_text() == "max_in_flight is 'many': give a whole number from 1 to 100."
    header = form.get_by_label("Header", exact=True).nth(1)
    assert "is not for an endpoint to set" in await header.locator(".wrong").inner_text()
    assert await dashboard.tab.evaluate("document.activeElement.value") == "many"
    await form.get_by_label("Deliveries at once").fill("")
    await form.get_by_label("Attempts per second").fill("")
    await form.get_by_label("Name").nth(1).fill("X-Floor")
    await form.get_by_label("skus.*").uncheck()
    await form.get_by_label("Description").fill("Orders")
    await form.get_by_label("Disable the endpoint").uncheck()
    await dashboard.click("Save")
    await dashboard.seen("The settings are saved")
    await dashboard.seen("No event of type orders.update was seen in 30 days")
    await dashboard.until("() => document.activeElement.textContent === 'Edit'")
    async with place.shop.pool.acquire() as connection:
        found = await store.get(connection, scope, made["id"])
    changes: dict[str, Any] = {
        "events": ["orders.update"], "headers": {"X-Shop": "42", "X-Floor": "shop"}, "max_in_flight": 10, "rate": None,
        "description": "Orders", "auto_disable": False, "state": "failing",
    }  # fmt: skip
    assert found == {name: value for name, value in made.items() if name != "secret"} | changes


async def test_an_endpoint_is_disabled_enabled_tested_and_deleted(
    dashboard: Dashboard, place: Running, receiver: Receiver
) -> None:
    receiver.status = 204
    await dashboard.signed_in(scope=MANAGES)
    await dashboard.goto("webhooks")
    await dashboard.click("Add an endpoint")
    await dashboard.tab.get_by_label("URL").fill(receiver.url)
    await dashboard.click("Create")
    await dashboard.tab.get_by_role("link", name=receiver.url).click()
    await dashboard.click("Disable")
    await dashboard.seen("The endpoint is disabled")
    await dashboard.click("Send a test event")
    await dashboard.seen("enable it first")
    await place.shop.append(place.organization, resource_type="orders")
    await dashboard.click("Enable")
    await dashboard.seen("what came meanwhile is delivered now")
    await dashboard.tab.locator("ul.deliveries summary", has_text="orders.update").wait_for()
    await dashboard.click("Send a test event")
    await dashboard.tab.locator("ul.deliveries summary", has_text="webhook.test").wait_for()
    await dashboard.seen("The test event was delivered: 204 in")
    await dashboard.click("Rotate the secret")
    await dashboard.click("Rotate")
    await dashboard.seen("new secret")
    await dashboard.seen("The one before stays valid")
    await dashboard.click("Recover")
    since = dashboard.tab.get_by_label("Deliver again what failed since")
    await since.fill("2099-01-01T00:00:00")
    await dashboard.click("Recover")
    await dashboard.seen("since lies in the future")
    assert (await since.input_value()).startswith("2099-01-01T00:00")
    await dashboard.click("Cancel")
    await dashboard.click("Delete")
    await dashboard.click("Delete it")
    await dashboard.seen("No endpoint yet")


async def test_a_hub_that_was_away_is_told_of_and_its_list_comes_back(
    dashboard: Dashboard, place: Running, receiver: Receiver
) -> None:
    """What the browser itself says of it is not shown. No text of the owner's makes a page wide."""
    async with place.shop.pool.acquire() as connection:
        scope = store.Scope(place.organization, False)
        fields = {"url": receiver.url, "events": ["*"], "description": LONG, "filters": {f"data.{LONG}_eq": LONG}}
        id_ = (await store.create(connection, scope, fields))["id"]
    await dashboard.signed_in(scope=MANAGES)
    await dashboard.goto(f"webhooks/{id_}")
    await dashboard.seen(LONG)
    await dashboard.is_for_all()
    await dashboard.context.set_offline(True)
    await dashboard.tab.clock.install()
    await dashboard.goto("webhooks")
    await dashboard.seen("The hub does not answer")
    await dashboard.seen("It may be starting again")
    await dashboard.context.set_offline(False)
    await dashboard.tab.clock.fast_forward(5_000)
    await dashboard.seen(LONG)


async def _is_failing(connection: AnyConnection, endpoint: str, error: str) -> None:
    """As after ten attempts that failed, the last of them with this error."""
    await connection.execute("UPDATE streamhub_hub.webhook_queues SET failures = 10 WHERE endpoint = $1", endpoint)
    attempt = {"at": "2026-11-22T10:00:00.000Z", "status": 502, "error": error, "latency_ms": 5, "response": ""}
    await connection.execute(
        "INSERT INTO streamhub_hub.webhook_deliveries (endpoint, event, type, attempts, due_at, log) "
        "VALUES ($1, $2, 'orders.update', 1, clock_timestamp() + interval '55 s', $3)",
        endpoint, ids.event_id(ids.milliseconds("01a202b2-c57c-7000-8000-00000000002a"), 0), json.dumps([attempt]),
    )  # fmt: skip
