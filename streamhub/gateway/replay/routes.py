"""`GET /{org}/replays`, `GET` and `DELETE /{org}/replays/{job_id}`: the replay jobs of the token's environment."""

import json
import re
from datetime import datetime
from typing import Any, Final

import asyncpg
from aiohttp import web

from streamhub.core import ids
from streamhub.core.window import timestamp
from streamhub.errors import ApiError, Fault
from streamhub.gateway.admission import Admitted, admitted, refuse_parameters
from streamhub.gateway.replay import jobs

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_NO_STORE: Final = {"Cache-Control": "no-store"}


async def list_replays(request: web.Request) -> web.Response:
    """The newest ones first; jobs.MOST_LISTED of them."""
    async with admitted(request) as asked:
        refuse_parameters(request)
        rows = await jobs.newest(asked.gateway.hub, asked.claims.organization_id, asked.claims.test)
    return web.json_response({"data": [_document(row) for row in rows]}, headers=_NO_STORE)


async def show_replay(request: web.Request) -> web.Response:
    async with admitted(request) as asked:
        row = await _row(request, asked)
        refuse_parameters(request)
    return web.json_response({"data": _document(row)}, headers=_NO_STORE)


async def cancel_replay(request: web.Request) -> web.Response:
    """204 once the job is cancelled; its stream ends with the next look of the process that holds it."""
    async with admitted(request) as asked:
        row = await _row(request, asked)
        refuse_parameters(request)
        if not await jobs.cancel(asked.gateway.hub, row["job_id"]):
            row = await _row(request, asked)
            detail = f"The replay {row['job_id']} is {row['state']} already: only one that is queued or running ends."
            raise ApiError(Fault(409, "REPLAY_FINISHED", detail, meta={"state": row["state"]}))
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
        raise ApiError(Fault(404, "NOT_FOUND", detail))
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
