"""An outbox row into the events that it is: what changed, whose it is, and the bytes that every reader will see.

Values are raw slices of the texts that PostgreSQL wrote, so nothing is rounded or reordered. A rendered event lacks two
things, known only when it is appended: its id, and the organization's name in the registry.
"""

import re
from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

from streamhub.core import ids, scan
from streamhub.core.changes import TOO_LARGE, Capture, Change, Origin
from streamhub.core.shapes import NULL, VIRTUAL, Respelling, ShapeBook, UnknownFieldError, respelling

CREATE: Final = "create"
UPDATE: Final = "update"
DESTROY: Final = "destroy"
ANONYMIZATION_REQUEST: Final = "anonymization_request"
ANONYMIZATION_CANCEL: Final = "anonymization_cancel"
EVENTS: Final = (CREATE, UPDATE, DESTROY, ANONYMIZATION_REQUEST, ANONYMIZATION_CANCEL)

REDACTED: Final = msgspec.Raw(b'"[REDACTED]"')
# What the id, the organization and the frame around the object add to a rendered event, at the most.
ENVELOPE_BYTES: Final = 1024

Members: TypeAlias = dict[str, msgspec.Raw]

_QUOTE, _BACKSLASH, _LF, _CR = b'"\\\n\r'
_UNDECODED: Final = re.compile("[\ud800-\udfff]")  # a byte that is no text, as relay/texts.py reads it
_members = msgspec.json.Decoder(Members).decode
_raw = msgspec.json.Decoder(msgspec.Raw).decode
_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


class Kind:
    """What all events of one kind share: their frames begin with `frame_start` and the id, their objects, behind the
    id, with `head` and the resource's id."""

    __slots__ = ("frame_start", "head", "resource_type", "type")

    def __init__(self, event: str, type_: str, resource_type: str) -> None:
        self.type = type_
        self.resource_type = resource_type
        self.frame_start = b"event: %b\nid: " % event.encode()
        self.head = b'"type":%b,"event":%b,"resource_type":%b,"resource_id":' % (
            _encode(type_),
            _encode(event),
            _encode(resource_type),
        )


