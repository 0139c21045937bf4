"""The parser of server-sent events."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamhub.client import sse
from streamhub.client.sse import Message, Parser, TooLongError
from tests.support.event_streams import BOM, STREAMS


def parsed(*chunks: bytes) -> list[Message]:
    parser = Parser()
    return [message for chunk in chunks for message in parser.feed(chunk)]


def decoded(message: Message) -> tuple[str, ...]:
    """As a browser has it, which decodes the stream before it reads it."""
    return tuple(each.decode("utf-8", "replace") for each in message)


def message(data: str, event: str = "message", id: str = "") -> Message:
    return event.encode(), id.encode(), data.encode()


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_read_as_the_standard_says(name: str) -> None:
    stream, expected = STREAMS[name]
    assert [decoded(each) for each in parsed(stream)] == expected


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_in_small_chunks_is_the_same_stream(name: str, size: int) -> None:
    stream, expected = STREAMS[name]
    chunks = (stream[at : at + size] for at in range(0, len(stream), size))
    assert [decoded(each) for each in parsed(*chunks)] == expected


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
