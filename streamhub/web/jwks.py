"""An issuer's keys from its JWKS (RFC 7517), read here alone: by the gateway, and by `doctor`.

A known key is used at once, whatever the issuer does meanwhile: the set is read again in the background. Only a token
that names a key not seen yet waits for a read, and such a read begins at most every ten seconds.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import aiohttp
import jwt
import orjson
from cryptography.exceptions import UnsupportedAlgorithm

from streamhub.cancellation import ended
from streamhub.urls import shown
from streamhub.web.auth import ALGORITHMS, PublicKey, fits, kind_of, usable
from streamhub.web.problems import unauthorized, unavailable

log = logging.getLogger(__name__)

REFRESH_AT_MOST_EVERY: Final = 10.0  # seconds
KEPT: Final = 300.0  # seconds between two reads; a key that its issuer withdrew is refused that much later at most
TIMEOUT: Final = 5.0  # seconds
LARGEST: Final = 1024 * 1024  # bytes
SAID_EVERY: Final = 60.0  # seconds between two lines about a fault that lasts


class JwksError(Exception):
    """The set cannot be read; the message completes "the JWKS at … "."""


class Key(NamedTuple):
    """`algorithm`: the only one that its issuer has it for, where it says so."""

    key: PublicKey
    algorithm: str | None


class KeySet(NamedTuple):
    """Usable keys by `kid`, and a clause for each entry that was left out."""

    keys: Mapping[str, Sequence[Key]]
    left_out: Sequence[str]


async def read(url: str) -> KeySet:
    """The key set as it is now. Raises JwksError."""
    try:
        document = orjson.loads(await _fetch(url))
    except TimeoutError:
        raise JwksError(f"did not come within {TIMEOUT:.0f} s") from None
    except aiohttp.ClientConnectorCertificateError as error:
        raise JwksError(f"has a certificate that is not trusted ({error.certificate_error})") from None
    except aiohttp.ClientConnectorError as error:
        raise JwksError(f"cannot be reached ({error.os_error.strerror or error.os_error})") from None
    except (aiohttp.ClientError, OSError) as error:
        raise JwksError(f"cannot be read ({type(error).__name__})") from None
    except orjson.JSONDecodeError:
        raise JwksError("is no JSON") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise JwksError('is no key set: an object with a list "keys" is expected')
    keys: dict[str, list[Key]] = {}
    left_out = []
    for number, entry in enumerate(entries, 1):
        kid = entry.get("kid") if isinstance(entry, dict) else None
        name = f"key {kid[:100]!r}" if isinstance(kid, str) else f"key number {number}"
        try:
            key = _key(entry)
        except ValueError as error:
            left_out.append(f"{name} {error}")
        else:
            keys.setdefault(entry["kid"], []).append(key)
    return KeySet(keys, left_out)


async def _fetch(url: str) -> bytes:
    # Neither a redirect nor a compressed answer: the one leads elsewhere, the other has no bound before it is read.
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT), auto_decompress=False) as session,
        session.get(url, allow_redirects=False, headers={"Accept-Encoding": "identity"}) as response,
    ):
        if 300 <= response.status < 400:
            raise JwksError(f"answers {response.status}, and redirects are not followed: name the URL they lead to")
        if response.status != 200:
            raise JwksError(f"answers {response.status}")
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > LARGEST:
                raise JwksError(f"is larger than {LARGEST} bytes")
        return bytes(body)


def _key(entry: object) -> Key:
    """Raises ValueError, whose message completes "key … "."""
    if not isinstance(entry, dict):
        raise ValueError("is no object")  # noqa: TRY004
    if not isinstance(entry.get("kid"), str):
        raise ValueError("has no name (kid)")  # noqa: TRY004
    use, operations, algorithm = entry.get("use", "sig"), entry.get("key_ops"), entry.get("alg")
    if use != "sig":
        raise ValueError(f"is for another use ({_short(use)})")
    if operations is not None and (not isinstance(operations, list) or "verify" not in operations):
        raise ValueError("is not for verifying (key_ops)")
    if entry.get("kty") not in ("RSA", "EC"):
        raise ValueError(f"is of kind {_short(entry.get('kty'))}; RSA and EC are accepted")
    if "d" in entry:
        raise ValueError("is a private key, which its issuer should not publish")
    if algorithm is not None and algorithm not in ALGORITHMS:
        raise ValueError(f"is for {_short(algorithm)}; {', '.join(ALGORITHMS)} are accepted")
    try:
        key = usable(jwt.PyJWK(entry, algorithm="ES256" if entry["kty"] == "EC" else "RS256").key)
    except (
        jwt.PyJWTError,
        UnsupportedAlgorithm,
        ValueError,
        TypeError,
        AttributeError,
        LookupError,
        OverflowError,
    ) as error:
        raise ValueError(f"cannot be used: {_short(str(error))}") from None
    if algorithm is not None and not fits(key, algorithm):
        raise ValueError(f"is {kind_of(key)}, which {algorithm} does not go with")
    return Key(key, algorithm)


def _short(value: object) -> str:
    return str(value)[:100]


class JwksKeys:
    """Keys by `kid`. While the JWKS cannot be read known keys go on; an unknown `kid` is a 503."""

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic, kept: float = KEPT) -> None:
        self._url = url
        self._clock = clock
        self._kept = kept
        self._keys: Mapping[str, Sequence[Key]] = {}
        self._asked_at = self._said_at = float("-inf")
        self._fault: str | None = "was not read yet"
        self._said: str | None = None
        self._left_out: frozenset[str] = frozenset()
        self._reading: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Read the set in the background from now on, the first time at once."""
        self._keeping = asyncio.create_task(self._keep(), name="JWKS")

    async def stop(self) -> None:
        await ended(self._keeping, self._reading)

    async def candidates(self, header: Mapping[str, Any]) -> Sequence[PublicKey]:
        kid = header.get("kid")
        if not isinstance(kid, str):
            raise unauthorized("INVALID_TOKEN", "The token is not valid. Its header names no key (kid).")
        if kid not in self._keys:
            await self._look_for(kid)
        found = self._keys.get(kid)
        if found is None:
            if self._fault is not None:
                raise unavailable("The keys of the token's issuer are out of reach just now; try again in a moment.")
            raise unauthorized(
                "INVALID_TOKEN", "The token is not valid. Its issuer has no key of the name (kid) it gives."
            )
        algorithm = header.get("alg")
        fitting = [each.key for each in found if each.algorithm in (None, algorithm) and fits(each.key, str(algorithm))]
        if not fitting:
            its = f"for {found[0].algorithm} (its alg)" if found[0].algorithm else kind_of(found[0].key)
            raise unauthorized(
                "INVALID_TOKEN",
                f"The token is not valid. Its algorithm is {algorithm}, and the key that it names (kid) is {its}.",
            )
        return fitting

    async def _look_for(self, kid: str) -> None:
        """Wait for the read that is under way, and begin one where none was begun lately."""
        if self._reading is not None and not self._reading.done():
            await asyncio.shield(self._reading)
        if kid not in self._keys and self._clock() >= self._asked_at + REFRESH_AT_MOST_EVERY:
            await asyncio.shield(self._begin())

    def _begin(self) -> asyncio.Task[None]:
        """One read at a time, however many requests ask for it."""
        if self._reading is None or self._reading.done():
            self._asked_at = self._clock()
            self._reading = asyncio.create_task(self._read(), name="JWKS: read")
        return self._reading

    async def _keep(self) -> None:
        while True:
            await asyncio.shield(self._begin())
            pause = self._kept if self._fault is None else min(self._kept, REFRESH_AT_MOST_EVERY)
            await asyncio.sleep(pause * random.uniform(0.8, 1.0))

    async def _read(self) -> None:
        try:
            found = await read(self._url)
        except Exception as error:  # noqa: BLE001 - whatever it is, the set has to be read again
            self._fault = str(error) if isinstance(error, JwksError) else f"cannot be read ({type(error).__name__})"
            self._say(self._fault)
            return
        self._keys, self._fault = found.keys, None
        for each in found.left_out:
            if each not in self._left_out:
                log.warning("the JWKS at %s: %s; it is left out", shown(self._url), each)
        self._left_out = frozenset(found.left_out)
        self._say(None if found.keys else "holds no key that can be used")

    def _say(self, fault: str | None) -> None:
        """In the log, when it changes, and once a minute while it lasts."""
        now = self._clock()
        if fault is None:
            if self._said is not None:
                log.info("the JWKS at %s is read again", shown(self._url))
        elif fault != self._said or now >= self._said_at + SAID_EVERY:
            log.warning("the JWKS at %s %s; the keys that are known go on", shown(self._url), fault)
            self._said_at = now
        self._said = fault
