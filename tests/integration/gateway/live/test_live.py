"""The live stream, on real sockets."""

import asyncio
import time
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from streamhub.core import ids
from streamhub.core.window import parse_instant
from streamhub.gateway.server import serve
from tests.integration.conftest import EACH_ENGINE, Hub, StartHub
from tests.support.history import move_head

pytestmark = EACH_ENGINE


async def cursor_of(hub: Hub, organization_id: str = "org_1") -> str | None:
    return await hub.history.pool.fetchval(
        "SELECT cursor::text FROM streamhub_hub.streams WHERE organization_id = $1", organization_id
    )


async def test_the_response_has_the_headers_that_proxies_heed(hub: Hub, organization: int) -> None:
    client = await hub.live()
    assert client.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert client.headers["cache-control"] == "no-cache, no-transform"
    assert client.headers["x-accel-buffering"] == "no"


async def test_it_begins_with_retry_and_then_a_heartbeat(hub: Hub, organization: int) -> None:
    client = await hub.live()
    assert await client.block() == b"retry: 6000\n\n"
    heartbeat = await client.block()
    assert heartbeat is not None
    assert heartbeat.startswith(b"event: heartbeat\ndata: 20")
    assert b"id:" not in heartbeat


async def test_an_event_arrives_byte_for_byte_as_history_has_it(hub: Hub, organization: int) -> None:
    client = await hub.live()
    append = await hub.history.append(organization)
    assert (await client.frame()).raw == append.events[0].frame


async def test_an_announced_event_arrives_once_although_it_is_notified_too(hub: Hub, organization: int) -> None:
    client = await hub.live()
    append = await hub.history.append(organization)
    hub.tail.announce(append)
    assert (await client.frame()).id == append.first_id
    assert await client.quiet()


async def test_both_environments_arrive(hub: Hub, organization: int) -> None:
    client = await hub.live(token=hub.token(test=True))
    await hub.history.append(organization, test=False)
    await hub.history.append(organization, test=True)
    assert [frame.data["test"] for frame in await client.frames(2)] == [False, True]


async def test_no_other_organizations_events_arrive(hub: Hub, organization: int) -> None:
    other = await hub.history.register("org_2", "other")
    client = await hub.live()
    await hub.history.append(other)
    mine = await hub.history.append(organization)
    assert (await client.frame()).id == mine.first_id


async def test_without_a_cursor_what_was_published_before_does_not_arrive(hub: Hub, organization: int) -> None:
    await hub.history.append(organization)
    await asyncio.sleep(0.005)
    client = await hub.live()
    after = await hub.history.append(organization)
    assert (await client.frame()).id == after.first_id


async def test_the_start_is_stored_as_the_cursor_before_the_200(hub: Hub, organization: int) -> None:
    before = await hub.history.now_ms()
    await hub.live()
    cursor = await cursor_of(hub)
    assert cursor is not None
    assert before - 1 <= ids.milliseconds(cursor) <= await hub.history.now_ms()


async def test_where_the_order_is_ahead_of_the_clock_the_stream_starts_at_its_head(hub: Hub, organization: int) -> None:
    ahead = await hub.history.now_ms() + 3_600_000
    await move_head(hub.history.pool, ahead, 7)
    await hub.live()
    assert await cursor_of(hub) == ids.event_id(ahead, 7)


async def test_heartbeats_come_at_their_interval_whatever_the_traffic(start_hub: StartHub, organization: int) -> None:
    hub = await start_hub(heartbeat_interval=timedelta(seconds=1))
    client = await hub.live()
    await client.frame(heartbeats=True)
    began = time.monotonic()
    times: list[float] = []
    while len(times) < 3:
        await hub.history.append(organization)
        frame = await client.frame(heartbeats=True)
        if frame.event == "heartbeat":
            times.append(time.monotonic() - began)
    assert times == pytest.approx([1, 2, 3], abs=0.8)  # each in its own second, on a machine that is busy with others


async def test_control_frames_carry_no_id(start_hub: StartHub, organization: int) -> None:
    hub = await start_hub(heartbeat_interval=timedelta(milliseconds=200))
    client = await hub.live()
    assert [(await client.frame(heartbeats=True)).id for _ in range(3)] == [None] * 3


# -- one consumer


