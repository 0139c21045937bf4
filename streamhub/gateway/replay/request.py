"""What a replay is asked for: the parameters of `GET /{org}/replay`, judged, with every fault of them."""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from aiohttp import web

from streamhub.core.window import EXAMPLE, Instant, parse_instant, timestamp
from streamhub.errors import Fault
from streamhub.web.parameters import known_parameters

KNOWN: Final = ("date_from", "date_to", "resource_type_eq", "resource_id_in")
MOST_IDS: Final = 500
LONGEST_NAME: Final = 255
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class ReplayRequest(NamedTuple):
    """Bounds in milliseconds of the Unix epoch, half open, None where not given; `to_ms` is never after now."""

    from_ms: int | None
    to_ms: int | None
    resource_type: str | None
    resource_ids: tuple[str, ...] | None

    def document(self) -> dict[str, Any]:
        """As `replay_started` and the job's row tell it."""
        return {
            "date_from": None if self.from_ms is None else timestamp(self.from_ms),
            "date_to": None if self.to_ms is None else timestamp(self.to_ms),
            "resource_type_eq": self.resource_type,
            "resource_id_in": None if self.resource_ids is None else list(self.resource_ids),
        }


def read(request: web.Request, now_ms: int, longest_ms: int, faults: list[Fault]) -> ReplayRequest:
    """Adds a fault for each thing wrong, in the order of the query string, what is missing last."""
    given: dict[str, Any] = {}
    places: dict[str, int] = {}
    for name, value in known_parameters(request, KNOWN, faults):
        places[name] = len(faults)
        if name in ("date_from", "date_to"):
            given[name] = _instant(name, value, faults)
        elif name == "resource_type_eq":
            given[name] = value
            _judge_type(value, faults)
        else:
            given[name] = _resource_ids(value, faults)
    _judge_range(given, places, now_ms, longest_ms, faults)
    _judge_missing(given, faults)
    start, end = given.get("date_from"), given.get("date_to")
    return ReplayRequest(
        from_ms=None if start is None else start.ms,
        to_ms=None if end is None else min(end.ms, now_ms),
        resource_type=given.get("resource_type_eq"),
        resource_ids=given.get("resource_id_in"),
    )


def _instant(name: str, value: str, faults: list[Fault]) -> Instant | None:
    try:
        return parse_instant(value)
    except ValueError as error:
        faults.append(_fault("INVALID_DATE", name, f"{name}: {_short(str(error), 300)}."))
        return None


def _judge_type(value: str, faults: list[Fault]) -> None:
    wrong = _wrong_name(value)
    if wrong:
        detail = f"resource_type_eq is {_short(repr(value))}: {wrong}; one resource type is wanted, such as skus."
        faults.append(_fault("INVALID_FILTER", "resource_type_eq", detail))


def _resource_ids(value: str, faults: list[Fault]) -> tuple[str, ...]:
    found = tuple(value.split(","))
    if len(found) > MOST_IDS:
        detail = f"resource_id_in has {len(found)} ids; at most {MOST_IDS} are allowed: ask in several requests."
        faults.append(_fault("TOO_MANY_RESOURCE_IDS", "resource_id_in", detail))
    else:
        for each in dict.fromkeys(found):
            wrong = _wrong_name(each)
            if wrong:
                detail = f"resource_id_in holds {_short(repr(each))}: {wrong}; ids are separated by single commas."
                faults.append(_fault("INVALID_RESOURCE_ID", "resource_id_in", detail))
    return found


def _wrong_name(value: str) -> str | None:
    if not value:
        return "it is empty"
    if len(value) > LONGEST_NAME:
        return f"it has {len(value)} characters, at most {LONGEST_NAME} are allowed"
    if _CONTROL.search(value):
        return "it holds a control character"
    if value != value.strip():
        return "it begins or ends with a space"
    return None


def _judge_range(
    given: Mapping[str, Any], places: Mapping[str, int], now_ms: int, longest_ms: int, faults: list[Fault]
) -> None:
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
        detail = f"date_from and date_to are {days:.3f} days apart; at most {longest_ms / 86_400_000:g} are allowed."
        found = _fault("DATE_RANGE_TOO_LONG", "date_to", detail)
    if found is not None:
        faults.insert(max(places[name] for name in ("date_from", "date_to") if name in places), found)


def _judge_missing(given: Mapping[str, Any], faults: list[Fault]) -> None:
    if "resource_id_in" in given:
        if "resource_type_eq" not in given:
            detail = "resource_id_in wants resource_type_eq beside it: ids are ids of one type."
            faults.append(_fault("MISSING_RESOURCE_TYPE", "resource_type_eq", detail))
        return
    missing = [name for name in ("date_from", "date_to") if name not in given]
    if missing:
        detail = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing: give both, such as {EXAMPLE}"
        detail += ", or resource_type_eq with resource_id_in."
        faults.append(_fault("MISSING_DATE_RANGE", missing[0], detail))


def _fault(code: str, parameter: str, detail: str) -> Fault:
    return Fault(400, code, detail, {"parameter": parameter})


def _short(text: str, most: int = 80) -> str:
    return text if len(text) <= most else text[:most] + "…"
