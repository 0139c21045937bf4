"""`GET /{org}/replay`: a job whose events come on the response. `/{org}/replays`: the jobs of an environment."""

import asyncio
import json
import re
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final

import asyncpg
from aiohttp import web

from streamhub.core import ids
from streamhub.core.window import timestamp
from streamhub.gateway.admission import Admitted, admitted
from streamhub.gateway.replay import jobs
from streamhub.gateway.replay import request as replay_request
from streamhub.gateway.replay.shared import REPLAY, ReplayShared
from streamhub.gateway.replay.stream import Piece, Replay
from streamhub.history.closing import close_window
from streamhub.history.reader import PAGE_BYTES
from streamhub.postgres.connections import DATABASE_AWAY
from streamhub.web import parameters
from streamhub.web.parameters import refuse_parameters
from streamhub.web.problems import ApiError, Fault
from streamhub.web.scopes import integration

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_NO_STORE: Final = {"Cache-Control": "no-store"}
LOOKED_FOR_WITHIN: Final = 2.0  # seconds


async def replay(request: web.Request) -> web.StreamResponse:
    shared = request.app[REPLAY]
    async with admitted(request, integration) as (gateway, claims, _, place):
        faults: list[Fault] = []
        longest_ms = int(gateway.settings.replay_max_window.total_seconds() * 1_000)
        asked = replay_request.read(request, place.now_ms, longest_ms, faults)
        resume_after = parameters.last_event_id(request, place.now_ms, faults)
        if faults:
            raise ApiError(faults)
    piece = Piece.of(asked, claims, place, resume_after)
    if resume_after is not None and await nothing_left(shared, piece):
        return web.Response(status=204)
    async with gateway.turn(request), gateway.own_statements:
        job = await jobs.queue(
            gateway.hub,
            claims.organization_id,
            claims.test,
            gateway.node.id,
            asked.document(),
            most=gateway.settings.max_replays,
            queue_limit=gateway.settings.replay_queue_limit,
        )
    return await Replay(shared, request, job.id, asked, claims, piece, resume_after).run(request)


async def nothing_left(shared: ReplayShared, piece: Piece) -> bool:
    """A client that resumes has had everything: no event of the window can follow. An EventSource that comes back after
    `stream_complete` ends with that. False where it cannot be told soon; then the job will tell."""
    if piece.selection is None or piece.after >= piece.until:
        return True
    try:
        async with asyncio.timeout(LOOKED_FOR_WITHIN):
            async with shared.closing_windows:
                await close_window(shared.gateway.hub, piece.to_ms)
            max_bytes = PAGE_BYTES if piece.choice else 1
            pages = shared.reader.pages(piece.selection, piece.after, piece.until, max_bytes)
            async with aclosing(pages):
                async for page in pages:
                    if (await asyncio.to_thread(piece.choice.of, page)).events:
                        return False
            return True
    except DATABASE_AWAY:  # a time-out is among them
        return False


async def list_replays(request: web.Request) -> web.Response:
    """The newest ones first; jobs.MOST_LISTED of them."""
    async with admitted(request, integration) as asked:
        refuse_parameters(request)
        rows = await jobs.newest(asked.gateway.hub, asked.claims.organization_id, asked.claims.test)
    return web.json_response({"data": [_document(row) for row in rows]}, headers=_NO_STORE)


async def show_replay(request: web.Request) -> web.Response:
    async with admitted(request, integration) as asked:
        row = await _row(request, asked)
        refuse_parameters(request)
    return web.json_response({"data": _document(row)}, headers=_NO_STORE)


async def cancel_replay(request: web.Request) -> web.Response:
    """204 once the job is cancelled; its stream ends with the next look of the process that holds it."""
    async with admitted(request, integration) as asked:
        row = await _row(request, asked)
        refuse_parameters(request)
        if not await jobs.cancel(asked.gateway.hub, row["job_id"]):
            row = await _row(request, asked)
            detail = f"The replay {row['job_id']} is {row['state']} already: only one that is queued or running ends."
            raise ApiError(Fault("REPLAY_FINISHED", detail, meta={"state": row["state"]}))
    await asked.gateway.endings.look()
    return web.Response(status=204)


async def _row(request: web.Request, asked: Admitted) -> asyncpg.Record:
    """The job that the path names. Raises ApiError (404): another organization's or environment's is as none."""
    job = request.match_info["job"]
    row = None
    if _UUID.fullmatch(job):
        row = await jobs.find(asked.gateway.hub, asked.claims.organization_id, asked.claims.test, job)
    if row is None:
        environment = "test" if asked.claims.test else "live"
        detail = f"The organization {asked.slug!r} has no replay {job[:64]!r} in its {environment} environment."
        raise ApiError(Fault("NOT_FOUND", detail))
    return row


def _document(row: asyncpg.Record) -> dict[str, Any]:
    return {
        "job_id": row["job_id"],
        "state": row["state"],
        "test": row["test"],
        "events": row["events"],
        "bytes": row["bytes"],
        "progress": round(row["progress"], 4),
        "created_at": _time(row["created_at"]),
        "started_at": _time(row["started_at"]),
        "finished_at": _time(row["finished_at"]),
        "request": json.loads(row["request"]),
    }


def _time(when: datetime | None) -> str | None:
    return None if when is None else timestamp(ids.ms_of(when))