async def test_a_second_consumer_gets_409_and_is_told_since_when_the_first_is_there(
    hub: Hub, organization: int
) -> None:
    await hub.live()
    answer = await hub.get("/my-org")
    assert (answer.status, answer.codes) == (409, ["ACTIVE_CONSUMER_EXISTS"])
    assert answer.headers["retry-after"] == "6"
    meta = answer.errors[0]["meta"]
    assert meta["retry_after_ms"] == 6000
    assert abs(parse_instant(meta["connected_at"]).ms - time.time() * 1000) < 5_000


async def test_a_second_gateway_refuses_the_second_consumer_as_well(start_hub: StartHub, organization: int) -> None:
    first, second = await start_hub(), await start_hub()
    await first.live()
    assert (await second.get("/my-org")).codes == ["ACTIVE_CONSUMER_EXISTS"]


async def test_of_many_consumers_at_once_over_two_gateways_one_gets_the_stream(
    start_hub: StartHub, organization: int
) -> None:
    hubs = [await start_hub(), await start_hub()]
    clients = await asyncio.gather(*(hubs[n % 2].open("/my-org") for n in range(20)))
    assert sorted(client.status for client in clients) == [200] + [409] * 19


async def test_two_organizations_have_a_consumer_each(hub: Hub, organization: int) -> None:
    await hub.history.register("org_2", "other")
    await hub.live()
    other = await hub.open("/other", token=hub.token(organization__id="org_2", organization__slug="other"))
    assert other.status == 200


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_dropped_stream_is_stale_and_tells_what_is_left(hub: Hub, organization: int, end: str) -> None:
    client = await hub.live()
    getattr(client, end)()
    await asyncio.sleep(0.3)
    answer = await hub.get("/my-org")
    assert answer.codes == ["ACTIVE_CONSUMER_EXISTS"]
    meta = answer.errors[0]["meta"]
    assert 4_000 < meta["retry_after_ms"] <= 4_750
    assert answer.headers["retry-after"] == "5"
    assert "connected_at" not in meta
    assert abs(parse_instant(meta["stale_until"]).ms - meta["retry_after_ms"] - time.time() * 1000) < 1_000


async def test_five_seconds_after_its_end_the_stream_is_free(hub: Hub, organization: int) -> None:
    (await hub.live()).close()
    await asyncio.sleep(0.05)
    _, seconds = await hub.live_once_free()
    assert 4.8 < seconds < 5.5


async def test_a_refused_request_does_not_lengthen_the_wait(start_hub: StartHub, organization: int) -> None:
    hub = await start_hub(stale_after=timedelta(seconds=1))
    (await hub.live()).close()
    _, seconds = await hub.live_once_free()
    assert seconds < 1.5


async def test_the_streams_of_a_node_that_died_are_free_when_its_row_expires(
    start_hub: StartHub, organization: int
) -> None:
    hub = await start_hub()
    await hub.history.pool.execute(
        "INSERT INTO streamhub_hub.nodes (id, host, pid, expires_at) "
        "VALUES ('00000000-0000-4000-8000-000000000001', 'gone', 1, clock_timestamp() + interval '1 second')"
    )
    await hub.history.pool.execute(
        "INSERT INTO streamhub_hub.streams (organization_id, node, epoch, connected_at) "
        "VALUES ('org_1', '00000000-0000-4000-8000-000000000001', 5, clock_timestamp())"
    )
    _, seconds = await hub.live_once_free()
    assert 0.8 < seconds < 1.4


async def test_head_never_takes_the_lease(hub: Hub, organization: int) -> None:
    head = await hub.open("/my-org", method="HEAD")
    assert head.status == 405
    assert (await hub.open("/my-org")).status == 200


# -- positions


async def test_last_event_id_goes_on_right_after_it(hub: Hub, organization: int) -> None:
    append = await hub.history.append(organization, 10)
    client = await hub.live(last_event_id=append.events[3].id)
    assert [frame.data["n"] for frame in await client.frames(6)] == [4, 5, 6, 7, 8, 9]


async def test_last_event_id_counts_in_upper_case_too(hub: Hub, organization: int) -> None:
    append = await hub.history.append(organization, 2)
    client = await hub.live(last_event_id=append.first_id.upper())
    assert (await client.frame()).data["n"] == 1


async def test_any_uuid7_is_a_position(hub: Hub, organization: int) -> None:
    append = await hub.history.append(organization)
    position = ids.first_id_of(ids.milliseconds(append.first_id) - 1).replace("-7000-8", "-7abc-9")
    client = await hub.live(last_event_id=position)
    assert (await client.frame()).id == append.first_id


