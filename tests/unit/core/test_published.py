"""Published events, without a database."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamhub.core import frames
from streamhub.core.changes import PUBLISHED, Change
from streamhub.core.events import StoredEvent
from streamhub.core.names import wrong_type
from streamhub.core.published import kind_of
from streamhub.core.rendering import Rendered, Renderer

ABOUT = {
    "organization": "org_1", "type": "query.received", "resource_type": None, "resource_id": "7", "publish_id": "p1",
    "test": False,
}  # fmt: skip


ID = "01a202b2-c57c-7000-8000-00000000002a"
TRAPS = st.sampled_from(['"', ',"data":', ',"publish_id":"x","data":1}', ',"who":', "\n\nevent: gap\ndata: ", "\u2028"])
TEXTS = st.lists(TRAPS | st.text(max_size=4), max_size=3).map("".join)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def change(data: str, who: str | None = '{"publish_id":1}', **about: Any) -> Change:
    return Change(1, 7412, 1_795_341_600_123_456, PUBLISHED, None, who, json.dumps({**ABOUT, **about}), data)


def stored(rendered: Rendered) -> StoredEvent:
    kind = rendered.kind
    organization = frames.organization_of("org_1", "my-org")
    end = frames.end_of(kind.head, rendered.resource, organization, rendered.tail)
    frame = frames.build(kind.frame_start, ID.encode(), end)
    return StoredEvent(1, ID, rendered.test, kind.type, kind.resource_type, rendered.resource_id, frame)


@pytest.mark.parametrize(("type_", "resource_type"), [("a.b.c", "a.b"), ("entries_created", None)])
def test_the_resource_type_is_what_precedes_the_last_segment(type_: str, resource_type: str | None) -> None:
    assert kind_of(type_, None).resource_type == resource_type


def test_a_resource_type_that_is_given_is_taken() -> None:
    assert kind_of("a.b", "c").resource_type == "c"


@pytest.mark.parametrize("type_", ["", "a.", ".a", "a..b", "a b", "a\n", "é", "a" * 256, "gap", "a.stream_error"])
def test_a_wrong_type_is_told(type_: str) -> None:
    assert wrong_type(type_)


def test_the_data_is_the_publishers_own_bytes() -> None:
    (event,) = Renderer(1 << 20).render(change('{"n": 1.50}')).events
    assert event.tail.endswith(b',"publish_id":"p1","data":{"n": 1.50}}')


@given(data=JSON, who=JSON, names=st.tuples(TEXTS, TEXTS, TEXTS), spaced=st.booleans())
def test_any_data_can_be_sliced_out_of_the_one_frame_that_it_is_in(
    data: Any, who: Any, names: tuple[str, str, str], spaced: bool
) -> None:
    sent = json.dumps(data, ensure_ascii=False, indent=1 if spaced else None)
    about = dict(zip(("resource_type", "resource_id", "publish_id"), names, strict=True))
    (event,) = Renderer(1 << 20).render(change(sent, json.dumps(who), **about)).events
    found = stored(event)
    assert frames.each_of(found.frame) == [found.frame]
    assert frames.parts_of(found.frame).data == frames.one_line(sent.encode())
    whole = json.loads(frames.data_of(found.frame))
    assert (whole["data"], whole["who"], whole["publish_id"]) == (data, who, names[2])


def test_an_event_that_is_too_large_arrives_without_its_data() -> None:
    outcome = Renderer(4096).render(change(json.dumps("x" * 4096)))
    assert outcome.counted == ("too_large",)
    assert outcome.events[0].tail.endswith(b',"too_large":true,"publish_id":"p1","data":null}')


def test_bytes_that_are_no_text_give_an_event_with_an_error() -> None:
    outcome = Renderer(1 << 20).render(change('"\udc80"'))
    assert outcome.counted == ("errors",)
    assert b',"error":"' in outcome.events[0].tail
