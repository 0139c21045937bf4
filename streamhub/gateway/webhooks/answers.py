"""What the routes of webhook endpoints take and answer, for the reference."""

from collections.abc import Mapping
from typing import Any, Final

from streamhub.core.event_schema import ID
from streamhub.core.type_patterns import MOST_PATTERNS
from streamhub.web.route import COUNT, TIME, UUID, Answer, Body, Content, Schema, data_of, json_of, nullable, object_of
from streamhub.webhooks import endpoint
from streamhub.webhooks.store import MOST_ENDPOINTS

STATES: Final = ("pending", "delivered", "failed")

_TEXT: Final[Schema] = {"type": "string"}
_STRINGS: Final[Schema] = {"type": "object", "additionalProperties": _TEXT}
_BOOLEAN: Final[Schema] = {"type": "boolean"}

_FIELDS: Final[Mapping[str, Schema]] = {
    "url": {
        "type": "string",
        "minLength": 1,
        "maxLength": endpoint.LONGEST_URL,
        "description": "https; http to loopback in development alone.",
    },
    "events": {
        "type": "array",
        "items": {"type": "string", "minLength": 1},
        "minItems": 1,
        "maxItems": MOST_PATTERNS,
        "description": 'Types, `*` for any text within a segment; `["*"]` for all.',
    },
    "filters": {
        **_STRINGS,
        "description": "`resource_type_eq`, `resource_id_in`, `path_prefix` and field filters, which must all hold.",
    },
    "order": {
        "enum": ["none", "resource"],
        "description": "`resource`: of one resource, an event waits until the one before has been delivered or given "
        "up.",
    },
    "max_in_flight": {"type": "integer", "minimum": 1, "maximum": endpoint.MOST_IN_FLIGHT},
    "rate": {
        "type": ["integer", "null"],
        "minimum": 1,
        "maximum": endpoint.MOST_RATE,
        "description": "Attempts in any second, retries too.",
    },
    "headers": {**_STRINGS, "maxProperties": endpoint.MOST_HEADERS, "description": "Sent with each delivery."},
    "auto_disable": {
        "type": "boolean",
        "description": "Whether a delivery that has failed for the last time disables the endpoint.",
    },
    "description": {"type": ["string", "null"], "maxLength": endpoint.LONGEST_TEXT},
    "owner_email": {"type": ["string", "null"], "description": "Told where the endpoint is disabled by failures."},
    "enabled": _BOOLEAN,
}
_ENDPOINT: Final = object_of(
    {
        "id": UUID,
        "organization": _TEXT,
        "test": _BOOLEAN,
        **_FIELDS,
        "state": {
            "enum": ["ok", "failing", "disabled"],
            "description": "`failing`: probed with one delivery at a time.",
        },
        "disabled_reason": {
            "type": ["string", "null"],
            "description": "Null: its owner disabled it, or it is enabled. Where `enabled` is true: why its row, "
            "written in SQL, cannot be used.",
        },
        "created_at": TIME,
    }
)
_SECRET: Final[Schema] = {"type": "string", "pattern": "^whsec_", "description": "Shown this once."}
_WITH_SECRET: Final[Schema] = object_of({**_ENDPOINT["properties"], "secret": _SECRET})

_EXAMPLE: Final[Mapping[str, Any]] = {
    "id": "0c9b1a52-7f53-4f0e-9d0a-3f1c1f5a1077",
    "organization": "my-org",
    "test": False,
    "url": "https://shop.example.com/hooks",
    "events": ["skus.*"],
    "filters": {"resource.status_eq": "active"},
    "order": "none",
    "max_in_flight": 10,
    "rate": None,
    "headers": {"X-Shop": "42"},
    "auto_disable": True,
    "description": None,
    "owner_email": "owner@example.com",
    "enabled": True,
    "state": "ok",
    "disabled_reason": None,
    "created_at": "2026-11-22T10:00:00.000Z",
}
_WARNED: Final[Schema] = {
    "type": "array",
    "items": object_of({"detail": _TEXT, "source": object_of({"pointer": _TEXT})}),
    "maxItems": MOST_PATTERNS,
    "description": "Members that are right and may not be what was meant: of `events`, types that no event had in the "
    "last 30 days. Left out where there are none.",
}


