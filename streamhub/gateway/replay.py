"""`GET /{org}/replay`: a bounded piece of history as a job whose worker streams back on the request's own response.

queued ──claimed──▶ running ──▶ completed
   └──────────────────┴──────▶ cancelled (the client left, its token expired, somebody cancelled it) or failed
"""

import asyncio
import hashlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Final

from aiohttp import web

from streamhub.core import formats, ids, window
from streamhub.database import DATABASE_AWAY
from streamhub.errors import ApiError, Fault
from streamhub.gateway import jobs, parameters, registry, replay_request
from streamhub.gateway.admission import admitted
from streamhub.gateway.auth import Claims
from streamhub.gateway.gateway import Gateway
from streamhub.gateway.replay_request import ReplayRequest
from streamhub.gateway.stream import Cause, Stream, stream_error
from streamhub.history.closing import close_window
from streamhub.history.reader import Page, Selection

log = logging.getLogger(__name__)

PROGRESS_EVERY: Final = 1.0  # seconds
DATABASE_AWAY_FOR: Final = 60.0  # seconds in which no page could be read
FINISH_ATTEMPTS: Final = 30

STATES: Final = {Cause.COMPLETED: "completed", Cause.INTERNAL: "failed"}


async def replay(request: web.Request) -> web.StreamResponse:
    gateway, claims, _, place = await admitted(request)
    faults: list[Fault] = []
    longest_ms = int(gateway.settings.replay_max_window.total_seconds() * 1_000)
    asked = replay_request.read(request, place.now_ms, longest_ms, faults)
    resume_after = parameters.last_event_id(request, place.now_ms, faults)
    if faults:
        raise ApiError(faults)

    job = await jobs.queue(
        gateway.hub,
        claims.organization_id,
        claims.test,
        gateway.node.id,
        asked.document(),
        most=gateway.settings.max_replays,
        queue_limit=gateway.settings.replay_queue_limit,
    )
    return await Replay(gateway, request, job.id, asked, claims, place, resume_after).run(request)


class Replay(Stream):
    """One job, from its row to its end."""

    def __init__(
        self,
        gateway: Gateway,
        request: web.Request,
        job: str,
        asked: ReplayRequest,
        claims: Claims,
        place: registry.Place,
        resume_after: str | None,
    ) -> None:
        self._format = formats.preferred(",".join(request.headers.getall("Accept", [])))
        super().__init__(request, gateway.metrics.replay_sent, self._format)
        self._gateway = gateway
        self.job = job
        self._asked = asked
        self._claims = claims
        self._key = place.key
        self._to_ms = place.now_ms if asked.to_ms is None else asked.to_ms
        self._after = max(window.before(asked.from_ms or 0), resume_after or ids.MIN_ID)
        self._until = window.before(self._to_ms)
        self.state = "queued"
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

    async def run(self, request: web.Request) -> web.StreamResponse:
        """Stream the job on `request`'s response until it ends, and write how it ended."""
        gateway, channel = self._gateway, self.channel
        cause = Cause.LEFT
        with gateway.entered(self, gateway.replays):
            gateway.heartbeats.join(self, channel.beat)
            try:
                await channel.open(request, self._started(), self._claims.expires_at)
                cause = await self.fed()
            finally:
                gateway.heartbeats.leave(self)
                # Before the client is told, so that by then it may ask for the next one.
                written = await self._finish(STATES.get(cause, "cancelled"))
                gateway.metrics.replay_ended(written or STATES.get(cause, "cancelled"))
                if cause is Cause.COMPLETED and written == "cancelled":
                    cause = Cause.REPLAY_CANCELLED  # whoever did it was told so
                if cause is Cause.COMPLETED:
                    channel.write(self._complete())
                await channel.end(stream_error(cause), in_haste=cause is Cause.DRAINING)
                if not written:
                    await self._finish_later(STATES.get(cause, "cancelled"))
        return channel.response

    def _started(self) -> bytes:
        organization = {"id": self._claims.organization_id, "slug": self._claims.slug}
        head = {"job_id": self.job, "organization": organization, "test": self._claims.test}
        return self._format.control("replay_started", {**head, **self._asked.document()})

    def _complete(self) -> bytes:
        complete = {
            "job_id": self.job,
            "events": self._events,
            "first_id": self._first_id,
            "last_id": self._last_id,
            "sha256": self._digest.hexdigest(),
            "duration_ms": round((time.monotonic() - self._began) * 1_000),
        }
        return self._format.control("stream_complete", complete)

    async def feed(self) -> None:
        gateway = self._gateway
        async with gateway.replays_at_once:
            self._answered_at = time.monotonic()
            await self._patiently(self._claim)
            await self._patiently(self._close_window)
            await self._patiently(self._read_on)
            await self.channel.drained()

    async def _patiently(self, step: Callable[[], Awaitable[None]]) -> None:
        """Do a step that may be done again, while the database is away for no longer than a minute."""
        while True:
            try:
                return await step()
            except DATABASE_AWAY as error:
                if time.monotonic() - self._answered_at > DATABASE_AWAY_FOR:
                    raise
                log.warning("a replay waits for the database: %r", error)
                await asyncio.sleep(random.uniform(0.5, 1.0))

    async def _claim(self) -> None:
        if not await jobs.claim(self._gateway.hub, self.job):
            self.finish(Cause.REPLAY_CANCELLED)
            await asyncio.sleep(0)  # where it takes effect
        self.state = "running"

    async def _close_window(self) -> None:
        """All jobs that wait share what the first of them does."""
        async with self._gateway.closing_windows:
            await close_window(self._gateway.hub, self._to_ms)

    async def _read_on(self) -> None:
        if self._key is None:
            return
        resource_ids = self._asked.resource_ids
        selection = Selection(
            self._key,
            self._claims.test,
            self._asked.resource_type,
            None if resource_ids is None else tuple(dict.fromkeys(resource_ids)),
        )
        async with aclosing(self._gateway.replay_reader.pages(selection, self._after, self._until)) as pages:
            async for page in pages:
                self._answered_at = time.monotonic()
                await self._send(page)

    async def _send(self, page: Page) -> None:
        self._after = page.read_to
        if page.events:
            await self.channel.drained()
            frames = self._format.events(page.frames)
            self.send(frames, page.last_id, page.events)
            self._events += page.events
            self._bytes += len(frames)
            self._first_id = self._first_id or page.first_id
            self._last_id = page.last_id
            await asyncio.to_thread(self._digest.update, frames)
        now = time.monotonic()
        if now - self._noted >= PROGRESS_EVERY:
            self._noted = now
            state = await jobs.progress(self._gateway.hub, self.job, self._events, self._bytes, self._done())
            if state == "cancelled":
                self.finish(Cause.REPLAY_CANCELLED)

    def _done(self) -> float:
        whole = self._to_ms - self._from_ms
        done = ids.milliseconds(self._after) - self._from_ms
        return min(1.0, max(0.0, done / whole)) if whole > 0 else 1.0

    async def _finish(self, state: str) -> str | None:
        """The job's state as written; None while the database is away."""
        done = 1.0 if state == "completed" else self._done()
        try:
            return await jobs.finish(self._gateway.hub, self.job, state, self._events, self._bytes, done)
        except DATABASE_AWAY as error:
            log.warning("the end of a replay cannot be written just now: %r", error)
            return None

    async def _finish_later(self, state: str) -> None:
        for _ in range(FINISH_ATTEMPTS):
            await asyncio.sleep(random.uniform(1.0, 2.0))
            if await self._finish(state):
                return
