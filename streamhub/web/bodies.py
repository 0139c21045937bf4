"""The bodies of requests: what may be sent, how long that may take, and how much of it a process holds at once."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError

from streamhub.web.problems import ApiError, Fault, unavailable

JSON: Final = "application/json"
CONTINUE: Final = "100-continue"
_ASKED: Final = web.RequestKey("ASKED", bool)  # the client was told to send its body
_UTF_8: Final = frozenset({"utf-8", "utf8"})
READ_WITHIN: Final = 60.0  # seconds
MOST_HELD: Final = 64 * 1024 * 1024  # bytes
SHARES: Final = 4  # one organization holds no more than such a part


class Bodies:
    """Those that one process holds: `held` bytes, never more than `most`, nor more than a share of one organization."""

    def __init__(self, most: int = MOST_HELD, read_within: float = READ_WITHIN) -> None:
        self.held = 0
        self._most = most
        self._held_of: Counter[str] = Counter()
        self._read_within = read_within

    @asynccontextmanager
    async def json(self, request: web.Request, organization_id: str, longest: int) -> AsyncIterator[bytearray]:
        """A body of at most `longest` bytes that says it is JSON, held until the block ends. Raises ApiError: 413, 415;
        400 where it is not HTTP; 503 where it does not arrive in time, or too many others are held."""
        if (request.content_length or 0) > longest:
            raise _too_large(longest)
        if request.content_type != JSON:
            given = request.headers.get("Content-Type")
            detail = "There is no Content-Type" if given is None else f"Content-Type is {given[:100]!r}"
            raise ApiError(Fault("UNSUPPORTED_MEDIA_TYPE", f"{detail}; this route takes {JSON!r}."))
        charset = request.charset
        if charset is not None and charset.lower() not in _UTF_8:
            detail = f"Content-Type has the charset {charset[:100]!r}; this route takes JSON in UTF-8."
            raise ApiError(Fault("UNSUPPORTED_MEDIA_TYPE", detail))
        coding = request.headers.get("Content-Encoding", "identity")
        if coding.strip().lower() not in ("", "identity"):
            detail = f"Content-Encoding is {coding[:100]!r}; this route takes bodies that are not compressed."
            raise ApiError(Fault("UNSUPPORTED_MEDIA_TYPE", detail))
        body = bytearray()
        try:
            await _ask_for_it(request)
            await self._read(request, organization_id, body, longest)
            yield body
        finally:
            self.held -= len(body)
            self._held_of[organization_id] -= len(body)
            if not self._held_of[organization_id]:
                del self._held_of[organization_id]

    async def _read(self, request: web.Request, organization_id: str, body: bytearray, longest: int) -> None:
        try:
            async with asyncio.timeout(self._read_within):
                async for chunk in request.content.iter_any():
                    if len(body) + len(chunk) > longest:
                        raise _too_large(longest)
                    share = self._held_of[organization_id] + len(chunk)
                    if self.held + len(chunk) > self._most or share > self._most // SHARES:
                        raise unavailable("This gateway holds as many bodies of requests as it may; try again in 5 s.")
                    body += chunk
                    self.held += len(chunk)
                    self._held_of[organization_id] = share
        except TimeoutError:
            raise unavailable(f"The body did not arrive within {self._read_within:g} s; send it again.") from None
        except (HttpProcessingError, web.RequestPayloadError):
            detail = "The body is not as its headers say: it is cut short, or its encoding is wrong."
            raise ApiError(Fault("INVALID_REQUEST", detail)) from None
        except ConnectionError:
            raise unavailable("The client has left.") from None  # no client reads it


async def expectation(request: web.Request) -> None:
    """Of each route. aiohttp's own would answer 100 before it is known whether the request is refused. Raises
    HTTPExpectationFailed for anything but 100-continue."""
    if request.version == HttpVersion11 and request.headers.get("Expect", "").lower() != CONTINUE:
        raise web.HTTPExpectationFailed


def was_not_asked_for(request: web.BaseRequest) -> bool:
    """The client waits with its body, and was not told to send it: it may do so or not."""
    return _waits(request) and _ASKED not in request


async def _ask_for_it(request: web.Request) -> None:
    if _waits(request):
        request[_ASKED] = True
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer has not begun yet


def _waits(request: web.BaseRequest) -> bool:
    return request.version == HttpVersion11 and request.headers.get("Expect", "").lower() == CONTINUE


def _too_large(longest: int) -> ApiError:
    detail = f"The body has more than {longest} bytes, which are allowed at most: send several requests."
    return ApiError(Fault("BODY_TOO_LARGE", detail))
