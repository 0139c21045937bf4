"""`/-/metrics` and `/-/ready`: what an operator's machines are told."""

import asyncio
import json
import os
import subprocess
import sys
from typing import Any

import asyncpg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamhub.core.window import timestamp
from streamhub.relay import Relay, Source
from tests.conftest import database_of
from tests.integration.conftest import Hub, StartHub
from tests.support.database import Pool
from tests.support.stage import Stage, running

OUTBOX_ROW = (
    "INSERT INTO streamhub.outbox (origin, created_at) "
    "SELECT '1:0:0::', clock_timestamp() - interval '90 s' FROM generate_series(1, 3)"
)


async def text(hub: Hub) -> str:
    client = await hub.open("/-/metrics", token="")
    assert client.status == 200
    assert client.headers["content-type"].startswith("text/plain")
    return (await client.answer()).body.decode()


async def metric(hub: Hub, name: str, **labels: str) -> float | None:
    for family in text_string_to_metric_families(await text(hub)):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return None


async def replayed(hub: Hub) -> None:
    now = await hub.history.now_ms()
    path = f"/my-org/replay?date_from={timestamp(now - 3_600_000)}&date_to={timestamp(now + 1_000)}"
    assert (await (await hub.open(path)).rest())[-1].event == "stream_complete"


async def test_what_live_streams_sent_is_counted(hub: Hub, organization: int) -> None:
    client = await hub.live()
    append = await hub.history.append(organization, 3)
    await client.frames(3)
    assert await metric(hub, "streamhub_sent_events_total", stream="live") == 3
    size = sum(len(event.frame) for event in append.events)
    assert await metric(hub, "streamhub_sent_bytes_total", stream="live") == size


async def test_what_replays_sent_is_counted(hub: Hub, organization: int) -> None:
    await hub.history.append(organization, 4)
    await replayed(hub)
    assert await metric(hub, "streamhub_sent_events_total", stream="replay") == 4


async def test_how_long_an_event_took_from_its_publication_to_the_socket_is_observed(
    hub: Hub, organization: int
) -> None:
    client = await hub.live()
    hub.tail.announce(await hub.history.append(organization))
    await client.frame()
    assert await metric(hub, "streamhub_publish_to_client_seconds_count") == 1
    took = await metric(hub, "streamhub_publish_to_client_seconds_sum")
    assert took is not None
    assert took < 5


async def test_what_is_caught_up_is_not_observed_as_a_delay(hub: Hub, organization: int) -> None:
    append = await hub.history.append(organization, 3)
    hub.tail.announce(append)  # so that none of it comes by way of the tail
    client = await hub.live(last_event_id=append.first_id)
    await client.frames(2)
    assert await metric(hub, "streamhub_publish_to_client_seconds_count") == 0


async def test_live_streams_are_counted_by_state(hub: Hub, organization: int) -> None:
    await hub.live()

    async def is_live() -> bool:
        return await metric(hub, "streamhub_live_streams", state="live") == 1

    await hub.eventually(is_live)
    assert await metric(hub, "streamhub_live_streams", state="catching_up") == 0


async def test_live_streams_that_ended_are_counted_by_cause(hub: Hub, organization: int) -> None:
    client = await hub.live()
    await hub.get("/my-org", method="DELETE")
    await client.rest()
    assert await metric(hub, "streamhub_live_streams_ended_total", cause="deleted") == 1


async def test_replays_are_counted_while_they_wait_and_when_they_have_ended(hub: Hub, organization: int) -> None:
    for _ in range(64):
        await hub.kinds.replay.slots.acquire()
    now = await hub.history.now_ms()
    client = await hub.open(f"/my-org/replay?date_from={timestamp(now - 1_000)}&date_to={timestamp(now)}")
    await client.frame()
    assert await metric(hub, "streamhub_replays", state="queued") == 1
    hub.kinds.replay.slots.release()
    await client.rest()

    async def is_told() -> bool:  # metrics are kept for a second
        return await metric(hub, "streamhub_replays", state="queued") == 0

    await hub.eventually(is_told)
    assert await metric(hub, "streamhub_replays_ended_total", state="completed") == 1


async def test_the_outbox_is_told_with_its_depth_and_age(hub: Hub) -> None:
    await hub.history.pool.execute(OUTBOX_ROW)
    assert await metric(hub, "streamhub_outbox_depth", source="hub") == 3
    age = await metric(hub, "streamhub_outbox_age_seconds", source="hub")
    assert age is not None
    assert 90 <= age < 100


async def test_an_empty_outbox_has_no_age(hub: Hub) -> None:
    assert await metric(hub, "streamhub_outbox_age_seconds", source="hub") == 0


