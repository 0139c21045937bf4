"""What a fake hub does wrong when it is told to, and the writing of a response that may go wrong."""

import asyncio
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from aiohttp import web

Kind: TypeAlias = Literal["live", "replay", "broadcast", "publish"]
HowItBreaks: TypeAlias = Literal["cut", "end", "stall"]

DRAIN: Final = 10.0  # seconds that a client's socket may be full


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer instead of a stream."""

    status: int
    code: str
    detail: str
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Break:
    """After so many bytes of the body: `cut`, the connection closes in the middle of the response; `end`, the response
    ends as if it were whole; `stall`, nothing more comes, and the connection stays open."""

    after: int
    how: HowItBreaks


class BrokenError(Exception):
    """The response is over, as it was asked."""


class Body:
    """Of one response."""

    def __init__(self, request: web.Request, response: web.StreamResponse, breaks: Break | None) -> None:
        self._request = request
        self._response = response
        self._breaks = breaks
        self._sent = 0

    async def write(self, data: bytes) -> None:
        """Raises BrokenError where the response is over now."""
        breaks = self._breaks
        if breaks is None or self._sent + len(data) < breaks.after:
            self._sent += len(data)
            await self._write(data)
            return
        await self._write(data[: breaks.after - self._sent])
        if breaks.how == "stall":
            await asyncio.Event().wait()  # until the client leaves, or the fake hub ends
        if breaks.how == "cut" and self._request.transport is not None:
            self._request.transport.close()
        raise BrokenError

    async def _write(self, data: bytes) -> None:
        async with asyncio.timeout(DRAIN):
            await self._response.write(data)
