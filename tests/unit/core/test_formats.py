"""Server-sent events and NDJSON: what is sent for the same frames, and which one an Accept header asks for."""

import json

import pytest

from streamhub.core.formats import NDJSON, SSE, preferred

FRAMES = b"".join(
    b'event: update\nid: 01a202b2-c57c-7000-8000-%012d\ndata: {"id":"%d","note":"event: a\\nid: b"}\n\n' % (n, n)
    for n in range(3)
)


def test_as_server_sent_events_the_frames_stay_as_they_are() -> None:
    assert SSE.events(FRAMES) is FRAMES


def test_as_ndjson_each_event_is_its_data_and_a_line_feed() -> None:
    lines = NDJSON.events(FRAMES).split(b"\n")
    assert lines.pop() == b""
    assert lines == [b'{"id":"%d","note":"event: a\\nid: b"}' % n for n in range(3)]


def test_a_control_frame_is_a_line_without_an_id() -> None:
    line = NDJSON.control("stream_complete", {"events": 3, "last_id": None})
    assert line.endswith(b"\n")
    assert json.loads(line) == {"event": "stream_complete", "data": {"events": 3, "last_id": None}}


def test_a_heartbeat_is_a_line_with_its_time() -> None:
    assert NDJSON.heartbeat(0) == b'{"event":"heartbeat","data":"1970-01-01T00:00:00.000Z"}\n'


@pytest.mark.parametrize(
    "accept",
    ["application/x-ndjson", "Application/X-NDJSON; q=0.5", "application/x-ndjson, */*",
     "text/html,application/x-ndjson", "application/x-ndjson, text/event-stream",
     "text/event-stream;q=0.5, application/x-ndjson"],
)  # fmt: skip
def test_ndjson_is_sent_where_it_is_preferred(accept: str) -> None:
    assert preferred(accept) is NDJSON


@pytest.mark.parametrize(
    "accept",
    ["", "*/*", "text/event-stream", "application/json", "text/event-stream, application/x-ndjson",
     "application/x-ndjson;q=0", "application/x-ndjson;q=nonsense",
     "application/x-ndjson;q=0.1, text/event-stream", ",;,"],
)  # fmt: skip
def test_otherwise_server_sent_events_are_sent(accept: str) -> None:
    assert preferred(accept) is SSE
