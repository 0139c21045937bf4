"""Field filters: the rules of the contract by example, and against an oracle that reads the whole event."""

import json
import time
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamhub.core import filters
from streamhub.core.filters import FilterProblems
from streamhub.core.paths import paths_in
from streamhub.core.view import View

EVENT = View(
    b'{"id":"01a202b2-c57c-7000-8000-00000000002a","type":"orders.update","resource_type":"orders",'
    b'"resource_id":"7","resource":{"status":"paid","price":"12.50","weight":9.50,"count":10,"big":1e3,"open":true,'
    b'"empty":"","note":null,"tags":["a","b"],"address":{"city":"Z\\u00fcrich","zip":"8001"},"a.b":{"c":"dotted"},'
    b'"a":{"b":{"c":"nested","d":"hidden"},"x":"inner"},"b_not":"odd"},'
    b'"delta":{"price":{"from":"10.00","to":"12.50"},"old.name":{"from":null,"to":1},"note":null},'
    b'"who":{"application":{"kind":"importer"}},"data":{"total":"7"}}'
)


def holds(name: str, value: str) -> bool:
    return filters.parse([(name, value)]).matches(EVENT)


def test_the_filters_of_a_request_must_all_hold() -> None:
    assert filters.parse([("resource.status_eq", "paid"), ("resource.count_gt", "9")]).matches(EVENT)
    assert not filters.parse([("resource.status_eq", "paid"), ("resource.count_gt", "10")]).matches(EVENT)


def test_no_filters_let_every_event_pass() -> None:
    assert filters.parse([]).matches(EVENT)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("resource.status_eq", "paid", True),
        ("resource.status_eq", "PAID", False),
        ("resource.price_eq", "12.50", True),
        ("resource.price_eq", "12.5", False),
        ("resource.weight_eq", "9.50", True),
        ("resource.weight_eq", "9.5", False),
        ("resource.big_eq", "1e3", True),
        ("resource.big_eq", "1000", False),
        ("resource.open_eq", "true", True),
        ("resource.empty_eq", "", True),
        ("resource.note_eq", "", False),
        ("resource.note_eq", "null", False),
        ("resource.absent_eq", "", False),
        ("resource.tags_eq", '["a","b"]', False),
        ("resource.address_eq", "", False),
        ("resource.address.city_eq", "Zürich", True),
        ("who.application.kind_eq", "importer", True),
        ("delta.price.to_eq", "12.50", True),
        ("data.total_eq", "7", True),
        ("resource.status_in", "open,paid", True),
        ("resource.status_in", "open", False),
        ("resource.note_in", "null,", False),
        ("resource.empty_in", "a,", True),
    ],
)
def test_eq_and_in_ask_for_the_content_of_a_string_and_the_spelling_of_the_rest(
    name: str, value: str, expected: bool
) -> None:
    assert holds(name, value) is expected


@pytest.mark.parametrize("field", ["status", "weight", "note", "absent", "tags", "address", "empty", "open"])
@pytest.mark.parametrize("value", ["paid", "9.50", "true", "null,paid"])
def test_not_eq_and_not_in_are_the_opposite(field: str, value: str) -> None:
    assert holds(f"resource.{field}_not_eq", value) is not holds(f"resource.{field}_eq", value)
    assert holds(f"resource.{field}_not_in", value) is not holds(f"resource.{field}_in", value)


