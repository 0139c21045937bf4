"""`/{org}/webhooks`: the endpoints of the token's organization and environment, and their deliveries."""

import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, NamedTuple

import asyncpg
import msgspec
from aiohttp import web

from streamhub import organizations
from streamhub.core import window
from streamhub.core.event_schema import ID
from streamhub.core.window import timestamp
from streamhub.gateway.admission import admitted
from streamhub.gateway.webhooks.answers import STATES
from streamhub.gateway.webhooks.shared import WEBHOOKS
from streamhub.postgres.connections import AnyConnection
from streamhub.web import parameters
from streamhub.web.auth import Claims
from streamhub.web.parameters import InvalidValueError, Parameter, refuse_parameters, short
from streamhub.web.problems import ApiError, Fault, unavailable
from streamhub.web.scopes import webhooks_manage
from streamhub.webhooks import endpoint, store
from streamhub.webhooks.endpoint import InvalidEndpoint, Wrong
from streamhub.webhooks.store import Scope, TooManyEndpoints, TooManySecrets, TooManyTests

MOST_BYTES: Final = 128 * 1024
TIMEOUT: Final = 10.0  # seconds

_NO_STORE: Final = {"Cache-Control": "no-store"}
_LONE_SURROGATE: Final = re.compile(
    rb"(?i)\\ud[89ab][0-9a-f]{2}(?!\\ud[c-f][0-9a-f]{2})|(?<!\\ud[89ab][0-9a-f]{2})\\ud[c-f][0-9a-f]{2}"
)
_decode: Final = msgspec.json.Decoder().decode


def _since(text: str) -> int:
    try:
        return window.parse_instant(text).ms
    except ValueError as error:
        raise InvalidValueError(("INVALID_DATE", f"since: {error}.")) from None


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= store.MOST_LISTED:
        detail = f"limit is {short(repr(text))}; give a whole number from 1 to {store.MOST_LISTED}."
        raise InvalidValueError(("INVALID_FILTER", detail))
    return int(text)


def _state(text: str) -> str:
    if text not in STATES:
        raise InvalidValueError(("INVALID_FILTER", f"state is {short(repr(text))}; give {', '.join(STATES)}."))
    return text


def _before(text: str) -> str:
    if not store.is_id(text):
        raise InvalidValueError(("INVALID_FILTER", f"before is {short(repr(text))}; give the id of a delivery."))
    return text


RECOVER_PARAMETERS: Final = (
    Parameter(
        "since",
        _since,
        ("INVALID_DATE", "DATE_RANGE_INVALID", "MISSING_DATE_RANGE"),
        "required: events published from this time on are delivered where they were not",
        "2026-11-22T10:00:00Z",
    ),
)
DELIVERIES_PARAMETERS: Final = (
    Parameter(
        "state", _state, ("INVALID_FILTER",), f"deliveries of this state alone: {', '.join(STATES)}",
        "failed", {"enum": list(STATES)},
    ),
    Parameter(
        "before", _before, ("INVALID_FILTER",), "the page after this one: the id of its last delivery",
        ID, {"type": "string", "format": "uuid"},
    ),
    Parameter(
        "limit", _limit, ("INVALID_FILTER",), f"how many, 1 to {store.MOST_LISTED}; 50 by default",
        "50", {"type": "integer", "minimum": 1, "maximum": store.MOST_LISTED},
    ),
)  # fmt: skip


class _Asked(NamedTuple):
    """A request, its turn at the database taken. `scope` is None where the organization is not registered."""

    connection: AnyConnection
    scope: Scope | None
    endpoint: str
    claims: Claims


@contextmanager
def _unlocked() -> Iterator[None]:
    """Raises ApiError (503) where another transaction has the endpoint locked."""
    try:
        yield
    except asyncpg.LockNotAvailableError:
        raise unavailable("Another transaction is changing this just now; try again in 5 s.") from None


@asynccontextmanager
async def _asked(request: web.Request) -> AsyncIterator[_Asked]:
    """A request without a body."""
    async with admitted(request, webhooks_manage) as (gateway, claims, _, place):
        scope = None if place.key is None else Scope(place.key, claims.test)
        with _unlocked():
            async with gateway.hub.acquire() as connection:
                yield _Asked(connection, scope, request.match_info.get("endpoint", "").lower(), claims)


