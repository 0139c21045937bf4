"""The names of control frames, in every format: what a stream says of itself, between its events.

They carry no id, so that a client's Last-Event-ID stays the position of an event. No event may bear one of these names
as the last segment of its type (RESERVED): otherwise a publisher could forge a control frame.
"""

from typing import Final

HEARTBEAT: Final = "heartbeat"
GAP: Final = "gap"
STREAM_ERROR: Final = "stream_error"
REPLAY_STARTED: Final = "replay_started"
STREAM_COMPLETE: Final = "stream_complete"

RESERVED: Final = frozenset({HEARTBEAT, GAP, STREAM_ERROR, REPLAY_STARTED, STREAM_COMPLETE})


def is_reserved(type_: str) -> bool:
    """Whether an event of this type would look like a control frame.

    >>> is_reserved("tickets.heartbeat"), is_reserved("heartbeat.create")
    (True, False)
    """
    return type_.rpartition(".")[2] in RESERVED
