"""Replays, on real sockets."""

import asyncio
import hashlib
import json
import subprocess
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from streamhub.core import ids
from streamhub.core.frames import data_of
from streamhub.core.window import timestamp
from tests.integration.conftest import EACH_ENGINE, Hub, StartHub
from tests.support.history import insert

pytestmark = EACH_ENGINE


DOCS = Path(__file__).parents[4] / "docs" / "reference" / "contract.md"


def window(from_ms: int, to_ms: int, more: str = "") -> str:
    return f"/my-org/replay?date_from={timestamp(from_ms)}&date_to={timestamp(to_ms)}{more}"


async def lately(hub: Hub, more: str = "") -> str:
    """The path of a replay of the last hour."""
    now = await hub.history.now_ms()
    return window(now - 3_600_000, now + 60_000, more)


async def replayed(hub: Hub, path: str, **more: Any) -> tuple[Any, list[Any], Any]:
    """(replay_started, events, stream_complete)."""
    client = await hub.open(path, **more)
    assert client.status == 200, await client.answer()
    first, *events, last = await client.rest()
    assert (first.event, last.event) == ("replay_started", "stream_complete")
    return first.data, events, last.data


async def state_of(hub: Hub) -> str:
    return await hub.history.pool.fetchval("SELECT state FROM streamhub_hub.replays ORDER BY created_at DESC LIMIT 1")


async def becomes(hub: Hub, state: str) -> None:
    async def has_become() -> bool:
        return await state_of(hub) == state

    await hub.eventually(has_become)


async def test_it_has_no_retry_line_and_begins_with_replay_started(hub: Hub, organization: int) -> None:
    client = await hub.open(await lately(hub))
    assert client.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (await client.block() or b"").startswith(b"event: replay_started\ndata: {")


async def test_events_come_in_the_live_streams_frames(hub: Hub, organization: int) -> None:
    append = await hub.history.append(organization, 5)
    _, events, _ = await replayed(hub, await lately(hub))
    assert [frame.raw for frame in events] == [event.frame for event in append.events]


async def test_the_start_tells_the_window_in_effect_and_whose_it_is(hub: Hub, organization: int) -> None:
    now = await hub.history.now_ms()
    started, _, _ = await replayed(hub, window(now - 5_000, now - 1_000), token=hub.token(test=True))
    job = started.pop("job_id")
    assert len(job) == 36
    assert started == {
        "organization": {"id": "org_1", "slug": "my-org"},
        "test": True,
        "date_from": timestamp(now - 5_000),
        "date_to": timestamp(now - 1_000),
        "resource_type_eq": None,
        "resource_id_in": None,
        "types": None,
        "filters": None,
    }


async def test_an_end_in_the_future_becomes_now(hub: Hub, organization: int) -> None:
    now = await hub.history.now_ms()
    started, _, _ = await replayed(hub, window(now - 5_000, now + 86_400_000))
    assert timestamp(now) <= started["date_to"] <= timestamp(await hub.history.now_ms())


async def test_the_end_counts_what_came_and_names_its_ends(hub: Hub, organization: int) -> None:
    append = await hub.history.append(organization, 7)
    _, _, complete = await replayed(hub, await lately(hub))
    assert (complete["events"], complete["first_id"], complete["last_id"]) == (7, append.first_id, append.last_id)
    assert 0 <= complete["duration_ms"] < 5_000


async def test_the_sha256_is_over_the_event_frames(hub: Hub, organization: int) -> None:
    await hub.history.append(organization, 3_000, size=500)
    _, events, complete = await replayed(hub, await lately(hub))
    assert complete["sha256"] == hashlib.sha256(b"".join(frame.raw for frame in events)).hexdigest()


async def test_an_empty_replay_has_no_ids(hub: Hub, organization: int) -> None:
    _, events, complete = await replayed(hub, await lately(hub))
    assert (events, complete["events"], complete["first_id"], complete["last_id"]) == ([], 0, None, None)
    assert complete["sha256"] == hashlib.sha256().hexdigest()


async def test_an_organization_not_registered_yet_has_an_empty_one(hub: Hub) -> None:
    _, events, _ = await replayed(hub, await lately(hub))
    assert events == []


