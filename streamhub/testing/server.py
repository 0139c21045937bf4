"""The routes of a fake hub and what they share."""

import asyncio
import hashlib
import math
import re
import threading
import time
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import uuid4

import orjson
from aiohttp import web

from streamhub.core import control, ids
from streamhub.core.type_patterns import TypePatterns
from streamhub.core.window import before, parse_instant, timestamp
from streamhub.testing.faults import Body, Break, BrokenError, Kind, Refusal

PROBLEMS: Final = "application/vnd.api+json"
_FILTER: Final = re.compile(r"(?:resource|delta|who|data)\.\w.*")
_CHOICE: Final = frozenset({"types", "events", "resource_type_eq", "resource_id_in"})
_WINDOW: Final = frozenset({"date_from", "date_to"})
_KNOWN: Final[Mapping[Kind, frozenset[str]]] = {
    "live": frozenset(),
    "replay": _CHOICE | _WINDOW,
    "broadcast": _CHOICE | {"envelope", "last_event_id", "latest", "path_prefix"},
    "publish": frozenset(),
}


class Seen(NamedTuple):
    """A request that came."""

    kind: Kind
    query: Mapping[str, str]
    headers: Mapping[str, str]

    @property
    def last_event_id(self) -> str | None:
        return self.headers.get("Last-Event-ID")


class Stored(NamedTuple):
    """An event in history."""

    id: str
    type: str
    resource_type: str
    resource_id: str | None
    test: bool
    frame: bytes


Matches = Callable[[Stored], bool]


@dataclass(eq=False, slots=True)
class Open:
    """A stream that is connected. `error` is a `stream_error` to end it with."""

    kind: Kind
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    error: Mapping[str, Any] | None = None


