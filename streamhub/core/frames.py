"""The stored frame: built once by an append, found again in runs of frames, cut into parts, joined to envelopes.

    event: update\\n
    id: <id>\\n
    data: {"id":"<id>","type":"skus.update","event":"update","resource_type":"skus","resource_id":"AYqPSwAqDW",
           "organization":{"id":"org_1","slug":"my-org"},"test":false,"created_at":"<27 characters>",
           "transaction_id":"7412","resource":…,"delta":…,"who":…}\\n\\n

An event that an application published has `resource` and `delta` null, and behind `who` come `publish_id` and, last,
its own `data`. The order of these members is what this module rests on: they are found by their names alone, and
nothing is decoded. A quotation mark within a JSON string is escaped, so `,"organization":` cannot stand within one.

An envelope is made of slices of the frame (contract, section 2). `change` is the frame as it is.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, NamedTuple

import msgspec

from streamhub.core import ids

_ID: Final = b"\nid: "
_ID_LENGTH: Final = 36
_DATA: Final = b"\ndata: "
END: Final = b"\n\n"
# In UTF-8, the characters at which clients in the wild (Python's splitlines is one) end a line and the standard does
# not.
_LINE_ENDS: Final = ((b"\xc2\x85", b"\\u0085"), (b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"))
_LF, _CR = b"\n\r"  # as numbers, which are looked for in a quarter of the time
_FRAME: Final = re.compile(rb"event: [^\n]*\nid: [^\n]*\ndata: ([^\n]*)\n\n")

_ID_AT: Final = len('{"id":"')
_TYPE_AT: Final = _ID_AT + _ID_LENGTH + len('","type":')
_EVENT: Final = b',"event":'
_RESOURCE_TYPE: Final = b',"resource_type":'
_NO_RESOURCE: Final = b',"resource_id":null'
_RESOURCE_ID: Final = b',"resource_id":'
_ORGANIZATION: Final = b',"organization":'
_SLUG: Final = b',"slug":"'
_TEST: Final = b',"test":'
_CREATED_AT: Final = b',"created_at":"'
_CREATED_AT_LENGTH: Final = len("2026-11-22T10:00:00.123456Z")
_NO_VALUES: Final = re.compile(rb'","transaction_id":[^,]*,"resource":null,"delta":null,"who":')
_PUBLISH_ID: Final = b',"publish_id":'
_OWN_DATA: Final = b',"data":'
_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{},]')

_encode = msgspec.json.Encoder().encode
_decode_text = msgspec.json.Decoder(str).decode

# -- building


def start_of(event: str) -> bytes:
    """What the frames of all events of this name begin with, up to the id."""
    return b"event: %b\nid: " % event.encode()


def head_of(type_: str, event: str, resource_type: str | None) -> bytes:
    """What the objects of all events of one kind have between the id and the resource's id."""
    return b'","type":%b,"event":%b,"resource_type":%b,"resource_id":' % (
        _encode(type_),
        _encode(event),
        _encode(resource_type),
    )


def organization_of(id_: str, slug: str) -> bytes:
    """The member that names the organization, with the comma before it."""
    return _ORGANIZATION + one_line(_encode({"id": id_, "slug": slug}))


def organization_named(member: bytes) -> bytes:
    """The organization's JSON object in `organization_of`."""
    return member[len(_ORGANIZATION) :]


BEFORE_ID: Final = b'{"id":"'
"""What an event's object begins with, up to its id."""
BETWEEN_IDS: Final = _DATA + BEFORE_ID
"""What stands between the two places of a frame that have the event's id."""


def end_of(head: bytes, resource_id: bytes, organization: bytes, tail: bytes) -> bytes:
    """What stands behind the second id: `head_of`, the resource's id as JSON, `organization_of`, and the rest of the
    object with the closing brace (`tail_of` in core/rendering.py)."""
    return b"".join((head, resource_id, organization, tail))