async def list_endpoints(request: web.Request) -> web.Response:
    async with _asked(request) as (connection, scope, _, _):
        refuse_parameters(request)
        return _answer([] if scope is None else await store.list_(connection, scope))


async def create(request: web.Request) -> web.Response:
    """201, with the secret, which is shown this once."""
    async with admitted(request, webhooks_manage) as (_, claims, _, _):
        pass
    fields = await _fields(request, claims, whole=True)
    async with admitted(request, webhooks_manage) as (gateway, claims, _, place), gateway.hub.acquire() as connection:
        key = place.key
        if key is None:
            id_ = claims.organization_id
            key = (await organizations.register_on_first_sight(connection, [id_]))[id_].key
            await organizations.take_slug(connection, id_, claims.slug, TIMEOUT)
        try:
            with _unlocked():
                warnings = await store.unseen_events(connection, Scope(key, claims.test), fields)
                made = await store.create(connection, Scope(key, claims.test), fields)
        except TooManyEndpoints:
            detail = f"The organization has {store.MOST_ENDPOINTS} endpoints, the most there may be: delete one."
            raise ApiError(Fault("INVALID_ENDPOINT", detail, {"pointer": ""})) from None
    return _answer(made, status=201, warnings=warnings)


async def show(request: web.Request) -> web.Response:
    return await _of_one(request, store.get)


async def change(request: web.Request) -> web.Response:
    async with _existing(request) as place:
        pass
    fields = await _fields(request, place.claims, whole=False)
    async with _existing(request) as (connection, scope, id_, _):
        warnings = await store.unseen_events(connection, scope, fields)
        return _found(await store.change(connection, scope, id_, fields), id_, warnings=warnings)


async def delete(request: web.Request) -> web.Response:
    async with _existing(request) as (connection, scope, id_, _):
        refuse_parameters(request)
        await store.delete(connection, scope, id_)
    return web.Response(status=204)


async def enable(request: web.Request) -> web.Response:
    """What came while it was disabled is delivered now."""
    return await _of_one(
        request, lambda connection, scope, id_: store.change(connection, scope, id_, {"enabled": True})
    )


async def disable(request: web.Request) -> web.Response:
    return await _of_one(
        request, lambda connection, scope, id_: store.change(connection, scope, id_, {"enabled": False})
    )


async def test(request: web.Request) -> web.Response:
    """202: the delivery of a `webhook.test` event, which follows."""
    async with _existing(request) as (connection, scope, id_, _):
        refuse_parameters(request)
        await _refuse_disabled(connection, scope, id_)
        try:
            return _found(await store.send_test(connection, scope, id_), id_, status=202)
        except TooManyTests:
            detail = f"{store.MOST_TESTS} tests of the endpoint are pending, the most there may be: see its deliveries."
            raise ApiError(Fault("INVALID_ENDPOINT", detail, {"pointer": ""})) from None


async def rotate_secret(request: web.Request) -> web.Response:
    """The new secret, shown this once; the one before stays valid for 24 hours."""
    try:
        return await _of_one(request, store.rotate_secret)
    except TooManySecrets as error:
        raise ApiError(Fault("TOO_MANY_SECRETS", str(error))) from None


async def recover(request: web.Request) -> web.Response:
    async with _existing(request) as (connection, scope, id_, _):
        faults: list[Fault] = []
        given = parameters.read(request, RECOVER_PARAMETERS, faults)
        since = given.get("since")
        if since is None and "since" not in request.query:
            detail = "since is missing: give the time from which on to deliver, such as 2026-11-22T10:00:00Z."
            if request.can_read_body:
                detail = "since is a parameter of the query, no member of a body: …/recover?since=2026-11-22T10:00:00Z."
            faults.append(Fault("MISSING_DATE_RANGE", detail, {"parameter": "since"}))
        now_ms = time.time_ns() // 1_000_000
        if since is not None and since > now_ms:
            detail = f"since lies in the future; it is {timestamp(now_ms)} now."
            faults.append(Fault("DATE_RANGE_INVALID", detail, {"parameter": "since"}))
        if faults:
            raise ApiError(faults)
        return _found(await store.recover(connection, scope, id_, since), id_, status=202)


