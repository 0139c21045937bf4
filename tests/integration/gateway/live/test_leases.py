"""Leases in the database: races between taking, renewing and dying, and what may be written by whom."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from streamhub.core import ids
from streamhub.core.lease import Refusal
from streamhub.leases.held import Asked, Lease, Leases, Taken
from streamhub.leases.node import Node, boottime
from tests.support.database import Pool
from tests.support.tasks import ended

START = ids.event_id(1_000, 0)


@pytest.fixture
async def gateways(pool: Pool) -> AsyncIterator[list[Leases]]:
    """The leases of two gateways, whose nodes have a short life; nothing renews them but the test."""
    made = [Leases(pool, Node(pool, ttl=0.6), timedelta(milliseconds=300)) for _ in range(2)]
    for leases in made:
        await leases.node._register()
    yield made
    for leases in made:
        await leases.node.stop()


async def taken(leases: Leases, position: str = START, *, override: bool = False) -> Taken:
    found = await leases.take("org_1", position, override=override)
    assert isinstance(found, Taken), found
    return found


async def test_each_taking_has_a_higher_epoch(gateways: list[Leases]) -> None:
    first = await taken(gateways[0])
    await gateways[0].release(first.lease, None, boottime(), read=False, free_at_once=True)
    assert (await taken(gateways[1])).lease.epoch == first.lease.epoch + 1


async def test_a_renewal_under_way_is_waited_for_and_wins(gateways: list[Leases], pool: Pool) -> None:
    await taken(gateways[0])
    async with pool.acquire() as connection:
        renewal = connection.transaction()
        await renewal.start()
        await connection.execute(
            "UPDATE streamhub_hub.nodes SET expires_at = clock_timestamp() + interval '9 s' "
            "WHERE id = $1 AND expires_at > clock_timestamp()",
            gateways[0].node.id,
        )
        await asyncio.sleep(0.7)  # by the last committed state the owner has expired now
        await gateways[1].node._register()
        taking = asyncio.create_task(gateways[1].take("org_1", START, override=False))
        await asyncio.sleep(0.3)
        assert not taking.done()
        await renewal.commit()
    assert isinstance(await taking, Refusal)


async def test_a_taking_under_way_is_waited_for_and_the_expired_owner_does_not_renew(
    gateways: list[Leases], pool: Pool
) -> None:
    await taken(gateways[0])
    await asyncio.sleep(0.7)
    await gateways[1].node._register()
    await taken(gateways[1])
    assert not await pool.fetchval(
        "UPDATE streamhub_hub.nodes SET expires_at = clock_timestamp() + interval '1 s' "
        "WHERE id = $1 AND expires_at > clock_timestamp() RETURNING true",
        gateways[0].node.id,
    )


async def test_of_many_takings_of_a_free_stream_one_succeeds(gateways: list[Leases]) -> None:
    found = await asyncio.gather(*(gateways[n % 2].take("org_1", START, override=False) for n in range(10)))
    assert sum(isinstance(each, Taken) for each in found) == 1


async def test_a_cursor_of_an_older_epoch_changes_nothing(gateways: list[Leases], pool: Pool) -> None:
    old = (await taken(gateways[0])).lease
    await gateways[0].release(old, None, boottime(), read=False, free_at_once=True)
    await taken(gateways[1])
    await gateways[0].release(old, ids.event_id(9_999, 0), boottime(), read=False, free_at_once=False)
    assert await pool.fetchval("SELECT cursor::text FROM streamhub_hub.streams") == START
    assert await pool.fetchval("SELECT released_at FROM streamhub_hub.streams") is None


async def test_a_cursor_never_goes_back(gateways: list[Leases], pool: Pool) -> None:
    lease = (await taken(gateways[0])).lease
    await gateways[0].release(lease, ids.event_id(500, 0), boottime(), read=False, free_at_once=True)
    assert await pool.fetchval("SELECT cursor::text FROM streamhub_hub.streams") == START


async def test_but_a_consumer_may_put_it_back_itself(gateways: list[Leases]) -> None:
    await gateways[0].release((await taken(gateways[0])).lease, None, boottime(), read=False, free_at_once=True)
    earlier = ids.event_id(500, 0)
    assert (await taken(gateways[0], earlier, override=True)).cursor == earlier


async def test_a_stored_cursor_is_kept_when_the_stream_is_taken_again(gateways: list[Leases]) -> None:
    later = ids.event_id(2_000, 0)
    await gateways[0].release((await taken(gateways[0])).lease, later, boottime(), read=False, free_at_once=True)
    assert (await taken(gateways[1], ids.event_id(3_000, 0))).cursor == later


async def test_a_cursor_is_exact_only_after_the_very_connection_that_read_it_all(gateways: list[Leases]) -> None:
    first = await taken(gateways[0])
    await gateways[0].release(first.lease, None, boottime(), read=True, free_at_once=True)
    second = await taken(gateways[0])
    await gateways[0].release(second.lease, None, boottime(), read=False, free_at_once=True)
    third = await taken(gateways[0])
    assert (first.exact, second.exact, third.exact) == (False, True, False)


async def test_an_end_that_could_not_be_written_is_written_later(
    pool: Pool, database_url: str, gateways: list[Leases]
) -> None:
    lease = (await taken(gateways[0])).lease
    async with asyncpg.create_pool(database_url, min_size=1) as closing:
        gateways[0]._pool = closing
    await gateways[0].release(lease, None, boottime(), read=False, free_at_once=False)
    assert await pool.fetchval("SELECT released_at FROM streamhub_hub.streams") is None
    gateways[0]._pool = pool
    await asyncio.sleep(0.2)
    await gateways[0]._write_releases()
    ago = await pool.fetchval("SELECT clock_timestamp() - released_at FROM streamhub_hub.streams")
    assert timedelta(milliseconds=200) <= ago < timedelta(seconds=2)


class Deaf:
    """A pool whose statements are carried out, and whose answers never come."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def fetch(self, *args: Any, **options: Any) -> Any:
        await self._pool.fetch(*args, **options)
        raise TimeoutError

    async def fetchrow(self, *args: Any, **options: Any) -> Any:
        return await self.fetch(*args, **options)


