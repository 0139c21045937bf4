"""Slots of replays: held by who makes progress, given back by who does not, and nothing lost by it."""

import asyncio
import hashlib

import pytest

from streamhub.core.window import timestamp
from streamhub.gateway.replay import slots
from streamhub.gateway.replay.slots import Slots
from tests.integration.conftest import Hub


async def lately(hub: Hub) -> str:
    now = await hub.history.now_ms()
    return f"/my-org/replay?date_from={timestamp(now - 3_600_000)}&date_to={timestamp(now)}"


async def long_history(hub: Hub, organization: int, events: int = 6_000) -> None:
    """So much that no socket's buffers hold it."""
    for first in range(0, events, 1_000):
        await hub.history.append(organization, 1_000, first=first, size=4_000)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "PATIENCE", 0.1)
    monkeypatch.setattr(slots, "PATIENCE_WHERE_SCARCE", 0.02)


@pytest.mark.usefixtures("impatient")
async def test_readers_that_take_nothing_hold_no_slot_and_others_run(hub: Hub, organization: int) -> None:
    hub.kinds.replay.slots = Slots(2)
    await long_history(hub, organization)
    path = await lately(hub)
    stuck = [await hub.open(path, receive_buffer=4096) for _ in range(3)]
    quick = await hub.open(path)
    assert (await quick.rest(60))[-1].event == "stream_complete"
    states = await hub.history.pool.fetch("SELECT state FROM streamhub_hub.replays ORDER BY created_at")
    assert [row["state"] for row in states] == ["running"] * 3 + ["completed"]
    for client in stuck:
        client.reset()


@pytest.mark.usefixtures("impatient")
async def test_a_reader_that_trickles_gets_all_of_it_once_and_in_order(hub: Hub, organization: int) -> None:
    hub.kinds.replay.slots = Slots(1)
    await long_history(hub, organization)
    client = await hub.open(await lately(hub), receive_buffer=65536)
    digest, numbers, complete = hashlib.sha256(), [], None
    while (frame := await client.frame_or_end(60)) is not None:
        if frame.event == "update":
            digest.update(frame.raw)
            numbers.append(frame.data["n"])
            if len(numbers) % 500 == 0:
                await asyncio.sleep(0.15)
        complete = frame
    assert numbers == list(range(6_000))
    assert complete is not None
    assert (complete.event, complete.data["sha256"]) == ("stream_complete", digest.hexdigest())


@pytest.mark.usefixtures("impatient")
async def test_over_the_bound_of_memory_a_reader_keeps_its_slot(hub: Hub, organization: int) -> None:
    held = hub.kinds.replay.slots = Slots(1, most_unsent=0)
    await long_history(hub, organization)
    client = await hub.open(await lately(hub), receive_buffer=4096)
    await client.frames(1)
    await asyncio.sleep(0.5)
    assert (held.locked(), held.unsent) == (True, 0)
    client.reset()


@pytest.mark.usefixtures("impatient")
async def test_one_that_waits_without_a_slot_is_told_of_in_what_it_holds(hub: Hub, organization: int) -> None:
    held = hub.kinds.replay.slots = Slots(1)
    await long_history(hub, organization)
    client = await hub.open(await lately(hub), receive_buffer=4096)
    await hub.eventually(lambda: asyncio.sleep(0, held.unsent > 0 and not held.locked()))
    client.reset()
    await hub.eventually(lambda: asyncio.sleep(0, held.unsent == 0))


# -- what comes after the end


async def test_a_replay_after_the_last_event_of_its_window_is_204_and_no_job(hub: Hub, organization: int) -> None:
    append = await hub.history.append(organization, 3)
    path = await lately(hub)
    client = await hub.open(path, headers={"Last-Event-ID": append.last_id})
    assert client.status == 204
    assert await hub.history.pool.fetchval("SELECT count(*) FROM streamhub_hub.replays") == 0


async def test_a_replay_at_or_beyond_the_end_of_its_window_is_204(hub: Hub, organization: int) -> None:
    now = await hub.history.now_ms()
    append = await hub.history.append(organization, 3)
    path = f"/my-org/replay?date_from={timestamp(now - 60_000)}&date_to={timestamp(now - 30_000)}"
    for event in append.events:
        assert (await hub.open(path, headers={"Last-Event-ID": event.id})).status == 204


async def test_what_another_environment_has_left_is_nothing_left(hub: Hub, organization: int) -> None:
    append = await hub.history.append(organization, 3)
    await hub.history.append(organization, 3, test=True)
    assert (await hub.open(await lately(hub), headers={"Last-Event-ID": append.last_id})).status == 204


async def test_a_replay_of_which_one_event_is_left_sends_it(hub: Hub, organization: int) -> None:
    append = await hub.history.append(organization, 3)
    client = await hub.open(await lately(hub), headers={"Last-Event-ID": append.events[1].id})
    assert [frame.id for frame in (await client.rest())[1:-1]] == [append.last_id]


async def test_a_faulty_request_is_refused_before_anything_is_looked_for(hub: Hub, organization: int) -> None:
    append = await hub.history.append(organization, 1)
    answer = await hub.get("/my-org/replay?x=1", headers={"Last-Event-ID": append.last_id})
    assert answer.codes == ["UNKNOWN_PARAMETER", "MISSING_DATE_RANGE"]
