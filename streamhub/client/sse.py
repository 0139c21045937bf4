"""Server-sent events from bytes, as the HTML standard interprets them (section 9.2,
https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation).

A chunk is handled at once. Where it holds nothing but messages as a hub writes an event (`event:`, `id:`, `data:`, an
empty line), one regular expression takes them all; everything else goes line by line. All values stay bytes, so that
an event that no handler looks into is never decoded.
"""

import re
from itertools import chain
from typing import Final, TypeAlias

Message: TypeAlias = tuple[bytes, bytes, bytes]
"""(the `event` field, `message` where there was none; the last event id, empty without one; data), in UTF-8."""

LONGEST: Final = 64 * 1024 * 1024
"""Bytes that a message may have before its end has come: four times a hub's largest event."""

_BOM: Final = b"\xef\xbb\xbf"
_LIKE_A_HUBS: Final = re.compile(rb"event: (.+)\nid: (.*)\ndata: (.*)\n\n")
_AROUND: Final = len("event: \nid: \ndata: \n\n")


class TooLongError(ValueError):
    """A message of more than LONGEST bytes."""


class Parser:
    """Of one response: feed it what comes, in chunks of any size.

    `last_event_id` is what the next request's `Last-Event-ID` may be; `retry` the reconnection time in milliseconds
    that the server asked for, None before it did. `run` is what the messages of the last chunk were read from, where
    nothing else stood between them and line ends were LF, else None.
    """

    def __init__(self, last_event_id: bytes = b"") -> None:
        self.last_event_id = last_event_id
        self.retry: int | None = None
        self.run: bytes | None = None
        self._start: bytes | None = b""  # what came of a possible byte order mark; None once that is known
        self._after_cr = False  # a LF that comes now belongs to the CR before it
        self._rest: list[bytes] = []  # pieces that are not handled yet: a line without its end, or a message without
        self._rest_size = 0
        self._event = b""
        self._data: list[bytes] = []
        self._data_size = 0

    def feed(self, chunk: bytes) -> list[Message]:
        """The messages that are complete now. Raises TooLongError."""
        self.run = None
        if self._start is not None:
            chunk = self._without_bom(chunk)
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        if b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if b"\n" not in chunk:
            self._keep(chunk)
            return []
        if self._rest:
            chunk = b"".join((*self._rest, chunk))
            self._rest.clear()
            self._rest_size = 0
        end = chunk.rfind(b"\n\n") + 2
        if end == 1:
            end = 0
        messages = self._hubs(chunk, end)
        if messages is None:
            messages = self._lines(chunk[:end].split(b"\n")[:-1])
        rest = chunk[end:]
        if b"\n" in rest and not rest.startswith(b"event: "):
            *lines, rest = rest.split(b"\n")
            messages += self._lines(lines)
        self._keep(rest)
        return messages

    def _without_bom(self, chunk: bytes) -> bytes:
        assert self._start is not None
        begun = self._start + chunk
        if len(begun) < len(_BOM) and _BOM.startswith(begun):
            self._start = begun
            return b""
        self._start = None
        return begun.removeprefix(_BOM)

    def _keep(self, piece: bytes) -> None:
        if piece:
            self._rest.append(piece)
            self._rest_size += len(piece)
        if self._rest_size + self._data_size > LONGEST:
            raise TooLongError(f"a message of over {LONGEST} bytes")

    def _hubs(self, chunk: bytes, end: int) -> list[Message] | None:
        """The messages up to `end`, None where anything else stands before, between or behind them."""
        if self._data or b"\0" in chunk:
            return None
        messages: list[Message] = _LIKE_A_HUBS.findall(chunk, 0, end)
        values = sum(map(len, chain.from_iterable(messages)))
        if not messages or values + _AROUND * len(messages) != end:
            return None
        self._event = b""
        self.last_event_id = messages[-1][1]
        self.run = chunk[:end]
        return messages

    def _lines(self, lines: list[bytes]) -> list[Message]:
        messages: list[Message] = []
        for line in lines:
            if line:
                self._field(line)
                continue
            if self._data:
                messages.append((self._event or b"message", self.last_event_id, b"\n".join(self._data)))
                self._data = []
                self._data_size = 0
            self._event = b""
        return messages

    def _field(self, line: bytes) -> None:
        """A line that begins with a colon has an empty name: a comment."""
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._data_size += len(value)
        elif name == b"event":
            self._event = value
        elif name == b"id":
            if b"\0" not in value:
                self.last_event_id = value
        elif name == b"retry" and value.isdigit() and len(value) < 10:
            self.retry = int(value)
