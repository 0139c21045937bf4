"""Control frames."""

from streamhub.core import sse
from streamhub.core.control import is_reserved


def test_a_heartbeat_carries_the_time_and_no_id() -> None:
    assert sse.heartbeat(1_795_341_600_007) == b"event: heartbeat\ndata: 2026-11-22T10:00:00.007Z\n\n"


def test_a_control_frame_is_one_line_of_json() -> None:
    assert sse.control("gap", {"a": "x\ny", "b": ["ü"]}) == 'event: gap\ndata: {"a":"x\\ny","b":["ü"]}\n\n'.encode()


def test_a_type_that_ends_in_the_name_of_a_control_frame_is_reserved() -> None:
    assert [name for name in ("heartbeat", "ticket.gap", "gap.create", "gaps") if is_reserved(name)] == [
        "heartbeat",
        "ticket.gap",
    ]
