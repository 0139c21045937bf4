"""What streams look like, for the reference: an example in each format."""

import json
from collections.abc import Mapping
from typing import Any, Final

from streamhub.core.event_schema import CHANGE, ID
from streamhub.web.route import Answer, Content, events_of, text_of

NDJSON: Final = "application/x-ndjson"
JOB: Final = "5f0c7e0e-2f8d-4c3b-9d0a-0d6f1c1f5a10"
RESUMES: Final = "retry: 6000\n\n"
STARTED: Final[Mapping[str, Any]] = {
    "job_id": JOB,
    "organization": {"id": "org_1", "slug": "my-org"},
    "test": False,
    "date_from": "2026-11-22T10:00:00.000Z",
    "date_to": "2026-11-23T10:00:00.000Z",
    "resource_type_eq": "skus",
    "resource_id_in": None,
    "types": None,
    "filters": None,
}
_COMPLETE: Final[Mapping[str, Any]] = {
    "job_id": JOB,
    "events": 1,
    "first_id": ID,
    "last_id": ID,
    "sha256": "0" * 64,
    "duration_ms": 12,
}


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _frame(event: str, data: Any, id: str | None = None) -> str:
    return f"event: {event}\n" + ("" if id is None else f"id: {id}\n") + f"data: {_json(data)}\n\n"


def _line(event: str, data: Any) -> str:
    return _json({"event": event, "data": data}) + "\n"


def _stream(means: str, *contents: Content) -> Answer:
    return Answer(200, means, contents)


LIVE: Final = _stream(
    "The events of both environments, in id order, with a heartbeat every 10 s. It ends with `stream_error`, unless "
    "the client ends it.",
    events_of(
        RESUMES
        + "event: heartbeat\ndata: 2026-11-22T10:00:00.000Z\n\n"
        + _frame("update", CHANGE, ID)
        + _frame("stream_error", {"code": "EXPIRED_TOKEN", "detail": "The token has expired.", "last_id": ID,
                                  "resumable": True}),
    ),
)  # fmt: skip
BROADCAST: Final = _stream(
    "The events that match, in id order, each in the envelope that was asked for, and `: ping` every 30 s.",
    events_of(
        RESUMES
        + f"id: {ID}\ndata: "
        + _json({"id": ID, "type": CHANGE["type"], "timestamp": CHANGE["created_at"], "data": CHANGE})
        + "\n\n: ping\n\n",
    ),
)
REPLAY: Final = _stream(
    "The events of the window, in id order, between `replay_started` and `stream_complete`. `Accept: "
    "application/x-ndjson` asks for one JSON object a line, `Accept-Encoding: zstd` or `gzip` for compression.",
    events_of(
        _frame("replay_started", STARTED) + _frame("update", CHANGE, ID) + _frame("stream_complete", _COMPLETE),
    ),
    text_of(
        NDJSON,
        _line("replay_started", STARTED) + _json(CHANGE) + "\n" + _line("stream_complete", _COMPLETE),
    ),
)
