"""Server-sent events from bytes, as the HTML standard interprets them (section 9.2,
https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation).

A chunk is handled at once: split into lines, and lines that stand as a hub writes an event (`event:`, `id:`, `data:`,
an empty line) are taken four at a time. Everything else goes line by line. `data` stays bytes, so that an event that
no handler looks into is never decoded.
"""

from typing import Final, TypeAlias

Message: TypeAlias = tuple[str, bytes, str]
"""(the `event` field, `message` where there was none; data in UTF-8; the last event id, empty where there was none)."""

LONGEST: Final = 64 * 1024 * 1024
"""Bytes that a message may have before its end has come: four times a hub's largest event."""

_BOM: Final = b"\xef\xbb\xbf"
_MOST_NAMES: Final = 1024


class TooLongError(ValueError):
    """A message of more than LONGEST bytes."""


class Parser:
    """Of one response: feed it what comes, in chunks of any size.

    `last_event_id` is what the next request's `Last-Event-ID` may be; `retry` the reconnection time in milliseconds
    that the server asked for, None before it did.
    """

    def __init__(self, last_event_id: str = "") -> None:
        self.last_event_id = last_event_id
        self.retry: int | None = None
        self._start: bytes | None = b""  # what came of a possible byte order mark; None once that is known
        self._after_cr = False  # a LF that comes now belongs to the CR before it
        self._line: list[bytes] = []  # pieces of a line without its end
        self._line_size = 0
        self._event = ""
        self._data: list[bytes] = []
        self._data_size = 0
        self._names: dict[bytes, str] = {}  # `event:` lines seen, decoded

    def feed(self, chunk: bytes) -> list[Message]:
        """The messages that are complete now. Raises TooLongError."""
        if self._start is not None:
            chunk = self._without_bom(chunk)
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk[0] == 0x0A:
                chunk = chunk[1:]
        if b"\r" in chunk:
            self._after_cr = chunk[-1] == 0x0D
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if b"\n" not in chunk:
            self._keep(chunk)
            return []
        lines = chunk.split(b"\n")
        if self._line:
            lines[0] = b"".join((*self._line, lines[0]))
            self._line.clear()
            self._line_size = 0
        rest = lines.pop()
        messages = self._messages(lines)
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
            self._line.append(piece)
            self._line_size += len(piece)
        if self._line_size + self._data_size > LONGEST:
            raise TooLongError(f"a message of over {LONGEST} bytes")

    def _messages(self, lines: list[bytes]) -> list[Message]:
        messages: list[Message] = []
        names = self._names
        at, end = 0, len(lines)
        while at < end:
            line = lines[at]
            name = names.get(line)
            if name is not None and at + 3 < end and not lines[at + 3] and not self._data:
                id_, data = lines[at + 1], lines[at + 2]
                if id_[:4] == b"id: " and data[:6] == b"data: " and b"\0" not in id_:
                    self.last_event_id = last = id_[4:].decode("utf-8", "replace")
                    self._event = ""
                    messages.append((name, data[6:], last))
                    at += 4
                    continue
            at += 1
            if line:
                self._field(line)
            else:
                if self._data:
                    messages.append((self._event or "message", b"\n".join(self._data), self.last_event_id))
                    self._data = []
                    self._data_size = 0
                self._event = ""
        return messages

    def _field(self, line: bytes) -> None:
        """A line that begins with a colon has an empty name: a comment."""
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._data_size += len(value)
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")
            if self._event and len(self._names) < _MOST_NAMES:
                self._names[line] = self._event
        elif name == b"id":
            if b"\0" not in value:
                self.last_event_id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit() and len(value) < 10:
            self.retry = int(value)
