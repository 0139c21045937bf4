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
from tests.integration.conftest import Hub, StartHub, eventually
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
        assert await metric(hub, "streamhub_source_up", source="shop") == 1
        assert await metric(hub, "streamhub_source_up", source="gone") == 0
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


async def test_a_source_that_cannot_be_relayed_is_counted_by_its_name(database_url: str, connection: Any) -> None:
    failed: list[str] = []
    gone = Source("gone", "postgresql://127.0.0.1:1/x", in_hub=False)

    async def is_counted() -> bool:
        return bool(failed)

    async with running(Relay(database_url, [gone], announce=lambda _: None, failed=failed.append)):
        await eventually(is_counted)
    assert set(failed) == {"gone"}


async def test_a_published_append_is_told(hub: Hub) -> None:
    hub.gateway.metrics.published(3, 300, 0.25)
    assert await metric(hub, "streamhub_published_events_total") == 3
    assert await metric(hub, "streamhub_published_bytes_total") == 300
    assert await metric(hub, "streamhub_commit_to_publish_seconds_bucket", le="0.25") == 1
    assert await metric(hub, "streamhub_commit_to_publish_seconds_bucket", le="0.1") == 0


async def test_requests_are_counted_by_class_of_status_and_those_of_operators_are_not(
    hub: Hub, organization: int
) -> None:
    await hub.get("/-/healthy")
    await hub.get("/my-org/status")
    await hub.get("/my-org/nothing")
    assert await metric(hub, "streamhub_http_requests_total", status="2xx") == 1
    assert await metric(hub, "streamhub_http_requests_total", status="4xx") == 1
    assert await metric(hub, "streamhub_http_request_duration_seconds_count") == 2


async def test_a_stream_counts_as_a_request_at_its_end_and_its_time_does_not(hub: Hub, organization: int) -> None:
    await hub.history.append(organization)
    await replayed(hub)
    assert await metric(hub, "streamhub_http_requests_total", status="2xx") == 1
    assert await metric(hub, "streamhub_http_request_duration_seconds_count") == 0


async def test_refusals_are_counted_by_the_code_of_the_error(hub: Hub, organization: int) -> None:
    await hub.open("/my-org/status", token="nothing")
    assert await metric(hub, "streamhub_http_refusals_total", code="INVALID_TOKEN") == 1


async def test_requests_with_a_valid_token_are_counted_by_its_kind(hub: Hub, organization: int) -> None:
    await hub.get("/my-org/status")
    await hub.open("/my-org/status", token="nothing")
    assert await metric(hub, "streamhub_http_authenticated_total", token="jwt") == 1
    assert await metric(hub, "streamhub_http_authenticated_total", token="api_key") == 0


async def test_how_long_a_replay_waited_and_took_is_observed(hub: Hub, organization: int) -> None:
    await replayed(hub)
    assert await metric(hub, "streamhub_replay_wait_seconds_count") == 1
    assert await metric(hub, "streamhub_replay_duration_seconds_count") == 1


async def test_the_connections_of_the_pool_are_told_with_the_most_there_may_be(hub: Hub) -> None:
    async with hub.gateway.hub.acquire():
        assert (await metric(hub, "streamhub_database_connections", pool="gateway", state="busy") or 0) >= 1
    most = hub.gateway.hub.get_max_size()
    assert await metric(hub, "streamhub_database_connections_limit", pool="gateway") == most


async def test_a_process_tells_whether_its_leases_are_renewed_and_its_streams_are_fed_as_they_should(hub: Hub) -> None:
    assert await metric(hub, "streamhub_node_trusted") == 1
    assert await metric(hub, "streamhub_tail_degraded") == 0


async def test_nodes_and_leases_are_told_of_the_whole_hub(hub: Hub, organization: int) -> None:
    await hub.live()

    async def is_held() -> bool:
        return bool(
            await hub.history.pool.fetchval("SELECT count(*) FROM streamhub_hub.streams WHERE node IS NOT NULL")
        )

    await hub.eventually(is_held)
    assert await metric(hub, "streamhub_nodes") == 1
    assert await metric(hub, "streamhub_live_leases") == 1


async def test_the_size_of_history_is_told(hub: Hub, organization: int) -> None:
    await hub.history.append(organization)
    assert (await metric(hub, "streamhub_history_bytes") or 0) > 8_192


async def test_api_keys_are_told_by_state(hub: Hub, organization: int) -> None:
    await hub.history.pool.execute(
        "INSERT INTO streamhub_hub.api_keys (id, organization, hash, scopes, test, expires_at, revoked_at) VALUES "
        "('a', $1, $2, '{events:read}', false, NULL, NULL), ('b', $1, $2, '{events:read}', false, '2026-01-01', NULL), "
        "('c', $1, $2, '{events:read}', false, '2026-01-01', '2026-01-01')", organization, bytes(32),
    )  # fmt: skip
    assert await metric(hub, "streamhub_api_keys", state="active") == 1
    assert await metric(hub, "streamhub_api_keys", state="expired") == 1
    assert await metric(hub, "streamhub_api_keys", state="revoked") == 1


async def test_incidents_of_the_last_day_are_told(hub: Hub) -> None:
    await hub.history.pool.execute(
        "INSERT INTO streamhub_hub.incidents (kind, detail, at) VALUES ('clock', '', clock_timestamp()), "
        "('clock', '', clock_timestamp() - interval '2 days')"
    )
    assert await metric(hub, "streamhub_recent_incidents") == 1


ENDPOINTS = """
WITH made AS (
  INSERT INTO streamhub_hub.webhook_endpoints (organization, url, enabled)
  VALUES ($1, 'https://a.example.com', true), ($1, 'https://b.example.com', true), ($1, 'https://c.example.com', false)
  RETURNING id, url
)
INSERT INTO streamhub_hub.webhook_deliveries (endpoint, event, type, due_at)
SELECT id, gen_random_uuid(), 'skus.update', clock_timestamp() - pause::interval
  FROM made, unnest(ARRAY['50 s', '-1 h']) AS pause
"""


async def test_webhooks_are_told_with_what_waits_and_endpoints_that_do_not_answer_hide_nothing(
    hub: Hub, organization: int
) -> None:
    await hub.history.pool.execute(ENDPOINTS, organization)
    await hub.history.pool.execute(
        "UPDATE streamhub_hub.webhook_queues AS q SET failures = 10 FROM streamhub_hub.webhook_endpoints AS e "
        "WHERE e.id = q.endpoint AND e.url = 'https://b.example.com'"
    )
    await hub.history.pool.execute(
        "UPDATE streamhub_hub.webhook_deliveries AS d SET due_at = due_at - interval '1 d' "
        "FROM streamhub_hub.webhook_endpoints AS e WHERE e.id = d.endpoint AND e.url <> 'https://a.example.com'"
    )
    for state in ("ok", "failing", "disabled"):
        assert await metric(hub, "streamhub_webhook_endpoints", state=state) == 1
    assert await metric(hub, "streamhub_webhook_pending_deliveries") == 6
    age = await metric(hub, "streamhub_webhook_due_age_seconds")
    assert age is not None
    assert 50 <= age < 100


async def test_events_that_no_dispatcher_looks_at_are_told_with_their_age(hub: Hub, organization: int) -> None:
    await hub.history.append(organization)
    await hub.history.pool.execute(ENDPOINTS, organization)
    await asyncio.sleep(0.05)
    await hub.history.append(organization)
    assert (await metric(hub, "streamhub_webhook_fan_out_lag_seconds") or 0) > 0.04


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
