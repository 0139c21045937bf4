"""What a subscriber asks for: the parameters of broadcast, judged, with every fault of them."""

from datetime import timedelta
from typing import Final, NamedTuple

from aiohttp import web

from streamhub.core import frames
from streamhub.core.durations import parse_duration
from streamhub.core.paths import paths_in
from streamhub.core.view import View
from streamhub.gateway.streams.choice import Choice
from streamhub.gateway.streams.resources import RESOURCES, judge_resources
from streamhub.web import parameters
from streamhub.web.parameters import Given, InvalidValueError, Parameter, short
from streamhub.web.problems import Fault

LATEST_LEAST: Final = timedelta(milliseconds=100)
LATEST_MOST: Final = timedelta(seconds=60)
LONGEST_PREFIX: Final = 1_024


class Interest(NamedTuple):
    """Which events of its organization a subscriber gets, and in which envelope."""

    test: bool
    choice: Choice
    path_prefix: str | None
    envelope: str

    def has_path(self, paths: tuple[str, ...]) -> bool:
        """Whether an event with these paths has the prefix that is asked for."""
        return self.path_prefix is None or any(path.startswith(self.path_prefix) for path in paths)

    def matches(self, data: bytes) -> bool:
        """`data` is the object of an event of the right environment."""
        if not self.choice.matches(data):
            return False
        return self.path_prefix is None or self.has_path(paths_in(View(data)))


class Asked(NamedTuple):
    """`latest` is in seconds. `position`: after which id, None where none is named."""

    interest: Interest
    latest: float | None
    position: str | None


def _latest(text: str) -> float:
    try:
        found = parse_duration(text)
    except ValueError:
        found = timedelta(0)
    if not LATEST_LEAST <= found <= LATEST_MOST:
        detail = f"latest is {short(repr(text))}; give a duration from 100ms to 60s, such as 500ms."
        raise InvalidValueError(("INVALID_FILTER", detail))
    return found.total_seconds()


def _path_prefix(text: str) -> str:
    if not text or len(text) > LONGEST_PREFIX:
        wrong = "it is empty" if not text else f"it has {len(text)} characters, at most {LONGEST_PREFIX} are allowed"
        detail = f"path_prefix is {short(repr(text))}: {wrong}; give the beginning of a path, such as /docs/."
        raise InvalidValueError(("INVALID_FILTER", detail))
    return text


def _envelope(text: str) -> str:
    if text not in frames.ENVELOPES:
        detail = f"envelope is {short(repr(text))}; give one of {', '.join(frames.ENVELOPES)}."
        raise InvalidValueError(("INVALID_ENVELOPE", detail))
    return text


PARAMETERS: Final = (
    *parameters.TYPES,
    *RESOURCES,
    Parameter(
        "latest",
        _latest,
        ("INVALID_FILTER",),
        "of each resource only the newest event, at most once in this time: 100ms to 60s, such as 500ms",
        "500ms",
    ),
    Parameter(
        "path_prefix",
        _path_prefix,
        ("INVALID_FILTER",),
        "published events alone whose data.path, or path of one of data.entries, begins with it",
        "/docs/",
    ),
    Parameter(
        "envelope",
        _envelope,
        ("INVALID_ENVELOPE",),
        f"{', '.join(frames.ENVELOPES)}; by default event, at /events/stream engine",
        "cloudevents",
        {"enum": list(frames.ENVELOPES)},
    ),
    Parameter(
        "last_event_id",
        str.strip,
        ("INVALID_LAST_EVENT_ID",),
        "goes on after this id, for clients that cannot set Last-Event-ID; the header wins over it",
        parameters.LAST_EVENT_ID.example,
    ),
    parameters.FILTERS,
)


def read(request: web.Request, now_ms: int, default_envelope: str, faults: list[Fault], *, test: bool) -> Asked:
    """Adds a fault for each thing wrong, in the order of the query string, what is missing last."""
    given = parameters.read(request, PARAMETERS, faults)
    # The header wins: where it names a position the parameter is not looked at, as a page's EventSource goes on sending
    # the address it was made with.
    by_header = any(value.strip() for value in request.headers.getall("Last-Event-ID", []))
    named = None if by_header else _position(given, now_ms, faults)
    judge_resources(given, faults)
    header = parameters.last_event_id(request, now_ms, faults)
    filters = given.filters.with_resources(given.get("resource_type_eq"), given.get("resource_id_in"))
    envelope = given.get("envelope") or default_envelope
    interest = Interest(test, Choice(given.types(), filters), given.get("path_prefix"), envelope)
    return Asked(interest, given.get("latest"), header or named)


def _position(given: Given, now_ms: int, faults: list[Fault]) -> str | None:
    text = given.get("last_event_id")
    if not text:
        return None
    try:
        return parameters.position(text, now_ms, "last_event_id")
    except ValueError as error:
        fault = Fault("INVALID_LAST_EVENT_ID", str(error), {"parameter": "last_event_id"})
        faults.insert(given.places["last_event_id"], fault)
        return None