def test_not_eq_is_true_for_null_and_absent() -> None:
    assert holds("resource.note_not_eq", "x")
    assert holds("resource.absent_not_eq", "")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("resource.count_gt", "9", True),
        ("resource.count_lt", "9", False),
        ("resource.price_gteq", "12.5", True),
        ("resource.price_lteq", "12.500", True),
        ("resource.price_gt", "12.49999999999999999999999999999999", True),
        ("resource.big_lteq", "1000", True),
        ("resource.big_gteq", "1000.0", True),
        ("resource.big_lt", "1e999999999", True),
        ("resource.big_gt", "-1e999999999", True),
        ("resource.status_gt", "open", True),
        ("resource.count_lt", "9x", True),
        ("resource.count_gt", "+9", True),
        ("resource.count_lt", " 9", False),
        ("resource.open_lt", "u", True),
        ("resource.note_lt", "z", False),
        ("resource.absent_lt", "z", False),
        ("resource.tags_lt", "z", False),
        ("resource.address_gt", "!", False),
        ("resource.empty_lt", "a", True),
    ],
)
def test_order_is_of_exact_decimals_where_both_are_numbers_else_of_texts(name: str, value: str, expected: bool) -> None:
    assert holds(name, value) is expected


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("resource.status_start", "pa", True),
        ("resource.status_start", "aid", False),
        ("resource.price_start", "12.", True),
        ("resource.weight_start", "9", False),
        ("resource.open_start", "t", False),
        ("resource.note_start", "n", False),
        ("resource.tags_start", "[", False),
    ],
)
def test_start_asks_of_strings_alone(name: str, value: str, expected: bool) -> None:
    assert holds(name, value) is expected


@pytest.mark.parametrize(
    ("field", "is_there"),
    [("status", True), ("empty", True), ("tags", True), ("address", True), ("note", False), ("absent", False)],
)
def test_null_and_present_ask_whether_there_is_a_value(field: str, is_there: bool) -> None:
    assert holds(f"resource.{field}_present", "true") is is_there
    assert holds(f"resource.{field}_present", "false") is not is_there
    assert holds(f"resource.{field}_null", "true") is not is_there
    assert holds(f"resource.{field}_null", "false") is is_there


@pytest.mark.parametrize(
    ("column", "is_in_delta"), [("price", True), ("old.name", True), ("note", True), ("price.to", False), ("x", False)]
)
def test_changed_asks_whether_the_column_is_in_the_delta(column: str, is_in_delta: bool) -> None:
    assert holds(f"delta.{column}_changed", "true") is is_in_delta
    assert holds(f"delta.{column}_changed", "false") is not is_in_delta


def test_the_longest_name_that_is_there_is_taken_at_each_step() -> None:
    assert holds("resource.a.b.c_eq", "dotted")
    assert holds("resource.a.b.d_null", "true")
    assert holds("resource.a.x_eq", "inner")
    assert holds("delta.old.name.to_eq", "1")


def test_the_longest_predicate_at_the_end_counts() -> None:
    assert holds("resource.status_not_eq", "open")
    assert holds("resource.b_not_eq", "other")  # `b` is absent; the column `b_not` is not asked
    (condition,) = filters.parse([("resource.code_not_eq", "x")]).conditions
    assert (condition.path, condition.predicate) == ("resource.code", "not_eq")


@pytest.mark.parametrize("path", ["resource.status.x", "resource.tags.0", "resource.weight.x", "delta.note.to"])
def test_a_path_that_leads_into_no_object_is_absent(path: str) -> None:
    assert holds(f"{path}_null", "true")


def test_an_event_without_its_row_has_no_values() -> None:
    event = View(b'{"id":"x","resource":null,"delta":null,"too_large":true}')
    assert filters.parse([("resource.status_null", "true"), ("delta.status_changed", "false")]).matches(event)


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b'{"resource":{"a":1', b"\xff"])
def test_bytes_that_are_no_event_have_no_values(data: bytes) -> None:
    assert not filters.parse([("resource.a_present", "true")]).matches(View(data))
    assert not filters.parse([("delta.a_changed", "true")]).matches(View(data))


def problems(*pairs: tuple[str, str]) -> list[tuple[str, str]]:
    with pytest.raises(FilterProblems) as caught:
        filters.parse(pairs)
    return [(problem.code, problem.detail) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resource.price_not_equal", "'not_equal' is none; did you mean not_eq?"),
        ("resource.price_gte", "'gte' is none; did you mean gteq?"),
        ("resource.price_equals", "'equals' is none; did you mean eq?"),
        ("resource.name_starts", "'starts' is none; did you mean start?"),
        ("resource.status", "give one of _eq, _not_eq, _in"),
        ("resource.price_zzzzzz", "give one of _eq, _not_eq, _in"),
    ],
)
def test_an_unknown_predicate_is_named_with_the_nearest(name: str, hint: str) -> None:
    ((code, detail),) = problems((name, "1"))
    assert code == "INVALID_FILTER"
    assert detail.startswith(repr(name))
    assert hint in detail


