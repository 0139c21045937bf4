"""Replay jobs are queued under a lock that no role but the hub can hold."""

import asyncpg

from streamhub.gateway.replay import jobs

NODE = "11111111-1111-1111-1111-111111111111"


async def test_no_lock_that_another_role_holds_keeps_a_replay_from_being_queued(database_url: str) -> None:
    holder = await asyncpg.connect(database_url)
    await holder.execute("SELECT pg_advisory_lock(hashtextextended('streamhub replays of org_1', 0))")
    async with asyncpg.create_pool(
        database_url, min_size=1, max_size=1, server_settings={"lock_timeout": "100ms"}
    ) as pool:
        job = await jobs.queue(pool, "org_1", False, NODE, {}, most=1, queue_limit=10)
        assert await jobs.claim(pool, job.id)
    await holder.close()
