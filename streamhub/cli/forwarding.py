"""Events as signed webhooks to an address of a developer, as the hub would deliver them (contract, section 9)."""

from __future__ import annotations

import asyncio
import time
from secrets import token_bytes
from typing import NamedTuple, Self

import aiohttp

from streamhub import __version__
from streamhub.client import Event
from streamhub.client.errors import reason_of
from streamhub.core import signing
from streamhub.core.frames import parts_of, webhook_body

TIMEOUT = 30.0  # seconds, as a hub's


class Delivery(NamedTuple):
    """`answer`: the status, or what went wrong."""

    answer: str
    is_success: bool
    seconds: float

    def __str__(self) -> str:
        return f"{self.answer} in {self.seconds * 1000:.0f} ms"


class Forwarder:
    """One after the other, each tried once. Use it in an `async with`."""

    def __init__(self, url: str, secret: str | None = None) -> None:
        """Without a secret it makes one. Raises ValueError for a secret that is none."""
        self.url = url
        self.secret = secret or signing.secret_of(token_bytes(24))
        signing.key_of(self.secret)
        self._session: aiohttp.ClientSession | None = None

    async def deliver(self, event: Event) -> Delivery:
        assert self._session is not None
        body = webhook_body(parts_of(event.frame))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"streamhub-listen/{__version__}",
            **signing.sign(body, event.id, int(time.time()), [self.secret]),
        }
        began = time.perf_counter()
        try:
            async with self._session.post(self.url, data=body, headers=headers, allow_redirects=False) as response:
                status = response.status
                await response.release()
                answer, is_success = f"{status} {response.reason or ''}".rstrip(), 200 <= status < 300
        except TimeoutError:
            answer, is_success = "no answer", False
        except (aiohttp.ClientError, OSError) as error:
            answer, is_success = reason_of(error), False
        return Delivery(answer, is_success, time.perf_counter() - began)

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=TIMEOUT), cookie_jar=aiohttp.DummyCookieJar()
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            await asyncio.sleep(0)  # its sockets close at the loop's next turn
