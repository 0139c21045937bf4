"""`/-/dashboard` in a real Chromium: sign-in, events, replay and health, each as a person uses it. After each test, the
page has asked no other host, and its Content-Security-Policy had nothing to say."""

import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from playwright.async_api import Page as Tab

from servers.ports import free_port
from streamhub.core import ids
from tests.integration.browser.shop import NARROW, READS, WIDE, Dashboard, Running, moment, running
from tests.support.hub import new_database


@pytest.fixture(scope="module")
async def module_database(postgres_url: str, template: str) -> AsyncIterator[str]:
    async with new_database(postgres_url, template) as url:
        yield url


@pytest.fixture(scope="module")
async def place(
    module_database: str, signing_key: rsa.RSAPrivateKey, token: Callable[..., str]
) -> AsyncIterator[Running]:
    """One hub for all tests here. Each looks at a resource type of its own."""
    async with running(module_database, signing_key, token) as place:
        yield place


# -- sign in


async def test_a_wrong_token_is_refused_in_the_hubs_words(dashboard: Dashboard) -> None:
    await dashboard.sign_in("hunter2")
    await dashboard.seen("This is neither a JWT nor an API key")
    token = dashboard.hub.token(exp=1_700_000_000, iat=1_600_000_000)
    await dashboard.sign_in(token)
    await dashboard.seen("EXPIRED_TOKEN")
    await dashboard.seen("streamhub token --org my-org --scope events:read,webhooks:manage,operations:read")
    await dashboard.is_for_all()


async def test_the_token_is_in_memory_alone(dashboard: Dashboard) -> None:
    token = dashboard.hub.token(scope=READS)
    await dashboard.sign_in(f"Authorization: Bearer {token}")
    await dashboard.is_live()
    kept = await dashboard.tab.evaluate(
        "[location.href, document.cookie, JSON.stringify(localStorage), JSON.stringify(sessionStorage),"
        " document.documentElement.outerHTML].join(' ')"
    )
    assert token not in kept
    assert not any(token in url for url in dashboard.asked)
    await dashboard.tab.reload()
    await dashboard.seen("Paste a token")


async def test_a_token_is_taken_as_a_shell_shows_it(dashboard: Dashboard) -> None:
    token = dashboard.hub.token(scope=READS)
    await dashboard.sign_in(f'export TOKEN="{token[:60]} {token[60:]}"')
    await dashboard.is_live()


async def test_a_token_that_expires_ends_the_session_in_words(dashboard: Dashboard) -> None:
    await dashboard.sign_in(dashboard.hub.token(scope=READS, exp=int(time.time()) + 2))
    await dashboard.seen("EXPIRED_TOKEN")
    await dashboard.seen("Paste a token")


async def test_a_page_says_which_scope_the_token_lacks(dashboard: Dashboard) -> None:
    await dashboard.sign_in(dashboard.hub.token(scope="events:write"))
    await dashboard.seen("MISSING_SCOPE")
    await dashboard.seen("streamhub token --org my-org --scope events:read")
    await dashboard.goto("health")
    await dashboard.seen("so they need a token with")


# -- events


async def test_events_appear_as_they_are_published_and_a_pause_holds_them(dashboard: Dashboard, place: Running) -> None:
    await dashboard.signed_in()
    await place.shop.append(place.organization, 3, resource_type="tailed")
    await dashboard.has_rows(3)
    await dashboard.is_for_all()
    await dashboard.tab.set_viewport_size(NARROW)
    assert await dashboard.rows.first.locator("td:visible").count() == 5
    await dashboard.tab.set_viewport_size(WIDE)
    await dashboard.click("Pause")
    await place.shop.append(place.organization, 2, resource_type="tailed")
    await dashboard.seen("2 newer events")
    assert await dashboard.rows.count() == 3
    await dashboard.click("Resume")
    await dashboard.has_rows(5)


async def test_a_list_that_is_scrolled_tells_of_newer_rows_and_brings_them(
    dashboard: Dashboard, place: Running
) -> None:
    await dashboard.signed_in()
    await place.shop.append(place.organization, 60, resource_type="scrolled")
    await dashboard.until("() => document.querySelector('table.events').ariaRowCount === '61'")
    scroll = dashboard.tab.locator(".scroll")
    await scroll.evaluate("(box) => { box.scrollTop = 300; }")
    await place.shop.append(place.organization, 2, resource_type="scrolled")
    await dashboard.click("2 newer")
    await dashboard.until(
        "() => document.querySelector('.scroll').scrollTop === 0 && !document.querySelector('.newer')"
    )


