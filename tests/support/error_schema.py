"""What every refusal looks like, in one place: media type, members, which code belongs to which status, headers."""

import json
from collections.abc import Mapping
from typing import Any, Final

CODES: Final[Mapping[int, frozenset[str]]] = {
    400: frozenset({
        "INVALID_DATE", "DATE_RANGE_INVALID", "DATE_RANGE_TOO_LONG", "MISSING_DATE_RANGE", "MISSING_RESOURCE_TYPE",
        "TOO_MANY_RESOURCE_IDS", "INVALID_RESOURCE_ID", "UNKNOWN_PARAMETER", "REPEATED_PARAMETER", "INVALID_FILTER",
        "TOO_MANY_FILTERS",
        "INVALID_ENVELOPE", "INVALID_LAST_EVENT_ID", "INVALID_JSON", "INVALID_REQUEST",
    }),
    401: frozenset({"MISSING_TOKEN", "INVALID_TOKEN", "EXPIRED_TOKEN", "NOT_INTEGRATION"}),
    403: frozenset({"ORGANIZATION_MISMATCH", "NOT_ENTERPRISE", "MISSING_SCOPE"}),
    404: frozenset({"NOT_FOUND"}),
    405: frozenset({"METHOD_NOT_ALLOWED"}),
    409: frozenset({"ACTIVE_CONSUMER_EXISTS", "REPLAY_FINISHED", "ENDPOINT_DISABLED", "TOO_MANY_SECRETS"}),
    413: frozenset({"BODY_TOO_LARGE", "TOO_MANY_EVENTS"}),
    415: frozenset({"UNSUPPORTED_MEDIA_TYPE"}),
    422: frozenset({"INVALID_EVENT", "INVALID_ENDPOINT"}),
    429: frozenset({"TOO_MANY_REPLAYS", "TOO_MANY_STREAMS"}),
    500: frozenset({"REPLAY_QUEUE_FAILED", "INTERNAL"}),
    503: frozenset({"DRAINING", "UNAVAILABLE"}),
}  # fmt: skip
MEMBERS: Final = {"status", "code", "title", "detail", "source", "meta"}
SOURCES: Final = ({"parameter"}, {"header"}, {"pointer"})


def checked_errors(status: int, headers: Mapping[str, str], body: bytes) -> list[dict[str, Any]]:
    """The errors of a refusal; fails where it is not as the contract has it. Names of headers in lower case."""
    assert headers["content-type"] == "application/vnd.api+json", headers
    document = json.loads(body)
    assert set(document) == {"errors"}, document
    errors: list[dict[str, Any]] = document["errors"]
    assert errors, document
    for error in errors:
        assert {"status", "code", "title", "detail"} <= set(error) <= MEMBERS, error
        assert error["status"] == str(status), error
        assert error["code"] in CODES[status], error
        assert all(isinstance(error[name], str) and error[name] for name in ("title", "detail")), error
        if "source" in error:
            assert set(error["source"]) in SOURCES, error
            assert all(isinstance(value, str) for value in error["source"].values()), error
        if "meta" in error:
            assert isinstance(error["meta"], dict), error
            assert error["meta"], error
    codes = {error["code"] for error in errors}
    if status == 401:
        assert headers["www-authenticate"] == "Bearer", headers
    if status == 405:
        assert headers["allow"], headers
    if status in (429, 503) or "ACTIVE_CONSUMER_EXISTS" in codes:
        assert int(headers["retry-after"]) >= 1, headers
    if "ACTIVE_CONSUMER_EXISTS" in codes:
        (error,) = errors
        assert error["meta"]["retry_after_ms"] > 0, error
        assert len({"connected_at", "stale_until"} & set(error["meta"])) == 1, error
    return errors