TAKE: dict[str, Callable[[Leases], Awaitable[object]]] = {
    "alone": lambda leases: leases.take("org_1", START, override=False),
    "with others": lambda leases: leases.take_if_free(Asked("org_1", START, False)),
}


@pytest.mark.parametrize("way", TAKE)
async def test_a_stream_taken_for_a_request_that_never_knew_is_given_back(
    gateways: list[Leases], pool: Pool, way: str
) -> None:
    gateways[0]._pool = Deaf(pool)  # type: ignore[assignment]
    with pytest.raises(TimeoutError):
        await TAKE[way](gateways[0])
    assert isinstance(await gateways[1].take("org_1", START, override=False), Refusal)
    gateways[0]._pool = pool
    await gateways[0]._give_back_doubtful()
    await gateways[0]._write_releases()
    await taken(gateways[1])


async def test_a_request_that_is_cancelled_while_its_stream_is_taken_keeps_no_consumer_out(
    gateways: list[Leases], pool: Pool
) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE streamhub_hub.streams IN EXCLUSIVE MODE")
        taking = asyncio.create_task(gateways[0].take_if_free(Asked("org_1", START, False)))
        await asyncio.sleep(0.1)
        await ended(taking)
    while not await pool.fetchval("SELECT count(*) FROM streamhub_hub.streams WHERE node IS NOT NULL"):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await gateways[0]._give_back_doubtful()
    await gateways[0]._write_releases()
    await taken(gateways[1])


async def test_a_stream_that_a_request_has_is_not_given_back_for_one_that_failed(gateways: list[Leases]) -> None:
    held = await taken(gateways[0])
    gateways[0]._doubtful["org_1"] = boottime() + 10
    await gateways[0]._give_back_doubtful()
    await gateways[0]._write_releases()
    assert isinstance(await gateways[1].take("org_1", START, override=False), Refusal), held


async def test_stopping_a_node_frees_its_row_at_once(gateways: list[Leases], pool: Pool) -> None:
    await gateways[0].node.stop()
    assert await pool.fetchval("SELECT count(*) FROM streamhub_hub.nodes WHERE id = $1", gateways[0].node.id) == 0


# -- many at once


async def test_streams_that_nobody_has_are_taken_together(gateways: list[Leases]) -> None:
    found = await asyncio.gather(*(gateways[0].take_if_free(Asked(f"org_{n}", START, False)) for n in range(100)))
    assert found == [Taken(Lease(f"org_{n}", 1), START, exact=False) for n in range(100)]


async def test_two_gateways_that_want_the_same_streams_at_once_have_each_of_them_once(gateways: list[Leases]) -> None:
    names = [f"org_{n}" for n in range(100)]
    found = await asyncio.gather(
        *(gateways[0].take_if_free(Asked(name, START, False)) for name in names),
        *(gateways[1].take_if_free(Asked(name, START, False)) for name in reversed(names)),
    )
    assert sorted(each.lease.organization_id for each in found if each is not None) == sorted(names)


