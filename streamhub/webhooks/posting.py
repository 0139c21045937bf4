"""One attempt: a signed POST, and what came of it."""

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from streamhub import __version__
from streamhub.core import signing
from streamhub.webhooks.addresses import Addresses
from streamhub.webhooks.endpoint import LOOPBACK, url_problem
from streamhub.webhooks.failures import explained

log = logging.getLogger(__name__)

ANSWERED_WITHIN: Final = 30.0  # seconds, connecting included
CONNECTED_WITHIN: Final = 10.0
BODY_WITHIN: Final = 5.0  # from the status on
MOST_HEAD: Final = 64 * 1024  # bytes up to the end of the head, interim ones and blank lines included
MOST_READ: Final = 64 * 1024  # bytes of a body
MOST_BEHIND: Final = 2 * MOST_READ  # bytes behind the head: a body, its chunk sizes and its trailers
LEAST_COUNTED: Final = 16  # bytes: what a packet counts as, however short, as each takes processor time
MOST_KEPT: Final = 4 * 1024
MOST_CONNECTIONS: Final = 1_000
MOST_ANSWERS: Final = 10  # to one request: interim ones (1xx), and the one that counts
KEPT_OPEN: Final = 30.0  # seconds, a connection without a request
LONGEST_RETRY_AFTER: Final = 7 * 86_400.0


class Outcome(NamedTuple):
    """`status` is None where no answer came, and `error` says why. `retry_after` in seconds."""

    status: int | None
    error: str | None
    excerpt: str
    seconds: float
    retry_after: float | None = None

    @property
    def succeeded(self) -> bool:
        return self.error is None and self.status is not None and 200 <= self.status < 300

    @property
    def gone(self) -> bool:
        return self.status == 410

    def document(self, at: float) -> dict[str, Any]:
        """As the log of a delivery keeps it. `at` in seconds of the Unix epoch."""
        when = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {
            "at": when, "status": self.status, "error": self.error, "latency_ms": round(self.seconds * 1_000),
            "response": self.excerpt,
        }  # fmt: skip


class _Protocol(ResponseHandler):
    """Closes the connection where an answer has no end. It counts what comes, whatever it is: aiohttp's parser would
    pass over blank lines and extensions of chunks for ever. aiohttp would also read interim answers without a pause,
    and keep those that come without a request. It forgets an answer that has a fault in its body, where the two come
    together: here the head is read first, and the body breaks off."""

    _answers = 0
    _is_answered = False  # by the answer that counts
    _is_cut = False
    _bytes = 0  # of the head, then of what is behind it

    def set_response_params(self, **given: Any) -> None:
        """A request begins."""
        self._answers = self._bytes = 0
        self._is_answered = False
        super().set_response_params(**given)

    def data_received(self, data: bytes) -> None:
        is_resumed = not data
        while data and self._is_in_head():
            head = data[: min(_end_of_head(data), max(0, MOST_HEAD - self._bytes))]
            self._bytes += max(len(head), LEAST_COUNTED)
            data = data[len(head) :]
            super().data_received(head)
            if data and self._bytes >= MOST_HEAD and self._is_in_head():
                pieces = MOST_HEAD // LEAST_COUNTED
                self._fail(f"its answer's head has no end within {MOST_HEAD // 1024} KiB, or {pieces} packets")
        if is_resumed or (data and not self._is_cut and self.exception() is None):
            self._behind(data)
        if self.exception() is not None and self._payload is not None:
            self._payload.set_exception(aiohttp.ClientPayloadError("its body breaks off"))

    def feed_data(self, data: Any, size: int = 0) -> None:
        self._answers += 1
        if self._answers <= MOST_ANSWERS:
            status = data[0].code
            if not self._is_answered and (not 100 <= status < 200 or status == 101):
                self._is_answered = True
                self._bytes = 0
            super().feed_data(data, size)
        elif not self._is_cut:
            self._fail(f"it sent over {MOST_ANSWERS} answers to one request")

    def _is_in_head(self) -> bool:
        return not self._is_answered and not self._is_cut and self.exception() is None

    def _behind(self, data: bytes) -> None:
        """A body that is too long ends there: what was read of it is kept."""
        room = max(0, MOST_BEHIND - self._bytes)
        self._bytes += max(len(data), LEAST_COUNTED) if data else 0
        super().data_received(data[:room])
        if len(data) <= room or self._is_cut:
            return
        payload = self._payload
        self._cut()
        if payload is not None and payload.exception() is None and not payload.is_eof():
            payload.feed_eof()

    def _fail(self, why: str) -> None:
        self._cut()
        self.set_exception(aiohttp.ClientConnectionError(why))

    def _cut(self) -> None:
        self._is_cut = True
        self.force_close()
        self._parser = self._payload = None  # else they would call it a fault that the connection ends
        if self.transport is not None:
            self.transport.abort()


def _end_of_head(data: bytes) -> int:
    """Behind the first blank line, but for those before a head."""
    blank = len(data) - len(data.lstrip(b"\r\n"))
    end = data.find(b"\r\n\r\n", blank if blank > len(b"\r\n\r\n") else 0)
    return len(data) if end < 0 else end + len(b"\r\n\r\n")


