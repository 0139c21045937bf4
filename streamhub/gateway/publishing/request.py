"""What a request publishes: one event or an array of events, all of them good or none."""

import re
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple
from uuid import uuid4

import msgspec

from streamhub.core.names import wrong_type, wrong_with
from streamhub.web.problems import ApiError, Fault

MOST_EVENTS: Final = 1_000
MOST_EVENT_BYTES: Final = 1024 * 1024
MOST_LEVELS: Final = 500  # of arrays and objects; readers of JSON have limits, from about 1,000 levels on
MOST_FAULTS: Final = 100  # that an answer lists
_NAMES: Final = ("resource_type", "resource_id", "publish_id")
_MEMBERS: Final = ("type", "data", *_NAMES)

# One field more than a request may have events. What follows is looked at and not kept: a list of all that a body of
# 16 MiB may hold takes half a gigabyte.
_Batch = msgspec.defstruct(
    "_Batch",
    [(f"event_{n}", msgspec.Raw, msgspec.field(default=msgspec.Raw())) for n in range(MOST_EVENTS + 1)],
    array_like=True,
)
_batch = msgspec.json.Decoder(_Batch).decode
_raw = msgspec.json.Decoder(msgspec.Raw).decode
_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_string = msgspec.json.Decoder(str).decode


class Event(NamedTuple):
    """`data` is the publisher's own JSON, without white space around it."""

    type: str
    data: str
    resource_type: str | None
    resource_id: str | None
    publish_id: str


TOO_DEEP: Final = f"An event nests arrays and objects too deeply; at most {MOST_LEVELS} levels are allowed."

_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NO_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_PIECE: Final = 64 * 1024  # brackets


class NotJsonError(ValueError):
    """The body is no JSON in UTF-8, or no JSON that is taken; a sentence says why."""


class Body(NamedTuple):
    """`events` are JSON; `is_array`: they came in an array."""

    events: Sequence[bytes]
    is_array: bool

    @classmethod
    def of(cls, body: bytes | bytearray) -> "Body":
        """Raises NotJsonError, and ApiError (413) for too many events, or one that is too large."""
        try:
            body.decode()
            whole = bytes(_raw(body)).strip()
            is_array = whole.startswith(b"[")
            events = [bytes(one) for one in msgspec.structs.astuple(_batch(whole))] if is_array else [whole]
        except (msgspec.DecodeError, UnicodeError) as error:
            raise NotJsonError(f"The body is no JSON in UTF-8: {str(error)[:200]}.") from None
        except RecursionError:
            raise NotJsonError(TOO_DEEP) from None
        if is_array:
            events = [one for one in events if one]
        if len(events) > MOST_EVENTS:
            detail = f"The body has more than {MOST_EVENTS} events, which are allowed at most: send several requests."
            raise ApiError(Fault("TOO_MANY_EVENTS", detail))
        read = cls(events, is_array)
        too_large = [
            Fault(
                "BODY_TOO_LARGE",
                f"The event has {len(one)} bytes; at most {MOST_EVENT_BYTES} are allowed.",
                {"pointer": read.pointer(n)},
            )
            for n, one in enumerate(events)
            if len(one) > MOST_EVENT_BYTES
        ]
        if too_large:
            raise ApiError(too_large)
        if any(_is_deeper(one, MOST_LEVELS) for one in events):
            raise NotJsonError(TOO_DEEP)
        return read

    def pointer(self, n: int, member: str | None = None) -> str:
        """To an event, or a member of it: RFC 6901, into the body as it was sent."""
        at = f"/{n}" if self.is_array else ""
        return at if member is None else f"{at}/{member.replace('~', '~0').replace('/', '~1')[:100]}"

    def read(self) -> list[Event]:
        """Raises ApiError (422) with the faults of all events, up to MOST_FAULTS."""
        faults: list[Fault] = []
        if not self.events:
            faults.append(Fault("INVALID_EVENT", "The array is empty; give at least one event.", {"pointer": ""}))
        events = []
        for n, one in enumerate(self.events):
            wrong: list[_Wrong] = []
            event = _event(one, wrong)
            faults += [Fault("INVALID_EVENT", each.detail, {"pointer": self.pointer(n, each.member)}) for each in wrong]
            if len(faults) >= MOST_FAULTS:
                break
            if event is not None:
                events.append(event)
        if faults:
            raise ApiError(faults[:MOST_FAULTS])
        return events


def _is_deeper(text: bytes, most: int) -> bool:
    """Whether arrays and objects of this JSON are nested in more levels than so."""
    if text.count(b"[") + text.count(b"{") <= most:
        return False
    steps = _STRING.sub(b"", text).translate(_STEPS, _NO_BRACKETS)
    level = 0
    for start in range(0, len(steps), _PIECE):
        levels = list(accumulate(memoryview(steps[start : start + _PIECE]).cast("b"), initial=level))
        if max(levels) > most:
            return True
        level = levels[-1]
    return False


class _Wrong(NamedTuple):
    detail: str
    member: str | None = None


def _event(text: bytes, wrong: list[_Wrong]) -> Event | None:
    """None where something is wrong with it."""
    if not text.startswith(b"{"):
        wrong.append(_Wrong("An event is an object with type and data."))
        return None
    members = _object(text)
    for name in members:
        if name not in _MEMBERS:
            wrong.append(_Wrong(f"There is no member {name[:100]!r}; an event has {', '.join(_MEMBERS)}.", name))
            if len(wrong) >= MOST_FAULTS:
                return None
    type_ = _text(members.get("type"))
    problem = "a string such as query.received is needed" if type_ is None else wrong_type(type_)
    if problem is not None:
        given = f"type is {_shown(members['type'])}" if "type" in members else "type is missing"
        wrong.append(_Wrong(f"{given}: {problem}.", "type"))
    if "data" not in members:
        wrong.append(_Wrong("data is missing: give any JSON, such as {}.", "data"))
    names: dict[str, Any] = {}
    for name in _NAMES:
        raw = members.get(name)
        if raw is None or bytes(raw).strip() == b"null":
            continue
        value = _text(raw)
        problem = "a string is needed" if value is None else wrong_with(value)
        if problem is not None:
            what = problem if value is None else f"it {problem}"
            wrong.append(_Wrong(f"{name} is {_shown(raw)}: {what}.", name))
        names[name] = value
    if wrong:
        return None
    assert type_ is not None
    return Event(
        type_,
        bytes(members["data"]).strip().decode(),
        names.get("resource_type"),
        names.get("resource_id"),
        names.get("publish_id") or str(uuid4()),
    )


def _text(raw: msgspec.Raw | None) -> str | None:
    """A string; None of any other value."""
    return _string(raw) if raw is not None and bytes(raw).lstrip()[:1] == b'"' else None


def _shown(raw: msgspec.Raw) -> str:
    return bytes(raw).strip().decode()[:100]