def build(start: bytes, id_: bytes, end: bytes) -> bytes:
    """The frame of an event: `start_of`, its id twice, `end_of`, END."""
    return b"".join((start, id_, BETWEEN_IDS, id_, end, END))


def of_data(event: str, id_: str, data: bytes) -> bytes:
    """The frame whose object is `data`."""
    return b"".join((b"event: ", event.encode(), _ID, id_.encode(), _DATA, data, END))


def one_line(text: bytes) -> bytes:
    """JSON in which no client sees the end of a line. A raw LF or CR is white space between two tokens, as a column of
    type json may hold; the others stand in strings alone."""
    if _LF in text or _CR in text:
        text = text.replace(b"\n", b" ").replace(b"\r", b" ")
    if not text.isascii():
        for character, escaped in _LINE_ENDS:
            text = text.replace(character, escaped)
    return text


# -- finding


def first_id(frames: bytes) -> str:
    """The id of the first frame of a run; a frame's data holds no line break, so an id line cannot be imitated."""
    start = frames.index(_ID) + len(_ID)
    return frames[start : start + _ID_LENGTH].decode("ascii")


def last_id(frames: bytes) -> str:
    """The id of the last frame of a run."""
    start = frames.rindex(_ID) + len(_ID)
    return frames[start : start + _ID_LENGTH].decode("ascii")


def event_in(frame: bytes) -> str:
    """The name in a frame's `event:` field: `create`, `update`, …"""
    return frame[len(b"event: ") : frame.index(b"\n")].decode()


def data_of(frame: bytes) -> bytes:
    """The JSON object of a frame: what stands behind ``data:``, which holds no line break."""
    return frame[frame.index(b"\ndata: ") + 7 : -2]


def lines_of(frames: bytes) -> bytes:
    """The JSON objects of a run of frames, each with a LF behind it."""
    return _FRAME.sub(rb"\1\n", frames)


def each_of(frames: bytes) -> list[bytes]:
    """The frames of a run, one by one."""
    return [frame + END for frame in frames.split(END)[:-1]]


def type_in(data: bytes) -> str:
    """The type of an event's object."""
    return str(_decode_text(data[_TYPE_AT : data.index(_EVENT, _TYPE_AT)]))


def organization_in(data: bytes) -> bytes | None:
    """The organization's JSON object in an event's object; None where it stands nowhere as this module writes it."""
    start = data.find(_ORGANIZATION)
    end = data.find(_TEST, start)
    return None if start < 0 or end < 0 else data[start + len(_ORGANIZATION) : end]


def resource_in(data: bytes) -> bytes | None:
    """What names the resource in an event's object, the same bytes for the same resource; None where there is none."""
    start = data.index(_RESOURCE_TYPE, _TYPE_AT)
    found = data[start : data.index(_ORGANIZATION, start)]
    return None if found.endswith(_NO_RESOURCE) else found


# -- envelopes


class Parts(NamedTuple):
    """Slices of one event. All but `id`, `created_at`, `slug` and `name` are JSON as it stands in the frame; `name` is
    the type as text, for an SSE field. `data` is the whole object of a change, the publisher's own of an event that was
    published."""

    id: bytes
    name: bytes
    type: bytes
    resource_id: bytes
    organization_id: bytes
    slug: bytes
    test: bytes
    created_at: bytes
    data: bytes


def parts_of(frame: bytes) -> Parts:
    """Raises ValueError where the frame is not as this module builds it."""
    data = data_of(frame)
    event_at = data.index(_EVENT, _TYPE_AT)
    resource_at = data.index(_RESOURCE_ID, event_at)
    organization_at = data.index(_ORGANIZATION, resource_at)
    test_at = data.index(_TEST, organization_at)
    created_at = data.index(_CREATED_AT, test_at)
    time_at = created_at + len(_CREATED_AT)
    time_end = time_at + _CREATED_AT_LENGTH
    organization = data[organization_at + len(_ORGANIZATION) : test_at]
    slug_at = organization.rindex(_SLUG)
    return Parts(
        data[_ID_AT : _ID_AT + _ID_LENGTH],
        type_in(data).encode(),
        data[_TYPE_AT:event_at],
        data[resource_at + len(_RESOURCE_ID) : organization_at],
        organization[len(b'{"id":') : slug_at],
        organization[slug_at + len(_SLUG) : -2],
        data[test_at + len(_TEST) : created_at],
        data[time_at:time_end],
        _published(data, time_end) or data,
    )