@pytest.mark.parametrize("predicate", [each for each in filters.PREDICATES if each not in ("eq", "not_eq")])
def test_an_empty_value_is_refused(predicate: str) -> None:
    ((code, detail),) = problems((f"delta.status_{predicate}", ""))
    assert code == "INVALID_FILTER"
    assert repr(f"delta.status_{predicate}") in detail


@pytest.mark.parametrize("predicate", ["null", "present", "changed"])
@pytest.mark.parametrize("value", ["yes", "TRUE", "1", " true"])
def test_what_is_neither_true_nor_false_is_refused(predicate: str, value: str) -> None:
    ((code, detail),) = problems((f"delta.status_{predicate}", value))
    assert code == "INVALID_FILTER"
    assert detail.endswith(f"is {value!r}; give true or false.")


def test_a_list_of_over_500_values_is_refused() -> None:
    filters.parse([("resource.id_in", ",".join(["x"] * 500))])
    ((code, detail),) = problems(("resource.id_in", ",".join(["x"] * 501)))
    assert code == "INVALID_FILTER"
    assert "501 values; at most 500" in detail


def test_changed_is_refused_outside_the_delta() -> None:
    ((code, detail),) = problems(("resource.price_changed", "true"))
    assert code == "INVALID_FILTER"
    assert "delta.<column>_changed" in detail


@pytest.mark.parametrize("name", ["resource._eq", "data._not_eq"])
def test_a_filter_of_no_field_is_refused(name: str) -> None:
    ((code, detail),) = problems((name, "x"))
    assert code == "INVALID_FILTER"
    assert "names no field" in detail


@pytest.mark.parametrize("name", ["resource." + "x" * 1_100 + "_eq", "resource." + "x." * 40 + "x_eq"])
def test_a_path_without_bound_is_refused(name: str) -> None:
    ((code, detail),) = problems((name, "x"))
    assert code == "INVALID_FILTER"
    assert "at most" in detail
    assert len(detail) < 200


def test_a_parameter_that_begins_otherwise_is_unknown() -> None:
    assert [code for code, _ in problems(("resource_status_eq", "x"), ("rows.a_eq", "1"))] == ["UNKNOWN_PARAMETER"] * 2


def test_over_20_filters_are_refused_once_where_the_21st_stands() -> None:
    pairs = [(f"resource.c{index}_eq", "x") for index in range(25)]
    filters.parse(pairs[:20])
    with pytest.raises(FilterProblems) as caught:
        filters.parse(pairs)
    assert [(each.code, each.place) for each in caught.value.problems] == [("TOO_MANY_FILTERS", 20)]
    assert "25 filters; at most 20" in str(caught.value)


def test_a_filter_that_is_given_twice_is_refused() -> None:
    assert [code for code, _ in problems(("resource.a_gt", "1"), ("resource.a_gt", "2"))] == ["REPEATED_PARAMETER"]


def test_problems_come_in_the_order_asked() -> None:
    found = problems(("resource.a_lt", ""), ("resource.b_eq", "1"), ("x.y_eq", "1"), ("resource.c", "1"))
    assert [code for code, _ in found] == ["INVALID_FILTER", "UNKNOWN_PARAMETER", "INVALID_FILTER"]


def test_filters_tell_what_was_asked() -> None:
    asked = [("resource.b_in", "2,1"), ("resource.a_eq", "")]
    assert filters.parse(asked).given == dict(asked)


