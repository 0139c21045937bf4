"""Streams of server-sent events, and the messages in them by the HTML standard (9.2.6): (event, last event id, data).
The cases are those of LaunchDarkly's sse-contract-tests, and what else the standard says."""

from collections.abc import Sequence
from typing import Final, TypeAlias

Message: TypeAlias = tuple[str, str, str]

BOM: Final = b"\xef\xbb\xbf"


def message(data: str, event: str = "message", id: str = "") -> Message:
    return event, id, data


STREAMS: Final[dict[str, tuple[bytes, Sequence[Message]]]] = {
    "a message of one line": (b"data: Hello\n\n", [message("Hello")]),
    "two messages": (b"data: Hello\n\ndata: World\n\n", [message("Hello"), message("World")]),
    "a message of two lines": (b"data: Hello\ndata:World\n\n", [message("Hello\nWorld")]),
    "an empty line in the middle": (b"data: line1\ndata:\ndata: line3\n\n", [message("line1\n\nline3")]),
    "an empty first line": (b"data:\ndata: line2\n\n", [message("\nline2")]),
    "more empty lines": (b"data: a\n\n\n\ndata: b\n\n", [message("a"), message("b")]),
    "empty data": (b"data:\n\n", [message("")]),
    "a type": (b"event: greeting\ndata: Hello\n\n", [message("Hello", "greeting")]),
    "an id": (b"id: abc\ndata: Hello\n\n", [message("Hello", id="abc")]),
    "the reverse order": (b"data: Hello\nid: abc\nevent: greeting\n\n", [message("Hello", "greeting", "abc")]),
    "a type and an id": (b"event: greeting\nid: abc\ndata: Hello\n\n", [message("Hello", "greeting", "abc")]),
    "an id with a NUL": (b"id: a\0bc\ndata: Hello\n\n", [message("Hello")]),
    "an id with a NUL behind another": (b"id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n",
                                        [message("a", id="1"), message("b", id="1")]),
    "an id with a NUL where a hub has its id": (b"event: a\nid: 1\ndata: x\n\nevent: a\nid: 2\0\ndata: y\n\n",
                                                [message("x", "a", "1"), message("y", "a", "1")]),
    "an id that stays": (b"id: abc\ndata: 1\n\ndata: 2\n\n", [message("1", id="abc"), message("2", id="abc")]),
    "an id that is emptied": (b"id: abc\ndata: 1\n\nid: \ndata: 2\n\n", [message("1", id="abc"), message("2")]),
    "an id without a colon": (b"id: abc\ndata: 1\n\nid\ndata: 2\n\n", [message("1", id="abc"), message("2")]),
    "an id without data": (b"id: abc\n\ndata: 1\n\n", [message("1", id="abc")]),
    "an unknown field": (b"event: greeting\ncolor: blue\ndata: Hello\n\n", [message("Hello", "greeting")]),
    "names are case-sensitive": (b"DATA: no\nData: no\ndata: yes\n\n", [message("yes")]),
    "a space before a name": (b" data: no\ndata: yes\n\n", [message("yes")]),
    "no leading space": (b"event:greeting\ndata:Hello\n\n", [message("Hello", "greeting")]),
    "two leading spaces": (b"event:  greeting\ndata:  Hello\n\n", [message(" Hello", " greeting")]),
    "a tab is no leading space": (b"data:\tx\n\n", [message("\tx")]),
    "a colon in the value": (b"data: a: b\n\n", [message("a: b")]),
    "fields without a colon": (b"data\n\ndata\ndata\n\n", [message(""), message("\n")]),
    "several bytes a character": ("data: €豆腐\U0001f600\n\n".encode(), [message("€豆腐\U0001f600")]),
    "bytes that are no UTF-8": (b"data: a\xff\xe2\x82b\n\n", [message("a\ufffd\ufffdb")]),
    "other line ends of Unicode": ("data: a\u0085b\u2028c\u2029d\x0be\x0cf\n\n".encode(),
                                   [message("a\u0085b\u2028c\u2029d\x0be\x0cf")]),
    "a type without data": (b"event: lost\n\ndata: Hello\n\n", [message("Hello")]),
    "a type of the last message": (b"event: a\ndata: x\n\ndata: y\n\n", [message("x", "a"), message("y")]),
    "an empty type": (b"event: a\nevent:\ndata: x\n\n", [message("x")]),
    "the last type counts": (b"event: a\nevent: b\ndata: x\n\n", [message("x", "b")]),
    "the last type counts, behind a hub's": (
        b"event: b\nid: 1\ndata: 1\n\nevent: a\nevent: b\nid: 2\ndata: x\n\n",
        [message("1", "b", "1"), message("x", "b", "2")],
    ),
    "no type behind a hub's": (b"event: a\nid: 1\ndata: x\n\nid: 2\ndata: y\n\n",
                               [message("x", "a", "1"), message("y", id="2")]),
    "data before the lines of a hub": (b"event: a\nid: 1\ndata: x\n\ndata: y\nevent: a\nid: 2\ndata: z\n\n",
                                       [message("x", "a", "1"), message("y\nz", "a", "2")]),
    "a fourth line that is not empty": (b"event: a\nid: 1\ndata: x\n\nevent: a\nid: 2\ndata: y\ndata: z\n\n",
                                        [message("x", "a", "1"), message("y\nz", "a", "2")]),
    "a message without its end": (b"data: Hello\n\ndata: lost\n", [message("Hello")]),
    "a line without its end": (b"data: Hello\n\ndata: lost", [message("Hello")]),
    "a comment within a message": (b"data: a\n: ping\ndata: b\n\n", [message("a\nb")]),
    "a comment without its end": (b":Hello\n", []),
    "a comment before a message": (b":Hello\ndata: Hello\n\n", [message("Hello")]),
    "a comment after a message": (b"data: Hello\n\n:Hello\n", [message("Hello")]),
    "an empty comment": (b":\n\ndata: a\n\n", [message("a")]),
    "comments alone": (b":Hello\n:World\n:\n\n", []),
    "a comment is no data": (b":data: a\n\ndata: b\n\n", [message("b")]),
    "a byte order mark": (BOM + b"data: Hello\n\n", [message("Hello")]),
    "a byte order mark, type and id": (BOM + b"event: g\nid: abc\ndata: Hello\n\n", [message("Hello", "g", "abc")]),
    "a byte order mark once": (BOM + b"data: First\n\ndata: Second\n\n", [message("First"), message("Second")]),
    "a byte order mark and another in data": (BOM + b"data: " + BOM + b"Hello\n\n", [message("\ufeffHello")]),
    "a byte order mark before a comment": (BOM + b":comment\ndata: Hello\n\n", [message("Hello")]),
    "a byte order mark within data": (b"data: " + BOM + b"a\n\n", [message("\ufeffa")]),
    "a byte order mark before a field": (b"data: a\n\n" + BOM + b"data: b\n\n", [message("a")]),
    "two byte order marks": (BOM + BOM + b"data: no\ndata: Hello\n\n", [message("Hello")]),
    "the beginning of a byte order mark": (BOM[:2] + b"\ndata: Hello\n\n", [message("Hello")]),
    "lines end with CR": (b"event: a\rdata: x\rdata: y\r\rdata: z\r\r", [message("x\ny", "a"), message("z")]),
    "lines end with CRLF": (b"event: a\r\ndata: x\r\n\r\ndata: z\r\n\r\n", [message("x", "a"), message("z")]),
    "mixed line ends": (b"data: a\r\ndata: b\rdata: c\n\r\ndata: d\n\r", [message("a\nb\nc"), message("d")]),
    "nothing": (b"", []),
}  # fmt: skip
