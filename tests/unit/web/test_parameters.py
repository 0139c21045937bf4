"""Field filters and types in a query string, and the order of the faults."""

from urllib.parse import urlencode

import pytest
from aiohttp.test_utils import make_mocked_request

from streamhub.core.type_patterns import TypePatterns
from streamhub.core.view import View
from streamhub.web import parameters
from streamhub.web.parameters import FILTERS, TYPES, Given, Parameter
from streamhub.web.problems import Fault

LATEST = Parameter("latest", str, (), "")
DECLARED = (LATEST, *TYPES, FILTERS)


def read(
    pairs: list[tuple[str, str]], declared: tuple[Parameter, ...] = DECLARED
) -> tuple[Given, list[tuple[str, str | None]]]:
    faults: list[Fault] = []
    given = parameters.read(make_mocked_request("GET", "/o?" + urlencode(pairs)), declared, faults)
    return given, [(fault.code, (fault.source or {}).get("parameter")) for fault in faults]


def detail(name: str) -> str:
    faults: list[Fault] = []
    parameters.read(make_mocked_request("GET", "/o?" + urlencode([(name, "secret")])), DECLARED, faults)
    (fault,) = faults
    assert "secret" not in fault.detail
    return fault.detail


def test_filters_and_types_are_read() -> None:
    given, faults = read([("types", "a.*"), ("resource.b_eq", "1"), ("events", "c.d"), ("latest", "1s")])
    assert faults == []
    assert given.types() == TypePatterns.parse("a.*,c.d")
    assert given.filters.given == {"resource.b_eq": "1"}
    assert given.filters.matches(View(b'{"resource":{"b":1}}'))


def test_nothing_given_is_every_type_and_no_filter() -> None:
    given, _ = read([])
    assert given.types() is None
    assert not given.filters


def test_faults_come_in_the_order_asked() -> None:
    _, faults = read(
        [
            ("resource.a", "1"),
            ("types", "a,,b"),
            ("resource.b_lt", ""),
            ("nothing", "1"),
            ("resource.c_eq", "1"),
            ("latest", "1"),
            ("latest", "2"),
            ("resource.c_eq", "2"),
            ("delta.x_changed", "maybe"),
        ]
    )
    assert faults == [
        ("INVALID_FILTER", "resource.a"),
        ("INVALID_FILTER", "types"),
        ("INVALID_FILTER", "resource.b_lt"),
        ("UNKNOWN_PARAMETER", "nothing"),
        ("REPEATED_PARAMETER", "latest"),
        ("REPEATED_PARAMETER", "resource.c_eq"),
        ("INVALID_FILTER", "delta.x_changed"),
    ]


def test_over_20_filters_are_one_fault() -> None:
    _, faults = read([(f"resource.c{number}_eq", "1") for number in range(30)])
    assert faults == [("TOO_MANY_FILTERS", "resource.c20_eq")]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resorce.status_eq", "did you mean resource.status_eq?"),
        ("zzz.status_eq", "a filter begins with resource, delta, who, data"),
        ("typs", "did you mean types?"),
    ],
)
def test_an_unknown_parameter_gets_the_nearest_and_never_its_value(name: str, hint: str) -> None:
    assert hint in detail(name)


def test_a_route_that_declares_no_filters_knows_none() -> None:
    _, faults = read([("resource.a_eq", "1")], (LATEST,))
    assert faults == [("UNKNOWN_PARAMETER", "resource.a_eq")]
