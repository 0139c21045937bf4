"""Control frames, and ids found in runs of frames."""

import json

from hypothesis import given
from hypothesis import strategies as st

from streamhub.core import ids, sse


def frame(number: int, data: object) -> bytes:
    return b"event: update\nid: %s\ndata: %s\n\n" % (ids.event_id(number, 0).encode(), json.dumps(data).encode())


def test_a_heartbeat_carries_the_time_and_no_id() -> None:
    assert sse.heartbeat(1_795_341_600_007) == b"event: heartbeat\ndata: 2026-11-22T10:00:00.007Z\n\n"


def test_a_control_frame_is_one_line_of_json() -> None:
    assert sse.control("gap", {"a": "x\ny", "b": ["ü"]}) == 'event: gap\ndata: {"a":"x\\ny","b":["ü"]}\n\n'.encode()


@given(st.lists(st.text(), min_size=1, max_size=5))
def test_first_and_last_id_are_found_whatever_the_data_says(texts: list[str]) -> None:
    frames = b"".join(frame(n, {"text": text, "trap": "\nid: nonsense"}) for n, text in enumerate(texts, 1))
    assert sse.first_id(frames) == ids.event_id(1, 0)
    assert sse.last_id(frames) == ids.event_id(len(texts), 0)
