"""Hubs that the client is tried on: a fake one and a real one, each behind a proxy that can cut its connections."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from streamhub.client import StreamHub, endpoint, stream
from streamhub.testing import FakeHub
from streamhub.testing.faults import Kind
from streamhub.testing.fixtures import fake_hub
from tests.integration.conftest import Hub, StartHub, eventually
from tests.support.cutting import Cutting, cutting

__all__ = ["fake_hub"]


class Place(ABC):
    """A hub with the organization `my-org`, whose consumers need not wait for long."""

    def __init__(self, proxy: Cutting) -> None:
        self.proxy = proxy
        self.clients: list[StreamHub] = []

    def client(self, *, org: str = "my-org", token: str | None = None) -> StreamHub:
        """It has ended after the test."""
        url = f"http://127.0.0.1:{self.proxy.port}"
        client = StreamHub(url, org=org, token=token or self.token(), first_pause=0.01, longest_pause=0.1)
        self.clients.append(client)
        return client

    async def close(self) -> None:
        for client in self.clients:
            await client.close()

    @abstractmethod
    def token(self) -> str: ...

    @abstractmethod
    async def publish(self, count: int = 1, resource_type: str = "skus") -> list[str]:
        """The ids of events of type `<resource_type>.update`, whose `resource` is `{"n": 0}`, `{"n": 1}`, …"""

    @abstractmethod
    async def connected(self, count: int, kind: Kind) -> None:
        """Return once so many streams of a kind are connected."""


class FakePlace(Place):
    def __init__(self, fake: FakeHub, proxy: Cutting) -> None:
        super().__init__(proxy)
        self.fake = fake

    def token(self) -> str:
        return self.fake.token

    async def publish(self, count: int = 1, resource_type: str = "skus") -> list[str]:
        return [self.fake.publish(f"{resource_type}.update", resource={"n": n}) for n in range(count)]

    async def connected(self, count: int, kind: Kind) -> None:
        async def are() -> bool:
            return self.fake.streams(kind) == count

        await eventually(are)


class RealPlace(Place):
    def __init__(self, hub: Hub, organization: int, proxy: Cutting) -> None:
        super().__init__(proxy)
        self.hub = hub
        self._organization = organization

    def token(self) -> str:
        return self.hub.token(scope="events:read events:write")

    async def publish(self, count: int = 1, resource_type: str = "skus") -> list[str]:
        append = await self.hub.history.append(self._organization, count, resource_type=resource_type)
        return [event.id for event in append.events]

    async def connected(self, count: int, kind: Kind) -> None:
        async def are() -> bool:
            return sum(stream.kind == kind for stream in self.hub.gateway.streams) == count

        await eventually(are)


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a hub asks a client to wait for is cut to 20 ms: a real one asks for 6 s."""
    monkeypatch.setattr(stream, "LONGEST_WAIT", 0.02)
    monkeypatch.setattr(endpoint, "LONGEST_WAIT", 0.02)


@pytest.fixture
async def fake_place(fake_hub: FakeHub) -> AsyncIterator[FakePlace]:
    async with cutting(fake_hub.port) as proxy:
        place = FakePlace(fake_hub, proxy)
        yield place
        await place.close()


@pytest.fixture
async def real_place(start_hub: StartHub, organization: int) -> AsyncIterator[RealPlace]:
    hub = await start_hub(stale_after=timedelta(milliseconds=50))
    async with cutting(hub.port) as proxy:
        place = RealPlace(hub, organization, proxy)
        yield place
        await place.close()


@pytest.fixture(params=["fake", "real"])
def place(request: pytest.FixtureRequest, short_waits: None) -> Place:
    """Both hubs in turn."""
    found: Place = request.getfixturevalue(f"{request.param}_place")
    return found
