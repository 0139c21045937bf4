"""JSON Schema (2020-12) of the event: the object behind `data:` on the live stream, and the value of a record in Kafka.

It keeps to what draft 7 means in the same way, which AsyncAPI's tools read.
"""

from collections.abc import Mapping
from typing import Any, Final

UUID7: Final = "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
TYPE: Final = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$"
WRITTEN: Final = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$"

ID: Final = "01a202b2-c57c-7000-8000-00000000002a"

CHANGE: Final[Mapping[str, Any]] = {
    "id": ID,
    "type": "skus.update",
    "event": "update",
    "resource_type": "skus",
    "resource_id": "AYqPSwAqDW",
    "organization": {"id": "org_1", "slug": "my-org"},
    "test": False,
    "created_at": "2026-11-22T10:00:00.123456Z",
    "transaction_id": "7412",
    "resource": {"id": "AYqPSwAqDW", "code": "TSHIRT", "price": "12.50"},
    "delta": {"price": {"from": "10.00", "to": "12.50"}},
    "who": {"application": "importer"},
}
PUBLISHED: Final[Mapping[str, Any]] = {
    "id": "01a202b2-c57c-7000-8000-00000000002b",
    "type": "query.received",
    "event": "received",
    "resource_type": "query",
    "resource_id": None,
    "organization": {"id": "org_1", "slug": "my-org"},
    "test": False,
    "created_at": "2026-11-22T10:00:00.234567Z",
    "transaction_id": "7413",
    "resource": None,
    "delta": None,
    "who": None,
    "publish_id": "query-4711",
    "data": {"query": "shirts", "hits": 12},
}

_MEMBERS: Final[Mapping[str, Any]] = {
    "id": {
        "type": "string",
        "pattern": UUID7,
        "description": "A UUIDv7 in lower case. Its time is that of publication; ids increase in that order.",
    },
    "type": {
        "type": "string",
        "minLength": 1,
        "description": "`<resource_type>.<event>`, unless it was named otherwise.",
    },
    "event": {
        "type": "string",
        "minLength": 1,
        "description": "Of a change `create`, `update`, `destroy`, `anonymization_request` or `anonymization_cancel`, "
        "unless its type was named otherwise; of a published event the last segment of its type.",
    },
    "resource_type": {
        "type": ["string", "null"],
        "description": "Null only of a published event whose type has no dot.",
    },
    "resource_id": {
        "type": ["string", "null"],
        "description": "The parts of a composite key are joined with `:`. Null of a published event that names none.",
    },
    "organization": {
        "type": "object",
        "required": ["id", "slug"],
        "properties": {"id": {"type": "string"}, "slug": {"type": "string"}},
        "additionalProperties": False,
    },
    "test": {"type": "boolean", "description": "The environment: true for test, false for live."},
    "created_at": {
        "type": "string",
        "pattern": WRITTEN,
        "description": "When the row was written, or the event handed over: UTC, six digits.",
    },
    "transaction_id": {
        "type": "string",
        "pattern": "^[0-9]+$",
        "description": "PostgreSQL's, of the writing transaction.",
    },
    "resource": {
        "type": ["object", "null"],
        "description": "The row after the change; of `destroy` before it. bigint and numeric are strings, bytea is "
        "base64. Null of a published event, and of one that is too large or cannot be rendered.",
    },
    "delta": {
        "type": ["object", "null"],
        "description": "The columns that differ. Null where `resource` is null.",
        "additionalProperties": {
            "type": "object",
            "required": ["from", "to"],
            "properties": {"from": True, "to": True},
            "additionalProperties": False,
        },
    },
    "who": {
        "description": "What the application put into the setting `streamhub.who`: any JSON. Null where it did not."
    },
    "too_large": {
        "const": True,
        "description": "The event was larger than MAX_EVENT_BYTES, and has come without values.",
    },
    "error": {"type": "string", "description": "Why the event has come without values."},
    "backfill": {"const": True, "description": "`capture backfill` sent the row: it was there before."},
    "publish_id": {"type": "string", "description": "Of a published event: the publisher's idempotency key."},
    "data": {"description": "Of a published event: the publisher's own JSON."},
}
_OPTIONAL: Final = ("too_large", "error", "backfill", "publish_id", "data")

EVENT: Final[Mapping[str, Any]] = {
    "title": "Event",
    "description": "A change of a row, or an event that an application published. Later versions may add members.",
    "type": "object",
    "required": [name for name in _MEMBERS if name not in _OPTIONAL],
    "properties": _MEMBERS,
    "if": {"required": ["publish_id"]},
    "then": {
        "required": ["data"],
        "properties": {
            "type": {"pattern": TYPE, "maxLength": 255},
            "resource": {"type": "null"},
            "delta": {"type": "null"},
        },
    },
    "else": {
        "not": {"required": ["data"]},
        "properties": {"resource_type": {"type": "string"}, "resource_id": {"type": "string"}},
    },
    "examples": [CHANGE, PUBLISHED],
}
