"""A replay: a bounded piece of history as a job whose worker streams back on the request's own response.

queued ──claimed──▶ running ──▶ completed
   └──────────────────┴──────▶ cancelled (the client left, its token expired, it was cancelled) or failed
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import ClassVar, Final, NamedTuple

from aiohttp import web

from streamhub.backoff import jittered, rest
from streamhub.core import control, formats, ids, window
from streamhub.gateway import places
from streamhub.gateway.replay import codings, jobs
from streamhub.gateway.replay.request import ReplayRequest
from streamhub.gateway.replay.shared import ReplayShared
from streamhub.gateway.streams.choice import Choice
from streamhub.gateway.streams.stream import Cause, Kind, Stream, stream_error
from streamhub.history.closing import close_window
from streamhub.history.reader import PAGE_BYTES, Page, Selection
from streamhub.postgres.connections import DATABASE_AWAY
from streamhub.web.auth import Claims

log = logging.getLogger(__name__)

PROGRESS_EVERY: Final = 1.0  # seconds
DATABASE_AWAY_FOR: Final = 60.0  # seconds in which no page could be read
FINISH_ATTEMPTS: Final = 30
FINISHED_WITHIN: Final = 5.0  # seconds
SLOW_PAGE_BYTES: Final = 128 * 1024  # for a client that did not take the page before in time

STATES: Final = {Cause.COMPLETED: "completed", Cause.INTERNAL: "failed"}


class Piece(NamedTuple):
    """What a replay reads: `after` < id <= `until`, and of those what `selection` says, None where the organization is
    not registered; of what was read `choice` is sent. `to_ms` is where it ends."""

    selection: Selection | None
    choice: Choice
    after: str
    until: str
    to_ms: int

    @classmethod
    def of(cls, asked: ReplayRequest, claims: Claims, place: places.Place, resume_after: str | None) -> "Piece":
        to_ms = place.now_ms if asked.to_ms is None else asked.to_ms
        after = max(window.before(asked.from_ms or 0), resume_after or ids.MIN_ID)
        resource_ids = None if asked.resource_ids is None else tuple(dict.fromkeys(asked.resource_ids))
        selection = None
        if place.key is not None:
            selection = Selection(place.key, claims.test, asked.resource_type, resource_ids)
        return cls(selection, asked.choice, after, window.before(to_ms), to_ms)


class Replay(Stream):
    """One job, from its row to its end."""

    kind: ClassVar[Kind] = "replay"

    def __init__(
        self,
        shared: ReplayShared,
        request: web.Request,
        job: str,
        asked: ReplayRequest,
        claims: Claims,
        piece: Piece,
        resume_after: str | None,
    ) -> None:
        self._format = formats.preferred(",".join(request.headers.getall("Accept", [])))
        super().__init__(request, shared.gateway.metrics.replay_sent, self._format)
        self._asked_coding = codings.preferred(",".join(request.headers.getall("Accept-Encoding", [])))
        self.channel.response.headers["Vary"] = "Accept, Accept-Encoding"
        self._shared = shared
        self.job = job
        self._asked = asked
        self._claims = claims
        self._piece = piece
        self._after = piece.after
        self._closed = False
        self._page_bytes = PAGE_BYTES
        self._state = "queued"
        self._events = 0
        self._bytes = 0
        self._first_id: str | None = None
        self._last_id: str | None = None
        self._digest = hashlib.sha256()
        self._began = time.monotonic()
        self._noted = self._began
        self._from_ms = ids.milliseconds(self._after)
        self._answered_at = self._began
        self.channel.last_id = resume_after

    @property
    def state(self) -> str:
        return self._state

    async def run(self, request: web.Request) -> web.StreamResponse:
        """Stream the job on `request`'s response until it ends, and write how it ended."""
        gateway, channel = self._shared.gateway, self.channel
        cause, written = Cause.LEFT, None
        try:
            with gateway.entered(self), self._shared.coded(self._asked_coding) as coding:
                if coding is not None:
                    channel.use(coding)
                gateway.heartbeats.join(self, channel.beat)
                try:
                    await channel.open(request, self._started(), self._claims.expires_at)
                    cause = await self.fed()
                finally:
                    gateway.heartbeats.leave(self)
                    # Before the client is told, so that by then it may ask for the next one.
                    written = await self._finish(STATES.get(cause, "cancelled"))
                    took = time.monotonic() - self._began
                    gateway.metrics.replay_ended(written or STATES.get(cause, "cancelled"), took)
                    if cause is Cause.COMPLETED and written == "cancelled":
                        cause = Cause.REPLAY_CANCELLED  # the request that did it was told so
                    if cause is Cause.COMPLETED:
                        channel.write(self._complete())
                    await channel.end(stream_error(cause), in_haste=cause is Cause.DRAINING)
        finally:
            if not written:  # the database is away, perhaps for long: what it had is for others now
                await self._finish_later(STATES.get(cause, "cancelled"))
        return channel.response

    def _started(self) -> bytes:
        organization = {"id": self._claims.organization_id, "slug": self._claims.slug}
        head = {"job_id": self.job, "organization": organization, "test": self._claims.test}
        return self._format.control(control.REPLAY_STARTED, {**head, **self._asked.document()})

    def _complete(self) -> bytes:
        complete = {
            "job_id": self.job,
            "events": self._events,
            "first_id": self._first_id,
            "last_id": self._last_id,
            "sha256": self._digest.hexdigest(),
            "duration_ms": round((time.monotonic() - self._began) * 1_000),
        }
        return self._format.control(control.STREAM_COMPLETE, complete)

    async def feed(self) -> None:
        slots, complete = self._shared.slots, False
        while not complete:
            async with slots:
                self._answered_at = time.monotonic()
                complete = await self._patiently(self._go_on)
            with slots.giving_back(self.channel.unsent):
                await self.channel.drained()

    async def _go_on(self) -> bool:
        """Whether everything has been handed to the socket; False where the client has to take some of it first."""
        if self._state == "queued":
            await self._claim()
        if not self._closed:
            # All jobs that wait share what the first of them does.
            async with self._shared.closing_windows:
                await close_window(self._shared.gateway.hub, self._piece.to_ms)
            self._closed = True
        return await self._read_on()

    async def _patiently(self, step: Callable[[], Awaitable[bool]]) -> bool:
        """Do a step that may be done again, while the database is away for no longer than a minute."""
        while True:
            try:
                return await step()
            except DATABASE_AWAY as error:
                if time.monotonic() - self._answered_at > DATABASE_AWAY_FOR:
                    raise
                pause = jittered(0.75)
                log.warning("a replay's next step needs the database, retrying in %.1f s: %r", pause, error)
                await rest(pause)

    async def _claim(self) -> None:
        async with self._shared.rows:
            claimed = await jobs.claim(self._shared.gateway.hub, self.job)
        if not claimed:
            self.finish(Cause.REPLAY_CANCELLED)
            await asyncio.sleep(0)  # where it takes effect
        self._state = "running"
        self._shared.gateway.metrics.replay_began(time.monotonic() - self._began)

    async def _read_on(self) -> bool:
        """As `_go_on`. A page that was read ahead is dropped where the slot is given back: it can be read again."""
        if self._piece.selection is None:
            return True
        slots = self._shared.slots
        pages = self._shared.reader.pages(self._piece.selection, self._after, self._piece.until, self._page_bytes)
        async with aclosing(pages):
            async for page in pages:
                self._answered_at = time.monotonic()
                await self._send(page)
                quick = await self.channel.drained_within(slots.patience)
                self._page_bytes = PAGE_BYTES if quick else SLOW_PAGE_BYTES
                if quick:
                    continue
                if self._after >= self._piece.until:
                    break
                if slots.may_give_back(self.channel.unsent):
                    return False
                await self.channel.drained()
        return True

    async def _send(self, page: Page) -> None:
        self._after = page.read_to
        if self._piece.choice:
            page = await asyncio.to_thread(self._piece.choice.of, page)
        if page.events:
            frames = self._format.events(page.frames)
            self._events += page.events
            self._bytes += len(frames)
            self._first_id = self._first_id or page.first_id
            self._last_id = page.last_id
            assert page.last_id is not None, "a page with events has a last one"
            await self.send_page(frames, page.last_id, page.events)
            await asyncio.to_thread(self._digest.update, frames)
        now = time.monotonic()
        if now - self._noted >= PROGRESS_EVERY:
            self._noted = now
            async with self._shared.rows:
                state = await jobs.progress(self._shared.gateway.hub, self.job, self._events, self._bytes, self._done())
            if state == "cancelled":
                self.finish(Cause.REPLAY_CANCELLED)

    def _done(self) -> float:
        whole = self._piece.to_ms - self._from_ms
        done = ids.milliseconds(self._after) - self._from_ms
        return min(1.0, max(0.0, done / whole)) if whole > 0 else 1.0

    async def _finish(self, state: str) -> str | None:
        """The job's state as written; None while the database is away."""
        done = 1.0 if state == "completed" else self._done()
        try:
            async with asyncio.timeout(FINISHED_WITHIN), self._shared.rows:
                return await jobs.finish(self._shared.gateway.hub, self.job, state, self._events, self._bytes, done)
        except DATABASE_AWAY as error:
            log.warning("the end of a replay cannot be written, it is retried: %r", error)
            return None

    async def _finish_later(self, state: str) -> None:
        for _ in range(FINISH_ATTEMPTS):
            await asyncio.sleep(jittered(1.5))
            if await self._finish(state):
                return
