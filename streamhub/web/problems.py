"""Why a request is refused: every code that there is, its status and its meaning, and the errors that carry them.

PROBLEMS is the one list: answers take status and title from it, and the reference is made of it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from streamhub.keys.key import masked

MEDIA_TYPE: Final = "application/vnd.api+json"

# U+0085, U+2028 and U+2029, at which clients in the wild split lines. In JSON they stand in strings alone.
_SPLITTING: Final = {b"\xc2\x85": b"\\u0085", b"\xe2\x80\xa8": b"\\u2028", b"\xe2\x80\xa9": b"\\u2029"}


class Problem(NamedTuple):
    """`title` is the answer's; `means` tells a reader of the reference what happened and what to do."""

    status: int
    title: str
    means: str


PROBLEMS: Final[Mapping[str, Problem]] = {
    "INVALID_DATE": Problem(
        400, "Not a date", "A date is not RFC 3339 with `Z` or an offset, such as 2026-11-22T10:00:00Z."
    ),
    "DATE_RANGE_INVALID": Problem(
        400, "The range of dates is empty", "date_from is not before date_to, or lies in the future."
    ),
    "DATE_RANGE_TOO_LONG": Problem(
        400, "The range of dates is too long", "date_from and date_to are further apart than REPLAY_MAX_WINDOW."
    ),
    "MISSING_DATE_RANGE": Problem(
        400, "The range of dates is missing", "Give date_from and date_to, or resource_type_eq with resource_id_in."
    ),
    "MISSING_RESOURCE_TYPE": Problem(
        400, "The resource type is missing", "resource_id_in needs resource_type_eq: ids are ids of one type."
    ),
    "TOO_MANY_RESOURCE_IDS": Problem(
        400, "Too many resource ids", "resource_id_in has over 500 ids: ask in several requests."
    ),
    "INVALID_RESOURCE_ID": Problem(
        400,
        "Not a resource id",
        "An id is empty, over 255 characters long, holds a control character, or has a space at its edge.",
    ),
    "UNKNOWN_PARAMETER": Problem(
        400, "No such parameter", "The route does not know the parameter; `detail` names the nearest one it knows."
    ),
    "REPEATED_PARAMETER": Problem(400, "A parameter was given more than once", "Give each parameter once."),
    "INVALID_FILTER": Problem(
        400,
        "Not a filter",
        "A filter has a value that it cannot have, or its name ends with no predicate; `detail` names the nearest one.",
    ),
    "TOO_MANY_FILTERS": Problem(
        400, "Too many filters", "A request has at most 20 field filters; filter further in the client."
    ),
    "INVALID_ENVELOPE": Problem(
        400, "No such envelope", "envelope is none of `event`, `engine`, `change`, `cloudevents`."
    ),
    "INVALID_LAST_EVENT_ID": Problem(
        400, "Not a position", "Last-Event-ID is no UUIDv7, lies in the future, or was given more than once."
    ),
    "INVALID_JSON": Problem(400, "Not JSON", "The body is no JSON in UTF-8, or not what the route takes."),
    "INVALID_REQUEST": Problem(400, "Not an HTTP request", "The request is not HTTP/1.1 or HTTP/1.0 as we speak it."),
    "MISSING_TOKEN": Problem(401, "The token is missing", "Send the header Authorization: Bearer <token>."),
    "INVALID_TOKEN": Problem(
        401,
        "The token is not valid",
        "Its form, signature, algorithm, issuer, audience, `nbf` or one of its claims is wrong; `detail` says which. "
        "Of an API key: there is no such key, or it was revoked.",
    ),
    "EXPIRED_TOKEN": Problem(401, "The token has expired", "Get a new one. It may be an API key, too."),
    "NOT_INTEGRATION": Problem(
        401,
        "The token is not an integration's",
        "The route needs a token whose application.kind is `integration`, not an API key.",
    ),
    "ORGANIZATION_MISMATCH": Problem(
        403,
        "The token is another organization's",
        "The path's slug is not the token's, or the organization is registered under another slug.",
    ),
    "NOT_ENTERPRISE": Problem(
        403, "The organization is not enterprise", "The route needs a token whose organization.enterprise is true."
    ),
    "MISSING_SCOPE": Problem(
        403, "The token lacks a scope", "The route needs one of the scopes that `detail` names; ask for such a token."
    ),
    "NOT_FOUND": Problem(404, "Not found", "The path, the live stream or the replay does not exist."),
    "METHOD_NOT_ALLOWED": Problem(
        405, "Method not allowed", "The path exists, the method does not; the header Allow has those that do."
    ),
    "ACTIVE_CONSUMER_EXISTS": Problem(
        409,
        "The stream has a consumer",
        "A live stream has one consumer: retry after Retry-After; `meta` has the exact time.",
    ),
    "REPLAY_FINISHED": Problem(409, "The replay has ended already", "Only a replay that is queued or running ends."),
    "ENDPOINT_DISABLED": Problem(
        409, "The webhook endpoint is disabled", "Nothing is sent to it: enable it, or set right what `detail` names."
    ),
    "BODY_TOO_LARGE": Problem(413, "The body is too large", "An event has at most 1 MiB, a request at most 16 MiB."),
    "TOO_MANY_SECRETS": Problem(
        409, "Too many secrets are still valid", "A secret that was replaced stays valid for 24 hours: rotate later."
    ),
    "TOO_MANY_EVENTS": Problem(413, "Too many events", "A request publishes at most 1,000 events: send several."),
    "UNSUPPORTED_MEDIA_TYPE": Problem(
        415, "The body has another media type", "Send the header Content-Type: application/json."
    ),
    "INVALID_EVENT": Problem(
        422, "Not an event", "An event lacks a member or has one it cannot have; `source.pointer` says where."
    ),
    "INVALID_ENDPOINT": Problem(
        422, "Not a webhook endpoint", "A member is missing, unknown or wrong; `source.pointer` says which one."
    ),
    "TOO_MANY_REPLAYS": Problem(
        429, "Too many replays at once", "The organization has MAX_REPLAYS replays that are queued or running."
    ),
    "TOO_MANY_STREAMS": Problem(
        429, "Too many streams at once", "The organization has MAX_STREAMS broadcast streams on this gateway."
    ),
    "REPLAY_QUEUE_FAILED": Problem(
        500, "The replay could not be queued", "The database refused the job's row: retry, and tell the operator."
    ),
    "INTERNAL": Problem(
        500, "Something went wrong on our side", "The cause is in the gateway's log: retry, and tell the operator."
    ),
    "DRAINING": Problem(503, "This gateway is shutting down", "Retry after Retry-After; another gateway answers."),
    "UNAVAILABLE": Problem(
        503,
        "The service is not available just now",
        "The database or the issuer's keys are out of reach, or a limit is reached: retry after Retry-After.",
    ),
}


