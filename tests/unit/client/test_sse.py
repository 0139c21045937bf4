"""The parser of server-sent events. The cases are those of launchdarkly's sse-contract-tests and of the standard."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamhub.client import sse
from streamhub.client.sse import Message, Parser, TooLongError

BOM = b"\xef\xbb\xbf"


def parsed(*chunks: bytes) -> list[Message]:
    parser = Parser()
    return [message for chunk in chunks for message in parser.feed(chunk)]


def message(data: str, event: str = "message", id: str = "") -> Message:
    return event.encode(), id.encode(), data.encode()


STREAMS: dict[str, tuple[bytes, Sequence[Message]]] = {
    "a message of one line": (b"data: Hello\n\n", [message("Hello")]),
    "two messages": (b"data: Hello\n\ndata: World\n\n", [message("Hello"), message("World")]),
    "a message of two lines": (b"data: Hello\ndata:World\n\n", [message("Hello\nWorld")]),
    "empty data": (b"data:\n\n", [message("")]),
    "a type": (b"event: greeting\ndata: Hello\n\n", [message("Hello", "greeting")]),
    "an id": (b"id: abc\ndata: Hello\n\n", [message("Hello", id="abc")]),
    "a type and an id": (b"event: greeting\nid: abc\ndata: Hello\n\n", [message("Hello", "greeting", "abc")]),
    "an id with a NUL": (b"id: a\0bc\ndata: Hello\n\n", [message("Hello")]),
    "an id with a NUL where a hub has its id": (
        b"event: a\nid: 1\ndata: x\n\nevent: a\nid: 2\0\ndata: y\n\n",
        [message("x", "a", "1"), message("y", "a", "1")],
    ),
    "an id that stays": (
        b"id: abc\ndata: first\n\ndata: second\n\n",
        [message("first", id="abc"), message("second", id="abc")],
    ),
    "an id that is emptied": (
        b"id: abc\ndata: first\n\nid: \ndata: second\n\n",
        [message("first", id="abc"), message("second")],
    ),
    "an id without a colon": (b"id: abc\ndata: 1\n\nid\ndata: 2\n\n", [message("1", id="abc"), message("2")]),
    "an id without data counts": (b"id: abc\n\ndata: 1\n\n", [message("1", id="abc")]),
    "the reverse order": (b"data: Hello\nid: abc\nevent: greeting\n\n", [message("Hello", "greeting", "abc")]),
    "an unknown field": (b"event: greeting\ncolor: blue\ndata: Hello\n\n", [message("Hello", "greeting")]),
    "names are case-sensitive": (b"DATA: no\nData: no\ndata: yes\n\n", [message("yes")]),
    "a space before a name": (b" data: no\ndata: yes\n\n", [message("yes")]),
    "no leading space": (b"event:greeting\ndata:Hello\n\n", [message("Hello", "greeting")]),
    "two leading spaces": (b"event:  greeting\ndata:  Hello\n\n", [message(" Hello", " greeting")]),
    "a tab is no leading space": (b"data:\tx\n\n", [message("\tx")]),
    "a colon in the value": (b"data: a: b\n\n", [message("a: b")]),
    "fields without a colon": (b"data\n\ndata\ndata\n\n", [message(""), message("\n")]),
    "several bytes a character": ("data: €豆腐\n\n".encode(), [message("€豆腐")]),
    "other line ends of Unicode": (
        "data: a\u0085b\u2028c\u2029d\x0be\x0cf\n\n".encode(),
        [message("a\u0085b\u2028c\u2029d\x0be\x0cf")],
    ),
    "a type without data": (b"event: lost\n\ndata: Hello\n\n", [message("Hello")]),
    "a type of the last message": (b"event: a\nid: 1\ndata: x\n\nid: 2\ndata: y\n\n",
                                   [message("x", "a", "1"), message("y", id="2")]),
    "an empty type": (b"event: a\nevent:\ndata: x\n\n", [message("x")]),
    "the last type counts": (b"event: b\nid: 1\ndata: 1\n\nevent: a\nevent: b\nid: 2\ndata: x\n\n",
                             [message("1", "b", "1"), message("x", "b", "2")]),
    "data before the known lines": (
        b"event: a\nid: 1\ndata: x\n\ndata: y\nevent: a\nid: 2\ndata: z\n\n",
        [message("x", "a", "1"), message("y\nz", "a", "2")],
    ),
    "a fourth line that is not empty": (
        b"event: a\nid: 1\ndata: x\n\nevent: a\nid: 2\ndata: y\ndata: z\n\n",
        [message("x", "a", "1"), message("y\nz", "a", "2")],
    ),
    "a message without its end": (b"data: Hello\n\ndata: lost\n", [message("Hello")]),
    "a line without its end": (b"data: Hello\n\ndata: lost", [message("Hello")]),
    "a comment": (b":Hello\n", []),
    "two comments": (b":Hello\n:World\n", []),
    "a comment before a message": (b":Hello\ndata: Hello\n\n", [message("Hello")]),
    "a comment after a message": (b"data: Hello\n\n:Hello\n", [message("Hello")]),
    "a comment within a message": (b"data: a\n: ping\ndata: b\n\n", [message("a\nb")]),
    "an empty comment": (b":\n\ndata: a\n\n", [message("a")]),
    "a byte order mark": (BOM + b"data: Hello\n\n", [message("Hello")]),
    "a byte order mark, type and id": (BOM + b"event: g\nid: abc\ndata: Hello\n\n", [message("Hello", "g", "abc")]),
    "a byte order mark once": (BOM + b"data: First\n\ndata: Second\n\n", [message("First"), message("Second")]),
    "a byte order mark within data": (b"data: First\n\ndata: " + BOM + b"Second\n\n",
                                      [message("First"), message("\ufeffSecond")]),
    "a byte order mark before a field": (b"data: First\n\n" + BOM + b"data: Second\n\n", [message("First")]),
    "two byte order marks": (BOM + BOM + b"data: no\ndata: Hello\n\n", [message("Hello")]),
    "a byte order mark and another in data": (BOM + b"data: " + BOM + b"Hello\n\n", [message("\ufeffHello")]),
    "a byte order mark before a comment": (BOM + b":comment\ndata: Hello\n\n", [message("Hello")]),
    "the beginning of a byte order mark": (BOM[:2] + b"\ndata: Hello\n\n", [message("Hello")]),
    "nothing": (b"", []),
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_read_as_the_standard_says(name: str) -> None:
    stream, expected = STREAMS[name]
    assert parsed(stream) == expected


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_in_small_chunks_is_the_same_stream(name: str, size: int) -> None:
    stream, expected = STREAMS[name]
    assert parsed(*(stream[at : at + size] for at in range(0, len(stream), size))) == expected


TEXTS: dict[str, tuple[str, Sequence[Message]]] = {
    "one": ("data: event 1||", [message("event 1")]),
    "one and two lines": (
        "data: event 1||data: event 2 line 1|data: event 2 line 2||",
        [message("event 1"), message("event 2 line 1\nevent 2 line 2")],
    ),
    "an empty first line": ("data:|data: line2|data: line3||", [message("\nline2\nline3")]),
    "an empty line in the middle": ("data: line1|data:|data: line3||", [message("line1\n\nline3")]),
    "one empty line more": ("data: event 1|||data: event 2||", [message("event 1"), message("event 2")]),
    "two empty lines more": ("data: event 1||||data: event 2||", [message("event 1"), message("event 2")]),
    "a hub's": (
        "event: a|id: 1|data: x||event: a|id: 2|data: y||: ping||event: a|id: 3|data: z||",
        [message("x", "a", "1"), message("y", "a", "2"), message("z", "a", "3")],
    ),
}


@pytest.mark.parametrize("size", [1, 2, 1000])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", TEXTS)
def test_a_line_ends_with_lf_cr_or_both(name: str, end: str, size: int) -> None:
    text, expected = TEXTS[name]
    stream = text.replace("|", end).encode()
    assert parsed(*(stream[at : at + size] for at in range(0, len(stream), size))) == expected


def test_a_crlf_may_be_cut_in_its_middle() -> None:
    chunks = [b"data: Hello\r", b"\ndata: World\r", b"\n\r\ndata: OK\r", b"\n", b"\r", b"\n"]
    assert parsed(*chunks) == [message("Hello\nWorld"), message("OK")]


def test_a_message_that_ends_with_cr_waits_for_nothing() -> None:
    assert parsed(b"data: now\r\r") == [message("now")]


def test_line_ends_may_be_mixed() -> None:
    assert parsed(b"data: a\r\ndata: b\rdata: c\n\r\ndata: d\n\r") == [message("a\nb\nc"), message("d")]


@pytest.mark.parametrize(
    ("line", "milliseconds"),
    [
        (b"retry: 6000", 6000),
        (b"retry:0", 0),
        (b"retry: -1", None),
        (b"retry: 1.5", None),
        (b"retry:  5", None),
        (b"retry: 5s", None),
        (b"retry:", None),
        (b"retry", None),
        ("retry: ٣".encode(), None),
        (b"retry: " + b"9" * 5000, None),
    ],
)
def test_retry_is_taken_where_it_is_digits(line: bytes, milliseconds: int | None) -> None:
    parser = Parser()
    assert parser.feed(line + b"\n\n") == []
    assert parser.retry == milliseconds


def test_retry_counts_at_once_behind_messages() -> None:
    parser = Parser()
    parser.feed(b"event: a\nid: 1\ndata: x\n\nretry: 7\n")
    assert parser.retry == 7


def test_retry_counts_within_a_message() -> None:
    parser = Parser()
    assert parser.feed(b"data: a\nretry: 7\n") == []
    assert parser.retry == 7


def test_a_connection_that_follows_another_begins_with_its_last_id() -> None:
    assert Parser(b"abc").feed(b"data: x\n\n") == [message("x", id="abc")]


def test_a_long_line_in_small_chunks_is_put_together_once() -> None:
    assert parsed(b"data: ", *[b"x" * 100] * 10_000, b"\n\n") == [message("x" * 1_000_000)]


def test_a_message_has_a_greatest_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "LONGEST", 1000)
    with pytest.raises(TooLongError):
        parsed(b"data: ", *[b"x" * 100] * 10)
    with pytest.raises(TooLongError):
        parsed(*[b"data: " + b"x" * 90 + b"\n"] * 20)


def by_the_letter(stream: bytes) -> list[Message]:
    """The standard's algorithm, a step at a time."""
    text = stream.removeprefix(BOM).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    data, event, last, found = b"", b"", b"", []
    for line in text.split(b"\n")[:-1]:
        if not line:
            if data:
                found.append((event or b"message", last, data[:-1]))
            data = event = b""
            continue
        if line.startswith(b":"):
            continue
        field, _, value = line.partition(b":")
        value = value[1:] if value.startswith(b" ") else value
        if field == b"event":
            event = value
        elif field == b"data":
            data += value + b"\n"
        elif field == b"id" and b"\0" not in value:
            last = value
    return found


FIELDS = st.sampled_from(
    [b"event: a", b"event: b", b"event:", b"id: 1", b"id: 2", b"id", b"id: \0", b"data: x", b"data:  y", b"data",
     b": ping", b":", b"retry: 5", b"color", b"", b"", b"", "data: é".encode(), BOM]
)  # fmt: skip
HUB = st.builds(lambda n: b"event: a\nid: %d\ndata: {}\n" % n, st.integers(0, 9))
LINES = st.lists(st.tuples(st.one_of(FIELDS, HUB), st.sampled_from([b"\n", b"\r", b"\r\n"])), max_size=40)


@given(st.data(), LINES, st.booleans())
def test_any_stream_in_any_chunks_is_read_by_the_letter_of_the_standard(
    data: st.DataObject, lines: list[tuple[bytes, bytes]], bom: bool
) -> None:
    stream = BOM * bom + b"".join(map(b"".join, lines))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    chunks = [stream[start:end] for start, end in pairwise([0, *cuts, len(stream)])]
    assert parsed(*chunks) == by_the_letter(stream)
