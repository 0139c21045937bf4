"""How a stream's frames are written: as server-sent events, or as one JSON document a line (NDJSON).

An event's line is its `data`, as it stands in the frame. A control frame's line is `{"event":…,"data":…}`: it has no
id, and its event is a name that no event can have.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from streamhub.core import frames, sse
from streamhub.core.accept import weights
from streamhub.core.control import HEARTBEAT
from streamhub.core.window import timestamp


class Format(NamedTuple):
    """`events` turns a run of stored frames into what is sent for them; the others make control frames."""

    media_type: str
    events: Callable[[bytes], bytes]
    control: Callable[[str, Mapping[str, Any]], bytes]
    heartbeat: Callable[[int], bytes]


def _line(event: str, data: object) -> bytes:
    return json.dumps({"event": event, "data": data}, separators=(",", ":")).encode() + b"\n"


def _same(run: bytes) -> bytes:
    return run


SSE: Final = Format("text/event-stream; charset=utf-8", _same, sse.control, sse.heartbeat)
PINGED: Final = SSE._replace(heartbeat=lambda _now_ms: sse.PING)
"""Server-sent events with comments for heartbeats, which no handler of a browser sees."""
NDJSON: Final = Format(
    "application/x-ndjson", frames.lines_of, _line, lambda now_ms: _line(HEARTBEAT, timestamp(now_ms))
)


def preferred(accept: str) -> Format:
    """What an Accept header (RFC 9110, section 12.5.1) asks for: NDJSON where it is named and server-sent events are
    not named before it or with a greater weight; else server-sent events, whatever else is asked for."""
    asked = weights(accept)
    ndjson, events = asked.get(NDJSON.media_type, 0.0), asked.get("text/event-stream", 0.0)
    first = next((name for name in asked if name in (NDJSON.media_type, "text/event-stream")), None)
    return NDJSON if ndjson > events or (ndjson == events > 0 and first == NDJSON.media_type) else SSE