async def test_filters_choose_by_type_and_by_field(dashboard: Dashboard, place: Running) -> None:
    await dashboard.signed_in()
    await dashboard.click("Filters")
    await dashboard.tab.get_by_label("Types").locator("visible=true").fill("filtered.*")
    await dashboard.click("Add a field filter")
    await dashboard.tab.get_by_label("Path").locator("visible=true").fill("delta.price.to")
    await dashboard.tab.get_by_label("Condition").locator("visible=true").select_option("gteq")
    await dashboard.tab.get_by_label("Value").locator("visible=true").fill("2")
    await dashboard.is_for_all()
    await dashboard.click("Apply")
    await dashboard.is_live()
    await place.shop.append(place.organization, 3, resource_type="others")
    await place.shop.append(place.organization, 4, resource_type="filtered")
    await dashboard.has_rows(2)
    assert set(await dashboard.types()) == {"filtered.update"}
    await dashboard.tab.get_by_label("Path").locator("visible=true").fill("price")
    await dashboard.click("Apply")
    await dashboard.seen("The filters were not applied")
    assert "price_gteq" in await dashboard.tab.get_by_label("Field filter", exact=True).locator(".wrong").inner_text()
    await place.shop.append(place.organization, 3, resource_type="filtered")
    await dashboard.has_rows(3)


@pytest.mark.parametrize("kind", ["integration", "application"])
async def test_seeking_shows_what_was_published_from_a_time_or_an_id_on(
    dashboard: Dashboard, place: Running, kind: str
) -> None:
    """An integration's token seeks by a replay, any other one by a broadcast stream."""
    first = await place.shop.append(place.organization, 2, resource_type=f"before-{kind}")
    found = await place.shop.append(place.organization, 3, resource_type=f"sought-{kind}")
    await dashboard.signed_in(application__kind=kind)
    seek = dashboard.tab.get_by_label("Seek to a time or an id")
    await seek.fill("soon")
    await dashboard.click("Seek")
    await dashboard.seen("is no place")
    await seek.fill(found.events[1].id)
    await dashboard.click("Seek")
    await dashboard.seen("2 events from")
    assert await dashboard.types() == [f"sought-{kind}.update"] * 2
    await seek.fill(moment(first.events[0].id))
    await dashboard.click("Seek")
    await dashboard.seen("5 events from")
    await seek.fill("later")
    await dashboard.click("Seek")
    await dashboard.seen("is no place")
    await dashboard.click("Back to live")
    await dashboard.is_live()
    assert await dashboard.tab.get_by_text("is no place").count() == 0


async def test_an_event_has_its_delta_as_a_diff_and_its_resources_history_beside_it(
    dashboard: Dashboard, place: Running
) -> None:
    await dashboard.signed_in()
    hostile = '<img src="x" onerror="document.title = 1"><b>bold</b>'
    delta = {"price": {"from": "10.00", "to": "12.50"}, "name": {"from": None, "to": hostile}}
    await place.shop.append(place.organization, 2, resource_type="opened", resource_id="one")
    last = (await place.shop.append(place.organization, resource_type="opened", resource_id="one", delta=delta)).events[
        0
    ]
    await dashboard.has_rows(3)
    await dashboard.tab.get_by_role("link", name="opened.update").first.click()
    diff = dashboard.tab.locator("table.diff").first
    await diff.wait_for()
    assert "10.00" in await diff.locator("td.minus").first.inner_text()
    assert hostile in await diff.locator("td.plus").nth(1).inner_text()
    assert await diff.locator("img, b").count() == 0
    await dashboard.until("() => document.querySelectorAll('ol.history li').length === 3")
    assert await dashboard.tab.locator("ol.history li[aria-current]").count() == 1
    await dashboard.is_for_all()
    await dashboard.tab.get_by_text("The whole event").click()
    assert json.loads(await dashboard.tab.get_by_label("The event as JSON").inner_text())["id"] == last.id
    await place.shop.append(place.organization, resource_type="opened", resource_id="one")
    await dashboard.click("1 newer")
    await dashboard.until("() => document.querySelectorAll('ol.history li').length === 4")
    await dashboard.goto("replay")
    await dashboard.seen("look-ups of this dashboard")
    jobs = dashboard.tab.locator("table tr", has_text="resource_type_eq=opened")
    assert await jobs.count() == 0
    await dashboard.click("Show all jobs")
    await jobs.first.wait_for()


