"""A real Chromium, a page in it, and servers of another origin. Without a Chromium these tests are skipped and say so;
with REQUIRE_CHROMIUM=1 they fail."""

import json
import os
import shutil
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import Page as Tab
from playwright.async_api import async_playwright

from tests.conftest import missing
from tests.integration.browser.scripted import PATIENCE, ScriptedHub, scripted_hub
from tests.integration.browser.shop import Dashboard, Running

PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome")

# Time that is asked for is kept in `pauses` and `watched`, and passes faster: pauses `pausesFaster` times, but for
# those of over 100 s, and watchdogs a hundred times where a test says so.
BEFORE: Final = """
  const [real, watchdogs] = [window.setTimeout, new Set([75_000, 30_000])];
  Object.assign(window, { pauses: [], watched: new Set(), watches: 0, pausesFaster: 1000, fastWatchdogs: false });
  window.setTimeout = (f, delay, ...more) => {
    const isWatchdog = watchdogs.has(delay);
    if (isWatchdog) { window.watched.add(delay); window.watches += 1; }
    else window.pauses.push(delay);
    const faster = isWatchdog ? (window.fastWatchdogs ? 100 : 1) : delay > 100_000 ? 1 : window.pausesFaster;
    return real(f, delay / faster, ...more);
  };
  Object.assign(window, { events: [], gaps: [], errors: [], changes: [], warnings: [] });
  console.warn = (text) => window.warnings.push(text);
  window.told = (error) => {
    const { name, status, code, detail, message } = error;
    window.errors.push(code === undefined ? { name, message } : { name, status, code, detail, message });
  };
  window.open_ = async (url, options = {}) => {
    const { StreamHub } = await import(url + "/-/client.js");
    return new StreamHub(url, { org: "my-org", token: "a-token", ...options });
  };
  window.follow = async (url, options, hubOptions) => {
    const hub = await window.open_(url, hubOptions);
    const realtime = window.realtime = hub.realtime(options);
    realtime.onError(window.told);
    realtime.onGap((gap) => window.gaps.push(gap));
    realtime.onConnectionChange((connected) => window.changes.push(connected));
    return realtime;
  };
  window.listen = async (url, options, hubOptions) => {
    const realtime = await window.follow(url, options, hubOptions);
    realtime.onAny((event) => window.events.push(event));
  };
"""


class Page:
    """A tab with the page of an origin of its own. `{hub}` in what it runs is the scripted hub's address."""

    def __init__(self, tab: Tab, hub: str) -> None:
        self.tab = tab
        self.hub = hub

    async def run(self, script: str, argument: Any = None) -> Any:
        """What the body of an async function returns."""
        return await self.tab.evaluate(f"async (argument) => {{ {self._filled(script)} }}", argument)

    async def until(self, condition: str) -> Any:
        """Return once this expression is true: its value."""
        text = self._filled(condition)
        try:
            handle = await self.tab.wait_for_function(text, timeout=PATIENCE * 1000)
        except Exception as error:
            seen = await self.run("return { events, gaps, errors, changes, warnings, pauses };")
            raise AssertionError(f"{condition} did not come true; {json.dumps(seen)[:2000]}") from error
        return await handle.json_value()

    async def ids(self, count: int) -> list[str]:
        """Of the events that `listen` got, once there are so many."""
        found: list[str] = await self.until(f"events.length >= {count} && events.map((event) => event.id)")
        return found

    def _filled(self, script: str) -> str:
        return script.replace("{hub}", json.dumps(self.hub))


def program() -> str:
    for name in PROGRAMS:
        found = shutil.which(name)
        if found is not None:
            return found
    return missing("chromium is not installed (the package chromium has it)", "REQUIRE_CHROMIUM")


@pytest.fixture(scope="session")
async def tab() -> AsyncIterator[Tab]:
    """One browser for the whole run, with one tab. Chromium's sandbox refuses to be started by root."""
    path = program()
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=options)
        tab = await browser.new_page()
        await tab.add_init_script(BEFORE)
        yield tab
        await browser.close()


@pytest.fixture(scope="session")
async def origin() -> AsyncIterator[str]:
    """Of the pages: a server that has an empty one."""
    app = web.Application()
    app.router.add_get("/", _empty)
    async with TestServer(app, host="127.0.0.1") as server:
        yield str(server.make_url("")).rstrip("/")


async def _empty(_: web.Request) -> web.Response:
    return web.Response(text="<!doctype html><title>A page</title>", content_type="text/html")


@pytest.fixture
async def scripted(origin: str) -> AsyncIterator[ScriptedHub]:
    async with scripted_hub(origin) as hub:
        yield hub


@pytest.fixture
async def page(tab: Tab, origin: str, scripted: ScriptedHub) -> Page:
    """A new document, so with no stream of the test before."""
    await tab.goto(origin)
    return Page(tab, scripted.url)


@pytest.fixture
async def dashboard(tab: Tab, place: Running) -> AsyncIterator[Dashboard]:
    """The page of the hub that the module's `place` runs. After the test it is known to have asked no other host."""
    assert tab.context.browser is not None
    dashboard = await Dashboard.open(tab.context.browser, place.hub)
    yield dashboard
    await dashboard.close()
