"""A row of a captured table, and what is taken from it for an event: whose it is, what readers see, what differs.

A row is a list of its values as JSON, in the order of its columns, so that each step finds what it needs by place.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import msgspec

from streamhub.core import frames
from streamhub.core.changes import Capture

Values: TypeAlias = list[bytes]
Respelling: TypeAlias = Callable[[bytes], bytes]
Identity: TypeAlias = tuple[str | None, bool, str | None]
"""Organization, environment, resource: None for an organization that is null, and a key all of whose parts are."""

NULL: Final = b"null"
REDACTED: Final = b'"[REDACTED]"'

_QUOTE, _BACKSLASH, _N = b'"\\n'
_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


class EventKind:
    """What all events of one kind share: the beginning of their frames and of their objects (core/frames.py)."""

    __slots__ = ("frame_start", "head", "resource_type", "type")

    def __init__(self, event: str, type_: str, resource_type: str | None) -> None:
        self.type = type_
        self.resource_type = resource_type
        self.frame_start = frames.start_of(event)
        self.head = frames.head_of(type_, event, resource_type)


class Layout:
    """What stands where in rows of one plan (core/plans.py), which sets all of this. None is a place that there is not.

    `openings` are what stands before each value in a row's JSON. Lists have an element for each place: `identifying`,
    whether a value tells whose the row is; `telling`, whether its change alone makes an event; `changes`, what turns a
    value as it was written into the one that is sent; `delta_openings`, what stands before it in a delta, None where it
    is hidden. `around` are the pieces of the JSON that readers see, with an empty one for each value. `kinds` are by
    the event's name, `counted` what is counted with each event.
    """

    capture: Capture
    openings: list[bytes]
    identifying: list[bool]
    telling: list[bool]
    changes: list[Respelling | None]
    changing_places: list[int]
    delta_openings: list[bytes | None]
    around: list[bytes]
    shown_places: list[int]
    as_written: bool  # readers see a row's JSON just as it was written
    organization_place: int | None
    organization_is_padded: bool
    keys: Sequence[tuple[int | None, Respelling | None]]
    lone_key: int | None
    test_place: int | None
    test_is_told: bool
    test_otherwise: bool
    anonymization_place: int | None
    kinds: dict[str, EventKind]
    counted: Sequence[str]
    backfill: bool

    def identity(self, row: Values) -> Identity:
        organization = self.capture.organization_id
        if self.organization_place is not None:
            organization = plain(row[self.organization_place])
            if self.organization_is_padded and organization is not None:
                organization = organization.rstrip(" ")
        if self.test_place is None:
            test = self.test_otherwise
        elif self.test_is_told:
            test = row[self.test_place] == b"true"
        else:
            test = row[self.test_place] not in (b"false", b'"f"')
        return organization, test, self._key(row) if self.lone_key is None else plain(row[self.lone_key])

    def _key(self, row: Values) -> str | None:
        parts = []
        for place, change in self.keys:
            parts.append(None if place is None else plain(row[place] if change is None else change(row[place])))
        return None if not any(parts) and None in parts else ":".join([part or "" for part in parts])

    def may_have_moved(self, changed: Sequence[int]) -> bool:
        """Whether one of these places tells whose the row is."""
        for place in changed:  # noqa: SIM110 - a generator takes longer than all of these loops
            if self.identifying[place]:
                return True
        return False

    def tells(self, changed: Sequence[int]) -> bool:
        """Whether a change of these places is an event, though readers may not see them."""
        for place in changed:  # noqa: SIM110
            if self.telling[place]:
                return True
        return False

    def is_anonymized(self, row: Values) -> bool | None:
        """None where no column tells it."""
        return None if self.anonymization_place is None else row[self.anonymization_place] != NULL

    def shown(self, row: Values) -> Values:
        """What readers see in each place: respelled or covered. Hidden values are still there."""
        if not self.changing_places:
            return row
        shown = row.copy()
        for place in self.changing_places:
            change = self.changes[place]
            assert change is not None
            shown[place] = change(row[place])
        return shown

    def resource(self, shown: Values, text: str) -> bytes:
        """The row as readers see it. `text` is the row as it was written, which where nothing is to be done is just
        that."""
        if self.as_written:
            return text.encode()
        parts = self.around.copy()
        parts[1::2] = shown if len(self.shown_places) == len(shown) else [shown[place] for place in self.shown_places]
        return b"".join(parts)

    def delta(self, old: Values, shown: Values, changed: Sequence[int]) -> bytes:
        """What differs in these places. `old` is as it was written, `shown` as readers see the new row."""
        parts = [b"{"]
        for place in changed:
            opening = self.delta_openings[place]
            if opening is not None:
                change, was = self.changes[place], old[place]
                parts += (opening, was if change is None else change(was), b',"to":', shown[place], b"},")
        if len(parts) == 1:
            return b"{}"
        parts[-1] = b"}}"
        return b"".join(parts)


def plain(value: bytes) -> str | None:
    """A JSON value as a plain text: a string's content, anything else as it is spelled, None for null."""
    if value[0] == _QUOTE:
        if _BACKSLASH not in value:
            return value[1:-1].decode()
        text = _text(value)
        return text if "\0" not in text else value[1:-1].decode()  # no text in PostgreSQL holds a NUL: as it is spelled
    return None if value == NULL else value.decode()


# -- values as they were written, into those that are sent


def number(value: bytes) -> bytes:
    """As a string. NaN and infinities are strings already."""
    return value if value[0] in (_QUOTE, _N) else b'"%b"' % value


def redacted(value: bytes) -> bytes:
    return value if value == NULL else REDACTED


def unpadded(value: bytes) -> bytes:
    """Without the spaces that PostgreSQL writes behind a char(n)."""
    text = plain(value)
    return value if text is None else _encode(text.rstrip(" "))
