"""What tests of the client do with its streams."""

import asyncio
from collections.abc import AsyncIterable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import TypedDict

from streamhub.client import Event
from tests.integration.conftest import eventually

WITHIN = 20  # seconds


async def first(count: int, events: AsyncIterable[Event]) -> list[Event]:
    """The stream is left at the last of them."""
    found: list[Event] = []
    async with asyncio.timeout(WITHIN):
        async for event in events:
            found.append(event)
            if len(found) == count:
                break
    return found


async def until(condition: Callable[[], bool]) -> None:
    async def holds() -> bool:
        return condition()

    await eventually(holds)


def ids(events: Iterable[Event]) -> list[str]:
    return [event.id for event in events]


class Window(TypedDict):
    date_from: datetime
    date_to: datetime


def lately() -> Window:
    """Around now."""
    now = datetime.now(UTC)
    return Window(date_from=now - timedelta(minutes=5), date_to=now + timedelta(minutes=5))


class Memory:
    """A position that keeps each that was stored."""

    def __init__(self, id: str | None = None) -> None:
        self.stored = [] if id is None else [id]

    async def load(self) -> str | None:
        return self.stored[-1] if self.stored else None

    async def store(self, id: str) -> None:
        self.stored.append(id)