async def test_the_window_is_half_open(hub: Hub, organization: int) -> None:
    hour, minute, second = await hub.history.append_past(
        organization, [timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)]
    )
    path = window(ids.milliseconds(hour), ids.milliseconds(second))
    _, events, _ = await replayed(hub, path)
    assert [frame.id for frame in events] == [hour, minute]


async def test_windows_that_meet_bring_each_event_once(hub: Hub, organization: int) -> None:
    old = await hub.history.append_past(organization, [timedelta(milliseconds=1_000 - n) for n in range(200)])
    start, middle, end = (ids.milliseconds(old[0]) + n for n in (0, 77, 200))
    found = []
    for path in (window(start, middle), window(middle, end)):
        found += [frame.id for frame in (await replayed(hub, path))[1]]
    assert found == old


async def test_a_bound_finer_than_a_millisecond_is_rounded_up(hub: Hub, organization: int) -> None:
    (old,) = await hub.history.append_past(organization, [timedelta(minutes=1)])
    ms = ids.milliseconds(old)
    late = timestamp(ms).replace("Z", "0001Z")
    path = f"/my-org/replay?date_from={late}&date_to={timestamp(ms + 10)}"
    assert (await replayed(hub, path))[1] == []
    path = f"/my-org/replay?date_from={timestamp(ms - 10)}&date_to={late}"
    assert [frame.id for frame in (await replayed(hub, path))[1]] == [old]


@pytest.mark.parametrize("test", [False, True])
async def test_only_the_tokens_environment_comes(hub: Hub, organization: int, test: bool) -> None:
    await hub.history.append(organization, 3, test=False)
    await hub.history.append(organization, 4, test=True)
    _, events, _ = await replayed(hub, await lately(hub), token=hub.token(test=test))
    assert [frame.data["test"] for frame in events] == [test] * (4 if test else 3)


async def test_no_other_organizations_events_come(hub: Hub, organization: int) -> None:
    other = await hub.history.register("org_2", "other")
    await hub.history.append(other, 3)
    assert (await replayed(hub, await lately(hub)))[1] == []


async def test_one_type_can_be_asked_for(hub: Hub, organization: int) -> None:
    await hub.history.append(organization, 2, resource_type="skus")
    orders = await hub.history.append(organization, 2, resource_type="orders")
    _, events, _ = await replayed(hub, await lately(hub, "&resource_type_eq=orders"))
    assert [frame.id for frame in events] == [event.id for event in orders.events]


async def test_resources_can_be_asked_for_by_id_without_a_window(hub: Hub, organization: int) -> None:
    old = await hub.history.append_past(organization, [timedelta(days=d) for d in (400, 30, 8, 1)], resource_id="sku_a")
    await hub.history.append(organization, 5, resource_id="sku_b")
    new = await hub.history.append(organization, 2, resource_id="sku_c")
    await hub.history.append(organization, 2, resource_id="sku_a", resource_type="orders")
    await asyncio.sleep(0.005)
    path = "/my-org/replay?resource_type_eq=skus&resource_id_in=sku_c,sku_a,sku_a,sku_x"
    started, events, _ = await replayed(hub, path)
    assert [frame.id for frame in events] == [*old, *(event.id for event in new.events)]
    assert started["resource_id_in"] == ["sku_c", "sku_a", "sku_a", "sku_x"]
    assert (started["date_from"], started["date_to"]) == (None, None)


@pytest.mark.parametrize("bound", ["date_from", "date_to"])
async def test_by_id_either_end_alone_bounds_it(hub: Hub, organization: int, bound: str) -> None:
    old = await hub.history.append_past(organization, [timedelta(days=d) for d in (400, 30)], resource_id="sku_a")
    at = timestamp(ids.milliseconds(old[1]))
    path = f"/my-org/replay?resource_type_eq=skus&resource_id_in=sku_a&{bound}={at}"
    _, events, _ = await replayed(hub, path)
    assert [frame.id for frame in events] == ([old[1]] if bound == "date_from" else [old[0]])


async def test_last_event_id_resumes_after_it(hub: Hub, organization: int) -> None:
    append = await hub.history.append(organization, 10)
    path = await lately(hub)
    _, events, complete = await replayed(hub, path, headers={"Last-Event-ID": append.events[6].id})
    assert [frame.data["n"] for frame in events] == [7, 8, 9]
    assert complete["events"] == 3


