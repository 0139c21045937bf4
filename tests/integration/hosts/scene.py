"""An installation on several hosts: PostgreSQL on one, the processes of a test on others.

The application writes on the database's host, and the test looks at the database there, so no cut link is in their way.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from servers.clusters import cluster_directory
from streamhub.embedded import EmbeddedPostgres
from tests.integration.conftest import Answer, Client
from tests.support.hub import Hub, Process, hub_over
from tests.support.network import Host, Network, network


class Scene:
    """`hub` looks at the database past all links; its processes are started by `start`, on hosts."""

    def __init__(self, net: Network, database: Host, url: str, hub: Hub) -> None:
        self.net = net
        self.database = database
        self.hub = hub
        self._url = url

    async def start(self, name: str, role: str, **settings: str) -> tuple[Host, Process]:
        """A process with this role, on a new host of this name."""
        host = self.net.host(name)
        return host, await self.hub.start(on=host, roles=role, database_url=self._url, **settings)

    async def query(self, query: str, *arguments: object) -> list[Any]:
        connection = await asyncpg.connect(self.hub.url, timeout=5)
        try:
            return list(await connection.fetch(query, *arguments, timeout=5))
        finally:
            connection.terminate()

    async def connections_of(self, host: Host) -> int:
        """How many the database has of a host's."""
        (row,) = await self.query(
            "SELECT count(*) FROM pg_stat_activity WHERE client_addr = $1::text::inet", host.address
        )
        return int(row[0])

    async def ask(self, at: Host, process: Process, path: str) -> Answer:
        """What a client on that host is answered; no stream."""
        headers = [("Authorization", f"Bearer {self.hub.token()}")]
        client = await Client.open(process.port, path, headers, address=process.address, sock=at.socket())
        return await client.answer()


@asynccontextmanager
async def scene(directory: Path) -> AsyncIterator[Scene]:
    """`directory` is for keys and logs."""
    # Not pytest's: its directories are closed to the user that PostgreSQL runs as.
    data = await asyncio.to_thread(cluster_directory)
    try:
        async with network() as net:
            database = net.host("db")
            postgres = EmbeddedPostgres(data, {"listen_addresses": f"127.0.0.1,{database.address}"})
            await database.do(postgres.start)
            try:
                await database.do(_admit, postgres)
                seen = urlsplit(postgres.url)
                url = seen._replace(netloc=seen.netloc.replace("127.0.0.1", database.address)).geturl()
                # A Unix socket belongs to no network.
                local = f"postgresql://postgres@/{seen.path[1:]}?host={postgres.socket_directory}&port={seen.port}"
                async with hub_over(local, directory, heartbeat_interval="1s") as hub:
                    yield Scene(net, database, url, hub)
            finally:
                await database.do(postgres.stop)
    finally:
        await asyncio.to_thread(shutil.rmtree, data, ignore_errors=True)


def _admit(postgres: EmbeddedPostgres) -> None:
    """Let other hosts in."""
    with (postgres.data / "pg_hba.conf").open("a") as rules:
        rules.write("host all all 10.77.0.0/16 scram-sha-256\n")
    postgres.restart()
