"""The set-up of every benchmark: an embedded PostgreSQL, a database, a sample table, and hub processes."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import asyncpg

from servers.kafka import Broker
from servers.ports import free_port
from streamhub import capture
from streamhub.capture import CaptureSpec
from streamhub.embedded import EmbeddedPostgres
from streamhub.postgres.migrate import migrate_hub, migrate_source
from streamhub.tokens import DevelopmentKey

SAMPLE = """
CREATE TABLE skus (
  id text PRIMARY KEY, organization_id text, code text, name text, price numeric(12,2), weight float8, quantity int,
  created_at timestamptz, updated_at timestamptz, metadata jsonb, description text
) WITH (fillfactor = 50);
INSERT INTO skus
SELECT 'sku_' || i, 'org_' || i % 2, 'TSHIRT-' || i, 'T-shirt red extra large of fine cotton', 12.5, 1.25, 100,
       now(), now(), '{"fabric": "cotton", "sizes": [36, 38, 40, 42]}', repeat('combed, pre-shrunk ', 6)
FROM generate_series(1, 10000) AS i;
"""


class Result(NamedTuple):
    """A line of the table. `measured`: the median of the runs and, where there were several, their spread."""

    what: str
    measured: str
    target: str


class Stage:
    """One PostgreSQL, and databases on it."""

    def __init__(self, postgres: EmbeddedPostgres, directory: Path) -> None:
        self.postgres = postgres
        self.directory = directory
        self.key = DevelopmentKey.load_or_create(directory / "key.pem")
        self._databases = 0
        self._broker: Broker | None = None

    @property
    def broker(self) -> Broker:
        """A Kafka broker, started at the first use."""
        if self._broker is None:
            self._broker = Broker()
            self._broker.start()
        return self._broker

    def close(self) -> None:
        if self._broker is not None:
            self._broker.close()

    async def database(self, sample: bool = True) -> str:
        """The URL of a new database with both schemas and, with `sample`, the captured table skus."""
        self._databases += 1
        name = f"bench_{self._databases}"
        server = await asyncpg.connect(self.postgres.url)
        await server.execute(f"CREATE DATABASE {name}")
        await server.close()
        url = urlsplit(self.postgres.url)._replace(path=f"/{name}").geturl()
        connection = await asyncpg.connect(url)
        await migrate_hub(connection)
        await migrate_source(connection)
        if sample:
            await connection.execute(SAMPLE)
            await capture.add(
                connection, CaptureSpec("skus", resource_type="skus", organization_column="organization_id")
            )
        await connection.close()
        return url

    def postgres_seconds(self) -> float:
        """The processor time of the server and its backends so far."""
        assert self.postgres.pid is not None
        return processor_seconds(self.postgres.pid, with_children=True)

    def token(self, organization: str, slug: str, scope: str = "") -> str:
        now = int(time.time())
        return self.key.sign(
            {
                "iat": now, "exp": now + 7200, "test": False, "scope": scope,
                "organization": {"id": organization, "slug": slug, "enterprise": True},
                "application": {"id": "benchmark", "kind": "integration", "client_id": "benchmark"},
            }
        )  # fmt: skip

    @asynccontextmanager
    async def hub(self, url: str, roles: str = "relay,gateway", **settings: str) -> AsyncIterator["HubProcess"]:
        """`streamhub serve` in its own process, ready when the block begins. `settings`: names in lower case."""
        port = free_port()
        environment = os.environ | {
            "STREAMHUB_DATABASE_URL": url,
            "STREAMHUB_SIGNING_KEY_FILE": str(self.directory / "key.pem"),
            "STREAMHUB_PORT": str(port),
            "STREAMHUB_DRAIN_TIME": "0s",
            **{f"STREAMHUB_{name.upper()}": value for name, value in settings.items()},
        }
        with (self.directory / "hub.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "streamhub", "serve", "--roles", roles], env=environment, stderr=log
            )
        hub = HubProcess(process, port, self.directory / "hub.log")
        try:
            await hub.ready()
            yield hub
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


class HubProcess(NamedTuple):
    process: "subprocess.Popen[bytes]"
    port: int
    log: Path

    async def ready(self) -> None:
        for _ in range(300):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                if self.process.poll() is not None:
                    raise SystemExit(f"the hub did not start:\n{self.log.read_text('utf-8')[-2000:]}") from None
                await asyncio.sleep(0.1)
            else:
                writer.close()
                return
        raise SystemExit("the hub does not listen after 30 s")

    def rss(self) -> int:
        return resident(self.process.pid)

    def cpu_seconds(self) -> float:
        return processor_seconds(self.process.pid)


def resident(pid: int) -> int:
    """Bytes of memory."""
    pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def processor_seconds(pid: int, *, with_children: bool = False) -> float:
    """The processor time of a process so far. `with_children`: with its children, those that ended too."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    used = sum(map(int, fields[11:15] if with_children else fields[11:13])) / os.sysconf("SC_CLK_TCK")
    if with_children:
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split():
            with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                used += processor_seconds(int(child))
    return used


@contextmanager
def stage() -> Iterator[Stage]:
    directory = Path(tempfile.mkdtemp(prefix="streamhub-bench-"))
    directory.chmod(0o755)
    postgres = EmbeddedPostgres(directory)
    on = Stage(postgres, directory)
    try:
        postgres.start()
        yield on
    finally:
        on.close()
        postgres.stop("immediate")
        shutil.rmtree(directory, ignore_errors=True)


def spread(values: list[float], digits: int = 0) -> str:
    """`median (lowest to highest)`."""
    ordered = sorted(values)
    shown = [f"{value:,.{digits}f}" for value in (ordered[len(ordered) // 2], ordered[0], ordered[-1])]
    return f"{shown[0]} ({shown[1]} to {shown[2]})"


def percentiles(values: Sequence[float]) -> str:
    """p50, p99 and the highest."""
    ordered = sorted(values)
    p50, p99 = (ordered[int(len(ordered) * share)] for share in (0.5, 0.99))
    return f"p50 {p50:.2f}, p99 {p99:.2f}, worst {ordered[-1]:.1f}"