async def test_an_empty_last_event_id_is_as_none(hub: Hub, organization: int) -> None:
    client = await hub.live(last_event_id="")
    append = await hub.history.append(organization)
    assert (await client.frame()).id == append.first_id


async def test_history_and_the_tail_join_without_a_seam(hub: Hub, organization: int) -> None:
    first = await hub.history.append(organization, 3_000)
    client = await hub.live(last_event_id=first.first_id)
    writing = asyncio.gather(*(hub.history.append(organization, 100, first=3_000) for _ in range(20)))
    got = [str(frame.id) for frame in await client.frames(2_999 + 2_000, within=20)]
    await writing
    assert got == sorted(set(got))
    assert await client.quiet()


async def test_without_last_event_id_the_stream_goes_on_ten_seconds_before_the_cursor(
    start_hub: StartHub, organization: int
) -> None:
    hub = await start_hub(stale_after=timedelta(milliseconds=100))
    _early, late = await hub.history.append_past(organization, [timedelta(seconds=12), timedelta(seconds=8)])
    client = await hub.live()
    client.reset()
    again, _ = await hub.live_once_free()
    assert (await again.frame()).id == late


async def test_after_a_fin_without_a_proxy_it_goes_on_exactly_after_what_was_acknowledged(
    start_hub: StartHub, organization: int
) -> None:
    hub = await start_hub(stale_after=timedelta(milliseconds=100))
    client = await hub.live()
    await hub.history.append(organization, 5)
    await client.frames(5)
    client.close()
    again, _ = await hub.live_once_free()
    await hub.history.append(organization, 1, first=5)
    assert (await again.frame()).data["n"] == 5


@pytest.mark.parametrize("header", ["Via", "Forwarded", "X-Forwarded-For"])
async def test_after_a_fin_that_came_through_a_proxy_it_overlaps(
    start_hub: StartHub, organization: int, header: str
) -> None:
    hub = await start_hub(stale_after=timedelta(milliseconds=100))
    client = await hub.live(headers={header: "somebody"})
    await hub.history.append(organization, 5)
    await client.frames(5)
    client.close()
    again, _ = await hub.live_once_free()
    assert (await again.frame()).data["n"] == 0


async def test_a_slow_reader_whose_token_expires_is_told_so_and_gives_the_stream_back(
    hub: Hub, organization: int
) -> None:
    client = await hub.live(token=hub.token(exp=time.time() + 1), receive_buffer=4096)
    for _ in range(3):
        await hub.history.append(organization, 1_000, size=2_000)
    await asyncio.sleep(1.5)
    assert (await client.rest())[-1].data["code"] == "EXPIRED_TOKEN"
    await hub.live_once_free()


async def test_behind_a_silent_proxy_it_can_be_told_to_overlap_always(start_hub: StartHub, organization: int) -> None:
    hub = await start_hub(stale_after=timedelta(milliseconds=100), resume_overlap_always=True)
    client = await hub.live()
    await hub.history.append(organization, 5)
    await client.frames(5)
    client.close()
    again, _ = await hub.live_once_free()
    assert (await again.frame()).data["n"] == 0


async def test_the_stored_cursor_follows_what_the_client_acknowledged(hub: Hub, organization: int) -> None:
    client = await hub.live()
    append = await hub.history.append(organization, 3)
    await client.frames(3)

    async def arrived() -> bool:
        return await cursor_of(hub) == append.last_id

    await hub.eventually(arrived, within=3)


async def test_the_stored_cursor_never_passes_bytes_that_the_client_has_not_acknowledged(
    hub: Hub, organization: int
) -> None:
    client = await hub.live(receive_buffer=4096)
    append = await hub.history.append(organization, 200, size=100_000)
    await asyncio.sleep(2.5)
    cursor = await cursor_of(hub)
    client.close()
    assert cursor is not None
    assert cursor < append.events[100].id


async def test_a_slow_reader_gets_every_event_once_in_order(hub: Hub, organization: int) -> None:
    client = await hub.live(receive_buffer=4096)
    for n in range(40):
        await hub.history.append(organization, 50, first=50 * n, size=10_000)
    assert [frame.data["n"] for frame in await client.frames(2_000, within=30)] == list(range(2_000))


async def test_an_event_larger_than_any_buffer_arrives(hub: Hub, organization: int) -> None:
    client = await hub.live()
    append = await hub.history.append(organization, 2, size=8_000_000)
    assert [frame.raw for frame in await client.frames(2, within=30)] == [event.frame for event in append.events]


