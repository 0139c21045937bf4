"""Two gateways over one database, and each of the proxies before them."""

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from servers.ports import free_port
from tests.acceptance.proxies.proxy import KINDS, Gateway, Proxy
from tests.support.hub import Hub, hub_over, new_database, until

STALE_AFTER = 1.0  # second, not 5, so that the tests are quick
HEARTBEATS_EVERY = 0.5  # not 10


@pytest.fixture(scope="module")
async def hub(postgres_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hub]:
    settings = {
        "stale_after": f"{STALE_AFTER * 1000:.0f}ms",
        "heartbeat_interval": f"{HEARTBEATS_EVERY * 1000:.0f}ms",
        "drain_time": "2s",
    }
    async with (
        new_database(postgres_url, template) as url,
        hub_over(url, tmp_path_factory.mktemp("hub"), **settings) as hub,
    ):
        await hub.prepare()
        yield hub


@pytest.fixture(scope="module")
async def gateways(hub: Hub) -> list[Gateway]:
    ports = (free_port(), free_port())
    return [Gateway((await hub.start(operations_port=str(port))).port, port) for port in ports]


@pytest.fixture(scope="module")
async def much(hub: Hub, gateways: list[Gateway]) -> str:
    """An organization whose events are 24 MB, more than all kernels' buffers on the way to a client take."""
    connection = await asyncpg.connect(hub.url)
    try:
        await connection.execute(
            "INSERT INTO skus (org, note) SELECT 'much', repeat('x', 1000) FROM generate_series(1, 10000)"
        )
    finally:
        await connection.close()
    await until(hub.is_all_published, "all is published")
    return "much"


@pytest.fixture(scope="module", params=KINDS)
async def proxy(
    request: pytest.FixtureRequest, hub: Hub, gateways: list[Gateway], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Proxy]:
    proxy = Proxy(request.param, tmp_path_factory.mktemp("proxy"), gateways)
    try:
        await proxy.start()
        yield proxy
    finally:
        proxy.kill()


@pytest.fixture
async def lonely_proxy(proxy: Proxy, tmp_path: Path) -> AsyncIterator[Proxy]:
    """One of the same kind whose gateways are not there."""
    lonely = Proxy(proxy.name, tmp_path, [Gateway(free_port(), free_port()) for _ in range(2)])
    try:
        await lonely.start()
        yield lonely
    finally:
        lonely.kill()