# Structs, where all else here is a named tuple: these are made for each event, and made in a quarter of the time.
class Rendered(msgspec.Struct, frozen=True, gc=False):
    """An event without its id: the object is ``{"id":"…",`` + the kind's head + `resource` (the resource's id as JSON)
    + the organization + `tail`."""

    organization_id: str
    test: bool
    kind: Kind
    resource_id: str
    resource: bytes
    tail: bytes


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What one change gave, and what was counted on the way (names of counters)."""

    events: Sequence[Rendered]
    counted: Sequence[str] = ()


class UnknownCaptureError(LookupError):
    """The change names a capture that the renderer was not given."""


class UnknownShapeError(LookupError):
    """The change was written in a state of its table that the renderer has not seen; read the catalog and go on."""

    def __init__(self, change: Change) -> None:
        super().__init__(f"a change of {change.origin}")
        self.change = change


_Identity: TypeAlias = tuple[str | None, bool, str]  # organization, test, resource


class _Plan:
    """Everything about a text that follows from its capture and its names alone."""

    def __init__(self, capture: Capture, book: ShapeBook, origin: Origin, names: tuple[str, ...]) -> None:
        if origin.too_large:
            tie = book.tie_some(origin.relation, capture.identifying, names)
        else:
            tie = book.tie(origin.relation, origin.filenode, origin.natts, names)
        self.fault = capture.fault
        if not tie.columns:
            tie = book.tie_names(capture.relation, names)
            self.fault = self.fault or "nothing is known any more of the columns that the row had"
        by_number = {column.number: column.name for column in tie.columns if column.name in names}
        shown = {
            column.name: column.kind
            for column in tie.columns
            if column.name in names and column.number not in capture.excluded_columns and column.kind != VIRTUAL
        }
        self.capture = capture
        self.backfill = origin.backfill
        self.counted = ("untied_members",) if tie.untied else ()
        self.untied = frozenset(tie.untied)
        self.hidden = frozenset(name for name in names if name not in shown)
        self.changes: dict[str, Respelling] = {
            name: change_ for name, kind in shown.items() if (change_ := respelling(kind)) is not None
        }
        for number in capture.redacted_columns:
            if (name := by_number.get(number)) is not None and name in shown:
                self.changes[name] = _redact
        kinds = {column.name: column.kind for column in tie.columns}
        self.keys = [
            (name, None if name is None else respelling(kinds[name]))
            for name in (by_number.get(number) for number in capture.key_columns)
        ]
        self.lone_key = self.keys[0][0] if len(self.keys) == 1 and self.keys[0][1] is None else None
        self.organization = by_number.get(capture.organization_column or 0)
        self.test = by_number.get(capture.test_column or 0)
        self.anonymization = by_number.get(capture.anonymization_column or 0)
        names_ = (*(name for name, _ in self.keys), self.organization, self.test)
        self.identifying = frozenset(name for name in names_ if name is not None)
        self.attributable = all(name is not None for name, _ in self.keys) and (
            self.organization is not None or capture.organization_id is not None
        )
        if not self.attributable:
            self.fault = "a column that tells whose row it is has gone"
        type_ = capture.resource_type
        self.kinds = {event: Kind(event, capture.type_names.get(event, f"{type_}.{event}"), type_) for event in EVENTS}

    def identity(self, row: Members) -> _Identity:
        capture = self.capture
        organization = capture.organization_id
        if self.organization is not None:
            organization = _plain(row[self.organization])
        test = capture.test if self.test is None else _encode(row[self.test]) == b"true"
        if self.lone_key is not None:
            return organization, test, _plain(row[self.lone_key]) or ""
        parts = [
            "" if name is None else _plain(row[name] if change is None else change(row[name])) or ""
            for name, change in self.keys
        ]
        return organization, test, ":".join(parts)

    def show(self, row: Members, text: str) -> bytes:
        """Make `row` what readers see: hidden members gone, values respelled or covered. The same as JSON.

        `text` is the row as it was written, which where nothing is to be done is the JSON.
        """
        if not self.hidden and not self.changes:
            return text.encode()
        for name in self.hidden:
            del row[name]
        for name, change in self.changes.items():
            row[name] = change(row[name])
        return _encode(row)

    def delta(self, old: Members, new: Members, changed: Sequence[str]) -> dict[str, dict[str, msgspec.Raw]]:
        """`new` is shown already, `old` is as it was written."""
        delta = {}
        for name in changed:
            was = old[name]
            delta[name] = {"from": self.changes[name](was) if name in self.changes else was, "to": new[name]}
        return delta


class Renderer:
    """Renders changes; holds what it has learnt of captures and shapes, and no connection.

    `max_event_bytes` bounds an event's JSON object; a larger one goes without its values.
    """

    def __init__(self, max_event_bytes: int) -> None:
        self.captures: dict[int, Capture] = {}
        self.book = ShapeBook()
        self._max_bytes = max_event_bytes - ENVELOPE_BYTES
        self._plans: dict[tuple[str, tuple[str, ...]], _Plan] = {}
        self._who: tuple[str | None, bytes] = (None, b"null")
        self._second = -1
        self._second_text = b""

    def forget_plans(self) -> None:
        """After captures or shapes have changed."""
        self._plans.clear()

    def render(self, change: Change, *, settle: bool = False) -> Outcome:
        """The events of one change, in order: none, one, or a destroy and a create.

        Raises UnknownCaptureError and UnknownShapeError; with `settle` an unseen shape is tied as well as can be
        proved instead.
        """
        if change.origin.endswith(TOO_LARGE):
            return self._without_values(change, settle, b',"too_large":true')
        try:
            old = None if change.old_row is None else _members(change.old_row)
            new = None if change.new_row is None else _members(change.new_row)
        except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
            detail = f"the row is no JSON that can be read: {error}"
            if isinstance(error, UnicodeError):
                detail = "the row holds bytes that are no text in its database's encoding"
            return self._without_values(change, settle, _fault(detail))
        names = tuple(old if new is None else new)  # type: ignore[arg-type]
        plan = self._plan(change, names, settle)
        if plan.fault is not None:
            return self._without_values(change, settle, _fault(plan.fault))
        try:
            return self._with_values(plan, change, old, new)
        except UnknownFieldError as error:
            if not settle:
                raise UnknownShapeError(change) from None
            fault = f"a composite value has the field {error}, which its type has no more"
            return self._without_values(change, settle, _fault(fault))

    def _with_values(self, plan: _Plan, change: Change, old: Members | None, new: Members | None) -> Outcome:
        if old is None:
            assert new is not None
            return self._one(plan, change, CREATE, None, new)
        if new is None:
            return self._one(plan, change, DESTROY, old, None)
        changed = []  # by a loop: Python 3.11 makes a frame for a comprehension, which costs more than the loop
        for name, value in new.items():
            if old[name] != value:
                changed.append(name)
        if not plan.identifying.isdisjoint(changed) and plan.identity(old) != plan.identity(new):
            destroyed = self._one(plan, change, DESTROY, old, None)
            created = self._one(plan, change, CREATE, None, new)
            return Outcome([*destroyed.events, *created.events], [*destroyed.counted, *created.counted])
        return self._update(plan, change, old, new, changed)

    def _update(self, plan: _Plan, change: Change, old: Members, new: Members, changed: list[str]) -> Outcome:
        identity = plan.identity(new)
        if identity[0] is None:
            return Outcome((), ("null_organization",))
        event = _kind_of_update(plan, old, new)
        visible = [name for name in changed if name not in plan.hidden] if plan.hidden else changed
        if not visible and event == UPDATE and plan.untied.isdisjoint(changed):
            return Outcome((), ("unchanged",))
        resource = plan.show(new, change.new_row or "")
        delta = _encode(plan.delta(old, new, visible))
        return Outcome((self._event(plan, change, event, identity, resource, delta, b""),), plan.counted)

    def _one(self, plan: _Plan, change: Change, event: str, old: Members | None, new: Members | None) -> Outcome:
        """A create or a destroy: one of the rows is None."""
        row = new if new is not None else old
        assert row is not None
        identity = plan.identity(row)
        if identity[0] is None:
            return Outcome((), ("null_organization",))
        resource = plan.show(row, (change.old_row if new is None else change.new_row) or "")
        if new is not None:
            delta = {name: {"from": NULL, "to": value} for name, value in row.items() if value != NULL}
        else:
            delta = {name: {"from": value, "to": NULL} for name, value in row.items() if value != NULL}
        return Outcome((self._event(plan, change, event, identity, resource, _encode(delta), b""),), plan.counted)

    def _event(
        self, plan: _Plan, change: Change, event: str, identity: _Identity, resource: bytes, delta: bytes, flag: bytes
    ) -> Rendered:
        organization, test, resource_id = identity
        assert organization is not None
        if change.who != self._who[0]:
            self._who = (change.who, _json_of(change.who))
        who = self._who[1]
        if len(resource) + len(delta) + len(who) > self._max_bytes:
            resource = delta = b"null"
            flag = b',"too_large":true'
            if len(who) > self._max_bytes:
                who = b"null"
        if plan.backfill:
            flag += b',"backfill":true'
        second, microsecond = divmod(change.created_at, 1_000_000)
        if second != self._second:  # most events are of the same second as the one before
            self._second, self._second_text = second, ids.datetime_of(second * 1_000).isoformat()[:19].encode()
        tail = b',"test":%b,"created_at":"%b.%06dZ","transaction_id":"%d","resource":%b,"delta":%b,"who":%b%b}' % (
            b"true" if test else b"false",
            self._second_text,
            microsecond,
            change.xid,
            resource,
            delta,
            who,
            flag,
        )
        if _LF in tail or _CR in tail:  # white space within a json column's value: a string never holds them raw
            tail = tail.replace(b"\n", b" ").replace(b"\r", b" ")
        return Rendered(organization, test, plan.kinds[event], resource_id, _encode(resource_id), tail)

    def _without_values(self, change: Change, settle: bool, flag: bytes) -> Outcome:
        """The event of a row whose values cannot be sent: whose row it is must still be told."""
        counted = ["too_large" if b"too_large" in flag else "errors"]
        sides: list[tuple[_Plan, Members] | None] = []
        for text in (change.old_row, change.new_row):
            if text is None:
                sides.append(None)
                continue
            raws = scan.members(text)
            row = {name: msgspec.Raw(_UNDECODED.sub("\ufffd", raw).encode()) for name, raw in raws.items()}
            plan = self._plan(change, tuple(row), settle)
            exact = not any(
                name is not None and _UNDECODED.search(raws[name]) for name in (plan.organization, plan.test)
            )
            if not plan.attributable or not exact:
                return Outcome((), ("unattributable",))
            sides.append((plan, row))
        old, new = sides
        ends: list[tuple[str, tuple[_Plan, Members]]]
        if old is None and new is not None:
            ends = [(CREATE, new)]
        elif new is None and old is not None:
            ends = [(DESTROY, old)]
        else:
            assert old is not None
            assert new is not None
            if old[0].identity(old[1]) != new[0].identity(new[1]):
                ends = [(DESTROY, old), (CREATE, new)]
            else:
                ends = [(_kind_of_update(new[0], old[1], new[1]), new)]
        events = []
        for event, (plan, row) in ends:
            identity = plan.identity(row)
            if identity[0] is None:
                counted.append("null_organization")
                continue
            events.append(self._event(plan, change, event, identity, b"null", b"null", flag))
        return Outcome(events, counted)

    def _plan(self, change: Change, names: tuple[str, ...], settle: bool) -> _Plan:
        plan = self._plans.get((change.origin, names))
        if plan is None:
            origin = Origin.of(change.origin)
            capture = self.captures.get(origin.capture)
            if capture is None:
                raise UnknownCaptureError(origin.capture)
            # A stripped text has a few of the table's names only, so it can never match a shape exactly.
            seen = self.book.exact(origin.relation, origin.filenode, origin.natts, names)
            if not origin.too_large and not settle and seen is None:
                raise UnknownShapeError(change)
            plan = self._plans[change.origin, names] = _Plan(capture, self.book, origin, names)
        return plan


def _redact(raw: msgspec.Raw) -> msgspec.Raw:
    return raw if raw == NULL else REDACTED


def _json_of(text: str | None) -> bytes:
    """The JSON in `text`, or `text` as a JSON string where it is none."""
    if not text:
        return b"null"
    try:
        return bytes(_raw(text)).strip()
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return _encode(text)


def _plain(raw: msgspec.Raw) -> str | None:
    """A JSON value as a plain text: a string's content, anything else as it is spelled, None for null."""
    data = _encode(raw)
    if data[0] == _QUOTE:
        if _BACKSLASH not in data:
            return data[1:-1].decode()
        text = _text(data)
        return text if "\0" not in text else data[1:-1].decode()  # no text in PostgreSQL holds a NUL: as it is spelled
    return None if data == b"null" else data.decode()


def _kind_of_update(plan: _Plan, old: Members, new: Members) -> str:
    name = plan.anonymization
    if name is not None and name in old and name in new:
        was, now = old[name] != NULL, new[name] != NULL
        if now and not was:
            return ANONYMIZATION_REQUEST
        if was and not now:
            return ANONYMIZATION_CANCEL
    return UPDATE


def _fault(detail: str) -> bytes:
    return b',"error":' + _encode(detail)
