"""The browser client on the broadcast of a real hub of another origin."""

import json

import pytest

from tests.integration.browser.conftest import Page
from tests.integration.conftest import Hub, StartHub


@pytest.fixture
async def hub(start_hub: StartHub, origin: str) -> Hub:
    return await start_hub(cors_origins=(origin,))


async def test_handlers_get_what_they_filter_for_and_resume_where_they_were(
    page: Page, hub: Hub, organization: int
) -> None:
    token = hub.token(scope="events:read")
    await page.run(
        """
        const options = { types: "orders.*", filters: { "resource.n_gteq": 1 } };
        await listen(argument.url, options, { token: argument.token });
        """,
        {"url": f"http://127.0.0.1:{hub.port}", "token": token},
    )
    await page.until("realtime.connected")
    await hub.history.append(organization, 3)
    first = await hub.history.append(organization, 3, resource_type="orders")
    assert await page.ids(2) == [event.id for event in first.events[1:]]
    (stream,) = hub.gateway.of_kind("broadcast")
    stream.channel.abort()
    second = await hub.history.append(organization, 2, first=3, resource_type="orders")
    assert await page.ids(4) == [event.id for event in (*first.events[1:], *second.events)]
    assert await page.run("return [errors, gaps, changes];") == [[], [], [True, False, True]]


@pytest.mark.parametrize("envelope", ["change", "event", "engine", "cloudevents"])
async def test_handlers_find_the_type_in_every_envelope(page: Page, hub: Hub, organization: int, envelope: str) -> None:
    url = json.dumps(f"http://127.0.0.1:{hub.port}")
    token = json.dumps(hub.token(scope="analytics:read"))
    await page.run(f"""
        const realtime = await follow({url}, {{ envelope: "{envelope}" }}, {{ token: {token} }});
        realtime.on("skus.*", (event) => events.push(event));
    """)
    await page.until("realtime.connected")
    (event,) = (await hub.history.append(organization)).events
    assert event.id in json.dumps(await page.until("events.length && events[0]"))
    assert await page.run("return realtime.lastEventId;") == event.id


async def test_a_wrong_filter_is_an_error_that_names_the_right_one(page: Page, hub: Hub, organization: int) -> None:
    token = hub.token(scope="events:read")
    await page.run(
        "await listen(argument.url, { filters: { 'resource.n_equals': 1 } }, { token: argument.token });",
        {"url": f"http://127.0.0.1:{hub.port}", "token": token},
    )
    (error,) = await page.until("errors.length && errors")
    assert (error["status"], error["code"]) == (400, "INVALID_FILTER")
    assert "resource.n_equals" in error["detail"]
