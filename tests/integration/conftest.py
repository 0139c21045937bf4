"""A gateway on a real socket, a client that does what it is told byte by byte, and a history to write to by hand."""

import asyncio
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, ClassVar, NamedTuple, TypeAlias

import asyncpg
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from streamhub.config import Settings
from streamhub.core import ids
from streamhub.core.events import StoredEvent
from streamhub.gateway.app import Kinds
from streamhub.gateway.gateway import Gateway
from streamhub.gateway.server import serve
from streamhub.history.append import Append
from streamhub.kafka.brokers import Brokers
from streamhub.kafka.tail import KafkaTail
from streamhub.tail import Tail
from streamhub.tail.postgres import PostgresTail
from streamhub.web.auth import Authenticator, Issuer, PemKeys
from tests.support.database import Pool
from tests.support.error_schema import checked_errors
from tests.support.history import insert, move_head
from tests.support.publishing import Publisher, publishing

ISSUER = "https://issuer.example"


class Frame(NamedTuple):
    event: str
    id: str | None
    data: Any
    raw: bytes


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def errors(self) -> list[dict[str, Any]]:
        return checked_errors(self.status, self.headers, self.body)

    @property
    def codes(self) -> list[str]:
        return [error["code"] for error in self.errors]


class Client:
    """One connection and one request on it; it stays open until it is closed, or the test is over."""

    alive: ClassVar[set["Client"]] = set()

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.status = 0
        self.headers: dict[str, str] = {}
        self.ended = False
        self._rest = b""

    @classmethod
    async def open(
        cls,
        port: int,
        path: str,
        headers: Sequence[tuple[str, str]] = (),
        method: str = "GET",
        version: str = "1.1",
        receive_buffer: int | None = None,
        address: str = "127.0.0.1",
        sock: socket.socket | None = None,
    ) -> "Client":
        sock = sock or socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (address, port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=2**16)
        client = cls(reader, writer)
        cls.alive.add(client)
        lines = [f"{method} {path} HTTP/{version}", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers)]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape"))
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        status, *fields = head.decode("latin-1").split("\r\n")
        client.status = int(status.split(" ")[1])
        for field in fields:
            if field:
                name, _, value = field.partition(":")
                client.headers[name.lower()] = value.strip()
        return client

    async def answer(self) -> Answer:
        size = int(self.headers.get("content-length", 0))
        body = await asyncio.wait_for(self.reader.readexactly(size), 10)
        self.close()
        return Answer(self.status, self.headers, body)

    async def _more(self) -> bytes:
        if self.headers.get("transfer-encoding") != "chunked":
            return await self.reader.read(65536)
        line = await self.reader.readuntil(b"\r\n")
        size = int(line, 16)
        data = await self.reader.readexactly(size + 2)
        assert data[-2:] == b"\r\n"
        return data[:-2]

    async def block(self, within: float = 10) -> bytes | None:
        """What stands before the next empty line, with it; None at the end of the response."""
        async with asyncio.timeout(within):
            while b"\n\n" not in self._rest:
                more = await self._more()
                if not more:
                    self.ended = True
                    assert not self._rest, self._rest
                    return None
                self._rest += more
        block, _, self._rest = self._rest.partition(b"\n\n")
        return block + b"\n\n"

    async def frame(self, within: float = 10, *, heartbeats: bool = False) -> Frame:
        """The next one. It fails where the stream ends instead."""
        frame = await self.frame_or_end(within, heartbeats=heartbeats)
        assert frame is not None, "the stream ended"
        return frame

    async def frame_or_end(self, within: float = 10, *, heartbeats: bool = False) -> Frame | None:
        while True:
            block = await self.block(within)
            if block is None:
                return None
            if block.startswith((b"retry:", b":")):
                continue
            fields = dict(line.split(": ", 1) for line in block.decode().rstrip("\n").split("\n"))
            event = fields.get("event", "message")
            if event == "heartbeat":
                if heartbeats:
                    return Frame(event, fields.get("id"), fields["data"], block)
                continue
            return Frame(event, fields.get("id"), json.loads(fields["data"]), block)

    async def frames(self, count: int, within: float = 10) -> list[Frame]:
        found: list[Frame] = []
        for _ in range(count):
            frame = await self.frame_or_end(within)
            assert frame is not None, f"the stream ended after {len(found)} of {count} frames"
            found.append(frame)
        return found

    async def rest(self, within: float = 20) -> list[Frame]:
        found: list[Frame] = []
        while (frame := await self.frame_or_end(within)) is not None:
            found.append(frame)
        return found

    async def quiet(self, seconds: float = 0.3) -> bool:
        """Nothing but heartbeats comes for so long."""
        try:
            frame = await self.frame_or_end(seconds)
        except TimeoutError:
            return True
        raise AssertionError(f"{frame} came")

    def close(self) -> None:
        self.alive.discard(self)
        self.writer.close()

    def reset(self) -> None:
        """End the connection with a RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class History:
    """Writes events as the relay does: history, head and NOTIFY in one transaction; then Kafka, where it is used."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.publisher: Publisher | None = None
        self._organizations: dict[int, dict[str, str]] = {}
        self._publishing = asyncio.Lock()

    async def register(self, id: str = "org_1", slug: str = "my-org", *, made: bool = False) -> int:
        key = int(
            await self.pool.fetchval(
                "INSERT INTO streamhub_hub.organizations (id, slug, slug_is_made, enterprise) "
                "VALUES ($1, $2, $3, true) RETURNING key",
                id, slug, made,
            )
        )  # fmt: skip
        self._organizations[key] = {"id": id, "slug": slug}
        return key

    async def now_ms(self) -> int:
        return int(await self.pool.fetchval("SELECT ceil(extract(epoch FROM clock_timestamp()) * 1000)::bigint"))

    def event(
        self, organization: int, id: str, number: int = 0, *, test: bool = False, size: int = 0,
        resource_type: str | None = "skus", resource_id: str | None = None,
        event_type: str | None = None, own: Any = None,
    ) -> StoredEvent:  # fmt: skip
        """`own`: the data of an event that an application published; it names no resource but the one given."""
        event_type = event_type or f"{resource_type}.update"
        name = event_type.rpartition(".")[2]
        if own is None:
            resource_id = resource_id or f"sku_{number}"
        at = ids.datetime_of(ids.milliseconds(id)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        data: dict[str, Any] = {
            "id": id, "type": event_type, "event": name, "resource_type": resource_type, "resource_id": resource_id,
            "organization": self._organizations.get(organization), "test": test, "created_at": at,
            "transaction_id": "7", "resource": {"n": number} if own is None else None,
            "delta": {} if own is None else None, "who": None,
        }  # fmt: skip
        data |= {"n": number, "filler": "x" * size} if own is None else {"publish_id": f"p-{number}", "data": own}
        frame = f"event: {name}\nid: {id}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
        return StoredEvent(organization, id, test, event_type, resource_type, resource_id, frame)

    async def append(self, organization: int, count: int = 1, *, first: int = 0, **more: Any) -> Append:
        """`count` events, numbered from `first`, published now."""
        if self.publisher is None:
            return await self._append(organization, count, first, **more)
        async with self._publishing:
            append = await self._append(organization, count, first, **more)
            await self.publisher.send(append.events)
            return append

    async def _append(self, organization: int, count: int, first: int, **more: Any) -> Append:
        async with self.pool.acquire() as connection, connection.transaction():
            head = await connection.fetchrow(
                "SELECT * FROM streamhub_hub.reserve((SELECT epoch FROM streamhub_hub.log_epoch), $1)", count
            )
            assert head is not None
            new = ids.event_ids(head["ms"], head["counter"] - count + 1, count)
            events = [self.event(organization, each, first + n, **more) for n, each in enumerate(new)]
            await insert(connection, events)
            previous = ids.event_id(head["previous_ms"], head["previous_counter"])
            await connection.execute(
                "SELECT pg_notify(appends, $1) FROM streamhub_hub.channels",
                f"{previous} {new[0]} {new[-1]} {organization}",
            )
        return Append(previous, new[0], new[-1], events)

    async def append_past(self, organization: int, ago: Sequence[timedelta], **more: Any) -> list[str]:
        """One event at each of these distances from now."""
        now = await self.now_ms()
        events = [
            self.event(organization, ids.event_id(now - each // timedelta(milliseconds=1), n), n, **more)
            for n, each in enumerate(ago)
        ]
        newest = max(event.id for event in events)
        async with self.pool.acquire() as connection, connection.transaction():
            await insert(connection, events)
            await move_head(connection, *ids.parse(newest))
        return [event.id for event in events]


class Hub(NamedTuple):
    """A running gateway, and requests to it with any token."""

    gateway: Gateway
    kinds: Kinds
    tail: Tail
    port: int
    history: History
    token: Callable[..., str]

    async def open(self, path: str, *, token: str | None = None, **more: Any) -> Client:
        extra = list(more.pop("headers", {}).items())
        return await Client.open(
            self.port, path, [("Authorization", f"Bearer {token or self.token()}"), *extra], **more
        )

    async def get(self, path: str, **more: Any) -> Answer:
        client = await self.open(path, **more)
        return await client.answer()

    async def live(self, *, last_event_id: str | None = None, token: str | None = None, **more: Any) -> Client:
        headers = {**more.pop("headers", {})}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        client = await self.open("/my-org", headers=headers, token=token, **more)
        assert client.status == 200, await client.answer()
        return client

    async def broadcast(self, query: str = "", *, last_event_id: str | None = None, **more: Any) -> Client:
        """`GET /my-org/events/stream`, where `path` names no other."""
        headers = {**more.pop("headers", {})}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        token = more.pop("token", None) or self.token(scope="events:read")
        path = more.pop("path", "/my-org/events/stream")
        client = await self.open(path + (f"?{query}" if query else ""), headers=headers, token=token, **more)
        assert client.status == 200, await client.answer()
        return client

    async def live_once_free(self, within: float = 10) -> tuple[Client, float]:
        """The live stream as soon as it is to be had, and the seconds that took."""
        began = time.monotonic()
        found: list[Client] = []

        async def is_free() -> bool:
            found.append(await self.open("/my-org"))
            return found[-1].status != 409

        await eventually(is_free, within)
        assert found[-1].status == 200
        return found[-1], time.monotonic() - began

    async def eventually(self, condition: Callable[[], Awaitable[bool]], within: float = 6) -> None:
        await eventually(condition, within)


StartHub: TypeAlias = Callable[..., Awaitable[Hub]]


async def eventually(condition: Callable[[], Awaitable[bool]], within: float = 6) -> None:
    async with asyncio.timeout(within):
        while not await condition():  # noqa: ASYNC110 - there is nothing but the outside to look at
            await asyncio.sleep(0.02)


@pytest.fixture(scope="session")
def signing_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def claims(**changes: Any) -> dict[str, Any]:
    """A good integration's claims; `a__b=…` changes a member of an object, None removes."""
    now = int(time.time())
    found: dict[str, Any] = {
        "iss": ISSUER,
        "iat": now,
        "exp": now + 3600,
        "organization": {"id": "org_1", "slug": "my-org", "enterprise": True},
        "application": {"id": "app_1", "kind": "integration", "client_id": "client_1"},
        "test": False,
        "scope": "",
    }
    for name, value in changes.items():
        *path, last = name.split("__")
        place = found
        for step in path:
            place = place[step]
        if value is None:
            place.pop(last)
        else:
            place[last] = value
    return found


@pytest.fixture(scope="session")
def token(signing_key: rsa.RSAPrivateKey) -> Callable[..., str]:
    return lambda **changes: jwt.encode(claims(**changes), signing_key, algorithm="RS256")


def public_pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture
def history(pool: Pool) -> History:
    return History(pool)


EACH_ENGINE = pytest.mark.parametrize("publisher", ["postgres", "kafka"], indirect=True)


@pytest.fixture
async def publisher(request: pytest.FixtureRequest, history: History) -> AsyncIterator[Publisher | None]:
    """Gateways follow PostgreSQL; for a test of EACH_ENGINE, Kafka too."""
    if getattr(request, "param", "postgres") == "postgres":
        yield None
        return
    async with publishing(request.getfixturevalue("kafka"), history.pool) as publisher:
        history.publisher = publisher
        yield publisher


@pytest.fixture
async def start_hub(
    database_url: str,
    history: History,
    signing_key: rsa.RSAPrivateKey,
    token: Callable[..., str],
    publisher: Publisher | None,
) -> AsyncIterator[StartHub]:
    """Start a gateway over this test's database, with settings of one's own; several may run at once."""
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> Hub:
            settings = {"drain_time": timedelta(0), "database_url": database_url, **settings}
            url = settings["database_url"]
            pool = await stack.enter_async_context(asyncpg.create_pool(url, min_size=1, max_size=10))
            tail: PostgresTail | KafkaTail = PostgresTail(url, pool, poll_every=0.5)
            brokers: tuple[Brokers, str] | None = settings.pop("brokers", None)
            if brokers is not None:
                tail = KafkaTail(pool, *brokers)
            if publisher is not None:
                tail = KafkaTail(pool, Brokers([publisher.bootstrap]), publisher.topic)
            await tail.start()
            stack.push_async_callback(tail.stop)
            authenticator = Authenticator([Issuer(frozenset({ISSUER}), PemKeys(public_pem(signing_key), "the test's"))])
            sources: dict[str, str] = settings.pop("sources", {})
            server = await stack.enter_async_context(
                serve(Settings(**settings), pool, tail, authenticator, port=0, sources=sources)
            )
            return Hub(server.gateway, server.kinds, tail, server.port, history, token)

        yield start
        for client in list(Client.alive):
            client.close()


@pytest.fixture
async def hub(start_hub: StartHub) -> Hub:
    return await start_hub()


@pytest.fixture
async def organization(history: History) -> int:
    """The key of `my-org`, registered."""
    return await history.register()
