"""Broadcast on real sockets: every matching event once, in order, whatever happens."""

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta

import pytest

from streamhub.core import ids
from streamhub.core.window import parse_instant
from streamhub.gateway.broadcast import stream as broadcast_stream
from tests.integration.conftest import EACH_ENGINE, Client, Frame, Hub, StartHub


def numbers(frames: Sequence[Frame]) -> list[int]:
    """Of changes in the envelope `event`."""
    return [frame.data["data"]["n"] for frame in frames]


# -- how it begins


async def test_it_begins_with_retry_and_no_heartbeat(hub: Hub, organization: int) -> None:
    client = await hub.broadcast()
    assert client.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert client.headers["cache-control"] == "no-cache, no-transform"
    assert client.headers["x-accel-buffering"] == "no"
    await hub.history.append(organization)
    assert await client.block() == b"retry: 6000\n\n"
    assert (await client.block() or b"").startswith(b"id: ")


async def test_without_a_position_it_begins_at_now(hub: Hub, organization: int) -> None:
    await hub.history.append(organization)
    await asyncio.sleep(0.005)
    client = await hub.broadcast()
    after = await hub.history.append(organization)
    assert (await client.frame()).id == after.first_id


async def test_last_event_id_goes_on_right_after_it(hub: Hub, organization: int) -> None:
    append = await hub.history.append(organization, 10)
    client = await hub.broadcast(last_event_id=append.events[3].id)
    assert numbers(await client.frames(6)) == [4, 5, 6, 7, 8, 9]


async def test_a_position_in_the_query_counts_where_the_header_names_none(hub: Hub, organization: int) -> None:
    append = await hub.history.append(organization, 10)
    client = await hub.broadcast(f"last_event_id={append.events[7].id}", last_event_id="")
    assert numbers(await client.frames(2)) == [8, 9]


async def test_the_header_wins_over_the_position_in_the_query(hub: Hub, organization: int) -> None:
    append = await hub.history.append(organization, 10)
    client = await hub.broadcast(f"last_event_id={append.events[2].id}", last_event_id=append.events[7].id)
    assert numbers(await client.frames(2)) == [8, 9]


async def test_beside_the_header_the_position_in_the_query_is_not_looked_at(hub: Hub, organization: int) -> None:
    append = await hub.history.append(organization, 10)
    client = await hub.broadcast("last_event_id=nonsense", last_event_id=append.events[7].id)
    assert numbers(await client.frames(2)) == [8, 9]


async def test_a_ping_comes_at_its_interval_and_no_heartbeat(start_hub: StartHub, organization: int) -> None:
    hub = await start_hub(ping_interval=timedelta(milliseconds=400), heartbeat_interval=timedelta(milliseconds=100))
    began = time.monotonic()
    client = await hub.broadcast()
    assert [await client.block() for _ in range(3)] == [b"retry: 6000\n\n", b": ping\n\n", b": ping\n\n"]
    assert time.monotonic() - began > 0.7


# -- every event once, in order


@EACH_ENGINE
async def test_every_subscriber_gets_every_event(hub: Hub, organization: int) -> None:
    clients = [await hub.broadcast() for _ in range(20)]
    for n in range(5):
        await hub.history.append(organization, 10, first=10 * n)
    assert [numbers(await client.frames(50)) for client in clients] == [list(range(50))] * 20


async def test_an_announced_event_arrives_once_although_it_is_notified_too(hub: Hub, organization: int) -> None:
    client = await hub.broadcast()
    append = await hub.history.append(organization)
    hub.tail.announce(append)
    assert (await client.frame()).id == append.first_id
    assert await client.quiet()


@EACH_ENGINE
async def test_history_and_the_tail_join_without_a_seam(hub: Hub, organization: int) -> None:
    first = await hub.history.append(organization, 1_000)
    writing = asyncio.gather(*(hub.history.append(organization, 50, first=1_000 + 50 * n) for n in range(20)))
    clients = [await hub.broadcast(last_event_id=first.first_id) for _ in range(5)]
    for client in clients:
        got = [str(frame.id) for frame in await client.frames(1_999, within=20)]
        assert got == sorted(set(got))
        assert await client.quiet(0.1)
    await writing