# -- gaps


async def test_what_is_older_than_half_an_hour_is_a_gap_that_comes_before_the_events(
    hub: Hub, organization: int
) -> None:
    old = await hub.history.append_past(organization, [timedelta(hours=2), timedelta(hours=1), timedelta(minutes=5)])
    client = await hub.live(last_event_id=old[0])
    gap, event = await client.frames(2)
    assert (gap.event, gap.id, gap.data["after_id"], event.id) == ("gap", None, old[0], old[2])


async def test_the_replays_that_a_gap_names_bring_what_was_missed(hub: Hub, organization: int) -> None:
    old = await hub.history.append_past(organization, [timedelta(days=d) for d in (20, 19, 12, 3)])
    client = await hub.live(last_event_id=old[0])
    gap = await client.frame()
    found = []
    for path in gap.data["replay"]:
        replay = await hub.open(path)
        found += [frame.id for frame in await replay.rest() if frame.id is not None]
    assert [each for each in found if each > old[0]] == old[1:]


async def test_a_gap_is_cut_into_windows_of_at_most_seven_days(hub: Hub, organization: int) -> None:
    old = await hub.history.append_past(organization, [timedelta(days=20), timedelta(days=19)])
    gap = await (await hub.live(last_event_id=old[0])).frame()
    windows = [parse_qs(urlsplit(path).query) for path in gap.data["replay"]]
    bounds = [[parse_instant(window[name][0]).ms for name in ("date_from", "date_to")] for window in windows]
    assert [round((end - start) / 86_400_000, 2) for start, end in bounds] == [7, 7, 5.98]
    assert [start for start, _ in bounds[1:]] == [end for _, end in bounds[:-1]]


async def test_where_nothing_was_missed_there_is_no_gap(hub: Hub, organization: int) -> None:
    old = await hub.history.append_past(organization, [timedelta(hours=2), timedelta(minutes=5)])
    client = await hub.live(last_event_id=old[0])
    assert (await client.frame()).id == old[1]


async def test_a_gap_leaves_no_other_gap_behind(start_hub: StartHub, organization: int) -> None:
    hub = await start_hub(stale_after=timedelta(milliseconds=100))
    old = await hub.history.append_past(organization, [timedelta(hours=2), timedelta(hours=1), timedelta(minutes=5)])
    first = await hub.live(last_event_id=old[0])
    await first.frames(2)
    first.close()
    again, _ = await hub.live_once_free()
    assert await again.quiet()


# -- organizations


async def test_an_organization_not_registered_yet_has_an_empty_stream_that_delivers_once_it_is(hub: Hub) -> None:
    client = await hub.live()
    assert await client.quiet()
    key = await hub.history.register()
    append = await hub.history.append(key, 3)
    assert [frame.id for frame in await client.frames(3)] == [event.id for event in append.events]


async def test_a_slug_that_was_made_from_the_id_gives_way_to_the_tokens(hub: Hub) -> None:
    await hub.history.register("org_1", "org-1", made=True)
    assert (await hub.open("/my-org")).status == 200
    slug = await hub.history.pool.fetchval("SELECT slug FROM streamhub_hub.organizations WHERE id = 'org_1'")
    assert slug == "my-org"


async def test_a_made_slug_stays_where_the_tokens_is_taken_and_the_stream_opens(hub: Hub) -> None:
    await hub.history.register("org_1", "org-1", made=True)
    await hub.history.register("org_2", "my-org")
    assert (await hub.open("/my-org")).status == 200
    slug = await hub.history.pool.fetchval("SELECT slug FROM streamhub_hub.organizations WHERE id = 'org_1'")
    assert slug == "org-1"


# -- ends


async def test_a_stream_ends_when_its_token_expires_and_says_how_to_go_on(hub: Hub, organization: int) -> None:
    client = await hub.live(token=hub.token(exp=time.time() + 1))
    append = await hub.history.append(organization)
    frames = await client.rest()
    assert [frame.event for frame in frames] == ["update", "stream_error"]
    error = frames[-1].data
    assert (error["code"], error["last_id"], error["resumable"]) == ("EXPIRED_TOKEN", append.last_id, True)
    assert set(error) == {"code", "detail", "last_id", "resumable"}


async def test_a_stream_that_ends_before_any_event_names_the_position_it_began_at(hub: Hub, organization: int) -> None:
    append = await hub.history.append(organization)
    client = await hub.live(token=hub.token(exp=time.time() + 0.5), last_event_id=append.last_id)
    assert (await client.rest())[-1].data["last_id"] == append.last_id


