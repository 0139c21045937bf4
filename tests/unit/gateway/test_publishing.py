"""The body of a request that publishes, without a gateway."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamhub.core.names import wrong_type, wrong_with
from streamhub.gateway.publishing.request import MOST_FAULTS, MOST_LEVELS, Body, Event, NotJsonError
from streamhub.web.problems import ApiError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def read(body: Any) -> list[Event]:
    return Body.of(body if isinstance(body, bytes) else json.dumps(body).encode()).read()


def refused(body: Any) -> list[tuple[str, str]]:
    """(code, pointer) of each fault."""
    with pytest.raises(ApiError) as error:
        read(body)
    return [(fault.code, (fault.source or {}).get("pointer", "-")) for fault in error.value.faults]


def test_the_data_is_taken_as_it_was_sent() -> None:
    data = '{"big":12345678901234567,"n": 1.50, "n":2,"zero":"\\u0000","line":"\u2028"}'
    (event,) = read(f' {{"type" : "a.b", "data" :\n{data} }} '.encode())
    assert (event.type, event.data) == ("a.b", data)


def test_a_publish_id_is_made_where_none_is_given() -> None:
    first, second = read([{"type": "a", "data": 1}, {"type": "a", "data": 1, "publish_id": None}])
    assert len({first.publish_id, second.publish_id, ""}) == 3


@given(st.lists(st.tuples(JSON, st.text(max_size=3)), min_size=1, max_size=4))
def test_events_are_read_as_they_are_or_refused_by_their_own_pointers(sent: list[tuple[Any, str]]) -> None:
    body = [{"type": "a.b", "data": data, "resource_id": name} for data, name in sent]
    wrong = [("INVALID_EVENT", f"/{n}/resource_id") for n, (_, name) in enumerate(sent) if wrong_with(name)]
    if wrong:
        assert refused(body) == wrong
    else:
        assert [(json.loads(event.data), event.resource_id) for event in read(body)] == sent


@pytest.mark.parametrize("inner", ["[{}]", '{{"a":{}}}'])
def test_an_event_is_no_deeper_than_readers_of_json_can_go(inner: str) -> None:
    def nested(levels: int) -> bytes:
        data = '"[[[["'
        for _ in range(levels):
            data = inner.format(data)
        return f'{{"type":"a","data":{data}}}'.encode()

    assert len(read(nested(MOST_LEVELS - 1))) == 1
    for levels in (MOST_LEVELS, 990, 100_000):
        with pytest.raises(NotJsonError, match="nests arrays and objects too deeply; at most 500 levels are allowed"):
            read(nested(levels))


def test_what_is_wide_is_not_deep() -> None:
    assert len(read({"type": "a", "data": [[[]]] * 1_000})) == 1


@given(JSON)
def test_json_that_is_no_event_is_refused_as_such(value: Any) -> None:
    is_event = isinstance(value, dict) and "data" in value and value.get("type") is not None
    if not is_event:
        assert {code for code, _ in refused(value)} == {"INVALID_EVENT"}


@given(st.binary(max_size=8))
def test_whatever_bytes_come_are_json_or_not(body: bytes) -> None:
    try:
        json.loads(body.decode(), parse_constant=float.fromhex)
        is_json = True
    except ValueError:
        is_json = False
    try:
        Body.of(body)
    except NotJsonError:
        assert not is_json or b"\\u" in body
    else:
        assert is_json


@pytest.mark.parametrize("type_", [None, 7, "", "a.gap", "stream_error", "a\n", 1e308, ["a"]])
def test_a_wrong_type_is_refused_by_its_pointer(type_: Any) -> None:
    assert refused({"type": type_, "data": 1}) == [("INVALID_EVENT", "/type")]
    assert not isinstance(type_, str) or wrong_type(type_)


def test_every_fault_of_every_event_is_told() -> None:
    body = [{"type": "a", "data": 1}, {"type": "a", "da/ta": 1}, 7, {"data": 1, "publish_id": 7, "resource_type": " a"}]
    assert refused(body) == [
        ("INVALID_EVENT", each)
        for each in ("/1/da~1ta", "/1/data", "/2", "/3/type", "/3/resource_type", "/3/publish_id")
    ]


def test_no_more_faults_are_told_than_an_answer_has_room_for() -> None:
    assert len(refused([{f"m{n}": n for n in range(1_000)}] * 3)) == MOST_FAULTS


def test_the_pointer_to_a_single_event_begins_at_its_members() -> None:
    assert refused({"type": "a"}) == [("INVALID_EVENT", "/data")]
    assert refused(b"7") == [("INVALID_EVENT", "")]
    assert refused(b"[]") == [("INVALID_EVENT", "")]


def test_a_thousand_events_are_read_and_one_more_is_refused() -> None:
    assert len(read([{"type": "a", "data": 1}] * 1_000)) == 1_000
    assert refused([{"type": "a", "data": 1}] * 1_001) == [("TOO_MANY_EVENTS", "-")]


def test_an_event_of_a_mebibyte_is_read_and_a_larger_one_refused_by_its_pointer() -> None:
    event = {"type": "a", "data": ""}
    event["data"] = "x" * (1024 * 1024 - len(json.dumps(event)))
    assert read([event])
    event["data"] += "x"
    assert refused([{"type": "a", "data": 1}, event]) == [("BODY_TOO_LARGE", "/1")]


@pytest.mark.parametrize("body", [b"", b"{", b"[1,]", b'{"a":"\xff"}', b"NaN", b"\xef\xbb\xbf{}", b"1 1", b"[" * 9_999])
def test_what_is_no_json_is_told(body: bytes) -> None:
    with pytest.raises(NotJsonError):
        Body.of(body)