async def test_an_event_is_found_by_its_address_after_a_new_sign_in(dashboard: Dashboard, place: Running) -> None:
    (event,) = (await place.shop.append(place.organization, resource_type="linked")).events
    await dashboard.goto(f"events/{event.id}")
    await dashboard.sign_in(dashboard.hub.token(scope=READS))
    await dashboard.tab.locator("h1", has_text="linked.update").wait_for()
    await dashboard.goto(f"events/{ids.event_id(ids.milliseconds(event.id) - 5, 0)}")
    await dashboard.seen("There is no event")
    await dashboard.goto("events/nope")
    await dashboard.seen("is no event's id")
    await dashboard.goto("nope")
    await dashboard.seen("There is no page at #/nope")


async def test_pages_are_reached_by_keys(dashboard: Dashboard) -> None:
    await dashboard.signed_in()
    keys = dashboard.tab.keyboard
    await dashboard.tab.evaluate("document.activeElement.blur()")
    await keys.press("Tab")
    assert await dashboard.tab.evaluate("document.activeElement.textContent.trim()") == "Skip to the page"
    for _ in range(2):
        await keys.press("Tab")
    await keys.press("Enter")
    await dashboard.tab.locator("h1", has_text="Replay").wait_for()
    assert await dashboard.tab.evaluate("document.activeElement.id") == "main"
    assert await dashboard.tab.title() == "Replay · my-org · Streamhub"


# -- replay


async def test_a_replay_goes_on_behind_another_page_is_checked_against_the_hubs_sha256_and_downloaded(
    dashboard: Dashboard, place: Running, tmp_path: Path
) -> None:
    events = (await place.shop.append(place.organization, 500, resource_type="replayed")).events
    await dashboard.signed_in()
    await dashboard.goto("replay")
    await dashboard.tab.get_by_label("Types").locator("visible=true").fill("replayed.update")
    await dashboard.click("1 hour")
    await dashboard.tab.get_by_role("button", name="Start").evaluate(
        "(start) => { start.click(); location.hash = '#/events'; }"
    )
    await dashboard.tab.locator("nav .tag", has_text="completed").wait_for()
    await dashboard.goto("replay")
    await dashboard.seen("complete: the sha256 is the hub's")
    await dashboard.is_for_all()
    async with dashboard.tab.expect_download() as download:
        await dashboard.tab.get_by_role("link", name="Download").click()
    file = tmp_path / "events.ndjson"
    await (await download.value).save_as(file)
    lines = file.read_bytes().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [event.id for event in events]
    await dashboard.seen(hashlib.sha256(file.read_bytes()).hexdigest())
    row = dashboard.tab.locator("table tr", has_text="types=replayed.update")
    await row.locator(".state", has_text="completed").wait_for()
    assert "500" in await row.inner_text()


async def test_a_replay_starts_from_a_time_without_seconds(dashboard: Dashboard) -> None:
    await dashboard.signed_in()
    await dashboard.goto("replay")
    start = datetime.now(UTC).replace(second=0) - timedelta(hours=1)
    begins = dashboard.tab.get_by_label("From (UTC)")
    await begins.fill("2099-01-01T00:00:00")
    await dashboard.click("Start")
    await dashboard.tab.locator(".field", has=begins).locator(".wrong").wait_for()
    assert await dashboard.tab.get_by_label("The replay", exact=True).count() == 0
    await begins.fill(start.strftime("%Y-%m-%dT%H:%M:%S"))
    await dashboard.click("Start")
    await dashboard.seen("complete: the sha256 is the hub's")


async def test_a_replay_that_is_refused_says_why(dashboard: Dashboard) -> None:
    await dashboard.signed_in(application__kind="application")
    await dashboard.goto("replay")
    await dashboard.click("Start")
    await dashboard.seen("The replay was not started")
    await dashboard.seen("NOT_INTEGRATION")


# -- health


async def test_health_shows_the_hubs_state_charts_and_checks_with_remedies(dashboard: Dashboard) -> None:
    await dashboard.signed_in(scope=f"{READS} operations:read")
    await dashboard.goto("health")
    await dashboard.seen("none leads")
    check = dashboard.tab.locator("table.checks tr", has_text="no table is captured")
    await check.wait_for()
    assert "streamhub capture add" in await check.locator(".fix").inner_text()
    await dashboard.until("() => document.querySelectorAll('.chart canvas').length === 6")
    await dashboard.is_for_all()


async def test_health_says_so_where_its_pages_are_on_another_port(
    tab: Tab, database_url: str, signing_key: rsa.RSAPrivateKey, token: Callable[..., str]
) -> None:
    assert tab.context.browser is not None
    async with running(database_url, signing_key, token, operations_port=free_port()) as place:
        dashboard = await Dashboard.open(tab.context.browser, place.hub)
        await dashboard.signed_in(scope=f"{READS} operations:read")
        await dashboard.goto("health")
        await dashboard.seen("OPERATIONS_PORT has moved")
        await dashboard.seen("no table is captured")
        await dashboard.close()
