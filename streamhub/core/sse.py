"""Control frames as server-sent events; core/frames.py has those of events, core/control.py the names.

The format is the HTML standard's, section 9.2 (https://html.spec.whatwg.org/multipage/server-sent-events.html).
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from streamhub.core.control import HEARTBEAT
from streamhub.core.frames import one_line
from streamhub.core.window import timestamp

# Native EventSource reconnects at about 3 s and takes any answer but 200 as final; a stream is stale for 5 s.
RETRY: Final = b"retry: 6000\n\n"


PING: Final = b": ping\n\n"


def heartbeat(now_ms: int) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (HEARTBEAT.encode(), timestamp(now_ms).encode())


def control(event: str, data: Mapping[str, Any]) -> bytes:
    """The control frame of this name, with `data` as one line of JSON."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()
    return b"event: " + event.encode() + b"\ndata: " + one_line(text) + b"\n\n"
