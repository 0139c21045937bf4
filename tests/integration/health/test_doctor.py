"""What `streamhub doctor` finds where clients are served and rows are read; `test_cli.py` has how it says so."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator

import asyncpg
import pytest

from servers.clusters import cluster_directory
from streamhub import capture
from streamhub.capture import CaptureSpec
from streamhub.config import load
from streamhub.core import ids
from streamhub.embedded import EmbeddedPostgres
from streamhub.health import serving_checks
from streamhub.health.doctor import examine
from streamhub.health.findings import Finding
from streamhub.postgres import connections
from streamhub.postgres.migrate import migrate_hub, migrate_source
from tests.support.database import Connection
from tests.support.history import move_head
from tests.support.tasks import ended

ALIVE = "11111111-1111-1111-1111-111111111111"
GONE = "22222222-2222-2222-2222-222222222222"
UNKNOWN = "33333333-3333-3333-3333-333333333333"


async def found(database_url: str, check: str) -> list[Finding]:
    return [each for each in await examine(load(database_url=database_url)) if each.check == check]


async def wrong(database_url: str, check: str) -> Finding:
    """The one thing that is not in order, with a way to fix it."""
    (finding,) = [each for each in await found(database_url, check) if each.state != "ok"]
    assert finding.fix
    return finding


@pytest.fixture
async def nodes(connection: Connection) -> None:
    await connection.execute(
        f"""INSERT INTO streamhub_hub.nodes (id, host, pid, expires_at)
            VALUES ('{ALIVE}', 'here', 4711, clock_timestamp() + interval '9 s'),
                   ('{GONE}', 'there', 4712, clock_timestamp() - interval '10 minutes')"""
    )


async def hold(connection: Connection, organization: str, node: str, asked: bool = False) -> None:
    await connection.execute(
        """INSERT INTO streamhub_hub.streams (organization_id, node, epoch, connected_at, cursor_at, ending_epoch)
           VALUES ($1, $2, 3, clock_timestamp(), clock_timestamp() - interval '2 h', CASE WHEN $3 THEN 3 ELSE 2 END)""",
        organization, node, asked,
    )  # fmt: skip


async def replay(connection: Connection, node: str, state: str, age: str) -> None:
    await connection.execute(
        f"""INSERT INTO streamhub_hub.replays (organization_id, test, node, state, request, created_at)
            VALUES ('org_1', false, $1, $2, '{{}}', clock_timestamp() - interval '{age}')""",
        node, state,
    )  # fmt: skip


async def test_a_gateway_that_renews_its_lease_no_more_is_named(database_url: str, nodes: None) -> None:
    finding = await wrong(database_url, "gateways")
    assert (finding.state, finding.detail) == ("warn", "there (process 4712) has not renewed its lease for 600 s")


async def test_a_source_of_another_hub_fails_with_the_way_to_take_it_over(
    database_url: str, connection: Connection
) -> None:
    await connection.execute("UPDATE streamhub.relay_mark SET hub = $1", UNKNOWN)
    finding = await wrong(database_url, "owner")
    assert (finding.state, UNKNOWN in finding.detail) == ("fail", True)
    assert "streamhub migrate --take-over" in finding.fix


async def test_a_queue_of_notifications_that_nearly_nothing_is_in_is_in_order(database_url: str) -> None:
    assert [each.state for each in await found(database_url, "notifications")] == ["ok"]


@pytest.fixture
async def small_queue() -> AsyncIterator[str]:
    """A server of the test's own with the smallest queue of notifications that PostgreSQL allows, 512 KiB."""
    directory = cluster_directory()
    server = EmbeddedPostgres(directory, {"fsync": "off", "shared_buffers": "16MB", "max_notify_queue_pages": "64"})
    await server.start_async()
    connection = await asyncpg.connect(server.url)
    await migrate_hub(connection)
    await migrate_source(connection)
    await connection.close()
    yield server.url
    server.stop("immediate")
    shutil.rmtree(directory, ignore_errors=True)


