"""An issuer's keys out of its JWKS (RFC 7517): cached, and fetched again when a token names a key not seen yet."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import aiohttp
import jwt
import orjson

from streamhub.errors import unauthorized, unavailable
from streamhub.gateway.auth import PublicKey, usable
from streamhub.urls import shown

log = logging.getLogger(__name__)

REFRESH_AT_MOST_EVERY: Final = 10.0  # seconds
KEPT: Final = 600.0  # seconds; a key withdrawn by its issuer is accepted no longer than that, while it can be reached
TIMEOUT: Final = 5.0  # seconds
LARGEST: Final = 1024 * 1024


class JwksKeys:
    """Keys by `kid`. While the JWKS cannot be reached known keys go on; an unknown `kid` is a 503."""

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._clock = clock
        self._keys: dict[str, tuple[PublicKey, str | None]] = {}
        self._asked_at = self._fetched_at = float("-inf")
        self._reached = False
        self._lock = asyncio.Lock()

    async def candidates(self, header: Mapping[str, Any]) -> Sequence[PublicKey]:
        kid = header.get("kid")
        if not isinstance(kid, str):
            raise unauthorized("INVALID_TOKEN", "The token is not valid. Its header names no key (kid).")
        if kid not in self._keys or self._clock() >= self._fetched_at + KEPT:
            await self._refresh(kid)
        if kid in self._keys:
            key, algorithm = self._keys[kid]
            return [key] if algorithm in (None, header.get("alg")) else []
        if not self._reached:
            raise unavailable("The keys of the token's issuer are out of reach just now; try again in a moment.")
        raise unauthorized("INVALID_TOKEN", "The token is not valid. Its issuer has no key of the name (kid) it gives.")

    async def _refresh(self, kid: str) -> None:
        async with self._lock:
            now = self._clock()
            if (kid in self._keys and now < self._fetched_at + KEPT) or now < self._asked_at + REFRESH_AT_MOST_EVERY:
                return
            self._asked_at = now
            try:
                self._keys = await self._fetch()
                self._fetched_at = now
                self._reached = True
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                self._reached = False
                log.warning("the JWKS at %s cannot be read: %r", shown(self._url), error)

    async def _fetch(self) -> dict[str, tuple[PublicKey, str | None]]:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT)) as session,
            session.get(self._url, allow_redirects=False) as response,
        ):
            if response.status != 200:
                raise ValueError(f"it answered {response.status}")
            text = await response.content.read(LARGEST + 1)
            while len(text) <= LARGEST and (more := await response.content.read(LARGEST)):
                text += more
        if len(text) > LARGEST:
            raise ValueError(f"it is larger than {LARGEST} bytes")
        document = orjson.loads(text)
        if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
            raise ValueError("it has no list of keys")  # noqa: TRY004
        keys = {}
        for entry in document["keys"]:
            # Keys for other uses and of other kinds are the issuer's own business.
            if isinstance(entry, dict) and isinstance(entry.get("kid"), str) and entry.get("use", "sig") == "sig":
                try:
                    key = usable(jwt.PyJWK(entry, algorithm="ES256" if entry.get("kty") == "EC" else "RS256").key)
                except (jwt.PyJWTError, ValueError, TypeError):
                    continue
                keys[entry["kid"]] = (key, entry.get("alg"))
        return keys
