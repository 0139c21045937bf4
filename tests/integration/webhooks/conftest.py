"""A receiver of webhooks that does what it is told, and dispatchers over a test's database."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, NamedTuple, TypeAlias

import asyncpg
import pytest
from aiohttp import web

from streamhub.leases.node import Node
from streamhub.metrics import Metrics
from streamhub.webhooks import store
from streamhub.webhooks.addresses import Addresses
from streamhub.webhooks.dispatcher import Dispatcher, Options
from streamhub.webhooks.store import Scope
from tests.integration.conftest import History, eventually
from tests.support.database import Pool

SCHEDULE = (0.05, 0.05, 0.05, 0.05, 0.05)


class Received(NamedTuple):
    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


class Receiver:
    """`answers[path]` is a status, or a function of the request; without one it is 204."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.answers: dict[str, int | Callable[[web.Request], Awaitable[web.StreamResponse]]] = {}
        self.port = 0
        self.connections = 0
        self._changed = asyncio.Event()

    def url(self, path: str = "/a") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.received.append(Received(request.path, headers, await request.read()))
        self._changed.set()
        answer = self.answers.get(request.path, 204)
        return web.Response(status=answer) if isinstance(answer, int) else await answer(request)

    def on(self, path: str) -> list[Received]:
        return [each for each in self.received if each.path == path]

    async def has(self, count: int, path: str = "/a", within: float = 20) -> list[Received]:
        async with asyncio.timeout(within):
            while len(self.on(path)) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.on(path)


def hanging(hold: asyncio.Event) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """As an answer of a receiver: none before `hold` is set, then 200."""

    async def hang(_request: web.Request) -> web.StreamResponse:
        await hold.wait()
        return web.Response()

    return hang


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.port = runner.addresses[0][1]
    yield receiver
    await runner.cleanup()


Start: TypeAlias = Callable[..., Awaitable[Dispatcher]]


@pytest.fixture
async def start(database_url: str) -> AsyncIterator[Start]:
    """Start a dispatcher; options as keyword arguments."""
    async with AsyncExitStack() as stack:

        async def begin(node: Node | None = None, **options: Any) -> Dispatcher:
            pool = await stack.enter_async_context(asyncpg.create_pool(database_url, min_size=1, max_size=5))
            if node is None:
                node = Node(pool)
                await node.start()
                stack.push_async_callback(node.stop)
            given = Options(**{"schedule": SCHEDULE, "addresses": Addresses(development=True), **options})
            return await stack.enter_async_context(Dispatcher(database_url, pool, node, Metrics(), given))

        yield begin


class Owner:
    """Endpoints of `my-org`, live, and what became of their deliveries."""

    def __init__(self, pool: Pool, organization: int, receiver: Receiver) -> None:
        self.scope = Scope(organization, False)
        self.pool = pool
        self._receiver = receiver

    async def add(self, path: str = "/a", **fields: Any) -> dict[str, Any]:
        async with self.pool.acquire() as connection:
            return await store.create(
                connection, self.scope, {"url": self._receiver.url(path), "events": ["*"], **fields}
            )

    async def get(self, id_: str) -> dict[str, Any]:
        async with self.pool.acquire() as connection:
            found = await store.get(connection, self.scope, id_)
        assert found is not None
        return found

    async def log(self, id_: str, state: str | None = None) -> list[dict[str, Any]]:
        async with self.pool.acquire() as connection:
            found = await store.deliveries(connection, self.scope, id_, before=None, limit=100, state=state)
        assert found is not None
        return found

    async def settled(self) -> None:
        """Returns once all of history is made deliveries of, and every delivery has ended."""

        async def is_settled() -> bool:
            return bool(await self.pool.fetchval(_SETTLED))

        await eventually(is_settled, 20)

    async def settled_but(self, count: int) -> None:
        """Returns once so many deliveries are pending."""

        async def is_so() -> bool:
            pending = await self.pool.fetchval("SELECT count(*) FROM streamhub_hub.webhook_deliveries")
            return bool(pending == count)

        await eventually(is_so, 20)


_SETTLED = """
SELECT NOT EXISTS (SELECT FROM streamhub_hub.webhook_deliveries)
   AND NOT EXISTS (SELECT FROM streamhub_hub.webhook_queues WHERE again_from IS NOT NULL)
   AND behind = '{}' AND position >= (SELECT max(id::text)::uuid FROM streamhub_hub.history)
  FROM streamhub_hub.webhook_cursor
"""


@pytest.fixture
def owner(history: History, organization: int, receiver: Receiver) -> Owner:
    return Owner(history.pool, organization, receiver)