async def test_a_stream_whose_token_expired_is_stale_like_any_other(hub: Hub, organization: int) -> None:
    await (await hub.live(token=hub.token(exp=time.time() + 0.5))).rest()

    async def is_stale() -> bool:
        return "stale_until" in (await hub.get("/my-org")).errors[0]["meta"]

    await hub.eventually(is_stale, 2)  # the end is written once the client has the last bytes


async def test_on_shutdown_a_stream_ends_with_draining_and_is_free_at_once(
    start_hub: StartHub, organization: int
) -> None:
    hub, other = await start_hub(), await start_hub()
    client = await hub.live()
    await hub.gateway.drain()
    (end,) = await client.rest()
    assert (end.event, end.data["code"], end.data["resumable"]) == ("stream_error", "DRAINING", True)
    assert (await other.open("/my-org")).status == 200


async def test_on_shutdown_streams_end_spread_over_the_drain_time(start_hub: StartHub, history: Any) -> None:
    hub = await start_hub(drain_time=timedelta(seconds=2))
    clients = []
    for n in range(5):
        token = hub.token(organization__id=f"org_{n}", organization__slug=f"org-{n}")
        clients.append(await hub.open(f"/org-{n}", token=token))
    began = time.monotonic()

    async def end_of(client: Any) -> float:
        await client.rest()
        return time.monotonic() - began

    draining = asyncio.create_task(hub.gateway.drain())
    times = await asyncio.gather(*(end_of(client) for client in clients))
    await draining
    assert sorted(times) == pytest.approx([0, 0.4, 0.8, 1.2, 1.6], abs=0.3)


async def test_a_gateway_that_drains_takes_no_new_stream(hub: Hub, organization: int) -> None:
    await hub.gateway.drain()
    answer = await hub.get("/my-org")
    assert (answer.status, answer.codes) == (503, ["DRAINING"])
    assert "retry-after" in answer.headers


async def test_a_gateway_that_drains_keeps_no_connection(hub: Hub) -> None:
    await hub.gateway.drain()
    assert (await hub.get("/my-org")).headers["connection"] == "close"


async def test_who_connected_before_the_gateway_ended_is_answered(hub: Hub) -> None:
    gateway = hub.gateway
    async with serve(gateway.settings, hub.history.pool, hub.tail, gateway.authenticator, port=0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)

        async def ask() -> bytes:
            await asyncio.sleep(0.02)
            writer.write(b"GET /my-org HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            return await reader.read()

        asked = asyncio.create_task(ask())
    assert b"DRAINING" in await asked


async def test_a_lease_that_another_took_ends_the_stream_with_lease_lost(hub: Hub, organization: int) -> None:
    client = await hub.live()
    await hub.history.pool.execute("UPDATE streamhub_hub.streams SET epoch = epoch + 1, node = gen_random_uuid()")
    await hub.history.pool.execute("UPDATE streamhub_hub.nodes SET expires_at = clock_timestamp() - interval '1 s'")
    (end,) = await client.rest()
    assert (end.data["code"], end.data["resumable"]) == ("LEASE_LOST", True)


async def test_a_lease_that_nobody_took_while_the_node_had_expired_goes_on(hub: Hub, organization: int) -> None:
    client = await hub.live()
    await hub.history.pool.execute("UPDATE streamhub_hub.nodes SET expires_at = clock_timestamp() - interval '1 s'")
    await asyncio.sleep(1.5)
    append = await hub.history.append(organization)
    assert (await client.frame()).id == append.first_id


async def test_past_its_trust_a_gateway_writes_heartbeats_and_no_events(start_hub: StartHub, organization: int) -> None:
    hub = await start_hub(heartbeat_interval=timedelta(milliseconds=200))
    client = await hub.live()
    hub.gateway.node._trust.lost()
    append = await hub.history.append(organization)
    hub.tail.announce(append)
    assert [(await client.frame(heartbeats=True)).event for _ in range(3)] == ["heartbeat"] * 3
    # The next renewal brings trust back, and with it the event.
    assert (await client.frame()).id == append.first_id


async def test_http_1_0_gets_a_stream_that_ends_with_the_connection(hub: Hub, organization: int) -> None:
    client = await hub.live(version="1.0")
    assert "transfer-encoding" not in client.headers
    append = await hub.history.append(organization)
    assert (await client.frame()).raw == append.events[0].frame
