"""Clients whose machine is gone: no FIN and no RST will ever come. And those who only look like it."""

import asyncio
import ctypes
import struct
import time
from datetime import timedelta
from typing import Any

import pytest

from streamhub.core.window import timestamp
from streamhub.gateway.streams import channel
from tests.integration.conftest import Hub, StartHub

SO_ATTACH_FILTER = 26  # linux/socket.h


def vanish(client: Any) -> None:
    """From now on the client's kernel drops whatever comes for it unseen, as if its machine were gone."""
    drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF: return 0 bytes
    program = struct.pack("HP", 1, ctypes.addressof(drop_all))
    client.writer.get_extra_info("socket").setsockopt(1, SO_ATTACH_FILTER, program)


async def has_gone(streams: set[Any]) -> bool:
    return not streams


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second of silence is enough."""
    monkeypatch.setattr(channel, "SILENT_FOR", 1.0)
    monkeypatch.setattr(channel, "UNDER_WAY_FOR", 0.5)
    monkeypatch.setattr(channel, "LOOK_EVERY", 0.1)


async def test_a_peer_that_vanished_is_seen_within_thirty_seconds(hub: Hub, organization: int) -> None:
    client = await hub.live()
    await client.block()
    vanish(client)
    began = time.monotonic()
    await hub.eventually(lambda: has_gone(hub.gateway.streams), 31)
    assert 10 < time.monotonic() - began < 30


async def test_its_stream_is_stale_then(start_hub: StartHub, organization: int, soon: None) -> None:
    hub = await start_hub(heartbeat_interval=timedelta(milliseconds=500))
    vanish(await hub.live())
    await hub.eventually(lambda: has_gone(hub.gateway.streams))
    (refused,) = (await hub.get("/my-org")).errors
    assert "stale_until" in refused["meta"]


async def test_what_it_never_acknowledged_comes_again(start_hub: StartHub, organization: int, soon: None) -> None:
    hub = await start_hub(stale_after=timedelta(milliseconds=100), resume_overlap=timedelta(0))
    vanish(await hub.live())
    missed = await hub.history.append(organization)
    await hub.eventually(lambda: has_gone(hub.gateway.streams))
    again, _ = await hub.live_once_free()
    assert (await again.frame()).id == missed.last_id


async def test_a_replay_whose_client_vanished_is_cancelled(hub: Hub, organization: int, soon: None) -> None:
    for _ in range(10):
        await hub.history.append(organization, 1_000, size=2_000)
    now = await hub.history.now_ms()
    client = await hub.open(
        f"/my-org/replay?date_from={timestamp(now - 60_000)}&date_to={timestamp(now)}", receive_buffer=4096
    )
    await client.frames(2)
    vanish(client)

    async def is_cancelled() -> bool:
        return await hub.history.pool.fetchval("SELECT state FROM streamhub_hub.replays") == "cancelled"

    await hub.eventually(is_cancelled, 15)


async def test_a_reader_that_has_only_stopped_is_left_alone(start_hub: StartHub, organization: int, soon: None) -> None:
    hub = await start_hub()
    client = await hub.live(receive_buffer=4096)
    for n in range(3):
        await hub.history.append(organization, 1_000, first=n * 1_000, size=2_000)
    await asyncio.sleep(4)
    assert [frame.data["n"] for frame in await client.frames(3_000, within=20)] == list(range(3_000))


async def test_a_quiet_reader_is_left_alone_when_something_comes_at_last(
    start_hub: StartHub, organization: int, soon: None
) -> None:
    hub = await start_hub(heartbeat_interval=timedelta(minutes=1))
    client = await hub.live()
    for _ in range(3):
        await asyncio.sleep(1.5)
        for _ in range(20):  # each a moment in which something is under way
            await hub.history.append(organization)
            await client.frame()
