"""The browser client on a real hub of another origin."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.integration.browser.conftest import Page
from tests.integration.conftest import Hub, StartHub


@pytest.fixture
async def hub(start_hub: StartHub, origin: str) -> Hub:
    return await start_hub(cors_origins=(origin,), stale_after=timedelta(seconds=0.5))


LOOP = """
    const { StreamHub } = await import(`${argument.url}/-/client.js`);
    const hub = new StreamHub(argument.url, { org: "my-org", token: argument.token });
    window.live = hub.live({ onConnectionChange: (connected) => changes.push(connected) });
    (async () => { for await (const event of live) events.push(event); })().catch(told);
"""


def argument_of(hub: Hub, token: str) -> dict[str, str]:
    return {"url": f"http://127.0.0.1:{hub.port}", "token": token}


async def test_a_loop_follows_the_live_stream_and_resumes_where_it_was(page: Page, hub: Hub, organization: int) -> None:
    await page.run(LOOP, argument_of(hub, hub.token()))
    await page.until("live.connected")
    first = await hub.history.append(organization, 3)
    assert await page.ids(3) == [event.id for event in first.events]
    await page.run("pausesFaster = 10;")
    (stream,) = hub.gateway.of_kind("live")
    stream.channel.abort()
    second = await hub.history.append(organization, 2, first=3)
    assert await page.ids(5) == [event.id for event in (*first.events, *second.events)]
    assert await page.run("return [errors, changes];") == [[], [True, False, True]]
    await (await hub.open("/my-org", method="DELETE")).answer()
    assert (await page.until("errors.length && errors"))[0]["code"] == "DELETED"


async def test_a_refusal_of_the_hub_comes_with_its_code_and_detail(
    page: Page, hub: Hub, organization: int, token: Callable[..., str]
) -> None:
    await page.run(LOOP, argument_of(hub, token(organization__enterprise=False)))
    (error,) = await page.until("errors.length && errors")
    assert (error["status"], error["code"]) == (403, "NOT_ENTERPRISE")
    assert error["detail"]


async def test_the_declarations_tell_of_what_the_module_has(page: Page, hub: Hub) -> None:
    """Each class, method and property of client.js stands in client.d.ts."""
    exported = await page.run(
        """
        const module = await import(`${argument}/-/client.js`);
        return Object.fromEntries(Object.entries(module).map(([name, value]) =>
            [name, Object.getOwnPropertyNames(value.prototype).filter((each) => each !== "constructor")]));
        """,
        argument_of(hub, "")["url"],
    )
    text = (await hub.get("/-/client.d.ts")).body.decode()
    declared = {part.split()[0].partition("<")[0]: part for part in text.split("\nexport class ")[1:]}
    assert set(declared) == set(exported)
    missing = [
        f"{name}.{each}"
        for name, members in exported.items()
        for each in members
        if not any(sign in declared[name] for sign in (f" {each}(", f" {each}<", f" {each}:"))
    ]
    assert missing == []
