"""Query strings and Last-Event-ID: every fault of a request, in the order in which it was asked.

A route declares its parameters as a sequence of `Parameter`; `read` judges a request by it. One that declares FILTERS
takes field filters too.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

from aiohttp import web

from streamhub.core import filters, ids, window
from streamhub.core.filters import FilterProblems, Filters
from streamhub.core.type_patterns import TypePatterns
from streamhub.web.problems import ApiError, Fault

_LONGEST_SHOWN: Final = 64
_MOST_FIELDS: Final = 1_000


class InvalidValueError(ValueError):
    """What a parser raises: (code, detail) of each thing that is wrong with a value."""

    def __init__(self, *problems: tuple[str, str]) -> None:
        self.problems = problems
        super().__init__("; ".join(detail for _, detail in problems))


class Parameter(NamedTuple):
    """One parameter of a route. `parse` gets the text and raises InvalidValueError with one of `codes`; `means`,
    `example` and `schema` (JSON Schema of the text) are for the reference."""

    name: str
    parse: Callable[[str], Any]
    codes: Sequence[str]
    means: str
    example: str | None = None
    schema: Mapping[str, Any] = {"type": "string"}


def _no_text(_text: str) -> None:
    """Nothing: filters are parsed together."""


# Stands for all field filters in what a route declares. No parameter can have its name.
FILTERS: Final = Parameter(
    "<path>_<predicate>",
    _no_text,
    ("INVALID_FILTER", "TOO_MANY_FILTERS"),
    f"a field filter, such as resource.status_eq=paid; at most {filters.MOST_FILTERS}, which must all hold",
)

# A header, which `last_event_id` judges with the moment at hand.
LAST_EVENT_ID: Final = Parameter(
    "Last-Event-ID",
    _no_text,
    ("INVALID_LAST_EVENT_ID",),
    "goes on after this event's id, or after any UUIDv7 as a position",
    "01a202b2-c57c-7000-8000-00000000002a",
)


def _patterns(name: str) -> Callable[[str], TypePatterns]:
    def parse(text: str) -> TypePatterns:
        try:
            return TypePatterns.parse(text)
        except ValueError as error:
            raise InvalidValueError(("INVALID_FILTER", f"{name}: {error}.")) from None

    return parse


TYPES: Final = (
    Parameter(
        "types",
        _patterns("types"),
        ("INVALID_FILTER",),
        "events of these types alone, separated by commas; `*` stands for any text within a segment, or for all types",
        "skus.*,orders.create",
    ),
    Parameter(
        "events", _patterns("events"), ("INVALID_FILTER",), "the same as types; together they are a union", "*.create"
    ),
)


class Given(NamedTuple):
    """The parameters that a request gives. A value is None where it is faulty. `places`: the index among the faults of
    the request at which a fault of this parameter belongs. `filters` has none where one of them is faulty."""

    values: Mapping[str, Any]
    places: Mapping[str, int]
    filters: Filters = Filters()

    def get(self, name: str) -> Any:
        """The value; None where it is faulty or not given."""
        return self.values.get(name)

    def types(self) -> TypePatterns | None:
        """What TYPES ask for together; None where neither is given."""
        asked = [patterns for name in ("types", "events") if (patterns := self.get(name)) is not None]
        return TypePatterns.union(asked) if asked else None


def read(request: web.Request, declared: Sequence[Parameter], faults: list[Fault]) -> Given:
    """Adds a fault for each parameter that is not declared, is repeated, or has a value that is wrong."""
    known = {parameter.name: parameter for parameter in declared}
    values: dict[str, Any] = {}
    places: dict[str, int] = {}
    unknown: set[str] = set()
    raw = request.raw_path.partition("?")[2].partition("#")[0]
    try:
        pairs = parse_qsl(raw, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        faults.append(_fault("UNKNOWN_PARAMETER", f"There are more than {_MOST_FIELDS} parameters.", ""))
        return Given(values, places)
    takes_filters = known.pop(FILTERS.name, None) is not None
    asked, problems = _filters(pairs) if takes_filters else (Filters(), {})
    for index, (name, text) in enumerate(pairs):
        parameter = known.get(name)
        if takes_filters and filters.is_filter(name):
            faults += problems.get(index, ())
        elif parameter is None:
            if name not in unknown:
                faults.append(_unknown(name, known, takes_filters=takes_filters))
                unknown.add(name)
        elif name in values:
            faults.append(_fault("REPEATED_PARAMETER", f"{name} was given more than once; give it once.", name))
        else:
            values[name], places[name] = None, len(faults)
            try:
                values[name] = parameter.parse(text)
            except InvalidValueError as error:
                faults += [_fault(code, detail, name) for code, detail in error.problems]
    return Given(values, places, asked)


def _filters(pairs: Sequence[tuple[str, str]]) -> tuple[Filters, Mapping[int, Sequence[Fault]]]:
    """The filters among the pairs, and the faults of each by its index among all pairs."""
    indexes = [index for index, (name, _) in enumerate(pairs) if filters.is_filter(name)]
    try:
        return filters.parse([pairs[index] for index in indexes]), {}
    except FilterProblems as error:
        faults: dict[int, list[Fault]] = {}
        for problem in error.problems:
            fault = _fault(problem.code, problem.detail, problem.parameter)
            faults.setdefault(indexes[problem.place], []).append(fault)
        return Filters(), faults


def refuse_parameters(request: web.Request) -> None:
    """For a route that declares none. Raises ApiError (400)."""
    faults: list[Fault] = []
    read(request, (), faults)
    if faults:
        raise ApiError(faults)


def short(text: str, most: int = 80) -> str:
    """A value as a message may show it."""
    return text if len(text) <= most else text[:most] + "…"


def _unknown(name: str, known: Mapping[str, Parameter], *, takes_filters: bool) -> Fault:
    """Names the parameter and the nearest known one. Never its value, which may be a token."""
    shown = name if len(name) <= _LONGEST_SHOWN else name[:16] + "…"
    root, dot, path = name.partition(".")
    if takes_filters and dot and len(name) <= _LONGEST_SHOWN:
        roots = difflib.get_close_matches(root, filters.ROOTS, n=1, cutoff=0.5) or filters.ROOTS
        hint = f"did you mean {roots[0]}.{path}?" if len(roots) == 1 else f"a filter begins with {', '.join(roots)}"
    elif not known:
        hint = "none is known here"
    else:
        nearest = difflib.get_close_matches(name[:_LONGEST_SHOWN], sorted(known), n=1, cutoff=0.5)
        hint = f"did you mean {nearest[0]}?" if nearest else f"known are {', '.join(sorted(known))}"
    return _fault("UNKNOWN_PARAMETER", f"There is no parameter {shown!r} here; {hint}", shown)


def _fault(code: str, detail: str, parameter: str) -> Fault:
    return Fault(code, detail if detail.endswith((".", "?")) else detail + ".", {"parameter": parameter})


def last_event_id(request: web.Request, now_ms: int, faults: list[Fault]) -> str | None:
    """The position that a client names, canonical; None where it names none. An empty header is as none."""
    values = [value.strip() for value in request.headers.getall("Last-Event-ID", [])]
    if len(values) > 1:
        faults.append(_header_fault(f"Last-Event-ID was given {len(values)} times; give it once."))
        return None
    if not values or not values[0]:
        return None
    try:
        return position(values[0], now_ms, "Last-Event-ID")
    except ValueError as error:
        faults.append(_header_fault(str(error)))
        return None


def position(text: str, now_ms: int, name: str) -> str:
    """The position that `text` names, canonical. Raises ValueError with a sentence that begins with `name`."""
    shown = short(text, _LONGEST_SHOWN)
    try:
        found = ids.normalize(text)
    except ValueError:
        example = ids.event_id(now_ms, 0)
        raise ValueError(f"{name} is {shown!r}; give the id of an event, a UUIDv7: {example}.") from None
    if ids.milliseconds(found) > now_ms:
        when = window.timestamp(min(ids.milliseconds(found), ids.ms_of(_LAST_TIME)))
        raise ValueError(f"{name} {shown!r} lies in the future, at {when}; no event has it.")
    return found


_LAST_TIME: Final = ids.datetime_of(253_402_300_799_999)


def _header_fault(detail: str) -> Fault:
    return Fault("INVALID_LAST_EVENT_ID", detail, {"header": "Last-Event-ID"})
