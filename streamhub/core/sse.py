"""Server-sent events as bytes: control frames, and where the ids of events lie in a run of frames.

The format is the HTML standard's, section 9.2 (https://html.spec.whatwg.org/multipage/server-sent-events.html).
Frames of events are rendered once by the relay; nothing here parses them again. Control frames never carry an id,
so that a client's Last-Event-ID stays the position of an event.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from streamhub.core.window import timestamp

# Native EventSource reconnects at about 3 s and takes any answer but 200 as final; a stream is stale for 5 s.
RETRY: Final = b"retry: 6000\n\n"

_ID: Final = b"\nid: "
# In UTF-8, the characters at which clients in the wild (Python's splitlines is one) end a line and the standard does
# not.
_LINE_ENDS: Final = ((b"\xc2\x85", b"\\u0085"), (b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"))
_ID_LENGTH: Final = 36


def heartbeat(now_ms: int) -> bytes:
    return b"event: heartbeat\ndata: " + timestamp(now_ms).encode() + b"\n\n"


def control(event: str, data: Mapping[str, Any]) -> bytes:
    """A control frame (gap, stream_error, replay_started, stream_complete)."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()
    return b"event: " + event.encode() + b"\ndata: " + one_line(text) + b"\n\n"


def one_line(text: bytes) -> bytes:
    """JSON in which no client sees the end of a line. A raw LF or CR is white space between two tokens, as a column of
    type json may hold; the others stand in strings alone."""
    if b"\n" in text or b"\r" in text:
        text = text.replace(b"\n", b" ").replace(b"\r", b" ")
    if not text.isascii():
        for character, escaped in _LINE_ENDS:
            text = text.replace(character, escaped)
    return text


def first_id(frames: bytes) -> str:
    """The id of the first frame of a run; a frame's data holds no line break, so an id line cannot be imitated."""
    start = frames.index(_ID) + len(_ID)
    return frames[start : start + _ID_LENGTH].decode("ascii")


def last_id(frames: bytes) -> str:
    """The id of the last frame of a run."""
    start = frames.rindex(_ID) + len(_ID)
    return frames[start : start + _ID_LENGTH].decode("ascii")