async def deliveries(request: web.Request) -> web.Response:
    """The newest first."""
    async with _existing(request) as (connection, scope, id_, _):
        faults: list[Fault] = []
        given = parameters.read(request, DELIVERIES_PARAMETERS, faults)
        if faults:
            raise ApiError(faults)
        found = await store.deliveries(
            connection, scope, id_,
            before=given.get("before"), limit=given.get("limit") or 50, state=given.get("state"),
        )  # fmt: skip
        return _found(found, id_)


async def retry(request: web.Request) -> web.Response:
    """202: pending again, with all its attempts."""
    async with _existing(request) as (connection, scope, id_, _):
        refuse_parameters(request)
        delivery = request.match_info["delivery"].lower()
        if not store.is_id(delivery):
            raise _no("delivery", delivery)
        await _refuse_disabled(connection, scope, id_)
        found = await store.retry(connection, scope, id_, delivery)
        if found is None:
            raise _no("delivery", delivery)
        return _answer(found, status=202)


async def _refuse_disabled(connection: AnyConnection, scope: Scope, id_: str) -> None:
    """Raises ApiError (409): nothing would be sent."""
    found = await store.get(connection, scope, id_)
    if found is None or found["state"] != "disabled":
        return
    detail = "The endpoint is disabled: enable it first."
    if found["enabled"]:
        detail = f"The endpoint is disabled: {found['disabled_reason']}."
    raise ApiError(Fault("ENDPOINT_DISABLED", detail))


class _Place(NamedTuple):
    connection: AnyConnection
    scope: Scope
    endpoint: str
    claims: Claims


@asynccontextmanager
async def _existing(request: web.Request) -> AsyncIterator[_Place]:
    """An endpoint that is there. Raises ApiError (404)."""
    async with _asked(request) as (connection, scope, id_, claims):
        if scope is None or await store.get(connection, scope, id_) is None:
            raise _no("webhook endpoint", id_)
        yield _Place(connection, scope, id_, claims)


async def _of_one(
    request: web.Request, work: Callable[[AnyConnection, Scope, str], Awaitable[dict[str, Any] | None]]
) -> web.Response:
    async with _existing(request) as (connection, scope, id_, _):
        refuse_parameters(request)
        return _found(await work(connection, scope, id_), id_)


async def _fields(request: web.Request, claims: Claims, *, whole: bool) -> dict[str, Any]:
    """Of the body. Raises ApiError: 400, 413, 415, 422."""
    async with request.app[WEBHOOKS].bodies.json(request, claims.organization_id, MOST_BYTES) as sent:
        refuse_parameters(request)
        try:
            document = _decode(bytes(sent))
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            why = "an escape is half a character" if _LONE_SURROGATE.search(bytes(sent)) else str(error)[:200]
            raise ApiError(Fault("INVALID_JSON", f"The body is no JSON in UTF-8: {why}.")) from None
    try:
        return endpoint.read(document, request.app[WEBHOOKS].addresses, whole=whole)
    except InvalidEndpoint as error:
        raise ApiError(
            [Fault("INVALID_ENDPOINT", each.detail, {"pointer": each.pointer}) for each in error.wrong[:100]]
        ) from None


def _answer(data: Any, *, status: int = 200, warnings: Sequence[Wrong] = ()) -> web.Response:
    document: dict[str, Any] = {"data": data}
    if warnings:
        document["warnings"] = [
            {"detail": each.detail + ("" if each.detail.endswith("?") else "."), "source": {"pointer": each.pointer}}
            for each in warnings
        ]
    return web.json_response(document, status=status, headers=_NO_STORE, dumps=json.dumps)


def _found(data: Any, id_: str, *, status: int = 200, warnings: Sequence[Wrong] = ()) -> web.Response:
    if data is None:  # deleted meanwhile
        raise _no("webhook endpoint", id_)
    return _answer(data, status=status, warnings=warnings)


def _no(what: str, id_: str) -> ApiError:
    return ApiError(Fault("NOT_FOUND", f"There is no {what} {short(repr(id_))} here."))
