"""What is raised for a person to read: at a terminal (UserError) or in an HTTP response (Fault, ApiError).

Exception
├── UserError    one sentence; the command line prints it and exits 1
└── ApiError     one or more Faults of one request, rendered as application/vnd.api+json
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

MEDIA_TYPE: Final = "application/vnd.api+json"

# U+0085, U+2028 and U+2029, at which clients in the wild split lines. In JSON they stand in strings alone.
_SPLITTING: Final = {b"\xc2\x85": b"\\u0085", b"\xe2\x80\xa8": b"\\u2028", b"\xe2\x80\xa9": b"\\u2029"}

TITLES: Final[Mapping[str, str]] = {
    "INVALID_DATE": "Not a date",
    "DATE_RANGE_INVALID": "The range of dates is empty",
    "DATE_RANGE_TOO_LONG": "The range of dates is too long",
    "MISSING_DATE_RANGE": "A range of dates is wanted",
    "MISSING_RESOURCE_TYPE": "A resource type is wanted",
    "TOO_MANY_RESOURCE_IDS": "Too many resource ids",
    "INVALID_RESOURCE_ID": "Not a resource id",
    "UNKNOWN_PARAMETER": "No such parameter",
    "REPEATED_PARAMETER": "A parameter was given more than once",
    "INVALID_FILTER": "Not a filter",
    "INVALID_LAST_EVENT_ID": "Not a position",
    "INVALID_REQUEST": "Not an HTTP request",
    "MISSING_TOKEN": "A token is wanted",
    "INVALID_TOKEN": "The token is not valid",
    "EXPIRED_TOKEN": "The token has expired",
    "NOT_INTEGRATION": "The token is not an integration's",
    "ORGANIZATION_MISMATCH": "The token is another organization's",
    "NOT_ENTERPRISE": "The organization is not enterprise",
    "NOT_FOUND": "Not found",
    "METHOD_NOT_ALLOWED": "Method not allowed",
    "ACTIVE_CONSUMER_EXISTS": "The stream has a consumer",
    "TOO_MANY_REPLAYS": "Too many replays at once",
    "REPLAY_FINISHED": "The replay has ended already",
    "REPLAY_QUEUE_FAILED": "The replay could not be queued",
    "INTERNAL": "Something went wrong on our side",
    "DRAINING": "This gateway is shutting down",
    "UNAVAILABLE": "The service is not available just now",
}


class UserError(Exception):
    """One sentence for a person: what was wrong, the value, and what would be right."""


class Fault(NamedTuple):
    """One entry of `errors`. `detail` says what was wrong, what would be right, and names the value.

    `source` is JSON:API's (`{"parameter": …}` or `{"header": …}`), `meta` what a program wants to know of it.
    """

    status: int
    code: str
    detail: str
    source: Mapping[str, str] | None = None
    meta: Mapping[str, Any] | None = None

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "status": str(self.status),
            "code": self.code,
            "title": TITLES[self.code],
            "detail": self.detail,
        }
        if self.source:
            document["source"] = dict(self.source)
        if self.meta:
            document["meta"] = dict(self.meta)
        return document


class ApiError(Exception):
    """A request that is refused, for one fault or for several of one status."""

    def __init__(self, faults: Fault | Sequence[Fault], headers: Mapping[str, str] | None = None) -> None:
        self.faults = (faults,) if isinstance(faults, Fault) else tuple(faults)
        self.headers = dict(headers or {})
        super().__init__("; ".join(f"{fault.code}: {fault.detail}" for fault in self.faults))

    @property
    def status(self) -> int:
        return self.faults[0].status

    def body(self) -> bytes:
        body = orjson.dumps({"errors": [fault.document() for fault in self.faults]})
        for raw, escaped in _SPLITTING.items():
            body = body.replace(raw, escaped)
        return body


def unauthorized(code: str, detail: str) -> ApiError:
    return ApiError(Fault(401, code, detail), {"WWW-Authenticate": "Bearer"})


def unavailable(detail: str, code: str = "UNAVAILABLE", retry_after: int = 5) -> ApiError:
    """503; `retry_after` in seconds."""
    return ApiError(Fault(503, code, detail), {"Retry-After": str(retry_after)})