async def test_what_was_published_before_the_request_is_in_it(hub: Hub, organization: int) -> None:
    for n in range(30):
        append = await hub.history.append(organization, 1, first=n)
        ms = ids.milliseconds(append.first_id)
        _, events, _ = await replayed(hub, window(ms, ms + 1_000))
        assert [frame.id for frame in events][:1] == [append.first_id]


async def test_an_append_in_flight_when_the_replay_begins_is_waited_for(hub: Hub, organization: int) -> None:
    pool = hub.history.pool
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        ms = await connection.fetchval(
            "SELECT ms FROM streamhub_hub.reserve((SELECT epoch FROM streamhub_hub.log_epoch), 1)"
        )
        event = hub.history.event(organization, ids.event_id(ms, 0))
        await insert(connection, [event])
        await asyncio.sleep(0.01)
        replay = asyncio.create_task(replayed(hub, window(ms - 1_000, ms + 5)))
        await asyncio.sleep(0.5)
        assert not replay.done()
        await transaction.commit()
    _, events, _ = await replay
    assert [frame.id for frame in events] == [event.id]


async def test_after_a_replay_no_event_can_be_published_inside_its_window(hub: Hub, organization: int) -> None:
    started, _, _ = await replayed(hub, await lately(hub))
    append = await hub.history.append(organization)
    assert timestamp(ids.milliseconds(append.first_id)) >= started["date_to"]


async def test_the_head_never_goes_ahead_of_the_hubs_clock(hub: Hub, organization: int) -> None:
    for _ in range(20):
        await replayed(hub, await lately(hub))
        assert await hub.history.pool.fetchval(
            "SELECT last_ms <= extract(epoch FROM clock_timestamp()) * 1000 FROM streamhub_hub.log_head"
        )


async def test_heartbeats_run_while_a_job_waits(start_hub: StartHub, organization: int) -> None:
    hub = await start_hub(heartbeat_interval=timedelta(milliseconds=200))
    for _ in range(64):
        await hub.kinds.replay.slots.acquire()
    client = await hub.open(await lately(hub))
    assert [(await client.frame(heartbeats=True)).event for _ in range(3)] == ["replay_started"] + ["heartbeat"] * 2
    assert await state_of(hub) == "queued"
    hub.kinds.replay.slots.release()
    assert (await client.rest())[-1].event == "stream_complete"


async def test_heartbeats_come_between_pages_and_leave_the_sha256_alone(start_hub: StartHub, organization: int) -> None:
    hub = await start_hub(heartbeat_interval=timedelta(milliseconds=200))
    for _ in range(10):
        await hub.history.append(organization, 1_000, size=2_000)
    client = await hub.open(await lately(hub), receive_buffer=65536)
    digest, beats = hashlib.sha256(), 0
    while (frame := await client.frame_or_end(heartbeats=True)) is not None:
        beats += frame.event == "heartbeat"
        if frame.event == "update":
            digest.update(frame.raw)
            if frame.data["n"] % 250 == 0:
                await asyncio.sleep(0.03)
        complete = frame
    assert beats >= 2
    assert complete.data["sha256"] == digest.hexdigest()


async def test_events_of_the_largest_size_are_replayed(hub: Hub, organization: int) -> None:
    await hub.history.append(organization, 3, size=8_000_000)
    _, events, _ = await replayed(hub, await lately(hub))
    assert [len(frame.raw) > 8_000_000 for frame in events] == [True] * 3


# -- jobs


async def test_a_job_that_came_to_its_end_is_completed_with_its_counts(hub: Hub, organization: int) -> None:
    append = await hub.history.append(organization, 3)
    started, _, _ = await replayed(hub, await lately(hub))
    row = await hub.history.pool.fetchrow("SELECT *, id::text AS job FROM streamhub_hub.replays")
    assert row is not None
    assert (row["job"], row["state"], row["events"], row["progress"]) == (started["job_id"], "completed", 3, 1.0)
    assert row["bytes"] == sum(len(event.frame) for event in append.events)
    assert row["created_at"] <= row["started_at"] <= row["finished_at"]


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_client_that_leaves_cancels_its_job(hub: Hub, organization: int, end: str) -> None:
    for _ in range(10):
        await hub.history.append(organization, 1_000, size=2_000)
    client = await hub.open(await lately(hub), receive_buffer=4096)
    await client.frames(2)
    getattr(client, end)()
    await becomes(hub, "cancelled")