def test_resources_are_a_filter_too() -> None:
    assert filters.parse([]).with_resources("orders", ["6", "7"]).matches(EVENT)
    assert not filters.parse([]).with_resources("orders", ["6"]).matches(EVENT)
    assert not filters.parse([]).with_resources("skus", None).matches(EVENT)


def test_an_event_of_16_mb_is_read_in_proportion_to_its_size() -> None:
    event = View(b'{"resource":{"a":"' + b"x" * (1 << 24) + b'","n":' + b"9" * (1 << 20) + b',"b":"y"},"delta":null}')
    before = time.process_time()
    asked = [("resource.b_eq", "y"), ("resource.a_start", "x" * (1 << 20)), ("resource.n_gt", "1e999999999")]
    assert [filters.parse([pair]).matches(event) for pair in asked] == [True, True, False]
    assert filters.parse([("resource.n_gteq", "9" * (1 << 20))]).matches(event)
    assert time.process_time() - before < 5


@pytest.mark.parametrize("deep", [b"[" * 1_000_000 + b"]" * 1_000_000, b'{"a":' * 200_000 + b"1" + b"}" * 200_000])
def test_nesting_without_end_has_no_values(deep: bytes) -> None:
    event = View(b'{"resource":{"a":' + deep + b'},"delta":null}')
    assert filters.parse([("resource.a.a.a_null", "true")]).matches(event)


HARD: dict[str, bytes] = {
    "a lone surrogate": b'"\\ud800"',
    "deep arrays": b"[" * 5_000 + b"]" * 5_000,
    "deep objects": b'{"a":' * 2_000 + b"1" + b"}" * 2_000,
    "a number beyond a float": b"1e999999",
}


@pytest.mark.parametrize("hard", HARD.values(), ids=HARD)
def test_a_value_that_no_decoder_takes_hides_none_beside_it(hard: bytes) -> None:
    event = View(
        b'{"resource":null,"data":{"hard":%b,"a":{"b":1,"hard":%b},"path":"/x","l":[%b]}}' % (hard, hard, hard)
    )
    asked = [("data.a.b_eq", "1"), ("data.path_start", "/"), ("data.hard_present", "true")]
    assert filters.parse(asked).matches(event)


@pytest.mark.parametrize("hard", HARD.values(), ids=HARD)
def test_nor_does_it_hide_a_path(hard: bytes) -> None:
    entries = b'[%b,{"path":"/a","hard":%b}, 1 ,{"path":2},{"path":"/b"}]' % (hard, hard)
    event = View(b'{"resource":null,"data":{"hard":%b,"path":"/x","entries":%b}}' % (hard, entries))
    assert paths_in(event) == ("/x", "/a", "/b")


def test_nul_and_surrogate_pairs_are_text() -> None:
    event = View(b'{"resource":{"nul":"a\\u0000b","pair":"\\ud83d\\ude00","na\\u0000me":1}}')
    asked = [("resource.nul_eq", "a\0b"), ("resource.pair_eq", "\U0001f600"), ("resource.na\0me_eq", "1")]
    assert filters.parse(asked).matches(event)
    assert filters.parse([("resource.pair_gt", "\uffff")]).matches(event)


# The oracle: the event read whole, with numbers as they are spelled; every rule in the most direct words.


class Spelled(str):
    """A number as it is spelled."""

    __slots__ = ()


def descend(value: Any, names: str) -> Iterator[Any]:
    if not isinstance(value, dict):
        return
    there = [name for name in value if names == name or names.startswith(name + ".")]
    if there:
        name = max(there, key=len)
        if name == names:
            yield value[name]
        else:
            yield from descend(value[name], names[len(name) + 1 :])


def decimal(text: str) -> Fraction | None:
    try:
        json.loads(text, parse_constant=lambda _: 1 / 0)
    except (ValueError, ZeroDivisionError):
        return None
    return Fraction(text) if text == text.strip() and text[0] in "-0123456789" else None


