"""kill -9 of a dispatcher, a process of its own, in the middle of deliveries: nothing is lost."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Final

import asyncpg
from aiohttp import web

from tests.integration.webhooks.conftest import Receiver
from tests.support.hub import hub_over, until

EVENTS: Final = 300
ENDPOINTS: Final = 6


async def insert_endpoints(connection: "asyncpg.Connection[asyncpg.Record]", receiver: Receiver) -> None:
    key = await connection.fetchval(
        "INSERT INTO streamhub_hub.organizations (id, slug, slug_is_made, enterprise) "
        "VALUES ('org-0', 'org-0', true, true) RETURNING key"
    )
    for n in range(ENDPOINTS):
        await connection.execute(
            "INSERT INTO streamhub_hub.webhook_endpoints (organization, url) VALUES ($1, $2)",
            key, receiver.url(f"/{n}"),
        )  # fmt: skip


async def ended(connection: "asyncpg.Connection[asyncpg.Record]") -> bool:
    count = await connection.fetchval("SELECT count(*) FROM streamhub_hub.webhook_finished")
    return bool(count == EVENTS * ENDPOINTS)


async def test_what_a_killed_dispatcher_had_is_delivered_by_the_other_with_the_same_id(
    database_url: str, tmp_path: Path, receiver: Receiver
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.02)
        return web.Response()

    for n in range(ENDPOINTS):
        receiver.answers[f"/{n}"] = answer
    async with hub_over(database_url, tmp_path) as hub:
        doomed, _ = await asyncio.gather(hub.start("--roles", "relay,webhooks"), hub.start("--roles", "relay,webhooks"))
        await hub.prepare()
        connection = await asyncpg.connect(database_url)
        await insert_endpoints(connection, receiver)
        await connection.execute("INSERT INTO skus (org, note) SELECT 'org-0', 'x' FROM generate_series(1, $1)", EVENTS)
        await until(lambda: len(receiver.received) > EVENTS * ENDPOINTS // 4, "a quarter is delivered")
        doomed.kill()
        before = list(receiver.received)
        written = {
            (row["path"], row["event"])
            for row in await connection.fetch(
                "SELECT '/' || split_part(e.url, '/', 4) AS path, f.event::text "
                "FROM streamhub_hub.webhook_finished f JOIN streamhub_hub.webhook_endpoints e ON e.id = f.endpoint"
            )
        }
        seen = len(receiver.received)
        assert len(before) < EVENTS * ENDPOINTS * 3 // 4, "it was killed in the middle"
        await until(lambda: ended(connection), "all has ended", 60)
        await connection.close()
        published = set(await hub.published())
    assert len(published) == EVENTS
    assert max(Counter((each.path, each.id) for each in before).values()) == 1, "while both lived, none got one twice"
    for n in range(ENDPOINTS):
        assert {each.id for each in receiver.on(f"/{n}")} == published
    assert written
    assert not written & {(each.path, each.id) for each in receiver.received[seen:]}, "what was written is not repeated"
    for each in receiver.received:
        assert each.body["id"] == each.id