async def test_a_stream_that_is_asked_for_twice_in_one_statement_is_taken_once(gateways: list[Leases]) -> None:
    found = await asyncio.gather(*(gateways[0].take_if_free(Asked("org_1", START, False)) for _ in range(5)))
    assert sum(each is not None for each in found) == 1


async def test_a_stream_that_is_held_is_not_free(gateways: list[Leases]) -> None:
    held = await taken(gateways[0])
    assert await gateways[1].take_if_free(Asked("org_1", START, False)) is None
    assert await gateways[0]._pool.fetchval("SELECT epoch FROM streamhub_hub.streams") == held.lease.epoch


async def test_a_stream_of_a_holder_that_expired_is_for_the_statement_that_waits_for_renewals(
    gateways: list[Leases],
) -> None:
    await taken(gateways[0])
    await gateways[0]._pool.execute("DELETE FROM streamhub_hub.nodes WHERE id = $1", gateways[0].node.id)
    assert await gateways[1].take_if_free(Asked("org_1", START, False)) is None
    assert isinstance(await gateways[1].take("org_1", START, override=False), Taken)


async def test_a_stream_that_is_kept_for_its_last_consumer_is_not_free(gateways: list[Leases]) -> None:
    ended = (await taken(gateways[0])).lease
    gateways[1]._stale_after = timedelta(hours=1)
    await gateways[0].release(ended, None, boottime(), read=False, free_at_once=False)
    assert await gateways[1].take_if_free(Asked("org_1", START, False)) is None


async def test_a_stream_that_was_given_back_is_taken_with_its_cursor_and_a_higher_epoch(gateways: list[Leases]) -> None:
    later = ids.event_id(2_000, 0)
    await gateways[0].release((await taken(gateways[0])).lease, later, boottime(), read=True, free_at_once=True)
    found = await gateways[1].take_if_free(Asked("org_1", ids.event_id(3_000, 0), False))
    assert found == Taken(Lease("org_1", 2), later, exact=True)


async def test_a_consumer_that_names_a_position_has_it_among_many_too(gateways: list[Leases]) -> None:
    await gateways[0].release((await taken(gateways[0])).lease, None, boottime(), read=True, free_at_once=True)
    earlier = ids.event_id(500, 0)
    found = await gateways[0].take_if_free(Asked("org_1", earlier, override=True))
    assert found is not None
    assert found.cursor == earlier


async def test_a_row_that_is_locked_holds_up_no_other_organization(gateways: list[Leases], pool: Pool) -> None:
    await gateways[0].release((await taken(gateways[0])).lease, None, boottime(), read=False, free_at_once=True)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM streamhub_hub.streams WHERE organization_id = 'org_1' FOR UPDATE")
        async with asyncio.timeout(3):
            found = await asyncio.gather(
                *(gateways[1].take_if_free(Asked(name, START, False)) for name in ("org_1", "org_2"))
            )
    assert found == [None, Taken(Lease("org_2", 1), START, exact=False)]


# -- with real processes