@EACH_ENGINE
async def test_one_that_comes_later_is_served_beside_those_that_are_there(hub: Hub, organization: int) -> None:
    first = await hub.broadcast()
    append = await hub.history.append(organization, 3)
    await first.frames(3)
    second = await hub.broadcast(last_event_id=append.first_id)
    await hub.history.append(organization, 1, first=3)
    assert numbers(await second.frames(3)) == [1, 2, 3]
    assert numbers(await first.frames(1)) == [3]


@EACH_ENGINE
async def test_a_reader_that_does_not_read_gets_every_event_once_it_does_and_delays_no_other(
    hub: Hub, organization: int
) -> None:
    stalled = await hub.broadcast(receive_buffer=4096)
    others = [await hub.broadcast() for _ in range(3)]
    for n in range(20):
        await hub.history.append(organization, 50, first=50 * n, size=10_000)
        for other in others:
            assert numbers(await other.frames(50)) == list(range(50 * n, 50 * n + 50))
    (behind,) = [stream for stream in hub.gateway.streams if stream.state == "catching_up"]
    assert behind.channel.unsent < 1_000_000
    assert numbers(await stalled.frames(1_000, within=30)) == list(range(1_000))
    assert await stalled.quiet()


async def test_filtered_readers_that_do_not_read_get_all_that_match_and_nothing_else(
    hub: Hub, organization: int
) -> None:
    slow = {
        each: await hub.broadcast(f"resource_type_eq=skus&resource_id_in=sku_{each}", receive_buffer=4096)
        for each in range(3)
    }
    for n in range(30):
        for each in range(4):
            await hub.history.append(organization, 10, first=n, size=10_000, resource_id=f"sku_{each}")
    for each, client in slow.items():
        got = await client.frames(300, within=30)
        assert {frame.data["data"]["resource_id"] for frame in got} == {f"sku_{each}"}
        assert numbers(got) == [n + i for n in range(30) for i in range(10)]


@EACH_ENGINE
async def test_when_the_tail_falls_behind_each_reads_history_and_misses_nothing(hub: Hub, organization: int) -> None:
    all_, some = await hub.broadcast(), await hub.broadcast("resource_type_eq=skus&resource_id_in=sku_2500")
    await hub.history.append(organization, 1)
    await all_.frame()
    await hub.history.append(organization, 3_000, first=1)  # more than a piece of the tail
    await hub.history.append(organization, 1, first=3_001)
    assert numbers(await all_.frames(3_001, within=20)) == list(range(1, 3_002))
    assert numbers([await some.frame()]) == [2500]


async def test_an_event_larger_than_any_buffer_arrives(hub: Hub, organization: int) -> None:
    client = await hub.broadcast("envelope=change")
    append = await hub.history.append(organization, 2, size=8_000_000)
    assert [frame.raw for frame in await client.frames(2, within=30)] == [event.frame for event in append.events]


@EACH_ENGINE
async def test_an_organization_that_is_not_registered_yet_delivers_once_it_is(hub: Hub) -> None:
    client = await hub.broadcast()
    key = await hub.history.register()
    append = await hub.history.append(key, 3)
    assert [frame.id for frame in await client.frames(3)] == [event.id for event in append.events]


# -- whose events


@EACH_ENGINE
async def test_only_the_tokens_environment_and_organization_arrive(hub: Hub, organization: int) -> None:
    other = await hub.history.register("org_2", "other")
    first = await hub.history.append(organization, test=False)
    live = await hub.broadcast(last_event_id=first.first_id)
    test = await hub.broadcast(last_event_id=first.first_id, token=hub.token(scope="analytics:read", test=True))
    for n in range(1, 4):
        await hub.history.append(organization, first=n, test=n == 2)
        await hub.history.append(other, first=10 + n, test=n == 2)
    assert numbers(await live.frames(2)) == [1, 3]
    assert numbers(await test.frames(1)) == [2]
    assert await live.quiet()
    assert await test.quiet(0.05)