def _published(data: bytes, at: int) -> bytes | None:
    """The publisher's own data, None of a change. `at` is the end of `created_at`. A search for the name alone would be
    misled by a `who` that has such a member."""
    before = _NO_VALUES.match(data, at)
    if before is None:
        return None
    at = _value_end(data, before.end())
    if not data.startswith(_PUBLISH_ID, at):
        return None
    at = _value_end(data, at + len(_PUBLISH_ID))
    return data[at + len(_OWN_DATA) : -1] if data.startswith(_OWN_DATA, at) else None


def _value_end(data: bytes, at: int) -> int:
    """Where the JSON value that begins at `at` ends, as a member of an object."""
    depth = 0
    for token in _TOKEN.finditer(data, at):
        match token.group():
            case b"{" | b"[":
                depth += 1
            case b"]":
                depth -= 1
            case b"}" if depth:
                depth -= 1
            case b"," | b"}" if not depth:
                return token.start()
    raise ValueError("an event's object without an end")


def event_envelope(parts: Parts) -> bytes:
    return b'{"id":"%b","type":%b,"timestamp":"%b","data":%b}' % (parts.id, parts.type, parts.created_at, parts.data)


def engine_envelope(parts: Parts) -> bytes:
    """`timestamp` is in milliseconds of the Unix epoch."""
    milliseconds = ids.ms_of(datetime.fromisoformat(parts.created_at.decode()))
    return b'{"event_id":"%b","event_type":%b,"timestamp":%d,"payload":%b}' % (
        parts.id,
        parts.type,
        milliseconds,
        parts.data,
    )


def cloudevents_envelope(parts: Parts) -> bytes:
    """CloudEvents 1.0 in its JSON event format; `organization` and `test` are extensions."""
    return (
        b'{"specversion":"1.0","id":"%b","source":"/%b","type":%b,"subject":%b,"time":"%b",'
        b'"datacontenttype":"application/json","organization":%b,"test":%b,"data":%b}'
    ) % (
        parts.id,
        parts.slug,
        parts.type,
        parts.resource_id,
        parts.created_at,
        parts.organization_id,
        parts.test,
        parts.data,
    )


def webhook_body(parts: Parts) -> bytes:
    return b'{"id":"%b","type":%b,"created_at":"%b","data":%b}' % (parts.id, parts.type, parts.created_at, parts.data)


def _message(parts: Parts) -> bytes:
    """Without an `event:` field, so that `EventSource.onmessage` fires."""
    return b"id: %b\ndata: %b\n\n" % (parts.id, event_envelope(parts))


def _engine(parts: Parts) -> bytes:
    return b"event: %b\nid: %b\ndata: %b\n\n" % (parts.name, parts.id, engine_envelope(parts))


def _cloudevents(parts: Parts) -> bytes:
    return b"event: %b\nid: %b\ndata: %b\n\n" % (parts.name, parts.id, cloudevents_envelope(parts))


CHANGE: Final = "change"
_ENVELOPES: Final[Mapping[str, Callable[[Parts], bytes]]] = {
    "event": _message,
    "engine": _engine,
    "cloudevents": _cloudevents,
}
ENVELOPES: Final = (CHANGE, *_ENVELOPES)


def enveloped(frame: bytes, envelope: str) -> bytes:
    """A stored frame as the SSE frame of one of ENVELOPES. Raises KeyError for another name."""
    return frame if envelope == CHANGE else _ENVELOPES[envelope](parts_of(frame))
