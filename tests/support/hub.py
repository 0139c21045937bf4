"""Whole hubs: `python -m streamhub serve` in processes of their own, over one database, and an application beside.

The settings are the defaults but for the port and what a test names; organizations are `org-0`, `org-1`, …
"""

import asyncio
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg

from servers.ports import free_port
from streamhub import capture
from streamhub.capture import CaptureSpec
from streamhub.organizations import Organization
from streamhub.tokens import DevelopmentKey, claims_for
from tests.conftest import database_of
from tests.support.database import Connection
from tests.support.network import Host
from tests.support.tasks import ended

ROOT: Final = Path(__file__).parents[2]
PATIENCE: Final = 30.0  # seconds: how long a condition may take before the test fails
PASSING: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


async def until(condition: Any, what: str, within: float = PATIENCE) -> None:
    """Return as soon as `condition()` (or what it awaits) is true; fail with `what` if it is not in time."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + within
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        assert loop.time() < ends, f"not within {within} s: {what}"
        await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether it still runs; one that ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def resident(pid: int) -> int:
    """Bytes of memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


class Process:
    """One `streamhub serve` with these options, here or `on` a host. What it logs is in `log`, over all its lives."""

    def __init__(
        self,
        url: str,
        key: Path,
        log: Path,
        settings: dict[str, str],
        options: Sequence[str] = (),
        on: Host | None = None,
    ) -> None:
        self.port = free_port()
        self.address = "127.0.0.1" if on is None else on.address
        self._prefix = () if on is None else on.prefix
        self.log = log
        self._options = options
        clean = {name: value for name, value in os.environ.items() if not name.startswith("STREAMHUB_")}
        self._environment = {
            **clean,
            "PYTHONPATH": str(ROOT),
            "STREAMHUB_DATABASE_URL": url,
            "STREAMHUB_SIGNING_KEY_FILE": str(key),
            "STREAMHUB_HOST": self.address,
            "STREAMHUB_PORT": str(self.port),
            **{f"STREAMHUB_{name.upper()}": value for name, value in settings.items()},
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._read_from = 0

    async def start(self) -> None:
        self._read_from = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - it takes milliseconds
                [*self._prefix, sys.executable, "-m", "streamhub", "serve", *self._options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment,
            )  # fmt: skip
        await until(self._listens, f"{self.port} listens: {self.logged()}")

    def _listens(self) -> bool:
        assert self.runs, self.logged()
        return re.search(rf" on http://\S+:{self.port}$", self.logged()[self._read_from :], re.MULTILINE) is not None

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def exit_code(self, within: float = PATIENCE) -> int:
        assert self._process is not None
        return self._process.wait(within)

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def logged(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def rss(self) -> int:
        return resident(self.pid)


class Hub:
    """A database with the captured table `skus`, and the processes over it."""

    def __init__(self, url: str, directory: Path, settings: dict[str, str]) -> None:
        self.url = url
        self._directory = directory
        self._settings = {"drain_time": "0s", **settings}
        self._key = DevelopmentKey.load_or_create(directory / "key.pem")
        self.processes: list[Process] = []

    async def start(self, *options: str, on: Host | None = None, **settings: str) -> Process:
        process = Process(
            self.url,
            self._directory / "key.pem",
            self._directory / f"{len(self.processes)}.log",
            {**self._settings, **settings},
            options,
            on,
        )
        self.processes.append(process)
        await process.start()
        return process

    async def prepare(self) -> None:
        """The application's table, captured. To be called once a process has made the schemas."""
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute("CREATE TABLE skus (id bigserial PRIMARY KEY, org text, note text)")
            await capture.add(connection, CaptureSpec("skus", resource_type="skus", organization_column="org"))
        finally:
            await connection.close()

    def token(self, organization: str = "org-0", **changes: Any) -> str:
        claims = claims_for(
            Organization(0, organization, organization, slug_is_made=True, enterprise=True),
            now=datetime.now(UTC),
            ttl=timedelta(hours=1),
        )
        return self._key.sign({**claims, **changes})

    async def published(self, organization: str = "org-0") -> list[str]:
        """The ids of every event of an organization, in order."""
        connection = await asyncpg.connect(self.url)
        try:
            rows = await connection.fetch(
                "SELECT h.id::text FROM streamhub_hub.history h "
                "JOIN streamhub_hub.organizations o ON o.key = h.organization WHERE o.id = $1 ORDER BY h.id",
                organization,
            )
        finally:
            await connection.close()
        return [row["id"] for row in rows]

    async def is_all_published(self) -> bool:
        try:
            connection = await asyncpg.connect(self.url, timeout=2)
        except PASSING:
            return False
        try:
            return not await connection.fetchval("SELECT EXISTS (SELECT FROM streamhub.outbox)")
        except PASSING:
            return False
        finally:
            connection.terminate()

    async def rows(self, organization: str = "org-0") -> list[str]:
        """The keys of all that was committed."""
        connection = await asyncpg.connect(self.url)
        try:
            found = await connection.fetch("SELECT id::text FROM skus WHERE org = $1 ORDER BY skus.id", organization)
        finally:
            await connection.close()
        return [row["id"] for row in found]


@asynccontextmanager
async def new_database(server_url: str, template: str) -> AsyncIterator[str]:
    """A database for a run that several tests look at; gone after."""
    name = f"{template}_{secrets.token_hex(4)}"
    server = await asyncpg.connect(server_url)
    await server.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield database_of(server_url, name)
    finally:
        await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await server.close()


@asynccontextmanager
async def hub_over(url: str, directory: Path, **settings: str) -> AsyncIterator[Hub]:
    """A hub with no process yet; all of its processes have ended after."""
    hub = Hub(url, directory, settings)
    try:
        yield hub
    finally:
        for process in hub.processes:
            process.kill()


@asynccontextmanager
async def traffic(url: str, organizations: Sequence[str], a_second: float = 100) -> AsyncIterator[None]:
    """While the block runs an application commits rows for each organization, and retries what fails."""

    async def write() -> None:
        connection: Connection | None = None
        while True:
            try:
                if connection is None or connection.is_closed():
                    connection = await asyncpg.connect(url, timeout=5)
                for organization in organizations:
                    await connection.execute(
                        "INSERT INTO skus (org, note) VALUES ($1, repeat('x', 100))", organization, timeout=5
                    )
            except PASSING:
                if connection is not None:
                    connection.terminate()
                connection = None
            await asyncio.sleep(1 / a_second)

    writing = asyncio.create_task(write())
    try:
        yield
    finally:
        await ended(writing)
    if not writing.cancelled():
        writing.result()