async def test_a_queue_of_notifications_that_is_half_full_is_told_before_appends_fail(small_queue: str) -> None:
    listener, notifier = await asyncpg.connect(small_queue), await asyncpg.connect(small_queue)
    await listener.execute("LISTEN anything")
    await listener.execute("BEGIN")
    for _ in range(48):
        await notifier.execute("SELECT pg_notify('anything', repeat('x', 7500))")
    finding = await wrong(small_queue, "notifications")
    await listener.close()
    await notifier.close()
    assert finding.state == "warn"
    assert "idle in transaction" in finding.fix


async def test_streams_that_are_held_and_replays_that_are_under_way_are_in_order(
    database_url: str, connection: Connection, nodes: None
) -> None:
    await hold(connection, "org_1", ALIVE)
    await replay(connection, ALIVE, "running", "3 hours")
    await replay(connection, ALIVE, "queued", "3 seconds")
    await replay(connection, UNKNOWN, "failed", "3 hours")
    assert await found(database_url, "streams") == [Finding("streams", "ok", "1 held")]
    assert await found(database_url, "replays") == [Finding("replays", "ok", "1 running, 1 queued")]


async def test_streams_of_gateways_that_are_gone_for_long_are_named(
    database_url: str, connection: Connection, nodes: None
) -> None:
    await hold(connection, "org_1", GONE)
    for n in range(2, 6):
        await hold(connection, f"org_{n}", UNKNOWN)  # its node's row was swept
    finding = await wrong(database_url, "streams")
    assert finding.state == "warn"
    assert finding.detail.startswith("5 of gateways that are gone, for up to 72")
    assert finding.detail.endswith(" and 2 more")


async def test_a_stream_whose_holder_lives_and_never_ends_it_as_asked_is_a_fault(
    database_url: str, connection: Connection, nodes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving_checks, "ENDED_WITHIN", 0.1)
    await hold(connection, "org_1", ALIVE, asked=True)
    finding = await wrong(database_url, "streams")
    assert finding.state == "fail"
    assert finding.detail.startswith("org_1 was asked to end, and here (process 4711) has not ended it")


async def test_a_stream_that_ends_as_asked_while_it_is_looked_at_is_no_fault(
    database_url: str, connection: Connection, nodes: None
) -> None:
    await hold(connection, "org_1", ALIVE, asked=True)
    looking = asyncio.create_task(found(database_url, "streams"))
    await asyncio.sleep(0.2)
    await connection.execute("UPDATE streamhub_hub.streams SET node = NULL")
    assert [each.state for each in await looking] == ["ok"]


@pytest.mark.parametrize("state", ["queued", "running"])
@pytest.mark.parametrize("node", [GONE, UNKNOWN])
async def test_replays_whose_process_died_are_told(
    database_url: str, connection: Connection, nodes: None, node: str, state: str
) -> None:
    await replay(connection, node, state, "10 minutes")
    await replay(connection, node, state, "2 days")
    finding = await wrong(database_url, "replays")
    assert finding.state == "warn"
    assert finding.detail.startswith("1 of the last 24 hours were cut off")


async def test_a_replay_that_waits_though_there_is_room_is_a_fault(
    database_url: str, connection: Connection, nodes: None
) -> None:
    await replay(connection, ALIVE, "queued", "90 seconds")
    finding = await wrong(database_url, "replays")
    assert finding.state == "fail"
    assert finding.detail.startswith("1 queued for up to 90 s at here (process 4711), which runs only 0 of 64")


async def test_replays_that_wait_because_all_room_is_taken_ask_for_more_processes(
    database_url: str, connection: Connection, nodes: None
) -> None:
    for _ in range(64):
        await replay(connection, ALIVE, "running", "5 minutes")
    await replay(connection, ALIVE, "queued", "90 seconds")
    finding = await wrong(database_url, "replays")
    assert finding.state == "warn"
    assert "--workers" in finding.fix