class Server:
    """All of it is read and written under `changed`."""

    def __init__(self, org: str, token: str, heartbeat: float, retry_ms: int, stale_after: float) -> None:
        self.org = org
        self.token = token
        self.expired: set[str] = set()
        self.seen: list[Seen] = []
        self.events: list[Stored] = []
        self.open: set[Open] = set()
        self.published: dict[str, str] = {}
        """The ids of events that clients published, by publish id."""
        self.publish: Callable[[Mapping[str, Any]], str] = lambda _: ids.MIN_ID
        self.refusals: deque[tuple[Kind | None, Refusal]] = deque()
        self.breaks: deque[tuple[Kind | None, Break]] = deque()
        self.gaps: deque[Mapping[str, Any]] = deque()
        self.replay_errors: deque[tuple[int, Mapping[str, Any]]] = deque()
        self.false_endings: deque[Mapping[str, Any]] = deque()
        self.changed = threading.Condition(threading.RLock())
        self._heartbeat = heartbeat
        self._retry_ms = retry_ms
        self._stale_after = stale_after
        self._stale_until = 0.0
        self._cursor: str | None = None

    def app(self) -> web.Application:
        app = web.Application()
        for path, handler in (
            ("/{org}", self._live),
            ("/{org}/replay", self._replay),
            ("/{org}/events/stream", self._broadcast),
            ("/{org}/types", self._types),
        ):
            app.router.add_get(path, handler, allow_head=False)
        app.router.add_post("/{org}/events", self._published)
        return app

    # -- routes

    async def _live(self, request: web.Request) -> web.StreamResponse:
        refused = self._refused(request, "live") or self._busy()
        if refused is not None:
            return refused
        position = request.headers.get("Last-Event-ID") or self._cursor or self._newest()
        with self._stream("live") as stream:
            try:
                return await self._respond(request, "live", self._live_frames(stream, position))
            finally:
                self._stale_until = time.monotonic() + self._stale_after

    async def _live_frames(self, stream: Open, position: str) -> AsyncIterator[bytes]:
        yield frame(retry=self._retry_ms) + self._beat()
        async for frames, last in self._following(stream, position, lambda _: True, self._beat):
            yield frames
            self._cursor = last or self._cursor

    async def _broadcast(self, request: web.Request) -> web.StreamResponse:
        refused = self._refused(request, "broadcast")
        if refused is not None:
            return refused
        position = request.headers.get("Last-Event-ID") or request.query.get("last_event_id") or self._newest()
        with self._stream("broadcast") as stream:
            frames = self._broadcast_frames(stream, position, _choice(request.query))
            return await self._respond(request, "broadcast", frames)

    async def _broadcast_frames(self, stream: Open, position: str, matches: Matches) -> AsyncIterator[bytes]:
        yield frame(retry=self._retry_ms)
        async for frames, _ in self._following(stream, position, matches, lambda: b": ping\n\n"):
            yield frames

    async def _following(
        self, stream: Open, position: str, matches: Matches, beat: Callable[[], bytes]
    ) -> AsyncIterator[tuple[bytes, str | None]]:
        """Frames, and the last event among them."""
        if self.gaps:
            yield frame(event=control.GAP, data=self.gaps.popleft()), None
        while True:
            stream.wake.clear()
            after = self._between(position)
            chosen = [event for event in after if matches(event) and not event.test]
            if after:
                position = after[-1].id
            if chosen:
                yield b"".join(event.frame for event in chosen), position
            if stream.error is not None:
                yield frame(event=control.STREAM_ERROR, data={**stream.error, "last_id": position}), None
                return
            try:
                async with asyncio.timeout(self._heartbeat):
                    await stream.wake.wait()
            except TimeoutError:
                yield beat(), None

    async def _replay(self, request: web.Request) -> web.StreamResponse:
        refused = self._refused(request, "replay")
        if refused is not None:
            return refused
        with self._stream("replay"):
            after = request.headers.get("Last-Event-ID", "")
            now = int(time.time() * 1000) + 1
            start, end = (_ms(request.query.get(name)) for name in ("date_from", "date_to"))
            end = now if end is None else min(end, now)
            if after and ids.milliseconds(after) >= end:
                return web.Response(status=204)
            return await self._respond(request, "replay", self._replay_frames(request.query, after, start, end))

    async def _replay_frames(
        self, query: Mapping[str, str], after: str, start: int | None, end: int
    ) -> AsyncIterator[bytes]:
        job, matches = str(uuid4()), _choice(query)
        found = self._between(max(after, before(start or 0)), ids.first_id_of(end))
        chosen = [event for event in found if not event.test and matches(event)]
        yield frame(
            event=control.REPLAY_STARTED,
            data={
                "job_id": job,
                "organization": {"id": self.org, "slug": self.org},
                "test": False,
                "date_from": None if start is None else timestamp(start),
                "date_to": timestamp(end) if "date_to" in query else None,
            },
        )
        digest = hashlib.sha256()
        most, error = self.replay_errors.popleft() if self.replay_errors else (len(chosen), None)
        for event in chosen[:most]:
            digest.update(event.frame)
            yield event.frame
        if error is not None:
            last_id = chosen[most - 1].id if most else after or None
            yield frame(event=control.STREAM_ERROR, data={**error, "last_id": last_id})
            return
        ending = {
            "job_id": job,
            "events": len(chosen),
            "first_id": chosen[0].id if chosen else None,
            "last_id": chosen[-1].id if chosen else None,
            "sha256": digest.hexdigest(),
            "duration_ms": 0,
        }
        if self.false_endings:
            ending |= self.false_endings.popleft()
        yield frame(event=control.STREAM_COMPLETE, data=ending)

    async def _types(self, request: web.Request) -> web.StreamResponse:
        refused = self._not_for(request)
        if refused is not None:
            return refused
        return web.json_response({"data": sorted({event.type for event in self.events if not event.test})})

    async def _published(self, request: web.Request) -> web.StreamResponse:
        refused = self._refused(request, "publish")
        if refused is not None:
            return refused
        body = orjson.loads(await request.read())
        events = body if isinstance(body, list) else [body]
        for event in events:
            event.setdefault("publish_id", str(uuid4()))
            if event["publish_id"] not in self.published:
                self.published[event["publish_id"]] = self.publish(event)
        return web.json_response({"data": [{"publish_id": event["publish_id"]} for event in events]}, status=202)

    # -- what they share

    async def _respond(self, request: web.Request, kind: Kind, frames: AsyncIterator[bytes]) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-cache, no-transform",
                "X-Accel-Buffering": "no",
            }
        )
        body = Body(request, response, _taken(self.breaks, kind))
        await response.prepare(request)
        try:
            async for data in frames:
                await body.write(data)
        except (BrokenError, ConnectionError):
            pass
        return response

    @contextmanager
    def _stream(self, kind: Kind) -> Iterator[Open]:
        stream = Open(kind)
        with self.changed:
            self.open.add(stream)
            self.changed.notify_all()
        try:
            yield stream
        finally:
            with self.changed:
                self.open.discard(stream)
                self.changed.notify_all()

    def _refused(self, request: web.Request, kind: Kind) -> web.Response | None:
        """In a hub's order: the token, the organization, the parameters."""
        self.seen.append(Seen(kind, dict(request.query), dict(request.headers)))
        refusal = _taken(self.refusals, kind)
        if refusal is not None:
            return _answer(refusal)
        refused = self._not_for(request)
        if refused is not None:
            return refused
        for name in request.query:
            if name not in _KNOWN[kind] and not (kind not in {"live", "publish"} and _FILTER.fullmatch(name)):
                return _answer(Refusal(400, "UNKNOWN_PARAMETER", f"{name} is no parameter of this stream."))
        if kind == "broadcast" and request.query.get("envelope") != "change":
            return _answer(Refusal(400, "INVALID_ENVELOPE", "A fake hub has envelope=change alone."))
        if kind == "replay" and not (request.query.keys() >= _WINDOW or "resource_id_in" in request.query):
            return _answer(Refusal(400, "MISSING_DATE_RANGE", "Give date_from and date_to."))
        try:
            ids.normalize(request.headers.get("Last-Event-ID") or ids.MIN_ID)
            _choice(request.query)
        except ValueError as error:
            return _answer(Refusal(400, "INVALID_PARAMETER", str(error)))
        return None

    def _not_for(self, request: web.Request) -> web.Response | None:
        """The refusal of a token, or of an organization."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not token:
            return _answer(Refusal(401, "MISSING_TOKEN", "Send Authorization: Bearer <token>."))
        if token in self.expired:
            return _answer(Refusal(401, "EXPIRED_TOKEN", "The token has expired."))
        if token != self.token:
            return _answer(Refusal(401, "INVALID_TOKEN", "It is not the token of this fake hub."))
        if request.match_info["org"] != self.org:
            return _answer(Refusal(403, "ORGANIZATION_MISMATCH", f"The token is of {self.org}."))
        return None

    def _busy(self) -> web.Response | None:
        left = self._stale_until - time.monotonic()
        if any(stream.kind == "live" for stream in self.open):
            left = max(left, self._stale_after)
        elif left <= 0:
            return None
        detail = "Another consumer is connected, or has just gone."
        return _answer(Refusal(409, "ACTIVE_CONSUMER_EXISTS", detail, math.ceil(left)))

    def _between(self, after: str, until: str = ids.MAX_ID) -> list[Stored]:
        """The events after an id, and before another."""
        with self.changed:
            first = bisect_right(self.events, after, key=_id)
            return self.events[first : bisect_left(self.events, until, key=_id)]

    def _newest(self) -> str:
        return self.events[-1].id if self.events else ids.MIN_ID

    def _beat(self) -> bytes:
        return frame(event=control.HEARTBEAT, data=timestamp(int(time.time() * 1000)))


def _id(event: Stored) -> str:
    return event.id


def frame(**fields: Any) -> bytes:
    """A server-sent event with these fields; a mapping becomes JSON."""
    lines = []
    for name, value in fields.items():
        text = orjson.dumps(value) if isinstance(value, Mapping) else str(value).encode()
        lines.append(b"%b: %b\n" % (name.encode(), text))
    return b"".join([*lines, b"\n"])


def _ms(instant: str | None) -> int | None:
    return None if instant is None else parse_instant(instant).ms


def _choice(query: Mapping[str, str]) -> Matches:
    """Raises ValueError."""
    given = [query[name] for name in ("types", "events") if name in query]
    patterns = TypePatterns.parse(*given) if given else TypePatterns(["*"])
    resource_type = query.get("resource_type_eq")
    resource_ids = query["resource_id_in"].split(",") if "resource_id_in" in query else None
    fields = _fields(query)

    def matches(event: Stored) -> bool:
        return (
            patterns.matches(event.type)
            and resource_type in {None, event.resource_type}
            and (resource_ids is None or event.resource_id in resource_ids)
            and fields(event)
        )

    return matches


def _fields(query: Mapping[str, str]) -> Matches:
    asked = [(name, value) for name, value in query.items() if _FILTER.fullmatch(name)]
    if not asked:
        return lambda _: True
    try:
        from streamhub.core import filters, view  # noqa: PLC0415 - they need msgspec, which a client has no need of
    except ModuleNotFoundError:
        raise ValueError("A fake hub has field filters where the extra streamhub-cdc[server] is installed.") from None
    parsed = filters.parse(asked)
    return lambda event: parsed.matches(view.View(event.frame[event.frame.index(b"{") : -2]))


def _taken(orders: deque[Any], kind: Kind) -> Any:
    """The first order for this kind of stream, which is carried out once."""
    for order in orders:
        if order[0] in {None, kind}:
            orders.remove(order)
            return order[1]
    return None


def _answer(refusal: Refusal) -> web.Response:
    headers = {} if refusal.retry_after is None else {"Retry-After": str(refusal.retry_after)}
    error = {"status": str(refusal.status), "code": refusal.code, "title": refusal.code, "detail": refusal.detail}
    return web.Response(
        status=refusal.status, headers=headers, body=orjson.dumps({"errors": [error]}), content_type=PROBLEMS
    )


def stored(
    org: str, id_: str, type_: str, number: int, members: Mapping[str, Any], resource_id: str | None, *, test: bool
) -> Stored:
    """An event as a hub renders it. `members` are `resource`, `delta`, `who`, and `data` of a published one."""
    resource_type, _, event = type_.rpartition(".")
    object_ = {
        "id": id_,
        "type": type_,
        "event": event,
        "resource_type": resource_type or None,
        "resource_id": resource_id,
        "organization": {"id": org, "slug": org},
        "test": test,
        "created_at": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "transaction_id": str(number),
        **members,
    }
    return Stored(id_, type_, resource_type, resource_id, test, frame(event=event, id=id_, data=object_))