def _warning(schema: Schema, example: Any) -> Content:
    """`{"data": …}`, with `warnings` beside it where there are some."""
    document = object_of({"data": schema})
    return json_of({**document, "properties": {**document["properties"], "warnings": _WARNED}}, {"data": example})


_EXAMPLE_WITH_SECRET: Final = {**_EXAMPLE, "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="}

_ATTEMPT: Final = object_of(
    {
        "at": TIME,
        "status": {"type": ["integer", "null"]},
        "error": {"type": ["string", "null"], "description": "Null where it was answered with 2xx."},
        "latency_ms": COUNT,
        "response": {"type": "string", "description": "The answer's body, its first 4 KiB."},
    }
)
_DELIVERY: Final = object_of(
    {
        "id": {**UUID, "description": "The event's, and the `webhook-id`."},
        "type": _TEXT,
        "state": {"enum": list(STATES)},
        "attempts": {"type": "array", "items": _ATTEMPT},
        "next_attempt_at": nullable(TIME),
        "created_at": TIME,
        "finished_at": nullable(TIME),
    }
)
_DELIVERY_EXAMPLE: Final = {
    "id": ID,
    "type": "skus.update",
    "state": "pending",
    "attempts": [
        {
            "at": "2026-11-22T10:00:00.130Z",
            "status": 503,
            "error": "it answered 503",
            "latency_ms": 12,
            "response": "",
        }
    ],
    "next_attempt_at": "2026-11-22T10:01:03.000Z",
    "created_at": "2026-11-22T10:00:00.127Z",
    "finished_at": None,
}

_CODES: Final = ("INVALID_JSON", "BODY_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE", "INVALID_ENDPOINT")

NEW: Final = Body(
    json_of(
        {"type": "object", "required": ["url", "events"], "properties": _FIELDS, "additionalProperties": False},
        {"url": "https://shop.example.com/hooks", "events": ["skus.*"], "owner_email": "owner@example.com"},
    ),
    _CODES,
)
CHANGE: Final = Body(
    json_of({"type": "object", "properties": _FIELDS, "additionalProperties": False}, {"order": "resource"}), _CODES
)
LISTED: Final = Answer(
    200,
    "The endpoints of the token's environment, the oldest first.",
    [data_of({"type": "array", "items": _ENDPOINT, "maxItems": MOST_ENDPOINTS}, [_EXAMPLE])],
)
CREATED: Final = Answer(
    201, "The endpoint, with its secret, which is shown this once.", [_warning(_WITH_SECRET, _EXAMPLE_WITH_SECRET)]
)
SHOWN: Final = Answer(200, "The endpoint.", [data_of(_ENDPOINT, _EXAMPLE)])
CHANGED: Final = Answer(200, "The endpoint.", [_warning(_ENDPOINT, _EXAMPLE)])
ROTATED: Final = Answer(
    200,
    "The endpoint, with its new secret, which is shown this once. The one before stays valid for 24 hours.",
    [data_of(_WITH_SECRET, _EXAMPLE_WITH_SECRET)],
)
RECOVERING: Final = Answer(202, "The endpoint, enabled; the deliveries follow.", [data_of(_ENDPOINT, _EXAMPLE)])
DELETED: Final = Answer(204, "The endpoint is gone, with its deliveries.")
DELIVERIES: Final = Answer(
    200, "Deliveries, the newest event first.", [data_of({"type": "array", "items": _DELIVERY}, [_DELIVERY_EXAMPLE])]
)
TEST_SENT: Final = Answer(
    202,
    "The delivery of a `webhook.test` event, which follows.",
    [
        data_of(
            object_of({"id": UUID, "type": {"const": "webhook.test"}, "state": {"const": "pending"}}),
            {"id": ID, "type": "webhook.test", "state": "pending"},
        )
    ],
)
RETRIED: Final = Answer(
    202,
    "The delivery is pending, with all attempts of a new one.",
    [data_of(object_of({"id": UUID, "state": {"const": "pending"}}), {"id": ID, "state": "pending"})],
)