# -- gaps


async def test_what_is_older_than_the_window_is_a_gap_that_comes_before_the_events(hub: Hub, organization: int) -> None:
    old = await hub.history.append_past(organization, [timedelta(hours=2), timedelta(hours=1), timedelta(minutes=5)])
    client = await hub.broadcast(last_event_id=old[0])
    gap, event = await client.frames(2)
    assert (gap.event, gap.id, gap.data["after_id"], event.id) == ("gap", None, old[0], old[2])
    assert set(gap.data) == {"after_id", "from", "to", "replay"}
    assert gap.data["replay"][0].startswith("/my-org/replay?date_from=")


async def test_the_replays_that_a_gap_names_bring_what_was_missed(hub: Hub, organization: int) -> None:
    old = await hub.history.append_past(organization, [timedelta(hours=2), timedelta(hours=1), timedelta(minutes=5)])
    gap = await (await hub.broadcast(last_event_id=old[0])).frame()
    replay = await hub.open(gap.data["replay"][0])
    found = [frame.id for frame in await replay.rest() if frame.id is not None]
    assert [each for each in found if each > old[0]] == [old[1]]


async def test_a_reader_that_falls_behind_further_than_the_window_is_told_what_it_missed(
    start_hub: StartHub, organization: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast_stream, "GRACE", timedelta(0))
    window = timedelta(seconds=1)
    hub = await start_hub(resume_window=window)
    client = await hub.broadcast(receive_buffer=4096)
    for n in range(10):
        await hub.history.append(organization, 100, first=100 * n, size=10_000)
    await asyncio.sleep(window.total_seconds())
    before: list[Frame] = []
    while (frame := await client.frame()).event != "gap":
        before.append(frame)
    assert numbers(before) == list(range(len(before)))
    assert 0 < len(before) < 1_000
    assert (frame.data["after_id"], frame.id) == (before[-1].id, None)
    last = await hub.history.append(organization, 1, first=1_000)
    while (after := await client.frame()).id != last.first_id:
        assert ids.milliseconds(str(after.id)) >= parse_instant(frame.data["to"]).ms


# -- ends


async def test_it_ends_when_its_token_expires_and_says_how_to_go_on(hub: Hub, organization: int) -> None:
    client = await hub.broadcast(token=hub.token(scope="events:read", exp=time.time() + 1))
    append = await hub.history.append(organization)
    frames = await client.rest()
    assert [frame.event for frame in frames] == ["message", "stream_error"]
    error = frames[-1].data
    assert (error["code"], error["last_id"], error["resumable"]) == ("EXPIRED_TOKEN", append.last_id, True)


async def test_on_shutdown_streams_end_with_draining_spread_over_the_drain_time(
    start_hub: StartHub, organization: int
) -> None:
    hub = await start_hub(drain_time=timedelta(seconds=2))
    clients = [await hub.broadcast() for _ in range(4)]
    began = time.monotonic()

    async def end_of(client: Client) -> float:
        (end,) = await client.rest()
        assert (end.event, end.data["code"], end.data["resumable"]) == ("stream_error", "DRAINING", True)
        return time.monotonic() - began

    draining = asyncio.create_task(hub.gateway.drain())
    times = await asyncio.gather(*map(end_of, clients))
    await draining
    assert sorted(times) == pytest.approx([0, 0.5, 1, 1.5], abs=0.3)


@EACH_ENGINE
async def test_after_the_last_subscriber_nothing_is_kept(hub: Hub, organization: int) -> None:
    clients = [await hub.broadcast(), await hub.broadcast("types=skus.*")]
    await hub.history.append(organization)
    for client in clients:
        await client.frame()
        client.close()

    async def are_gone() -> bool:
        return not hub.gateway.streams

    await hub.eventually(are_gone)
    assert not hub.kinds.broadcast.fans
