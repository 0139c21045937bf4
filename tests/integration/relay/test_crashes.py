"""Relays and servers killed and stopped at any moment: nothing is lost, repeated or reordered; no hand is needed."""

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from streamhub.embedded import EmbeddedPostgres
from tests.integration.relay.conftest import StartRelay
from tests.support.stage import Stage, rebuilt, until

pytestmark = pytest.mark.runs_once

END_A_COPY = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND state = 'active' AND query LIKE 'COPY%history%'
"""
PASSING = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


class Application:
    """Writes to skus and publishes all the time, over connections of its own. An event of which it does not know
    whether it was published is published again, under the same publish_id."""

    def __init__(self, url: str, seed: int) -> None:
        self._url = url
        self._seed = seed
        self._chance = random.Random(seed)
        self.statements = 0

    def statement(self) -> str:
        id_ = self._chance.randint(1, 15)
        upsert = "ON CONFLICT (id) DO UPDATE SET price = skus.price + 1"
        undone = "SAVEPOINT s; DELETE FROM skus; ROLLBACK TO s"
        told = f"{self._seed}-{self.statements}"
        tell = f"SELECT streamhub.publish('org_1', 'sku.told', '1', publish_id => '{told}')"
        return self._chance.choice(
            [
                f"INSERT INTO skus VALUES ({id_}, 'org_1', 0, 'a') {upsert}",
                f"UPDATE skus SET price = price + 1 WHERE id >= {id_}",
                f"DELETE FROM skus WHERE id = {id_}",
                f"BEGIN; UPDATE skus SET price = price + 1 WHERE id < {id_}; {undone}; COMMIT",
                "BEGIN; UPDATE skus SET price = -1; ROLLBACK",
                f"BEGIN; INSERT INTO told VALUES ('{told}') ON CONFLICT DO NOTHING; {tell}; COMMIT",
            ]
        )

    async def run(self, done: asyncio.Event) -> None:
        connection = None
        while not done.is_set():
            try:
                connection = connection or await asyncpg.connect(self._url, timeout=5)
                await connection.execute(self.statement())
                self.statements += 1
                await asyncio.sleep(self._chance.random() * 0.004)
            except asyncpg.DeadlockDetectedError:
                continue
            except PASSING:
                connection = None
                await asyncio.sleep(0.05)
        if connection is not None:
            connection.terminate()


async def follows(hub: Stage, source: Stage) -> None:
    history = await hub.history()
    published = [event["publish_id"] for event in history if "publish_id" in event]
    held = rebuilt([event for event in history if "publish_id" not in event])
    assert {id_: row["price"] for (_, _, id_), row in held.items()} == dict(
        await source.rows("SELECT id::text, price::text FROM skus")
    )
    if published or await source.value("SELECT to_regclass('told') IS NOT NULL"):
        assert sorted(published) == [id_ for (id_,) in await source.rows('SELECT id FROM told ORDER BY id COLLATE "C"')]


async def under_load(source: Stage, during: Callable[[], Awaitable[None]]) -> None:
    await source.sql("CREATE TABLE told (id text PRIMARY KEY)")
    done = asyncio.Event()
    applications = [Application(source.url, seed) for seed in range(3)]
    tasks = [asyncio.create_task(application.run(done)) for application in applications]
    try:
        await during()
    finally:
        done.set()
        await asyncio.gather(*tasks)
    assert all(application.statements > 10 for application in applications)


async def appended_since(hub: Stage, count: int) -> None:
    async def condition() -> bool:
        return bool(await hub.value("SELECT count(*) > $1 FROM streamhub_hub.history", count))

    await until(condition, "another relay goes on", 10)


async def killed_at_seeded_moments(hub: Stage, source: Stage, start: Callable[[], object]) -> None:
    chance = random.Random(7)

    async def during() -> None:
        for _ in range(3):
            relay = start()
            await appended_since(hub, await hub.value("SELECT count(*) FROM streamhub_hub.history"))
            await asyncio.sleep(chance.random() * 0.3)
            relay.kill()  # type: ignore[attr-defined]

    await under_load(source, during)


async def test_a_relay_killed_at_seeded_moments_loses_and_repeats_nothing(
    stage: Stage, start_relay: StartRelay
) -> None:
    await stage.shop()
    await killed_at_seeded_moments(stage, stage, lambda: start_relay(stage.url))
    await stage.relayed()
    await follows(stage, stage)


async def test_a_relay_between_two_databases_killed_at_seeded_moments_loses_and_repeats_nothing(
    stage: Stage, source: Stage, start_relay: StartRelay
) -> None:
    await source.shop()
    await killed_at_seeded_moments(stage, source, lambda: start_relay(stage.url, other=source.url))
    start_relay(stage.url, other=source.url)
    await source.drained()
    await follows(stage, source)


async def test_another_relay_takes_over_within_five_seconds_of_a_kill(stage: Stage, start_relay: StartRelay) -> None:
    await stage.shop()
    leader = start_relay(stage.url)
    await stage.sql("INSERT INTO skus VALUES (1, 'org_1', 1, 'a')")
    await stage.drained()
    start_relay(stage.url)

    async def both_are_there() -> bool:
        return bool(
            await stage.value(
                "SELECT count(*) = 2 FROM pg_stat_activity "
                "WHERE application_name LIKE 'streamhub candidate %' AND datname = current_database()"
            )
        )

    await until(both_are_there, "a second relay stands by")
    leader.kill()
    killed = time.monotonic()
    await stage.sql("INSERT INTO skus VALUES (2, 'org_1', 1, 'a')")
    await stage.drained()
    assert time.monotonic() - killed < 5


# An append (or a deletion) waits, within its transaction, for a lock that the test holds.
GATE = """
CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(4711);
  RETURN NULL;
