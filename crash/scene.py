"""The scene of a run: PostgreSQL, two databases with an application in each, two relays, two gateways,
two dispatchers of webhooks, and a broker."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import asyncpg

from crash.broker import KafkaBroker
from crash.faults import BROKER, DISPATCHERS, GATEWAYS, LEADER, POSTGRES, STANDBY, Victim
from crash.postgres import Postgres
from crash.process import Role
from crash.workload import NOT_ENTERPRISE, SCHEMA, TABLES, Connection
from servers.ports import free_port
from streamhub import capture, organizations
from streamhub.capture import CaptureSpec
from streamhub.organizations import Organization
from streamhub.postgres.migrate import migrate_hub, migrate_source
from streamhub.tokens import DevelopmentKey, claims_for

ROOT: Final = Path(__file__).parents[1]
HUB, SHOP = "hub", "shop"
PREFIXES: Final = {HUB: "", SHOP: "shop_"}  # of the resource types of either database
# Shorter than the defaults, so that more happens in a run.
SETTINGS: Final = {
    "HEARTBEAT_INTERVAL": "1s", "STALE_AFTER": "1s", "DRAIN_TIME": "1s", "WEBHOOK_SCHEDULE": ",".join(["1s"] * 20),
}  # fmt: skip
TOPIC: Final = "streamhub.events"
LED_WITHIN: Final = 20.0  # seconds


class Scene:
    """`report` gets a sentence about each unexpected end of a process. `kafka`: the gateways follow a topic."""

    def __init__(self, directory: Path, report: Callable[[str], None], *, kafka: bool) -> None:
        self.broker = KafkaBroker() if kafka else None
        self.postgres = Postgres(directory, free_port(), report)
        self.relays: list[Role] = []
        self.gateways: list[Role] = []
        self.dispatchers: list[Role] = []
        self._directory = directory
        self._key = DevelopmentKey.load_or_create(directory / "key.pem")
        self._report = report

    @property
    def roles(self) -> list[Role]:
        return self.relays + self.gateways + self.dispatchers

    @property
    def gateway_ports(self) -> list[int]:
        return [gateway.port for gateway in self.gateways]

    def url(self, database: str) -> str:
        return self.postgres.url(database)

    async def prepare(self) -> None:
        """Start PostgreSQL, create both databases with tables and captures, start all roles, wait for a leader."""
        await self.postgres.start()
        if self.broker is not None:
            await self.broker.start()
        server = await asyncpg.connect(self.url("postgres"))
        for database in PREFIXES:
            await server.execute(f"CREATE DATABASE {database}")
        await server.close()
        for database, prefix in PREFIXES.items():
            connection = await asyncpg.connect(self.url(database))
            await _make(connection, prefix, is_hub=database == HUB)
            await connection.close()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("STREAMHUB_")},
            "PYTHONPATH": str(ROOT),
            "STREAMHUB_DATABASE_URL": self.url(HUB),
            "STREAMHUB_SOURCE_URLS": f"{SHOP}={self.url(SHOP)}",
            "STREAMHUB_SIGNING_KEY_FILE": str(self._directory / "key.pem"),
            **{f"STREAMHUB_{name}": value for name, value in SETTINGS.items()},
        }
        if self.broker is not None:
            environment["STREAMHUB_KAFKA_BOOTSTRAP_SERVERS"] = self.broker.bootstrap
            environment["STREAMHUB_KAFKA_TOPIC"] = TOPIC
        kinds = (("relay", "relay", self.relays), ("gateway", "gateway", self.gateways))
        for name, kind, roles in (*kinds, ("dispatcher", "webhooks", self.dispatchers)):
            for n in (1, 2):
                log = self._directory / f"{name}-{n}.log"
                roles.append(Role(f"{name} {n}", kind, free_port(), environment, log, self._report))
                roles[-1].spawn()
        for role in self.roles:
            await role.listening()
        async with asyncio.timeout(LED_WITHIN):
            while not (any(relay.epoch for relay in self.relays) and await self._published()):  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    async def _published(self) -> bool:
        """Whether the relay publishes to the topic already."""
        if self.broker is None:
            return True
        connection = await asyncpg.connect(self.url(HUB))
        try:
            return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM streamhub_hub.publications)"))
        finally:
            await connection.close()

    def victim(self, target: str) -> Victim:
        """The process of that role at this moment."""
        if target == POSTGRES:
            return self.postgres
        if target == BROKER and self.broker is not None:
            return self.broker
        if target in GATEWAYS:
            return self.gateways[GATEWAYS.index(target)]
        if target in DISPATCHERS:
            return self.dispatchers[DISPATCHERS.index(target)]
        standby, leader = sorted(self.relays, key=lambda relay: relay.epoch)
        return {LEADER: leader, STANDBY: standby}[target]

    def token(self, organization: str, *, test: bool = False, scope: str = "") -> str:
        owner = Organization(0, organization, organization, slug_is_made=True, enterprise=True)
        claims = claims_for(owner, now=datetime.now(UTC), ttl=timedelta(hours=12), test=test, scope=scope.split())
        return self._key.sign(claims)

    def close(self) -> None:
        for role in self.roles:
            role.close()
        if self.broker is not None:
            self.broker.close()
        self.postgres.close()


@asynccontextmanager
async def scene(directory: Path, report: Callable[[str], None], *, kafka: bool) -> AsyncIterator[Scene]:
    """A prepared scene under supervision. All its processes end with the block."""
    on = Scene(directory, report, kafka=kafka)
    supervisors: list[asyncio.Task[None]] = []
    try:
        await on.prepare()
        supervisors = [
            asyncio.create_task(each) for each in (on.postgres.supervise(), *(role.supervise() for role in on.roles))
        ]
        yield on
    finally:
        for task in supervisors:
            task.cancel()
        await asyncio.gather(*supervisors, return_exceptions=True)
        on.close()


async def _make(connection: Connection, prefix: str, *, is_hub: bool) -> None:
    if is_hub:
        await migrate_hub(connection)
        await organizations.add(connection, NOT_ENTERPRISE, enterprise=False)
    await migrate_source(connection)
    await connection.execute(SCHEMA)
    for table in TABLES:
        await capture.add(
            connection,
            CaptureSpec(
                table,
                resource_type=f"{prefix}{table}",
                id_columns=("organization", "id") if table == "orders" else ("id",),
                organization_column="organization",
                test_column="test",
            ),
        )