@pytest.fixture
async def captured(connection: Connection) -> None:
    await connection.execute("CREATE TABLE public.skus (id int PRIMARY KEY, org text)")
    await capture.add(connection, CaptureSpec("public.skus", resource_type="skus", organization_column="org"))


@pytest.fixture
async def begun(connection: Connection, captured: None) -> None:
    """A backfill that was stopped half-way, an hour ago."""
    await connection.execute(
        """INSERT INTO streamhub.backfills (capture, rows, updated_at)
           SELECT id, 5000, clock_timestamp() - interval '1 hour' FROM streamhub.captures"""
    )


async def test_a_backfill_that_was_stopped_half_way_is_named_with_the_command_that_goes_on(
    database_url: str, begun: None
) -> None:
    finding = await wrong(database_url, "backfill")
    assert (finding.state, finding.detail) == (
        "warn",
        "hub: skus, 5000 rows sent, stopped 3600 s ago before its end",
    )  # noqa: E501, RUF100
    assert finding.fix.startswith("streamhub capture backfill skus ")


async def test_a_backfill_that_runs_is_in_order(database_url: str, connection: Connection, captured: None) -> None:
    await connection.execute("INSERT INTO skus SELECT n, 'org_1' FROM generate_series(1, 2000) AS n")
    running = await asyncpg.connect(database_url)
    work = asyncio.create_task(capture.backfill(running, "skus", rate=100, report=lambda _: None))
    while not await connection.fetchval("SELECT sum(rows) FROM streamhub.backfills"):  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    findings = await found(database_url, "backfill")
    await ended(work)
    running.terminate()
    assert findings == [Finding("backfill", "ok", "hub: skus, 200 rows sent, runs")]


async def test_a_backfill_that_came_to_its_end_is_not_told_of(
    database_url: str, connection: Connection, begun: None
) -> None:
    await connection.execute("UPDATE streamhub.backfills SET finished_at = clock_timestamp()")
    assert await found(database_url, "backfill") == []


async def test_a_backfill_whose_capture_was_removed_is_not_told_of(
    database_url: str, connection: Connection, begun: None
) -> None:
    await capture.remove(connection, "skus")
    assert await found(database_url, "backfill") == []


@pytest.fixture
async def owner(connection: Connection, captured: None) -> AsyncIterator[str]:
    """A role that owns our trigger functions and may do no more than it has to."""
    name = f"owner_of_{await connection.fetchval('SELECT current_database()')}_{os.getpid()}"
    await connection.execute(
        f"""CREATE ROLE {name}; GRANT ALL ON SCHEMA streamhub TO {name}; GRANT SELECT ON skus TO {name};
            ALTER FUNCTION streamhub.capture_truncate() OWNER TO {name}"""
    )
    yield name
    await connection.execute(
        f"""ALTER FUNCTION streamhub.capture_truncate() OWNER TO CURRENT_USER; DROP OWNED BY {name}; DROP ROLE {name}"""
    )


async def test_an_owner_with_the_rights_it_needs_is_in_order(database_url: str, owner: str) -> None:
    assert [finding.state for finding in await found(database_url, "capture")] == ["ok"]


async def test_a_right_that_was_revoked_after_the_table_was_captured_is_named(
    database_url: str, connection: Connection, owner: str
) -> None:
    await connection.execute("REVOKE SELECT ON skus FROM streamhub_capture")
    finding = await wrong(database_url, "capture")
    assert finding.state == "fail"
    assert finding.detail == "hub: skus may not be read by streamhub_capture: a TRUNCATE of it gives no events"
    await connection.execute(finding.fix)
    assert [each.state for each in await found(database_url, "capture")] == ["ok"]


async def test_row_level_security_that_came_after_the_table_was_captured_is_named(
    database_url: str, connection: Connection, owner: str
) -> None:
    await connection.execute("ALTER ROLE streamhub_capture NOBYPASSRLS")
    await connection.execute("ALTER TABLE skus ENABLE ROW LEVEL SECURITY")
    finding = await wrong(database_url, "capture")
    assert finding.state == "fail"
    assert "row-level security" in finding.detail
    await connection.execute(finding.fix)
    assert [each.state for each in await found(database_url, "capture")] == ["ok"]


