"""Broadcast with `latest`: of each resource only the newest event, for dashboards."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from streamhub.gateway.broadcast import stream as broadcast_stream
from tests.integration.conftest import Client, Frame, Hub
from tests.support.tasks import ended


async def test_latest_brings_of_each_resource_the_newest_event_in_id_order(hub: Hub, organization: int) -> None:
    client = await hub.broadcast("latest=1s")
    first = await hub.history.append(organization, 1, first=100)
    assert (await client.frame()).id == first.first_id  # nothing was sent before, so nothing waits
    for n in range(5):
        await hub.history.append(organization, 3, first=3 * n)  # sku_0 … sku_14
    for n in range(4):
        await hub.history.append(organization, 1, first=50 + n, resource_id="sku_1")
    frames = await client.frames(15)
    assert [frame.data["data"]["n"] for frame in frames] == [0, *range(2, 15), 53]
    assert await client.quiet()


async def test_latest_keeps_its_interval(hub: Hub, organization: int) -> None:
    client = await hub.broadcast("latest=400ms")
    began = time.monotonic()
    writing = asyncio.create_task(_keep_writing(hub, organization))
    await client.frames(4)
    assert time.monotonic() - began > 3 * 0.4 - 0.01
    await ended(writing)


async def _keep_writing(hub: Hub, organization: int) -> None:
    while True:
        await hub.history.append(organization, 1, resource_id="sku_1")
        await asyncio.sleep(0.01)


async def test_with_latest_a_published_event_without_a_resource_always_comes(hub: Hub, organization: int) -> None:
    client = await hub.broadcast("latest=200ms&types=query.*")
    for n in range(5):
        await hub.history.append(organization, event_type="query.received", resource_type=None, own={"n": n})
        await hub.history.append(organization)
    assert [frame.data["data"]["n"] for frame in await client.frames(5)] == list(range(5))


async def test_latest_is_taken_of_what_the_filters_leave(hub: Hub, organization: int) -> None:
    client = await hub.broadcast("latest=200ms&resource.n_lt=3")
    await hub.history.append(organization, 1, first=9, resource_id="sku_9")
    await hub.history.append(organization, 6, first=0, resource_id="sku_1")
    assert (await client.frame()).data["data"]["n"] == 2
    assert await client.quiet()


async def test_latest_catches_up_from_history(hub: Hub, organization: int) -> None:
    first = await hub.history.append(organization)
    for n in range(1, 4):
        await hub.history.append(organization, 2, first=10 * n, resource_id="sku_1")
        await hub.history.append(organization, 1, first=n)
    client = await hub.broadcast("latest=100ms", last_event_id=first.first_id)
    assert [frame.data["data"]["n"] for frame in await client.frames(3)] == [2, 31, 3]
    assert await client.quiet()


async def test_latest_sends_at_once_what_is_more_than_may_wait(
    hub: Hub, organization: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast_stream, "MOST_WAITING", 100_000)
    client = await hub.broadcast("latest=60s")
    await hub.history.append(organization, 1)
    await client.frame()
    for n in range(5):
        await hub.history.append(organization, 30, first=30 * n + 1, size=2_000)
    got = [frame.data["data"]["n"] for frame in await client.frames(100)]
    assert got == list(range(1, 101))


async def test_a_latest_reader_that_does_not_read_keeps_no_more_than_its_bound(
    hub: Hub, organization: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast_stream, "MOST_WAITING", 500_000)
    client = await hub.broadcast("latest=100ms", receive_buffer=4096)
    (stream,) = hub.gateway.streams
    assert isinstance(stream, broadcast_stream.LatestStream)
    for n in range(60):
        await hub.history.append(organization, 10, first=10 * n, size=10_000)
        assert stream._latest.size <= 800_000  # the bound, and a page
    last = await hub.history.append(organization, 1, first=600)
    got = [frame async for frame in _frames_until(client, last.first_id)]
    assert [frame.data["data"]["n"] for frame in got] == list(range(601))


async def _frames_until(client: Client, last: str) -> AsyncIterator[Frame]:
    while True:
        frame = await client.frame()
        yield frame
        if frame.id == last:
            return
