"""The stored frame: built, found in a run, and joined to the envelopes of the contract's section 2."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamhub.core import frames, ids
from streamhub.core.frames import data_of

ID = "01a202b2-c57c-7000-8000-00000000002a"
CREATED_AT = "2026-11-22T10:00:00.123456Z"
# The contract's example of a change, but for white space.
CHANGE = (
    '{"id":"01a202b2-c57c-7000-8000-00000000002a","type":"skus.update","event":"update","resource_type":"skus",'
    '"resource_id":"AYqPSwAqDW","organization":{"id":"org_1","slug":"my-org"},"test":false,'
    '"created_at":"2026-11-22T10:00:00.123456Z","transaction_id":"7412",'
    '"resource":{"id":"AYqPSwAqDW","code":"TSHIRT","price":"12.50"},'
    '"delta":{"price":{"from":"10.00","to":"12.50"}},"who":{"application":"importer"}}'
)
TAIL = CHANGE[CHANGE.index(',"test"') :].encode()
FRAME = f"event: update\nid: {ID}\ndata: {CHANGE}\n\n".encode()

TRAPS = st.sampled_from(
    ['"', ',"test":', ',"organization":{', ',"created_at":"', "\nid: ", "\\", ',"publish_id":"x","data":1}', "}]"]
)
TEXTS = st.lists(TRAPS | st.text(max_size=8), max_size=4).map("".join)


def frame(number: int, data: object) -> bytes:
    return b"event: update\nid: %s\ndata: %s\n\n" % (ids.event_id(number, 0).encode(), json.dumps(data).encode())


def event(data: bytes) -> bytes:
    return frames.of_data("update", ID, data)


def published(own: Any, who: Any = None, resource_type: str | None = "query", publish_id: str = "p-1") -> bytes:
    data = {
        "id": ID,
        "type": "query.received",
        "event": "received",
        "resource_type": resource_type,
        "resource_id": None,
        "organization": {"id": "org_1", "slug": "my-org"},
        "test": True,
        "created_at": CREATED_AT,
        "transaction_id": "7412",
        "resource": None,
        "delta": None,
        "who": who,
        "publish_id": publish_id,
        "data": own,
    }
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode()
    return frames.of_data("received", ID, text)


def test_a_frame_is_built_as_the_contract_shows_it() -> None:
    head = frames.head_of("skus.update", "update", "skus")
    organization = frames.organization_of("org_1", "my-org")
    built = frames.build(
        frames.start_of("update"), ID.encode(), frames.end_of(head, b'"AYqPSwAqDW"', organization, TAIL)
    )
    assert built == FRAME


def test_a_frame_is_made_of_its_object() -> None:
    assert frames.of_data("update", ID, CHANGE.encode()) == FRAME


@given(st.lists(st.text(), min_size=1, max_size=5))
def test_first_and_last_id_are_found_with_any_data(texts: list[str]) -> None:
    run = b"".join(frame(n, {"text": text, "trap": "\nid: nonsense"}) for n, text in enumerate(texts, 1))
    assert frames.first_id(run) == ids.event_id(1, 0)
    assert frames.last_id(run) == ids.event_id(len(texts), 0)


@given(st.binary().filter(lambda data: b"\n" not in data))
def test_the_object_is_what_stands_behind_data(data: bytes) -> None:
    assert data_of(b"event: create\nid: x\ndata: %b\n\n" % data) == data


@given(st.text(alphabet="abcdata: {}", max_size=30))
def test_an_object_that_holds_the_word_data_is_found_whole(text: str) -> None:
    data = text.encode()
    assert data_of(b"event: data: \nid: data: \ndata: %b\n\n" % data) == data


def test_the_event_field_is_read_from_the_frame() -> None:
    assert frames.event_in(FRAME) == "update"


@given(TEXTS)
def test_the_organization_is_found_with_any_id(id_: str) -> None:
    member = frames.organization_of(id_, "my-org")
    data = data_of(
        frames.build(b"event: x\nid: ", b"i", frames.end_of(frames.head_of("x", "x", id_), b'"1"', member, TAIL))
    )
    assert json.loads(frames.organization_in(data) or b"") == {"id": id_, "slug": "my-org"}


def test_what_is_no_event_names_no_organization() -> None:
    assert frames.organization_in(b'{"organization": {"id": "org_1"}}') is None


@given(id_=TEXTS, other=TEXTS, type_=TEXTS)
def test_two_events_name_the_same_resource_where_type_and_id_are_the_same(id_: str, other: str, type_: str) -> None:
    def named(resource_type: str, resource_id: str) -> bytes | None:
        head = frames.head_of("x.update", "update", resource_type)
        key = json.dumps(resource_id).encode()
        built = frames.build(
            b"event: update\nid: ", ID.encode(), frames.end_of(head, key, frames.organization_of("o", "o"), TAIL)
        )
        return frames.resource_in(data_of(built))

    assert (named(type_, id_) == named(type_, other)) == (id_ == other)


def test_a_published_event_without_a_resource_names_none() -> None:
    assert frames.resource_in(data_of(published({"a": 1}))) is None


# -- envelopes


def test_the_envelope_change_is_the_frame_as_it_is() -> None:
    assert frames.enveloped(event(CHANGE.encode()), "change") == FRAME


def test_the_envelope_event_has_no_event_field_so_that_onmessage_fires() -> None:
    made = frames.enveloped(event(CHANGE.encode()), "event")
    body = f'{{"id":"{ID}","type":"skus.update","timestamp":"{CREATED_AT}","data":{CHANGE}}}'
    assert made.decode() == f"id: {ID}\ndata: {body}\n\n"


def test_the_envelope_engine_has_the_type_as_its_event_field_and_whole_milliseconds() -> None:
    made = frames.enveloped(event(CHANGE.encode()), "engine")
    body = f'{{"event_id":"{ID}","event_type":"skus.update","timestamp":1795341600123,"payload":{CHANGE}}}'
    assert made.decode() == f"event: skus.update\nid: {ID}\ndata: {body}\n\n"


def test_the_envelope_cloudevents_has_the_attributes_of_cloudevents() -> None:
    made = frames.enveloped(event(CHANGE.encode()), "cloudevents").decode()
    assert made.startswith(f"event: skus.update\nid: {ID}\ndata: ")
    assert json.loads(made.partition("data: ")[2]) == {
        "specversion": "1.0",
        "id": ID,
        "source": "/my-org",
        "type": "skus.update",
        "subject": "AYqPSwAqDW",
        "time": CREATED_AT,
        "datacontenttype": "application/json",
        "organization": "org_1",
        "test": False,
        "data": json.loads(CHANGE),
    }


def test_a_webhook_body_has_the_time_of_writing_and_the_change() -> None:
    body = frames.webhook_body(frames.parts_of(event(CHANGE.encode())))
    assert body.decode() == f'{{"id":"{ID}","type":"skus.update","created_at":"{CREATED_AT}","data":{CHANGE}}}'


def test_an_unknown_envelope_is_an_error() -> None:
    with pytest.raises(KeyError):
        frames.enveloped(event(CHANGE.encode()), "xml")


WHO = st.none() | st.dictionaries(TEXTS, TEXTS | st.lists(st.dictionaries(st.just("publish_id"), TEXTS), max_size=2))
VALUES = st.none() | st.booleans() | st.integers() | TEXTS
OWN = st.recursive(VALUES, lambda each: st.lists(each) | st.dictionaries(TEXTS, each), max_leaves=5)


@given(own=OWN, who=WHO, publish_id=TEXTS)
def test_what_an_application_published_is_sent_as_its_own_data(own: Any, who: Any, publish_id: str) -> None:
    parts = frames.parts_of(published(own, who, publish_id=publish_id))
    assert json.loads(parts.data) == own


@given(who=WHO)
def test_a_change_too_large_for_its_values_is_no_published_event_with_any_who(who: Any) -> None:
    start = CHANGE[: CHANGE.index(',"resource":{')]
    written = json.dumps(who, separators=(",", ":"))
    data = f'{start},"resource":null,"delta":null,"who":{written},"too_large":true}}'.encode()
    assert frames.parts_of(event(data)).data == data


def test_a_published_event_without_a_resource_has_a_null_subject() -> None:
    made = frames.enveloped(published({"a": 1}, resource_type=None), "cloudevents").decode()
    assert json.loads(made.partition("data: ")[2])["subject"] is None


@given(id_=TEXTS, resource_id=TEXTS, type_=st.sampled_from(["a", "a.b"]))
def test_every_envelope_is_json_on_one_line_with_any_ids(id_: str, resource_id: str, type_: str) -> None:
    built = frames.build(
        frames.start_of("update"),
        ID.encode(),
        frames.end_of(
            frames.head_of(type_, "update", "skus"),
            frames.one_line(json.dumps(resource_id).encode()),
            frames.organization_of(id_, "my-org"),
            TAIL,
        ),
    )
    for envelope in frames.ENVELOPES:
        lines = frames.enveloped(built, envelope).decode().split("\n")
        assert lines[-2:] == ["", ""]
        data = json.loads(lines[-3].removeprefix("data: "))
        assert data.get("type", data.get("event_type")) == type_
