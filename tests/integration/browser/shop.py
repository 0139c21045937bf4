"""A hub with a shop's events, one for all tests of the dashboard, and a browser that signs in to it."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import asyncpg
import msgspec
from axe_playwright_python.async_playwright import Axe
from cryptography.hazmat.primitives.asymmetric import rsa
from playwright.async_api import Browser, BrowserContext, Locator, ViewportSize
from playwright.async_api import Page as Tab

from streamhub.config import Settings
from streamhub.core import ids
from streamhub.core.events import StoredEvent
from streamhub.gateway.server import serve
from streamhub.tail.postgres import PostgresTail
from streamhub.web.auth import Authenticator, Issuer, PemKeys
from tests.integration.conftest import ISSUER, History, Hub, public_pem

PATIENCE: Final = 20_000  # milliseconds
WIDE: Final[ViewportSize] = {"width": 1280, "height": 800}
NARROW: Final[ViewportSize] = {"width": 400, "height": 800}
READS: Final = "events:read"


class Shop(History):
    """Its events have resources and deltas. What a test gives as `delta` and `who` stands in the event."""

    def event(self, organization: int, id: str, number: int = 0, **more: Any) -> StoredEvent:
        delta = more.pop("delta", {"price": {"from": "10.00", "to": f"{number}.50"}})
        who = more.pop("who", {"application": "importer"})
        stored = super().event(organization, id, number, **more)
        head, _, data = stored.frame.decode().partition("data: ")
        event = json.loads(data)
        if event["resource"] is not None:
            event["delta"] = delta
            event["who"] = who
            event["resource"] = {"id": event["resource_id"], "code": "TSHIRT", "price": f"{number}.50", "stock": None}
        frame = f"{head}data: {json.dumps(event, separators=(',', ':'))}\n\n".encode()
        return msgspec.structs.replace(stored, frame=frame)

    async def has_type(self, organization: int, type_: str) -> None:
        """As the relay notes it: `GET /{org}/types` has it from now on."""
        query = "INSERT INTO streamhub_hub.event_types VALUES ($1, false, $2, clock_timestamp())"
        await self.pool.execute(query, organization, type_)


class Running(NamedTuple):
    hub: Hub
    shop: Shop
    organization: int


@asynccontextmanager
async def running(
    url: str, key: rsa.RSAPrivateKey, token: Callable[..., str], **settings: Any
) -> AsyncIterator[Running]:
    """A gateway over this database, which `my-org` is registered in."""
    async with asyncpg.create_pool(url, min_size=1, max_size=10) as pool:
        tail = PostgresTail(url, pool, poll_every=0.5)
        await tail.start()
        authenticator = Authenticator([Issuer(frozenset({ISSUER}), PemKeys(public_pem(key), "the test's"))])
        asked = Settings(database_url=url, drain_time="0s", **settings)
        shop = Shop(pool)
        organization = await shop.register()
        try:
            async with serve(asked, pool, tail, authenticator, host="127.0.0.1", port=0) as server:
                hub = Hub(server.gateway, server.kinds, tail, server.port, shop, token)
                yield Running(hub, shop, organization)
        finally:
            await tail.stop()


class Dashboard:
    """A tab at a hub's dashboard. `close` asserts that it kept to its hub and to its policy."""

    def __init__(self, context: BrowserContext, tab: Tab, hub: Hub) -> None:
        self.context = context
        self.tab = tab
        self.url = f"http://127.0.0.1:{hub.port}/-/dashboard"
        self.hub = hub
        self.said: list[str] = []
        self.asked: list[str] = []
        tab.set_default_timeout(PATIENCE)
        tab.on("console", lambda message: self.said.append(message.text))
        tab.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        tab.on("request", lambda request: self.asked.append(request.url))

    @classmethod
    async def open(cls, browser: Browser, hub: Hub) -> "Dashboard":
        context = await browser.new_context(viewport=WIDE, accept_downloads=True)
        dashboard = cls(context, await context.new_page(), hub)
        await dashboard.tab.goto(dashboard.url)
        return dashboard

    async def close(self) -> None:
        host = urlsplit(self.url).netloc
        elsewhere = [
            url for url in self.asked if urlsplit(url).netloc not in (host, "") and not url.startswith("blob:")
        ]
        await self.context.close()
        assert elsewhere == []
        assert [text for text in self.said if "error:" in text or "Security Policy" in text or "Trusted" in text] == []

    async def sign_in(self, token: str) -> None:
        await self.tab.get_by_label("Token").fill(token)
        await self.tab.get_by_role("button", name="Sign in").click()

    async def signed_in(self, **claims: Any) -> "Dashboard":
        await self.sign_in(self.hub.token(**{"scope": READS, **claims}))
        await self.is_live()
        return self

    async def is_live(self) -> None:
        """Return once the tail is connected: what is published from then on is in it."""
        await self.tab.locator(".bar .state", has_text="live").wait_for()

    async def goto(self, page: str) -> None:
        await self.tab.evaluate("(page) => { location.hash = page; }", f"#/{page}")

    async def seen(self, text: str) -> Locator:
        """The first element that has this text, once it is seen."""
        found = self.tab.get_by_text(text).locator("visible=true").first
        await found.wait_for()
        return found

    async def click(self, name: str) -> None:
        await self.tab.get_by_role("button", name=name, exact=True).locator("visible=true").first.click()

    @property
    def rows(self) -> Locator:
        return self.tab.locator("tr.event")

    async def types(self) -> Sequence[str]:
        """Of the rows in sight, from above."""
        return await self.tab.locator("tr.event .type").all_inner_texts()

    async def until(self, condition: str, argument: Any = None) -> None:
        """Return once this function of the argument, in JavaScript, is true."""
        await self.tab.wait_for_function(condition, arg=argument, timeout=PATIENCE)

    async def has_rows(self, number: int) -> None:
        await self.until("(n) => document.querySelectorAll('tr.event').length === n", number)

    async def is_for_all(self) -> None:
        """Assert that the page is right for screen readers, stands out in light and dark, and fits a narrow window."""
        for scheme, options in ("light", {}), ("dark", {"runOnly": ["color-contrast"]}):
            await self.tab.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            found = await Axe().run(self.tab, options=options)
            assert found.violations_count == 0, f"{scheme}: {found.generate_report()}"
        await self.tab.set_viewport_size(NARROW)
        assert await self.tab.evaluate("document.documentElement.scrollWidth") <= NARROW["width"], await self._wide()
        await self.tab.set_viewport_size(WIDE)

    async def _wide(self) -> Any:
        """The elements that reach beyond the window."""
        return await self.tab.evaluate(
            "[...document.querySelectorAll('main *')].filter((each) => each.getBoundingClientRect().right > innerWidth)"
            ".map((each) => each.outerHTML.slice(0, 100))"
        )


def moment(id: str) -> str:
    """When an event was published, as a person would type it."""
    return ids.datetime_of(ids.milliseconds(id)).strftime("%H:%M:%S.%f")[:-3]
