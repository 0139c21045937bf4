"""The index of subscriptions, against judging each subscription by itself."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamhub.core import filters
from streamhub.core.filter_index import Index
from streamhub.core.filters import Filters
from streamhub.core.type_patterns import TypePatterns
from streamhub.core.view import View

ORDER = View(b'{"resource":{"status":"paid","shop":7},"delta":null}')


def test_an_event_finds_the_subscriptions_whose_types_and_filters_it_matches() -> None:
    index: Index[str] = Index()
    index.add("all", None, Filters())
    index.add("orders", TypePatterns.parse("orders.*"), Filters())
    index.add("skus", TypePatterns.parse("skus.*"), Filters())
    index.add("paid", None, filters.parse([("resource.status_eq", "paid")]))
    index.add("open", None, filters.parse([("resource.status_eq", "open")]))
    index.add("paid of 8", None, filters.parse([("resource.status_eq", "paid"), ("resource.shop_gt", "7")]))
    index.add("not open", None, filters.parse([("resource.status_not_eq", "open")]))
    assert sorted(index.matching("orders.update", ORDER)) == ["all", "not open", "orders", "paid"]


def test_a_subscription_that_is_gone_is_found_no_more() -> None:
    index: Index[int] = Index()
    paid = filters.parse([("resource.status_in", "paid,open")])
    for key in range(3):
        index.add(key, None, paid)
    index.remove(1)
    assert index.matching("orders.update", ORDER) == [0, 2]
    index.remove(0)
    index.remove(2)
    assert index.matching("orders.update", ORDER) == []
    assert len(index) == 0


def test_a_key_is_added_once_and_removed_once() -> None:
    index: Index[int] = Index()
    index.add(1, None, Filters())
    with pytest.raises(ValueError, match="1 is in the index already"):
        index.add(1, None, Filters())
    index.remove(1)
    with pytest.raises(KeyError):
        index.remove(1)


def test_types_that_come_later_count_for_a_type_that_was_seen() -> None:
    index: Index[int] = Index()
    assert index.matching("orders.update", ORDER) == []
    index.add(1, TypePatterns.parse("orders.*"), Filters())
    assert index.matching("orders.update", ORDER) == [1]


NAMES = st.sampled_from(["a", "b", "c"])
WORDS = st.sampled_from(["x", "y", "1", "1.0", "true"])
CONDITIONS = st.tuples(NAMES, st.sampled_from(["eq", "eq", "in", "not_eq", "gt", "start"]), WORDS, WORDS).map(
    lambda parts: (f"resource.{parts[0]}_{parts[1]}", f"{parts[2]},{parts[3]}" if parts[1] == "in" else parts[2])
)
FILTERS = st.lists(CONDITIONS, max_size=4, unique_by=lambda pair: pair[0]).map(filters.parse)
TYPES = st.none() | st.sampled_from(["t.create", "t.*", "*.update", "*", "t.create,u.*"]).map(TypePatterns.parse)
RESOURCES = st.none() | st.lists(WORDS, min_size=1, max_size=2)
ROWS: st.SearchStrategy[dict[str, object]] = st.dictionaries(
    NAMES, st.sampled_from(["x", "y", "1", 1, True, None, [], 2])
)
ASKED = st.builds(Filters.with_resources, FILTERS, st.sampled_from([None, "t"]), RESOURCES)
# Of a key that is there, None removes it.
STEPS = st.lists(st.tuples(st.integers(0, 5), TYPES, st.none() | ASKED), max_size=30)
EVENTS = st.lists(st.tuples(st.sampled_from(["t.create", "t.update", "u.x"]), WORDS, ROWS), min_size=1, max_size=4)


@given(STEPS, EVENTS)
def test_the_index_finds_what_judging_each_finds(
    steps: list[tuple[int, TypePatterns | None, Filters | None]], events: list[tuple[str, str, dict[str, Any]]]
) -> None:
    index: Index[int] = Index()
    naive: dict[int, tuple[TypePatterns | None, Filters]] = {}
    for key, types, asked in steps:
        if naive.pop(key, None):
            index.remove(key)
        if asked is not None:
            index.add(key, types, asked)
            naive[key] = types, asked
    for type_, resource_id, row in events:
        data = json.dumps({"resource_type": "t", "resource_id": resource_id, "resource": row}).encode()
        expected = [
            key
            for key, (types, asked) in naive.items()
            if (types is None or types.matches(type_)) and asked.matches(View(data))
        ]
        assert sorted(index.matching(type_, View(data))) == sorted(expected)