async def test_a_client_that_leaves_before_its_job_was_claimed_cancels_it(hub: Hub, organization: int) -> None:
    for _ in range(64):
        await hub.kinds.replay.slots.acquire()
    client = await hub.open(await lately(hub))
    client.close()
    await becomes(hub, "cancelled")


async def slow_replays(hub: Hub, organization: int, count: int) -> list[Any]:
    for _ in range(10):
        await hub.history.append(organization, 1_000, size=2_000)
    path = await lately(hub)
    return [await hub.open(path, receive_buffer=4096) for _ in range(count)]


async def test_a_fifth_replay_at_once_is_429(hub: Hub, organization: int) -> None:
    await slow_replays(hub, organization, 4)
    answer = await hub.get(await lately(hub))
    assert (answer.status, answer.codes) == (429, ["TOO_MANY_REPLAYS"])
    assert "retry-after" in answer.headers


async def test_of_many_replays_at_once_over_two_gateways_four_are_taken(start_hub: StartHub, organization: int) -> None:
    hubs = [await start_hub(), await start_hub()]
    for _ in range(10):
        await hubs[0].history.append(organization, 1_000, size=2_000)
    path = await lately(hubs[0])
    clients = await asyncio.gather(*(hubs[n % 2].open(path, receive_buffer=4096) for n in range(12)))
    assert sorted(client.status for client in clients) == [200] * 4 + [429] * 8


async def test_a_replay_that_ended_makes_room_at_once(hub: Hub, organization: int) -> None:
    for _ in range(10):
        await replayed(hub, await lately(hub))


async def test_a_cancelled_replay_makes_room(hub: Hub, organization: int) -> None:
    clients = await slow_replays(hub, organization, 4)
    clients[0].reset()

    async def there_is_room() -> bool:
        return (await hub.open(await lately(hub))).status == 200

    await hub.eventually(there_is_room)


async def test_the_jobs_of_a_process_that_died_count_no_more_and_have_failed(hub: Hub, organization: int) -> None:
    await hub.history.pool.execute(
        "INSERT INTO streamhub_hub.replays (organization_id, test, node, state, request) "
        "SELECT 'org_1', false, gen_random_uuid(), 'running', '{}' FROM generate_series(1, 4)"
    )
    await replayed(hub, await lately(hub))
    states = await hub.history.pool.fetch("SELECT state FROM streamhub_hub.replays ORDER BY created_at")
    assert [row["state"] for row in states] == ["failed"] * 4 + ["completed"]


async def test_where_too_many_jobs_wait_a_new_one_gets_503(start_hub: StartHub, organization: int) -> None:
    hub = await start_hub(replay_queue_limit=2)
    await hub.history.pool.execute(
        "INSERT INTO streamhub_hub.replays (organization_id, test, node, state, request) "
        "SELECT 'org_9', false, $1, 'queued', '{}' FROM generate_series(1, 2)",
        hub.gateway.node.id,
    )
    answer = await hub.get(await lately(hub))
    assert (answer.status, answer.codes) == (503, ["UNAVAILABLE"])


async def test_a_job_that_cannot_be_written_is_500_replay_queue_failed(hub: Hub, organization: int) -> None:
    await hub.history.pool.execute("ALTER TABLE streamhub_hub.replays ADD CHECK (organization_id <> 'org_1')")
    answer = await hub.get(await lately(hub))
    assert (answer.status, answer.codes) == (500, ["REPLAY_QUEUE_FAILED"])


async def test_a_replay_ends_when_its_token_expires(hub: Hub, organization: int) -> None:
    for _ in range(10):
        await hub.history.append(organization, 1_000, size=2_000)
    client = await hub.open(await lately(hub), token=hub.token(exp=time.time() + 1), receive_buffer=4096)
    frames = await client.frames(100)
    await asyncio.sleep(1.2)
    frames += await client.rest()
    assert (frames[-1].event, frames[-1].data["code"]) == ("stream_error", "EXPIRED_TOKEN")
    assert frames[-1].data["last_id"] == frames[-2].id
    assert await state_of(hub) == "cancelled"


