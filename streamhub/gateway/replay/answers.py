"""What the routes of replay jobs answer, for the reference."""

from typing import Final

from streamhub.core.event_schema import ID
from streamhub.gateway.streams.answers import JOB, STARTED
from streamhub.web.route import COUNT, TIME, UUID, Answer, Schema, data_of, nullable, object_of

STATES: Final = ("queued", "running", "completed", "cancelled", "failed")

_REQUEST: Final = ("date_from", "date_to", "resource_type_eq", "resource_id_in", "types", "filters")
_JOB: Final[Schema] = object_of(
    {
        "job_id": UUID,
        "state": {"enum": list(STATES)},
        "test": {"type": "boolean"},
        "events": COUNT,
        "bytes": COUNT,
        "progress": {"type": "number", "minimum": 0, "maximum": 1},
        "created_at": TIME,
        "started_at": nullable(TIME),
        "finished_at": nullable(TIME),
        "request": object_of(
            {
                "date_from": nullable(TIME),
                "date_to": nullable(TIME),
                "resource_type_eq": {"type": ["string", "null"]},
                "resource_id_in": {"type": ["array", "null"], "items": {"type": "string"}},
                "types": {"type": ["array", "null"], "items": {"type": "string"}},
                "filters": {"type": ["object", "null"], "additionalProperties": {"type": "string"}},
            }
        ),
    }
)
_EXAMPLE: Final = {
    "job_id": JOB,
    "state": "running",
    "test": False,
    "events": 1_500,
    "bytes": 980_000,
    "progress": 0.25,
    "created_at": "2026-11-23T11:00:00.000Z",
    "started_at": "2026-11-23T11:00:00.010Z",
    "finished_at": None,
    "request": {name: STARTED[name] for name in _REQUEST},
}

SHOWN: Final = Answer(200, "The job.", [data_of(_JOB, _EXAMPLE)])
LISTED: Final = Answer(
    200, "The newest 100 jobs, newest first.", [data_of({"type": "array", "items": _JOB}, [_EXAMPLE])]
)
CANCELLED: Final = Answer(204, "The job is cancelled; its stream ends with REPLAY_CANCELLED within a second.")
NOTHING_LEFT: Final = Answer(204, f"Nothing of the window is left after `Last-Event-ID` (such as {ID}).")
