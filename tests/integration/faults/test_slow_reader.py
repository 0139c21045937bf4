"""A reader that stops while 20,000 events of 5 KB come: what it costs its gateway, and what it gets in the end."""

import asyncio
import re
import time
from typing import NamedTuple, cast

import asyncpg
import pytest

from tests.integration.conftest import Client
from tests.support.hub import Hub, hub_over, new_database, until

EVENTS = 20_000
BATCH = 1_000
SIZE = 2_500  # bytes of a note, which is in an event twice: together twice what a gateway may grow by
MOST_GROWTH = 50 * 2**20  # bytes


class Stopped(NamedTuple):
    """Resident bytes of the gateway before, at most while nothing was read, and after all was read."""

    before: int
    most: int
    after: int
    read: list[str]
    published: list[str]


async def read_to(client: Client, last: str, within: float = 60) -> list[str]:
    """The ids that come, up to the last one."""
    found: list[str] = []
    rest = b""
    async with asyncio.timeout(within):
        while not found or found[-1] < last:
            rest += await client._more()
            whole, _, rest = rest.rpartition(b"\n\n")
            found += [id_.decode() for id_ in re.findall(rb"^id: (\S+)$", whole, re.MULTILINE)]
            assert b"event: stream_error" not in whole, whole[-300:]
    return found


@pytest.fixture(scope="module")
async def stopped(postgres_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    async with new_database(postgres_url, template) as url, hub_over(url, tmp_path_factory.mktemp("slow")) as hub:
        await hub.prepare()
        return await _run(hub)


async def _run(hub: Hub) -> Stopped:
    gateway = await hub.start(roles="gateway")
    await hub.start(roles="relay")  # apart, so that what is measured is the gateway's memory alone
    headers = [("Authorization", f"Bearer {hub.token()}")]
    client = await Client.open(gateway.port, "/org-0", headers, receive_buffer=4096)
    assert client.status == 200
    application = await asyncpg.connect(hub.url)
    insert = f"INSERT INTO skus (org, note) SELECT 'org-0', repeat('x', {SIZE}) FROM generate_series(1, $1::int)"
    await application.execute(insert, 100)
    await until(hub.is_all_published, "the first ones are published")
    read = await read_to(client, (await hub.published())[-1])
    before = most = gateway.rss()

    async def published() -> bool:
        nonlocal most
        most = max(most, gateway.rss())
        return await hub.is_all_published()

    transport = cast("asyncio.Transport", client.writer.transport)
    transport.pause_reading()
    began = time.monotonic()
    for _ in range(EVENTS // BATCH):
        await application.execute(insert, BATCH)
        await published()
    await application.close()
    await until(published, "everything is published", within=60)
    print(f"nothing read for {time.monotonic() - began:.1f} s: RSS {before >> 20} MiB, at most {most >> 20} MiB")
    transport.resume_reading()
    expected = await hub.published()
    read += await read_to(client, expected[-1])
    client.close()
    return Stopped(before, most, gateway.rss(), read, expected)


async def test_a_reader_that_stops_costs_its_gateway_less_than_50_mib(stopped: Stopped) -> None:
    assert stopped.most - stopped.before < MOST_GROWTH


async def test_a_reader_that_reads_again_gets_everything_once_and_in_order(stopped: Stopped) -> None:
    assert stopped.read == stopped.published


async def test_catching_up_costs_its_gateway_less_than_50_mib(stopped: Stopped) -> None:
    assert stopped.after - stopped.before < MOST_GROWTH
