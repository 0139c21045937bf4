"""Query strings and Last-Event-ID: every fault of a request, in the order in which it was asked."""

import difflib
from collections.abc import Collection, Iterator
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import web

from streamhub.core import ids, window
from streamhub.errors import Fault

_LONGEST_SHOWN: Final = 64
_MOST_FIELDS: Final = 1_000


def known_parameters(request: web.Request, known: Collection[str], faults: list[Fault]) -> Iterator[tuple[str, str]]:
    """(name, value) of each parameter that is known and comes for the first time; the others become faults."""
    given = set()
    raw = request.raw_path.partition("?")[2].partition("#")[0]
    try:
        pairs = parse_qsl(raw, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        faults.append(_fault("UNKNOWN_PARAMETER", f"There are more than {_MOST_FIELDS} parameters.", ""))
        return
    for name, value in pairs:
        if name not in known:
            if name not in given:
                faults.append(_unknown(name, known))
        elif name in given:
            faults.append(_fault("REPEATED_PARAMETER", f"{name} was given more than once; give it once.", name))
        else:
            yield name, value
        given.add(name)


def _unknown(name: str, known: Collection[str]) -> Fault:
    """Names the parameter and the nearest known one. Never its value, which may be somebody's token."""
    shown = name if len(name) <= _LONGEST_SHOWN else name[:16] + "…"
    if not known:
        hint = "none is known here"
    else:
        nearest = difflib.get_close_matches(name[:_LONGEST_SHOWN], sorted(known), n=1, cutoff=0.5)
        hint = f"did you mean {nearest[0]}?" if nearest else f"known are {', '.join(sorted(known))}"
    return _fault("UNKNOWN_PARAMETER", f"There is no parameter {shown!r} here; {hint}", shown)


def _fault(code: str, detail: str, parameter: str) -> Fault:
    return Fault(400, code, detail if detail.endswith((".", "?")) else detail + ".", {"parameter": parameter})


def last_event_id(request: web.Request, now_ms: int, faults: list[Fault]) -> str | None:
    """The position that a client names, canonical; None where it names none. An empty header is as none."""
    values = [value.strip() for value in request.headers.getall("Last-Event-ID", [])]
    if len(values) > 1:
        faults.append(_header_fault(f"Last-Event-ID was given {len(values)} times; give it once."))
        return None
    if not values or not values[0]:
        return None
    shown = values[0] if len(values[0]) <= _LONGEST_SHOWN else values[0][:_LONGEST_SHOWN] + "…"
    try:
        position = ids.normalize(values[0])
    except ValueError:
        faults.append(
            _header_fault(
                f"Last-Event-ID is {shown!r}; the id of an event, a UUIDv7, is wanted: {ids.event_id(now_ms, 0)}."
            )
        )
        return None
    if ids.milliseconds(position) > now_ms:
        when = window.timestamp(min(ids.milliseconds(position), ids.ms_of(_LAST_TIME)))
        faults.append(_header_fault(f"Last-Event-ID {shown!r} lies in the future, at {when}; no event has it."))
        return None
    return position


_LAST_TIME: Final = ids.datetime_of(253_402_300_799_999)


def _header_fault(detail: str) -> Fault:
    return Fault(400, "INVALID_LAST_EVENT_ID", detail, {"header": "Last-Event-ID"})