@pytest.mark.needs_fsync
async def test_a_database_whose_commits_outlive_a_crash_is_in_order_whatever_its_sessions_are_set_to(
    database_url: str, connection: Connection
) -> None:
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    assert [each.state for each in await found(database_url, "durability")] == ["ok"]


@pytest.mark.needs_fsync
async def test_a_pooler_that_does_not_pass_on_what_sessions_ask_for_is_found_out(
    database_url: str, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    monkeypatch.setattr(connections, "_OURS", {"jit": "off"})
    finding = await wrong(database_url, "durability")
    assert finding.state == "fail"
    assert finding.detail == "hub: synchronous_commit is off: a crash can take back what was sent"


@pytest.mark.parametrize(
    ("expires", "said"),
    [
        ("'-infinity'", "the last one, somebody, has stopped"),
        ("clock_timestamp() - interval '1 min'", "is gone for 6"),
        ("clock_timestamp() + interval '1 h'", "s ahead of the clock"),
    ],
)
async def test_how_the_last_leader_went_is_told(
    database_url: str, connection: Connection, expires: str, said: str
) -> None:
    await connection.execute(f"UPDATE streamhub_hub.relay_lease SET holder = 'somebody', expires_at = {expires}")
    finding = await wrong(database_url, "relay")
    assert finding.state == "fail"
    assert said in str(finding)


async def endpoint(connection: Connection, change: str) -> str:
    """One whose queue or row is as `change` says."""
    id_ = await connection.fetchval(
        """WITH organization AS (
             INSERT INTO streamhub_hub.organizations (id, slug, slug_is_made, enterprise)
             VALUES ('org_1', 'my-org', false, true) RETURNING key)
           INSERT INTO streamhub_hub.webhook_endpoints (organization, url)
           SELECT key, 'https://a.example/?token=secret' FROM organization RETURNING id::text"""
    )
    await connection.execute(change, id_)
    return str(id_)


async def test_an_endpoint_that_keeps_failing_is_named_without_its_url(
    connection: Connection, database_url: str
) -> None:
    id_ = await endpoint(connection, "UPDATE streamhub_hub.webhook_queues SET failures = 12 WHERE endpoint = $1::uuid")
    finding = await wrong(database_url, "webhooks")
    assert id_ in finding.detail
    assert "secret" not in finding.detail


async def test_an_endpoint_that_the_hub_disabled_is_told_with_its_reason(
    connection: Connection, database_url: str
) -> None:
    await endpoint(
        connection,
        "UPDATE streamhub_hub.webhook_endpoints SET enabled = false, disabled_reason = 'it answered 410' WHERE id = $1",
    )
    assert "it answered 410" in (await wrong(database_url, "webhooks")).detail


async def test_events_that_no_dispatcher_looks_at_are_a_fault(connection: Connection, database_url: str) -> None:
    long_ago = 1_795_000_000_000
    await endpoint(connection, "UPDATE streamhub_hub.webhook_queues SET failures = 0 WHERE endpoint = $1::uuid")
    await connection.execute("UPDATE streamhub_hub.webhook_cursor SET position = $1::uuid", ids.event_id(long_ago, 0))
    await move_head(connection, long_ago + 1)
    finding = await wrong(database_url, "webhooks")
    assert (finding.state, "no event has been looked at" in finding.detail) == ("fail", True)


async def test_a_webhook_endpoint_whose_row_cannot_be_used_is_named(connection: Connection, database_url: str) -> None:
    change = "UPDATE streamhub_hub.webhook_endpoints SET filters = '{\"path_prefix\": 5}' WHERE id = $1::uuid"
    id_ = await endpoint(connection, change)
    finding = await wrong(database_url, "webhooks")
    assert f"endpoint {id_} of my-org is treated as disabled: its row cannot be used" in finding.detail
    assert "'path_prefix' is 5" in finding.detail
