"""An event as a Kafka record, and back."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamhub.core import ids
from streamhub.core.events import StoredEvent
from streamhub.core.frames import data_of
from streamhub.core.records import AFTER, ID, event_of, header, record_of

text = st.text(max_size=30)
names = st.text(min_size=1, max_size=30).filter(lambda name: "\n" not in name and "\r" not in name)
types = st.from_regex(r"[A-Za-z0-9_-]{1,20}\.[a-z_]{1,20}", fullmatch=True)


def event(
    organization: str = "org_1",
    slug: str = "my-org",
    type_: str = "skus.update",
    *,
    resource_id: str | None = "sku_1",
    resource: object = None,
    test: bool = False,
    spaced: bool = False,
) -> StoredEvent:
    """As `history/append.py` makes it. `spaced`: another writer's JSON, with spaces."""
    resource_type, _, name = type_.rpartition(".")
    id_ = ids.event_id(1_795_000_000_000, 7)
    value = {
        "id": id_, "type": type_, "event": name, "resource_type": resource_type, "resource_id": resource_id,
        "organization": {"id": organization, "slug": slug}, "test": test, "created_at": "2026-11-22T10:00:00.123456Z",
        "transaction_id": "7412", "resource": resource, "delta": None, "who": None,
    }  # fmt: skip
    data = json.dumps(value).encode() if spaced else msgspec.json.encode(value)
    frame = b"event: %b\nid: %b\ndata: %b\n\n" % (name.encode(), id_.encode(), data)
    return StoredEvent(1, id_, test, type_, resource_type, resource_id, frame)


@given(names, text, text, st.booleans())
def test_a_record_carries_what_its_event_says(organization: str, resource_id: str, inner: str, test: bool) -> None:
    # An object within the row that looks like what the organization is found by.
    resource = {
        "organization": {"id": inner, "slug": inner},
        "test": not test,
        "note": f',"organization":{inner},"test":',
    }
    given_event = event(organization, resource_id=resource_id, resource=resource, test=test)
    record = record_of(given_event, ids.MIN_ID)
    assert record.key == organization.encode()
    assert record.value == data_of(given_event.frame)
    assert header(record.headers, "ce_organization") == organization
    assert header(record.headers, "ce_test") == ("true" if test else "false")


@given(names, types, st.none() | text, st.booleans())
def test_an_event_read_from_a_record_is_the_event_that_was_sent(
    organization: str, type_: str, resource_id: str | None, test: bool
) -> None:
    sent = event(organization, type_=type_, resource_id=resource_id, test=test)
    record = record_of(sent, ids.MIN_ID)
    id_ = header(record.headers, ID)
    assert id_ is not None
    assert event_of(sent.organization, id_, record.value) == sent


def test_an_event_with_spaces_in_its_json_has_the_same_headers() -> None:
    assert record_of(event(spaced=True), ids.MIN_ID)[0::2] == record_of(event(), ids.MIN_ID)[0::2]


def test_a_record_names_its_predecessor() -> None:
    after = ids.event_id(1_794_000_000_000, 3)
    assert header(record_of(event(), after).headers, AFTER) == after


def test_a_changed_slug_is_told_from_the_event_on_that_has_it() -> None:
    sources = [header(record_of(event(slug=slug), ids.MIN_ID).headers, "ce_source") for slug in ("old", "new", "old")]
    assert sources == ["/old", "/new", "/old"]


def test_a_header_that_is_not_there_is_none() -> None:
    assert header([("ce_id", b"1")], "ce_type") is None


def test_a_value_that_is_no_event_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        event_of(1, ids.MIN_ID, b'{"hello":"world"}')