async def test_the_outbox_of_another_source_is_told_under_its_name(
    start_hub: StartHub, postgres_url: str, template: str, pool: Pool
) -> None:
    name = f"streamhub_source_{os.getpid()}"
    await pool.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        sources = {"shop": database_of(postgres_url, name), "gone": "postgresql://127.0.0.1:1/x"}
        hub = await start_hub(sources=sources)
        source = await asyncpg.connect(sources["shop"])
        await source.execute(OUTBOX_ROW)
        await source.close()
        assert await metric(hub, "streamhub_outbox_depth", source="shop") == 3
        assert await metric(hub, "streamhub_outbox_depth", source="gone") is None
    finally:
        await pool.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize(
    ("expires", "led"), [("+ interval '9 s'", 1), ("- interval '1 min'", 0), ("+ interval '1 h'", 0)]
)
async def test_whether_a_relay_leads_is_told(hub: Hub, expires: str, led: int) -> None:
    await hub.history.pool.execute(f"UPDATE streamhub_hub.relay_lease SET expires_at = clock_timestamp() {expires}")
    assert await metric(hub, "streamhub_relay_led") == led


async def test_the_hubs_counters_are_told_and_start_at_zero(hub: Hub) -> None:
    await hub.history.pool.execute("INSERT INTO streamhub_hub.counted VALUES ('not_enterprise', 'hub', 7)")
    assert await metric(hub, "streamhub_changes_total", kind="not_enterprise", source="hub") == 7
    assert await metric(hub, "streamhub_changes_total", kind="null_organization", source="hub") == 0


async def test_no_label_names_an_organization(hub: Hub, organization: int) -> None:
    await hub.live()
    await hub.history.append(organization)
    await replayed(hub)
    found = await text(hub)
    assert "org_1" not in found
    assert "my-org" not in found


async def test_while_the_database_is_away_the_process_tells_what_it_counted_itself(hub: Hub) -> None:
    await hub.gateway.hub.close()
    assert await metric(hub, "streamhub_database_up") == 0
    assert await metric(hub, "streamhub_sent_events_total", stream="live") == 0


async def test_what_a_relay_publishes_is_counted_with_the_time_that_its_first_change_waited(
    database_url: str, connection: Any
) -> None:
    stage = Stage(database_url, connection)
    await stage.shop()
    await stage.sql("INSERT INTO skus SELECT n, 'org_1' FROM generate_series(1, 3) AS n")
    await asyncio.sleep(1)  # what it waited
    seen: list[tuple[int, int, float]] = []
    source = Source("shop", database_url, in_hub=True)
    observe = lambda *published: seen.append(published)  # noqa: E731
    async with running(Relay(database_url, [source], announce=lambda _: None, observe=observe)):
        await stage.drained()
    ((events, size, waited),) = seen
    assert (events, size) == (3, sum(map(len, await stage.frames())))
    assert 1 < waited < 5


async def test_a_published_append_is_told(hub: Hub) -> None:
    hub.gateway.metrics.published(3, 300, 0.25)
    assert await metric(hub, "streamhub_published_events_total") == 3
    assert await metric(hub, "streamhub_published_bytes_total") == 300
    assert await metric(hub, "streamhub_commit_to_publish_seconds_bucket", le="0.25") == 1
    assert await metric(hub, "streamhub_commit_to_publish_seconds_bucket", le="0.1") == 0


SEVERAL = """
import os, sys
from streamhub.metrics import Metrics
metrics = Metrics()
if sys.argv[1] == "count":
    metrics.live_sent.count(2, 100)
    metrics.count_streams("live", {"live": 3})
    print("counted", flush=True)
    input()
else:
    print(metrics.exposition([]).decode())
"""


def test_where_several_processes_serve_one_port_any_of_them_tells_the_sum(tmp_path: Any) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    run = [sys.executable, "-c", SEVERAL]
    pipe = subprocess.PIPE
    workers = [subprocess.Popen([*run, "count"], stdin=pipe, stdout=pipe, env=environment) for _ in range(2)]
    try:
        assert [worker.stdout.readline() for worker in workers if worker.stdout] == [b"counted\n"] * 2
        found = subprocess.run([*run, "tell"], env=environment, capture_output=True, text=True, check=True).stdout
    finally:
        for worker in workers:
            worker.communicate(b"\n")
    assert 'streamhub_sent_events_total{stream="live"} 4.0' in found
    assert 'streamhub_live_streams{state="live"} 6.0' in found


async def ready(hub: Hub) -> dict[str, Any]:
    return json.loads((await hub.get("/-/ready", token="")).body)


async def test_readiness_tells_of_the_leader_and_the_lag(hub: Hub) -> None:
    await hub.history.pool.execute(OUTBOX_ROW)
    await hub.history.pool.execute(
        "UPDATE streamhub_hub.relay_lease SET expires_at = clock_timestamp() + interval '9 s'"
    )
    found = await ready(hub)
    assert (found["status"], found["leader"]) == ("ready", True)
    assert 90 <= found["lag_seconds"] < 100


async def test_readiness_waits_for_no_leader(hub: Hub) -> None:
    found = await ready(hub)
    assert (found["status"], found["leader"]) == ("ready", False)
