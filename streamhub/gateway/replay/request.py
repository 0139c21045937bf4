"""What a replay is asked for: the parameters of `GET /{org}/replay`, judged, with every fault of them.

A new parameter is one entry of PARAMETERS with its parser, and a field of ReplayRequest.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from aiohttp import web

from streamhub.core.window import EXAMPLE, Instant, parse_instant, timestamp
from streamhub.gateway.streams.choice import Choice
from streamhub.gateway.streams.resources import RESOURCES, judge_resources
from streamhub.web import parameters
from streamhub.web.parameters import Given, InvalidValueError, Parameter, short
from streamhub.web.problems import Fault
from streamhub.web.route import TIME


class ReplayRequest(NamedTuple):
    """Bounds in milliseconds of the Unix epoch, half open, None where not given; `to_ms` is never after now."""

    from_ms: int | None
    to_ms: int | None
    resource_type: str | None
    resource_ids: tuple[str, ...] | None
    choice: Choice

    def document(self) -> dict[str, Any]:
        """As `replay_started` and the job's row tell it."""
        return {
            "date_from": None if self.from_ms is None else timestamp(self.from_ms),
            "date_to": None if self.to_ms is None else timestamp(self.to_ms),
            "resource_type_eq": self.resource_type,
            "resource_id_in": None if self.resource_ids is None else list(self.resource_ids),
            "types": None if self.choice.types is None else sorted(self.choice.types.patterns),
            "filters": self.choice.filters.given or None,
        }


def _instant(name: str) -> Callable[[str], Instant]:
    def parse(text: str) -> Instant:
        try:
            return parse_instant(text)
        except ValueError as error:
            raise InvalidValueError(("INVALID_DATE", f"{name}: {short(str(error), 300)}.")) from None

    return parse


PARAMETERS: Final = (
    Parameter(
        "date_from",
        _instant("date_from"),
        ("INVALID_DATE", "DATE_RANGE_INVALID", "MISSING_DATE_RANGE"),
        "the window's first moment, RFC 3339",
        "2026-11-22T10:00:00Z",
        TIME,
    ),
    Parameter(
        "date_to",
        _instant("date_to"),
        ("INVALID_DATE", "DATE_RANGE_TOO_LONG", "MISSING_DATE_RANGE"),
        "the first moment after the window, RFC 3339",
        "2026-11-23T10:00:00Z",
        TIME,
    ),
    *RESOURCES,
    *parameters.TYPES,
    parameters.FILTERS,
)


def read(request: web.Request, now_ms: int, longest_ms: int, faults: list[Fault]) -> ReplayRequest:
    """Adds a fault for each thing wrong, in the order of the query string, what is missing last."""
    given = parameters.read(request, PARAMETERS, faults)
    _judge_range(given, now_ms, longest_ms, faults)
    _judge_missing(given, faults)
    start, end = given.get("date_from"), given.get("date_to")
    return ReplayRequest(
        from_ms=None if start is None else start.ms,
        to_ms=None if end is None else min(end.ms, now_ms),
        resource_type=given.get("resource_type_eq"),
        resource_ids=given.get("resource_id_in"),
        choice=Choice(given.types(), given.filters),
    )


def _judge_range(given: Given, now_ms: int, longest_ms: int, faults: list[Fault]) -> None:
    """A range is judged as asked, where both ends are valid; its fault stands where the later of the two was."""
    start, end = given.get("date_from"), given.get("date_to")
    found = None
    if start is not None and start.exact_ms > now_ms:
        found = _fault(
            "DATE_RANGE_INVALID", "date_from", f"date_from lies in the future; it is {timestamp(now_ms)} now."
        )
    elif start is not None and end is not None and start.exact_ms >= end.exact_ms:
        found = _fault("DATE_RANGE_INVALID", "date_from", "date_from has to be earlier than date_to.")
    elif start is not None and end is not None and end.exact_ms - start.exact_ms > longest_ms:
        days = float(end.exact_ms - start.exact_ms) / 86_400_000
        most = longest_ms / 86_400_000
        apart = float(f"{days:.3f}")
        shown = f"{apart:g}" if apart > most else f"a little over {most:g}"
        detail = f"date_from and date_to are {shown} days apart; at most {most:g} are allowed."
        found = _fault("DATE_RANGE_TOO_LONG", "date_to", detail)
    if found is not None:
        places = given.places
        faults.insert(max(places[name] for name in ("date_from", "date_to") if name in places), found)


def _judge_missing(given: Given, faults: list[Fault]) -> None:
    if "resource_id_in" in given.values:
        judge_resources(given, faults)
        return
    missing = [name for name in ("date_from", "date_to") if name not in given.values]
    if missing:
        detail = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing: give both, such as {EXAMPLE}"
        detail += ", or resource_type_eq with resource_id_in."
        faults.append(_fault("MISSING_DATE_RANGE", missing[0], detail))


def _fault(code: str, parameter: str, detail: str) -> Fault:
    return Fault(code, detail, {"parameter": parameter})
