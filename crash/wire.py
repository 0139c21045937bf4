"""One response of the hub, frame by frame, with nothing of the hub's own code: HTTP by aiohttp, SSE by hand."""

import socket
import struct
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple

import aiohttp
import orjson

SILENCE: Final = 15.0  # seconds; heartbeats come each second, and every stop is shorter
ANSWERS_WITHIN: Final = 20.0

# The errors of a connection whose other end is killed or stopped.
DROPPED: Final = (aiohttp.ClientError, OSError, TimeoutError)
MALFORMED: Final = "malformed"


class Frame(NamedTuple):
    """`raw`: all bytes, with the empty line. `data` is not parsed. `event` is MALFORMED where `raw` is not a frame."""

    event: str
    id: str | None
    data: bytes
    raw: bytes


class Refused(NamedTuple):
    status: int
    code: str
    retry_after: float


class Response:
    """An open GET. `reset` ends it with a RST, so that unread bytes in a buffer do not count as read."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        connection = response.connection
        self._transport = None if connection is None else connection.transport

    @property
    def nothing_left(self) -> bool:
        """The answer to a replay's Last-Event-ID that is its last event."""
        return self._response.status == 204

    async def refusal(self) -> Refused | None:
        """None where the request was accepted."""
        if self._response.status == 200:
            return None
        body = await self._response.read()
        try:
            code = str(orjson.loads(body)["errors"][0]["code"])
        except (ValueError, KeyError, IndexError, TypeError):
            code = f"{MALFORMED}: {body[:200]!r}"
        return Refused(self._response.status, code, float(self._response.headers.get("Retry-After", 1)))

    async def frames(self) -> AsyncGenerator[Frame, None]:
        """Frames until the response ends. Raises one of DROPPED where the connection is cut."""
        rest = bytearray()
        looked = 0
        async for data in self._response.content.iter_any():
            rest += data
            while (end := rest.find(b"\n\n", looked)) >= 0:
                raw = bytes(rest[: end + 2])
                del rest[: end + 2]
                looked = 0
                if not raw.startswith(b"retry:"):
                    yield _frame(raw)
            looked = max(0, len(rest) - 1)

    def reset(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        with suppress(OSError, AttributeError):
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


def session() -> aiohttp.ClientSession:
    """A session that opens a connection for each request."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=ANSWERS_WITHIN, sock_read=SILENCE),
        read_bufsize=2**18,
    )


async def get(session: aiohttp.ClientSession, port: int, path: str, token: str, last_event_id: str | None) -> Response:
    headers = {"Authorization": f"Bearer {token}", **({"Last-Event-ID": last_event_id} if last_event_id else {})}
    return Response(await session.get(f"http://127.0.0.1:{port}{path}", headers=headers))


def _frame(raw: bytes) -> Frame:
    try:
        fields = dict(line.split(b": ", 1) for line in raw.rstrip(b"\n").split(b"\n"))
        id_ = fields.get(b"id")
        return Frame(fields[b"event"].decode(), None if id_ is None else id_.decode(), fields[b"data"], raw)
    except (ValueError, KeyError):
        return Frame(MALFORMED, None, raw, raw)


def parsed(frame: Frame) -> Any:
    return orjson.loads(frame.data)


def query(path: str, parameters: Mapping[str, str]) -> str:
    return f"{path}?" + "&".join(f"{name}={value}" for name, value in parameters.items())
