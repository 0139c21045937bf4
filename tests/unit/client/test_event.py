"""Events and gaps as a program sees them."""

from datetime import UTC, datetime

import pytest

from streamhub.client import Event, Gap

ID = "01a202b2-c57c-7000-8000-00000000002a"
DATA = (
    b'{"id":"01a202b2-c57c-7000-8000-00000000002a","type":"skus.update","event":"update","resource_type":"skus",'
    b'"resource_id":"AYqPSwAqDW","organization":{"id":"org_1","slug":"my-org"},"test":false,'
    b'"created_at":"2026-11-22T10:00:00.123456Z","transaction_id":"7412","resource":{"id":"AYqPSwAqDW",'
    b'"price":"12.50"},"delta":{"price":{"from":"10.00","to":"12.50"}},"who":{"application":"importer"}}'
)


def event(data: bytes = DATA, name: bytes = b"update") -> Event:
    return Event((name, ID.encode(), data))


def test_a_change_has_the_members_of_its_object() -> None:
    change = event()
    assert (change.id, change.type, change.event) == (ID, "skus.update", "update")
    assert (change.resource_type, change.resource_id) == ("skus", "AYqPSwAqDW")
    assert change.organization == {"id": "org_1", "slug": "my-org"}
    assert change.test is False
    assert change.created_at == datetime(2026, 11, 22, 10, 0, 0, 123456, UTC)
    assert change.transaction_id == "7412"
    assert change.resource == {"id": "AYqPSwAqDW", "price": "12.50"}
    assert change.delta == {"price": {"from": "10.00", "to": "12.50"}}
    assert change.who == {"application": "importer"}
    assert change.data is None
    assert change.raw == DATA


def test_a_published_event_has_its_own_data() -> None:
    published = event(
        DATA.replace(b'"who":{"application":"importer"}', b'"who":null,"publish_id":"p","data":{"path":"/a"}')
    )
    assert published.data == {"path": "/a"}
    assert published.json["publish_id"] == "p"


@pytest.mark.parametrize(
    "type_json", ['"skus.update"', '"sk\\"us.update"', ' "skus.update"'], ids=["plain", "escaped", "spaced"]
)
def test_the_type_is_read_however_it_is_written(type_json: str) -> None:
    data = DATA.replace(b'"type":"skus.update"', b'"type":' + type_json.encode())
    assert event(data).type == event(data).json["type"]


def test_nothing_is_decoded_before_it_is_asked_for() -> None:
    broken = event(DATA[:-1])
    assert (broken.id, broken.type, broken.event) == (ID, "skus.update", "update")
    with pytest.raises(ValueError, match="unexpected end of data"):
        _ = broken.resource


def test_the_frame_is_what_a_hub_sends() -> None:
    assert event().frame == b"event: update\nid: " + ID.encode() + b"\ndata: " + DATA + b"\n\n"


def test_a_gap_tells_its_bounds_and_the_parameters_of_its_replays() -> None:
    gap = Gap.of(
        {
            "after_id": ID,
            "from": "2026-11-22T10:00:00.000Z",
            "to": "2026-11-22T11:00:00.000Z",
            "replay": ["/my-org/replay?date_from=2026-11-22T10:00:00.000Z&date_to=2026-11-22T11:00:00.000Z"],
        }
    )
    assert (gap.start, gap.end) == (datetime(2026, 11, 22, 10, tzinfo=UTC), datetime(2026, 11, 22, 11, tzinfo=UTC))
    assert gap.queries == [[("date_from", "2026-11-22T10:00:00.000Z"), ("date_to", "2026-11-22T11:00:00.000Z")]]
