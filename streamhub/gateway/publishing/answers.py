"""What `POST /{org}/events` takes and answers, for the reference."""

from typing import Final

from streamhub.core.event_schema import TYPE
from streamhub.gateway.publishing.request import MOST_EVENTS
from streamhub.web.route import Answer, Body, Schema, data_of, json_of, object_of

_NAME: Final[Schema] = {"type": ["string", "null"], "minLength": 1, "maxLength": 255}
_EVENT: Final[Schema] = {
    "type": "object",
    "required": ["type", "data"],
    "properties": {
        "type": {"type": "string", "pattern": TYPE, "maxLength": 255},
        "data": {"description": "Any JSON, at most 1 MiB."},
        "resource_type": _NAME,
        "resource_id": _NAME,
        "publish_id": {**_NAME, "description": "The idempotency key, for 24 hours; made where it is missing."},
    },
    "additionalProperties": False,
}

EVENTS: Final = Body(
    json_of(
        {"oneOf": [_EVENT, {"type": "array", "items": _EVENT, "minItems": 1, "maxItems": MOST_EVENTS}]},
        {"type": "query.received", "data": {"query": "shirts", "hits": 12}, "publish_id": "query-4711"},
    ),
    ("INVALID_JSON", "BODY_TOO_LARGE", "TOO_MANY_EVENTS", "UNSUPPORTED_MEDIA_TYPE", "INVALID_EVENT"),
)
STORED: Final = Answer(
    202,
    "Stored durably, soon published; in the order of the request.",
    [
        data_of(
            {"type": "array", "items": object_of({"publish_id": {"type": "string"}}), "minItems": 1},
            [{"publish_id": "query-4711"}],
        )
    ],
)