GATEWAY = """
import asyncio, sys, asyncpg
from streamhub.config import Settings
from streamhub.web.auth import Authenticator, Issuer, PemKeys
from streamhub.gateway.server import serve
from streamhub.tail.postgres import PostgresTail

async def main(url, pem):
    async with asyncpg.create_pool(url, min_size=1) as pool:
        tail = PostgresTail(url, pool)
        await tail.start()
        keys = PemKeys(open(pem, "rb").read(), pem)
        authenticator = Authenticator([Issuer(frozenset({"https://issuer.example"}), keys)])
        async with serve(Settings(database_url=url), pool, tail, authenticator, port=0) as server:
            print(server.port, flush=True)
            await asyncio.sleep(600)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def process(database_url: str, signing_key: Any, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:

    pem = tmp_path / "key.pem"
    pem.write_bytes(signing_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    running = subprocess.Popen([sys.executable, "-c", GATEWAY, database_url, str(pem)], stdout=subprocess.PIPE)
    assert running.stdout is not None
    port = int(running.stdout.readline())
    yield running, port
    with suppress(ProcessLookupError):
        os.kill(running.pid, signal.SIGCONT)
        running.kill()
    running.wait()
    running.stdout.close()


async def test_a_gateway_killed_outright_frees_its_streams_within_six_seconds(
    start_hub: Any, organization: int, process: Any
) -> None:
    running, port = process
    hub = await start_hub()
    doomed = await hub._replace(port=port).live()
    running.kill()
    _, seconds = await hub.live_once_free()
    assert seconds < 6.0
    doomed.close()


async def test_a_gateway_stopped_past_its_lease_writes_no_event_when_it_wakes_up(
    start_hub: Any, organization: int, process: Any
) -> None:
    running, port = process
    hub = await start_hub()
    sleeper = await hub._replace(port=port).live()
    await sleeper.block()
    os.kill(running.pid, signal.SIGSTOP)
    client, _ = await hub.live_once_free()
    await hub.history.append(organization)
    os.kill(running.pid, signal.SIGCONT)
    frames = await sleeper.rest()
    assert [(frame.event, frame.data["code"]) for frame in frames] == [("stream_error", "LEASE_LOST")]
    assert (await client.frame()).event == "update"


async def test_the_stream_of_a_stopped_gateway_can_be_ended_and_is_stale_then(
    start_hub: Any, organization: int, process: Any
) -> None:
    running, port = process
    hub = await start_hub()
    sleeper = await hub._replace(port=port).live()
    os.kill(running.pid, signal.SIGSTOP)
    assert (await hub.get("/my-org", method="DELETE")).status == 204
    (refused,) = (await hub.get("/my-org")).errors
    os.kill(running.pid, signal.SIGCONT)
    assert "stale_until" in refused["meta"]
    assert [frame.data["code"] for frame in await sleeper.rest()] == ["LEASE_LOST"]


class Way:
    """The way to the database: it can be cut, and restored."""

    def __init__(self, url: str) -> None:
        self._to = urlsplit(url)
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self.port = 0

    @property
    def url(self) -> str:
        return self._to._replace(netloc=f"{self._to.username}:{self._to.password}@127.0.0.1:{self.port}").geturl()

    async def restore(self) -> None:
        self._server = await asyncio.start_server(self._join, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward_reader, onward_writer = await asyncio.open_connection(self._to.hostname, self._to.port)
        self._writers += [writer, onward_writer]
        await asyncio.gather(self._pass(reader, onward_writer), self._pass(onward_reader, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()


@pytest.fixture
async def way(database_url: str) -> AsyncIterator[Way]:
    way = Way(database_url)
    await way.restore()
    yield way
    way.cut()


async def test_a_stream_outlives_a_database_that_is_away_and_misses_nothing(
    way: Way, start_hub: Any, organization: int
) -> None:
    hub = await start_hub(database_url=way.url, heartbeat_interval=timedelta(seconds=1))
    client = await hub.live()
    before = await hub.history.append(organization)
    assert (await client.frame()).id == before.first_id
    way.cut()
    missed = await hub.history.append(organization, 3)
    assert [(await client.frame(heartbeats=True)).event for _ in range(7)] == ["heartbeat"] * 7
    assert (await hub.get("/my-org")).codes == ["UNAVAILABLE"]
    await way.restore()
    assert [frame.id for frame in await client.frames(3)] == [event.id for event in missed.events]


async def test_a_stream_that_another_gateway_took_meanwhile_ends_when_the_database_is_back(
    way: Way, start_hub: Any, organization: int
) -> None:
    cut_off, other = await start_hub(database_url=way.url), await start_hub()
    client = await cut_off.live()
    way.cut()
    _, seconds = await other.live_once_free()
    assert seconds < 6
    await way.restore()
    (end,) = await client.rest()
    assert (end.event, end.data["code"]) == ("stream_error", "LEASE_LOST")


async def test_what_is_dated_ahead_of_any_lease_has_expired(gateways: list[Leases], pool: Pool) -> None:
    """As after a fail-over to a server whose clock is an hour behind."""
    await taken(gateways[0])
    await gateways[1].node._register()
    await pool.execute(
        "UPDATE streamhub_hub.nodes SET expires_at = expires_at + interval '1 h' WHERE id = $1", gateways[0].node.id
    )
    await taken(gateways[1])


async def test_a_taking_dated_ahead_by_a_node_that_is_gone_keeps_nobody_out(gateways: list[Leases], pool: Pool) -> None:
    await taken(gateways[0])
    await gateways[1].node._register()
    await pool.execute("DELETE FROM streamhub_hub.nodes WHERE id = $1", gateways[0].node.id)
    await pool.execute("UPDATE streamhub_hub.streams SET connected_at = connected_at + interval '1 h'")
    await taken(gateways[1])


@pytest.mark.parametrize(("left", "holds"), [("-1 s", False), ("5 s", True), ("1 min", False), ("1 h", False)])
async def test_a_lease_holds_for_as_long_as_a_lease_can(pool: Pool, left: str, holds: bool) -> None:
    query = f"SELECT streamhub_hub.lease_holds(clock_timestamp() + interval '{left}')"
    assert await pool.fetchval(query) == holds