class Fault(NamedTuple):
    """One entry of `errors`; `code` is one of PROBLEMS. `detail` says what was wrong, what would be right, and names
    the value.

    `source` is JSON:API's (`{"parameter": …}` or `{"header": …}`), `meta` what a program wants to know of it.
    """

    code: str
    detail: str
    source: Mapping[str, str] | None = None
    meta: Mapping[str, Any] | None = None

    @property
    def status(self) -> int:
        return PROBLEMS[self.code].status

    def document(self) -> dict[str, Any]:
        problem = PROBLEMS[self.code]
        document: dict[str, Any] = {
            "status": str(problem.status),
            "code": self.code,
            "title": problem.title,
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
        text = orjson.dumps({"errors": [fault.document() for fault in self.faults]}).decode()
        body = masked(text).encode()  # what a message quotes may be a key that went astray
        for raw, escaped in _SPLITTING.items():
            body = body.replace(raw, escaped)
        return body


def unauthorized(code: str, detail: str) -> ApiError:
    """401."""
    return ApiError(Fault(code, detail), {"WWW-Authenticate": "Bearer"})


def unavailable(detail: str, code: str = "UNAVAILABLE", retry_after: int = 5) -> ApiError:
    """503; `retry_after` in seconds."""
    return ApiError(Fault(code, detail), {"Retry-After": str(retry_after)})


def database_unavailable() -> ApiError:
    """503."""
    return unavailable("The hub's database cannot be reached just now; try again in a moment.")