def oracle(event: Mapping[str, Any], path: str, predicate: str, asked: str) -> bool:
    root, _, names = path.partition(".")
    if predicate == "changed":
        return (isinstance(event.get("delta"), dict) and names in event["delta"]) is (asked == "true")
    value = next(descend(event.get(root), names), None)
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else value
    scalar = isinstance(text, str)
    match predicate:
        case "eq":
            return scalar and str(text) == asked
        case "not_eq":
            return not (scalar and str(text) == asked)
        case "in":
            return scalar and str(text) in asked.split(",")
        case "not_in":
            return not (scalar and str(text) in asked.split(","))
        case "start":
            return type(value) is str and value.startswith(asked)
        case "null":
            return (value is None) is (asked == "true")
        case "present":
            return (value is not None) is (asked == "true")
    if not scalar:
        return False
    left, right = decimal(str(text)), decimal(asked)
    a, b = (left, right) if left is not None and right is not None else (str(text), asked)
    return {"lt": a < b, "lteq": a <= b, "gt": a > b, "gteq": a >= b}[predicate]  # type: ignore[operator]


NAMES = st.sampled_from(["a", "b", "a.b", "b.a", "", "a_not", "."])
NUMBERS = st.from_regex(r"\A-?(0|[1-9][0-9]{0,3})(\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?\Z").map(
    lambda text: text.translate({ord(each): None for each in "\n"})
)
TEXTS = st.sampled_from(["", "a", "ab", "true", "null", "9", "9.0", "\0", "\U0001f600", "\uffff"]) | NUMBERS | st.text()
SCALARS = st.sampled_from(["true", "false", "null"]) | NUMBERS | TEXTS.map(json.dumps)


def spell(members: list[tuple[str, str]]) -> str:
    return "{" + ",".join(f"{json.dumps(name)}: {value}" for name, value in members) + "}"


VALUES: st.SearchStrategy[str] = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(st.tuples(NAMES, inner), max_size=4).map(spell)
        | st.lists(inner, max_size=2).map(lambda items: f"[{','.join(items)}]")
    ),
    max_leaves=8,
)
ROWS = st.lists(st.tuples(NAMES, VALUES), max_size=5).map(spell) | st.just("null")
EVENTS = st.tuples(ROWS, ROWS, VALUES).map(
    lambda parts: f'{{"id":"x","resource":{parts[0]},"delta":{parts[1]},"who":{parts[2]}}}'
)
PATHS = (
    st.tuples(
        st.sampled_from(["resource", "delta", "who", "data"]), st.lists(NAMES, min_size=1, max_size=3).map(".".join)
    )
    .filter(lambda parts: parts[1] != "")
    .map(".".join)
)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[str, str, str]:
    """(path, predicate, value), valid."""
    predicate = draw(st.sampled_from(list(filters.PREDICATES)))
    path = draw(PATHS)
    # The longest predicate counts, so that `a_not` with `eq` is another filter.
    if predicate in ("eq", "in") and path.endswith("_not"):
        path = path.removesuffix("_not")
    if predicate == "changed":
        path = "delta." + path.partition(".")[2]
    if predicate in ("null", "present", "changed"):
        return path, predicate, draw(st.sampled_from(["true", "false"]))
    if predicate in ("in", "not_in"):
        return path, predicate, draw(st.lists(TEXTS, min_size=1, max_size=3).map(",".join).filter(bool))
    return path, predicate, draw(TEXTS if predicate.endswith("eq") and "t" not in predicate[:2] else TEXTS.filter(bool))


def read(text: str) -> Any:
    return json.loads(text, parse_int=Spelled, parse_float=Spelled)


@given(EVENTS, st.lists(pairs(), min_size=1, max_size=6))
def test_every_filter_says_what_the_oracle_says(text: str, asked: list[tuple[str, str, str]]) -> None:
    view, event = View(text.encode()), read(text)
    for path, predicate, value in asked:
        if predicate in ("lteq", "gteq") and not value:
            continue
        got = filters.parse([(f"{path}_{predicate}", value)]).matches(view)
        assert got is oracle(event, path, predicate, value), (path, predicate, value)