async def test_an_interrupted_replay_resumed_is_the_whole_of_it(hub: Hub, organization: int) -> None:
    for n in range(5):
        await hub.history.append(organization, 1_000, first=n * 1_000, size=2_000)
    path = await lately(hub)
    first = await hub.open(path, receive_buffer=4096)
    got = [frame.id for frame in await first.frames(1_234) if frame.id is not None]
    first.reset()
    _, events, _ = await replayed(hub, path, headers={"Last-Event-ID": got[-1]})
    got += [frame.id for frame in events]
    assert (len(got), got) == (5_000, sorted(set(got)))


async def test_on_shutdown_a_replay_ends_with_draining(hub: Hub, organization: int) -> None:
    (client,) = await slow_replays(hub, organization, 1)
    await client.frames(10)
    drain = asyncio.create_task(hub.gateway.drain())
    end = (await client.rest())[-1]
    await drain
    assert (end.event, end.data["code"], end.data["resumable"]) == ("stream_error", "DRAINING", True)


async def test_a_replay_never_takes_the_lease(hub: Hub, organization: int) -> None:
    await hub.live()
    await replayed(hub, await lately(hub))


async def test_a_replay_goes_on_after_its_database_connections_were_lost(hub: Hub, organization: int) -> None:
    for n in range(10):
        await hub.history.append(organization, 1_000, first=n * 1_000, size=2_000)
    client = await hub.open(await lately(hub), receive_buffer=4096)
    frames = await client.frames(100)
    await hub.history.pool.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    frames += await client.rest()
    assert frames[-1].event == "stream_complete"
    assert [frame.data["n"] for frame in frames[1:-1]] == list(range(10_000))


# -- as NDJSON


async def lines_of(hub: Hub, path: str, **headers: str) -> tuple[Any, list[bytes]]:
    """(the client, the lines of its response, each with its line feed)."""
    client = await hub.open(path, headers={"Accept": "application/x-ndjson", **headers})
    body = b""
    while more := await client._more():
        body += more
    return client, body.splitlines(keepends=True)


async def test_a_client_that_asks_for_ndjson_gets_each_events_data_as_a_line(hub: Hub, organization: int) -> None:
    append = await hub.history.append(organization, 5)
    client, lines = await lines_of(hub, await lately(hub))
    assert client.headers["content-type"] == "application/x-ndjson"
    assert lines[1:-1] == [data_of(event.frame) + b"\n" for event in append.events]


async def test_in_ndjson_the_control_frames_are_lines_too(hub: Hub, organization: int) -> None:
    _, lines = await lines_of(hub, await lately(hub))
    assert [json.loads(line)["event"] for line in lines] == ["replay_started", "stream_complete"]


async def test_in_ndjson_the_sha256_and_the_jobs_bytes_are_of_the_event_lines(hub: Hub, organization: int) -> None:
    await hub.history.append(organization, 2_500, size=1_000)
    _, lines = await lines_of(hub, await lately(hub))
    events = b"".join(line for line in lines if line.startswith(b'{"id":'))
    complete = json.loads(lines[-1])["data"]
    assert (complete["events"], complete["sha256"]) == (2_500, hashlib.sha256(events).hexdigest())
    assert await hub.history.pool.fetchval("SELECT bytes FROM streamhub_hub.replays") == len(events)


async def test_the_line_in_the_docs_checks_a_saved_ndjson_replay(hub: Hub, organization: int, tmp_path: Path) -> None:
    await hub.history.append(organization, 20)
    _, lines = await lines_of(hub, await lately(hub))
    (tmp_path / "replay.ndjson").write_bytes(b"".join(lines))
    (line,) = [each for each in DOCS.read_text().splitlines() if "replay.ndjson" in each]
    checked = await asyncio.to_thread(subprocess.check_output, ["sh", "-c", line], cwd=tmp_path, text=True)
    assert checked.split()[0] == json.loads(lines[-1])["data"]["sha256"]


async def test_a_live_stream_is_server_sent_events_whatever_is_accepted(hub: Hub, organization: int) -> None:
    client = await hub.live(headers={"Accept": "application/x-ndjson"})
    assert client.headers["content-type"] == "text/event-stream; charset=utf-8"
