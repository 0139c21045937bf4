"""A database with captured tables, a relay to run over it, and what came out of it: for tests of capture and relay."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from streamhub import capture
from streamhub.capture import AddResult, CaptureSpec
from streamhub.core.frames import data_of
from streamhub.history.append import Append
from streamhub.postgres import ownership
from streamhub.relay import Publisher, Relay, Source
from tests.support.database import Connection
from tests.support.event_schema import check_events

Event = dict[str, Any]

PATIENCE: Final = 30.0  # seconds: how long a condition may take before the test fails

SHOP: Final = "CREATE TABLE skus (id bigint PRIMARY KEY, organization_id text, price numeric, note text)"


async def until(condition: Callable[[], Awaitable[bool]], what: str, within: float = PATIENCE) -> None:
    """Return soon after the condition holds; fail with `what` if it does not in time."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not await condition():
        waited = loop.time() - began
        assert waited < within, f"not within {within} s: {what}"
        # To ask costs as much as what is waited for: a relay that starts is asked five times, not fifty.
        await asyncio.sleep(min(0.005 + waited / 4, 0.05))


class Stage:
    """One database that is hub and source at once, and one connection to it, which acts as the application."""

    def __init__(self, url: str, connection: Connection) -> None:
        self.url = url
        self.connection = connection
        self.max_event_bytes = 16 * 1024 * 1024
        self.announced: list[Append] = []
        self._seen = 0

    async def sql(self, *statements: str) -> None:
        for statement in statements:
            await self.connection.execute(statement)

    async def value(self, query: str, *arguments: Any) -> Any:
        return await self.connection.fetchval(query, *arguments)

    async def rows(self, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await self.connection.fetch(query, *arguments)]

    async def add(self, table: str = "skus", **options: Any) -> AddResult:
        """Capture a table; by its column organization_id unless told otherwise."""
        if "organization_id" not in options:
            options.setdefault("organization_column", "organization_id")
        options.setdefault("resource_type", "skus")
        return await capture.add(self.connection, CaptureSpec(table, **options))

    async def shop(self, **options: Any) -> None:
        """The table that most tests need, captured."""
        await self.sql(SHOP)
        await self.add(**options)

    async def claimed(self) -> str:
        """The outbox is this hub's, as after a relay has come. The hub's id."""
        hub = await ownership.hub_id(self.connection)
        await ownership.claim(self.connection, hub)
        return hub

    async def outbox_is_empty(self) -> bool:
        return not await self.value("SELECT EXISTS (SELECT FROM streamhub.outbox)")

    def relay(self, publisher: Publisher | None = None) -> Relay:
        return Relay(
            self.url,
            [Source("shop", self.url, in_hub=True)],
            announce=self.announced.append,
            max_event_bytes=self.max_event_bytes,
            publisher=publisher,
        )

    @asynccontextmanager
    async def relaying(self) -> AsyncIterator[Relay]:
        """A relay runs within."""
        async with running(self.relay()) as relay:
            yield relay

    async def drained(self) -> None:
        await until(self.outbox_is_empty, "the outbox is empty")

    async def relayed(self) -> list[Event]:
        """Run a relay until all that was committed is published; the events that are new since the call before."""
        async with self.relaying():
            await self.drained()
        return await self.new_events()

    async def new_events(self) -> list[Event]:
        """Those that are new since the call before. Fails where one is not as the event's schema says."""
        events = await self.history()
        new, self._seen = events[self._seen :], len(events)
        check_events(new)
        return new

    async def frames(self) -> list[bytes]:
        return [
            row["frame"] for row in await self.connection.fetch("SELECT frame FROM streamhub_hub.history ORDER BY id")
        ]

    async def history(self) -> list[Event]:
        """Every event there is, in id order."""
        return [json.loads(data_of(frame)) for frame in await self.frames()]

    async def counters(self) -> dict[str, int]:
        rows = await self.connection.fetch("SELECT name, value FROM streamhub_hub.counters WHERE value <> 0")
        return {row["name"]: row["value"] for row in rows}

    async def incidents(self, kind: str) -> list[str]:
        rows = await self.connection.fetch(
            "SELECT detail FROM streamhub_hub.incidents WHERE kind = $1 ORDER BY id", kind
        )
        return [row["detail"] for row in rows]


@asynccontextmanager
async def running(relay: Relay) -> AsyncIterator[Relay]:
    """The relay runs within, and has ended after."""
    stop = asyncio.Event()
    task = asyncio.create_task(relay.run(stop))
    try:
        yield relay
        assert not task.done(), task
    finally:
        stop.set()
        await asyncio.wait_for(task, PATIENCE)


def kinds(events: Sequence[Event]) -> list[tuple[str, str]]:
    """(event, resource id) of each."""
    return [(event["event"], event["resource_id"]) for event in events]


def one(events: Sequence[Event]) -> Event:
    assert len(events) == 1, kinds(events)
    return events[0]


def rebuilt(events: Sequence[Event]) -> dict[tuple[str, bool, str], Any]:
    """What a consumer holds who applies every event in turn: (organization, test, resource id) to the resource.

    Fails where an event does not follow from the one before it.
    """
    held: dict[tuple[str, bool, str], Any] = {}
    for event in events:
        at = (event["organization"]["id"], event["test"], event["resource_id"])
        before = held.get(at)
        for name, change in event["delta"].items():
            assert (before or {}).get(name) == change["from"], (event, before)
        if event["event"] == "create":
            assert before is None, (event, before)
            held[at] = event["resource"]
        elif event["event"] == "destroy":
            assert before == event["resource"], (event, before)
            del held[at]
        else:
            assert before is not None, event
            assert {**before, **{name: change["to"] for name, change in event["delta"].items()}} == event["resource"]
            held[at] = event["resource"]
    return held
