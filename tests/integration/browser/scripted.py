"""A server that answers as a test says: real frames on a real socket, from another origin than the page."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web
from aiohttp.test_utils import TestServer

from streamhub.gateway.pages import files
from streamhub.web.cors import add_cors

PATIENCE: Final = 20.0  # seconds: how long anything may take before the test fails


class Request:
    """One that came, with a token: a preflight is answered by the product's own code. A test answers it."""

    def __init__(self, request: web.Request) -> None:
        self.path = request.path
        self.query = request.query_string
        self.headers = request.headers
        self._request = request
        self._stream: web.StreamResponse | None = None
        self.answer: asyncio.Future[web.StreamResponse] = asyncio.get_running_loop().create_future()

    @property
    def last_event_id(self) -> str | None:
        return self.headers.get("Last-Event-ID")

    @property
    def token(self) -> str:
        return self.headers["Authorization"].removeprefix("Bearer ")

    async def stream(self, *frames: bytes) -> "Request":
        """A stream begins with these."""
        self._stream = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await self._stream.prepare(self._request)
        await self.send(*frames)
        return self

    async def send(self, *frames: bytes) -> None:
        assert self._stream is not None
        await self._stream.write(b"".join(frames) or b": begins\n\n")

    async def takes(self, frame: bytes, within: float = 0.5) -> bool:
        """Whether the browser takes so much: send it, and wait until it has left."""
        try:
            async with asyncio.timeout(within):
                await self.send(frame)
        except TimeoutError:
            return False
        return True

    def end(self) -> None:
        """The response ends as one that is complete."""
        assert self._stream is not None
        self.answer.set_result(self._stream)

    def cut(self) -> None:
        """The connection is reset."""
        assert self._request.transport is not None
        self._request.transport.abort()

    def refuse(self, status: int, code: str = "", headers: dict[str, str] | None = None) -> None:
        errors = {"errors": [{"status": str(status), "code": code, "title": "", "detail": "As the test says."}]}
        body = json.dumps(errors) if code else "<h1>Bad gateway</h1>"
        self.answer.set_result(web.Response(status=status, text=body, headers=headers))

    def reply(self, response: web.StreamResponse) -> None:
        self.answer.set_result(response)

    async def gone(self) -> None:
        """Return once the browser has ended the connection."""
        async with asyncio.timeout(PATIENCE):
            while self._request.transport is not None and not self._request.transport.is_closing():  # noqa: ASYNC110
                await asyncio.sleep(0.01)


class ScriptedHub:
    """`url` is where it is. Every request under it waits until the test answers."""

    def __init__(self) -> None:
        self.url = ""
        self._requests: asyncio.Queue[Request] = asyncio.Queue()
        self._all: list[Request] = []

    async def request(self) -> Request:
        """The next one that comes."""
        return await asyncio.wait_for(self._requests.get(), PATIENCE)

    async def stream(self, *frames: bytes) -> Request:
        """The next request, answered with a stream that begins with these."""
        return await (await self.request()).stream(*frames)

    @property
    def asked(self) -> int:
        """How many requests came."""
        return len(self._all)

    async def take(self, request: web.Request) -> web.StreamResponse:
        mine = Request(request)
        self._all.append(mine)
        self._requests.put_nowait(mine)
        return await mine.answer

    def let_go(self) -> None:
        for request in self._all:
            request.answer.cancel()


@asynccontextmanager
async def scripted_hub(origin: str) -> AsyncIterator[ScriptedHub]:
    """One that pages of `origin` may ask."""
    app = web.Application()
    add_cors(app, [origin])
    hub = ScriptedHub()
    app.router.add_route("GET", "/-/client.js", files.client)
    app.router.add_route("GET", "/{rest:.*}", hub.take)
    async with TestServer(app, host="127.0.0.1") as server:
        hub.url = str(server.make_url("")).rstrip("/")
        yield hub
        hub.let_go()


# -- frames


def number(n: int) -> str:
    """The id of the event of this number."""
    return f"01a202b2-c57c-7000-8000-{n:012}"


def change(n: int, type_: str = "skus.update", **more: Any) -> bytes:
    event = type_.rpartition(".")[2]
    data = {"id": number(n), "type": type_, "event": event, "resource": {"n": n}, **more}
    return f"event: {event}\nid: {number(n)}\ndata: {json.dumps(data)}\n\n".encode()


def control(event: str, data: dict[str, Any]) -> bytes:
    return f"event: {event}\ndata: {json.dumps(data)}\n\n".encode()


def stream_error(code: str, *, resumable: bool) -> bytes:
    return control("stream_error", {"code": code, "detail": "As the test says.", "resumable": resumable})


PING: Final = b": ping\n\n"
GAP: Final = {"after_id": number(1), "from": "2026-11-22T10:00:00.000Z", "to": "2026-11-22T10:30:00.000Z",
              "replay": ["/my-org/replay?date_from=a&date_to=b"]}  # fmt: skip
NO_CONTENT: Final = HTTPStatus.NO_CONTENT
