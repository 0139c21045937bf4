"""One organization's streams on a hub: where they are, the token, and requests that are answered or refused."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import quote

import aiohttp
import orjson
from yarl import URL

import streamhub
from streamhub.client.errors import Refused, StreamHubError

Token: TypeAlias = str | Callable[[], str | Awaitable[str]]
Query: TypeAlias = Sequence[tuple[str, str]]

T = TypeVar("T")

LONGEST_WAIT: Final = 600.0
"""Seconds: no answer makes a client wait for longer."""

_IN_A_HEADER: Final = re.compile(r"[!-~]+")
_AGENT: Final = f"streamhub-client/{streamhub.__version__}"
_EVENT_STREAM: Final = "text/event-stream"
_JSON: Final = "application/json"
_BUFFER: Final = 2**15  # bytes of a response that may wait to be read; as much again before the socket is left alone
_LONGEST_REFUSAL: Final = 2**20
_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=10, sock_read=None)
_ANSWERED_WITHIN: Final = aiohttp.ClientTimeout(total=30)  # what is no stream


class Endpoint:
    """The session is made at the first request, on the loop that runs then, unless one was given."""

    def __init__(self, url: str, org: str, token: Token, session: aiohttp.ClientSession | None = None) -> None:
        self.url = _address(url)
        if not org:
            raise ValueError("org is empty; it is the organization's slug, such as my-org")
        if not callable(token):
            _checked(token)
        self.org = org
        self.token = token
        self._given = session
        self._own: aiohttp.ClientSession | None = None
        self._is_closed = False

    @property
    def has_session(self) -> bool:
        """Whether one was given."""
        return self._given is not None

    def path(self, *more: str) -> str:
        """Of the organization, and below it."""
        return "/" + "/".join(quote(part, safe="") for part in (self.org, *more))

    async def open(self, path: str, query: Query, last_event_id: str = "") -> aiohttp.ClientResponse | None:
        """The response of a stream, None for 204: nothing is left. Raises Refused for any other answer, and what
        aiohttp raises where there is none. Where the token has expired, a function is asked for another one, once."""
        return await self._renewing(lambda: self._open(path, query, last_event_id))

    async def ask(self, method: str, path: str, body: bytes | None = None) -> Any:
        """The `data` of an answer in JSON; `body` is JSON. Raises as `open`, TimeoutError after 30 s."""
        return await self._renewing(lambda: self._ask(method, path, body))

    async def close(self) -> None:
        self._is_closed = True
        if self._own is not None:
            await self._own.close()
            self._own = None

    async def _renewing(self, request: Callable[[], Awaitable[T]]) -> T:
        try:
            return await request()
        except Refused as refused:
            if not (callable(self.token) and refused.code == "EXPIRED_TOKEN"):
                raise
        return await request()

    async def _ask(self, method: str, path: str, body: bytes | None) -> Any:
        headers = {"Authorization": f"Bearer {await self._current_token()}", "User-Agent": _AGENT}
        if body is not None:
            headers["Content-Type"] = "application/json"
        url = URL(f"{self.url}{path}", encoded=True)
        async with self._session().request(
            method, url, data=body, headers=headers, allow_redirects=False, timeout=_ANSWERED_WITHIN
        ) as response:
            if response.status not in {HTTPStatus.OK, HTTPStatus.ACCEPTED} or response.content_type != _JSON:
                raise await refusal(response, _JSON)
            try:
                return orjson.loads(await response.read())["data"]
            except (ValueError, LookupError, TypeError):
                raise Refused(response.status, f"HTTP_{response.status}", "the answer is no hub's") from None

    async def _open(self, path: str, query: Query, last_event_id: str) -> aiohttp.ClientResponse | None:
        headers = {
            "Accept": _EVENT_STREAM,
            "Accept-Encoding": "identity",
            "Authorization": f"Bearer {await self._current_token()}",
            "User-Agent": _AGENT,
        }
        if last_event_id:
            headers["Last-Event-ID"] = last_event_id
        url = URL(f"{self.url}{path}", encoded=True).with_query(list(query))
        response = await self._session().get(
            url, headers=headers, allow_redirects=False, timeout=_TIMEOUT, read_bufsize=_BUFFER
        )
        try:
            if response.status == HTTPStatus.OK and response.content_type == _EVENT_STREAM:
                return response
            if response.status != HTTPStatus.NO_CONTENT:
                raise await refusal(response)
        except BaseException:
            response.close()
            raise
        response.release()
        return None

    async def _current_token(self) -> str:
        token = self.token() if callable(self.token) else self.token
        return _checked(token if isinstance(token, str) else await token)

    def _session(self) -> aiohttp.ClientSession:
        if self._is_closed:
            raise StreamHubError("the client is closed")
        if self._given is not None:
            return self._given
        if self._own is None:
            # Streams stay open: each has a connection, and their number is the caller's.
            self._own = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._own


def _checked(token: str) -> str:
    """It is never told."""
    if not _IN_A_HEADER.fullmatch(token.strip()):
        raise ValueError(
            "the token is empty, or holds a character that no header can; give a JWT, an API key, or a function that "
            "returns one"
        )
    return token.strip()


def _address(url: str) -> str:
    found = URL(url)
    if found.user is not None or found.password is not None:
        raise ValueError("the hub's address holds a user or a password; give a token instead")
    if found.scheme not in {"http", "https"} or not found.host:
        raise ValueError(f"{url!r} is no address of a hub, such as http://127.0.0.1:8080")
    return f"{found.origin()}{found.raw_path.rstrip('/')}"


async def refusal(response: aiohttp.ClientResponse, expected: str = _EVENT_STREAM) -> Refused:
    """What an answer says that is not of the media type `expected`."""
    status = response.status
    retry_after = _seconds(response.headers.get("Retry-After"))
    if status == HTTPStatus.OK:
        return Refused(status, "HTTP_200", f"the answer is {response.content_type}, not {expected}: is this a hub?")
    if status in {301, 302, 303, 307, 308}:
        where = response.headers.get("Location", "nowhere")
        return Refused(status, f"HTTP_{status}", f"the answer leads to {where}; give the address that it leads to")
    errors = _errors(await response.content.read(_LONGEST_REFUSAL))
    if not errors:
        return Refused(status, f"HTTP_{status}", f"{status} {response.reason}", (), retry_after)
    detail = " ".join(str(error.get("detail", "")) for error in errors)
    return Refused(status, str(errors[0].get("code", f"HTTP_{status}")), detail, errors, retry_after)


def _errors(body: bytes) -> list[Mapping[str, Any]]:
    """Of a JSON:API document; empty for anything else, such as a proxy's page."""
    try:
        found = orjson.loads(body)["errors"]
    except (ValueError, KeyError, TypeError):
        return []
    return [error for error in found if isinstance(error, dict)] if isinstance(found, list) else []


def _seconds(retry_after: str | None) -> float | None:
    """Of a `Retry-After`, which is a number of seconds or a date; None where it is neither."""
    if retry_after is None:
        return None
    try:
        seconds: float = int(retry_after)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    return min(max(seconds, 0.0), LONGEST_WAIT)