END $$;
CREATE TRIGGER gate {when} ON {table} FOR EACH STATEMENT EXECUTE FUNCTION gate();
"""
WAITING = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = 4711)"


async def stopped_at_the_gate(hub: Stage, source: Stage, start: Callable[[], object], gated: Stage, gate: str) -> None:
    """Stop a leader in the middle of its transaction, let another one take over, and wake the first one up."""
    await gated.sql(gate, "SELECT pg_advisory_lock(4711)")
    await source.sql("INSERT INTO skus SELECT i, 'org_1', i, 'a' FROM generate_series(1, 5) AS i")
    stopped = start()
    await until(lambda: gated.value(WAITING), "the leader is within its transaction")
    stopped.send_signal(signal.SIGSTOP)  # type: ignore[attr-defined]
    await gated.sql("SELECT pg_advisory_unlock(4711)")
    start()
    await source.sql("UPDATE skus SET price = price + 1")
    await source.drained()
    stopped.send_signal(signal.SIGCONT)  # type: ignore[attr-defined]
    await source.sql("UPDATE skus SET price = price + 1", "DELETE FROM skus WHERE id = 2")
    await source.drained()
    assert stopped.poll() is None  # type: ignore[attr-defined]
    await follows(hub, source)
    assert len(await hub.frames()) == 16


async def test_a_leader_stopped_in_the_middle_of_an_append_does_no_harm_when_it_wakes_up(
    stage: Stage, start_relay: StartRelay
) -> None:
    await stage.shop()
    gate = GATE.format(when="BEFORE INSERT", table="streamhub_hub.history")
    await stopped_at_the_gate(stage, stage, lambda: start_relay(stage.url), stage, gate)


async def test_a_leader_stopped_before_it_consumed_what_it_appended_does_no_harm_when_it_wakes_up(
    stage: Stage, source: Stage, start_relay: StartRelay
) -> None:
    await source.shop()
    gate = GATE.format(when="BEFORE DELETE", table="streamhub.outbox")
    await stopped_at_the_gate(stage, source, lambda: start_relay(stage.url, other=source.url), source, gate)


async def test_a_leader_whose_lease_ran_out_while_it_was_stopped_leaves_the_lead_to_the_other(
    stage: Stage, start_relay: StartRelay
) -> None:
    await stage.shop()
    first = start_relay(stage.url)
    await stage.sql("INSERT INTO skus VALUES (1, 'org_1', 1, 'a')")
    await stage.drained()
    epoch = await stage.value("SELECT epoch FROM streamhub_hub.log_head")
    first.send_signal(signal.SIGSTOP)
    start_relay(stage.url)
    await stage.sql("INSERT INTO skus VALUES (2, 'org_1', 1, 'a')")
    await stage.drained()
    first.send_signal(signal.SIGCONT)
    for price in range(20):
        await stage.sql(f"UPDATE skus SET price = {price + 10}")
        await stage.drained()
    assert await stage.value("SELECT epoch FROM streamhub_hub.log_head") == epoch + 1
    await follows(stage, stage)


@pytest.mark.parametrize("kill", [True, False])
async def test_a_server_that_is_restarted_at_once_loses_and_repeats_nothing(
    own_postgres: EmbeddedPostgres, own_stage: Stage, start_relay: StartRelay, kill: bool
) -> None:
    stage = own_stage
    await stage.shop()
    start_relay(stage.url)

    async def during() -> None:
        for _ in range(2):
            connection = await asyncpg.connect(stage.url)
            stage.connection = connection
            await appended_since(stage, await stage.value("SELECT count(*) FROM streamhub_hub.history"))
            connection.terminate()
            if kill:
                own_postgres.kill()
                own_postgres.start()
            else:
                own_postgres.restart("immediate")
        stage.connection = await asyncpg.connect(stage.url)
        await appended_since(stage, await stage.value("SELECT count(*) FROM streamhub_hub.history"))

    await under_load(stage, during)
    await stage.drained()
    await follows(stage, stage)


async def test_a_relay_that_is_told_to_stop_lets_another_lead_at_once(stage: Stage) -> None:
    await stage.shop()
    async with stage.relaying():
        await stage.sql("INSERT INTO skus VALUES (1, 'org_1', 1, 'a')")
        await stage.drained()
    stopped = time.monotonic()
    await stage.sql("INSERT INTO skus VALUES (2, 'org_1', 1, 'a')")
    async with stage.relaying():
        await stage.drained()
    assert time.monotonic() - stopped < 2


@pytest.mark.parametrize("expires", ["clock_timestamp() + interval '1 h'", "'infinity'"])
async def test_a_lease_dated_ahead_keeps_nobody_from_leading(stage: Stage, expires: str) -> None:
    await stage.shop()
    await stage.sql(
        f"UPDATE streamhub_hub.relay_lease SET holder = 'gone', epoch = 4, expires_at = {expires}",
        "INSERT INTO skus VALUES (1, 'org_1', 1, 'a')",
    )
    assert len(await stage.relayed()) == 1
    assert await stage.value("SELECT epoch FROM streamhub_hub.log_epoch") == 5


async def test_a_backlog_whose_connections_are_ended_stays_whole_and_in_order(stage: Stage) -> None:
    """Two appends of a backlog are under way at once: one goes on only if the one before it was committed."""
    rows, rounds = 200, 60
    await stage.shop()
    await stage.sql(f"INSERT INTO skus SELECT i, 'org_1', 0, 'a' FROM generate_series(1, {rows}) AS i")
    await stage.sql(*["UPDATE skus SET price = price + 1"] * rounds)
    ended = 0
    async with stage.relaying():
        while not await stage.outbox_is_empty():
            if ended < 5:  # each time the relay waits somewhat longer before it goes on
                ended += await stage.value(END_A_COPY)
    assert ended
    prices: dict[str, list[int]] = {}
    for event in await stage.history():
        prices.setdefault(event["resource_id"], []).append(int(event["resource"]["price"]))
    assert [*prices.values()] == [[*range(rounds + 1)]] * rows