class Resolver(AbstractResolver):
    """Gives aiohttp addresses that were judged, all of a name's."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._addresses.resolve(host, port, family)
        return [
            ResolveResult(
                hostname=host, host=str(address[0]), port=port, family=kind, proto=protocol,
                flags=socket.AI_NUMERICHOST,
            )
            for kind, _, protocol, _, address in found
        ]  # fmt: skip

    async def close(self) -> None:
        """It holds nothing."""


class Poster:
    """`async with`: connections are kept and used again. `proxy`: all goes through it by CONNECT, but for loopback in
    development, which is this machine's and not the proxy's. `tls`: None trusts the authorities of the system."""

    def __init__(self, addresses: Addresses, *, proxy: str | None = None, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._addresses = addresses
        self._proxy = None if proxy is None else URL(proxy).with_user(None)
        self._proxy_headers = None if proxy is None else _authorization(URL(proxy))
        self._sessions = AsyncExitStack()
        self._direct: aiohttp.ClientSession | None = None
        self._by_proxy: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Poster":
        judged = {
            "resolver": Resolver(self._addresses), "socket_factory": self._addresses.open_socket,
            "use_dns_cache": False,
        }  # fmt: skip
        self._direct = await self._sessions.enter_async_context(_session(**judged))
        if self._proxy is not None:  # what is dialled is the proxy alone
            self._by_proxy = await self._sessions.enter_async_context(_session())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._sessions.aclose()

    async def post(
        self, url: str, body: bytes, id_: str, secrets: Sequence[str], headers: Mapping[str, str]
    ) -> Outcome:
        """Raises nothing but CancelledError."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(ANSWERED_WITHIN) as within:
                return await self._post(url, body, id_, secrets, headers, started, within)
        except aiohttp.ServerTimeoutError:
            error = f"no connection within {CONNECTED_WITHIN:g} s"
        except TimeoutError:
            error = f"no answer within {ANSWERED_WITHIN:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as failure:
            error = explained(failure)
        except Exception as failure:  # noqa: BLE001 - it counts as an attempt, else it would be made for ever
            log.warning("an attempt to deliver %s was not possible: %r", id_, failure)
            error = "the attempt was not possible, the log of the hub says why"
        return Outcome(None, error, "", time.monotonic() - started)

    async def _post(
        self, url: str, body: bytes, id_: str, secrets: Sequence[str], headers: Mapping[str, str], started: float,
        within: asyncio.Timeout,
    ) -> Outcome:  # fmt: skip
        problem, target = _judged(url, self._addresses)
        if problem is not None:  # a row that was written in SQL, or a setting has changed
            return Outcome(None, f"the URL is refused: {problem}", "", 0.0)
        session, host = self._direct, (target.host or "").lower()
        proxied: dict[str, Any] = {}
        if self._by_proxy is not None and not (self._addresses.development and host in LOOPBACK):
            await self._addresses.resolve(host, target.port or 443)
            session, proxied = self._by_proxy, {"proxy": self._proxy, "proxy_headers": self._proxy_headers}
        assert session is not None, "within the block"
        sent = {
            **headers, **signing.sign(body, id_, int(time.time()), secrets), "Content-Type": "application/json",
            "Accept-Encoding": "identity",
        }  # fmt: skip
        async with session.post(
            target,
            data=body,
            headers=sent,
            allow_redirects=False,
            ssl=True if self._tls is None else self._tls,
            **proxied,
        ) as answer:
            read = b""
            if not answer.content.at_eof():
                within.reschedule(None)
                read = await _beginning(answer)
            excerpt = read[:MOST_KEPT].decode("utf-8", "replace").replace("\0", "\ufffd")
            error = None if 200 <= answer.status < 300 else f"it answered {answer.status}"
            if 300 <= answer.status < 400:
                error = f"it answered {answer.status}, and redirects are not followed"
            retry_after = _retry_after(answer.headers.get("Retry-After"))
            return Outcome(answer.status, error, excerpt, time.monotonic() - started, retry_after)


def _session(**connecting: Any) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=MOST_CONNECTIONS, keepalive_timeout=KEPT_OPEN, **connecting)
    protocol: type[ResponseHandler] = _Protocol
    connector._factory = partial(protocol, loop=asyncio.get_running_loop())  # noqa: SLF001 - there is no option
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECTED_WITHIN),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        headers={"User-Agent": f"streamhub/{__version__}"},
    )


@lru_cache(1_000)
def _judged(url: str, addresses: Addresses) -> tuple[str | None, URL]:
    """Why it is refused, or None, and what is asked for."""
    problem = url_problem(url, addresses)
    return problem, URL() if problem is not None else URL(url, encoded=True)


async def _beginning(answer: aiohttp.ClientResponse) -> bytes:
    """Of the body. The status has decided: a body that does not come, or breaks off, changes nothing."""
    read = bytearray()
    with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
        async with asyncio.timeout(BODY_WITHIN):
            async for chunk in answer.content.iter_any():
                read += chunk[: MOST_READ - len(read)]
                if len(read) >= MOST_READ:
                    break
    if not answer.content.at_eof():
        answer.close()  # what follows is not read, so the connection is of no use
    return bytes(read)


def _authorization(proxy: URL) -> dict[str, str]:
    if proxy.user is None:
        return {}
    pair = f"{proxy.user}:{proxy.password or ''}".encode()
    return {"Proxy-Authorization": f"Basic {b64encode(pair).decode()}"}


def _retry_after(text: str | None) -> float | None:
    """Seconds, of a number or a date."""
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), LONGEST_RETRY_AFTER)
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return max(0.0, min(parsedate_to_datetime(text).timestamp() - time.time(), LONGEST_RETRY_AFTER))
    return None
