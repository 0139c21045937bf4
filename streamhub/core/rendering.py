"""An outbox row into the events that it is: what changed, whose it is, and the bytes that every reader will see.

Values are raw slices of the texts that PostgreSQL wrote, so nothing is rounded or reordered. A rendered event lacks two
things, known only when it is appended: its id, and the organization's name in the registry.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from streamhub.core import ids, literals, scan
from streamhub.core.changes import DESCRIBED, LINK, PUBLISHED, TOO_LARGE, UNREAD_TRUNCATE, Capture, Change, Origin
from streamhub.core.cutting import COMPILED, compared
from streamhub.core.frames import one_line
from streamhub.core.kinds import Kind
from streamhub.core.plans import Members, Plan
from streamhub.core.published import Published, kind_of, published
from streamhub.core.rows import NULL, EventKind, Identity, Values
from streamhub.core.shapes import Shape, ShapeBook
from streamhub.core.texts import is_text, readable

CREATE: Final = "create"
UPDATE: Final = "update"
DESTROY: Final = "destroy"
ANONYMIZATION_REQUEST: Final = "anonymization_request"
ANONYMIZATION_CANCEL: Final = "anonymization_cancel"
EVENTS: Final = (CREATE, UPDATE, DESTROY, ANONYMIZATION_REQUEST, ANONYMIZATION_CANCEL)

# What the id, the organization and the frame around the object add to a rendered event, at the most.
ENVELOPE_BYTES: Final = 1024

_members = msgspec.json.Decoder(Members).decode
_raw = msgspec.json.Decoder(msgspec.Raw).decode
_encode = msgspec.json.Encoder().encode


class Rendered:
    """An event without its id and its organization's name. `resource` is the resource's id as JSON, `tail` what follows
    the organization in the object (core/frames.py)."""

    __slots__ = ("kind", "organization_id", "resource", "resource_id", "tail", "test")

    def __init__(
        self, organization_id: str, test: bool, kind: EventKind, resource_id: str | None, resource: bytes, tail: bytes
    ) -> None:
        self.organization_id = organization_id
        self.test = test
        self.kind = kind
        self.resource_id = resource_id
        self.resource = resource
        self.tail = tail


class Outcome:
    """What one change gave, what was counted on the way (names of counters), and what an operator should know of it."""

    __slots__ = ("counted", "events", "fault")

    def __init__(self, events: Sequence[Rendered], counted: Sequence[str] = (), fault: str | None = None) -> None:
        self.events = events
        self.counted = counted
        self.fault = fault


class UnknownCaptureError(LookupError):
    """The change names a capture that the renderer was not given."""


class UnknownShapeError(LookupError):
    """The change was written in a state of its table that the renderer has not seen; read the catalog and go on."""

    def __init__(self, change: Change) -> None:
        super().__init__(f"a change of {change.origin}")
        self.change = change


class Renderer:
    """Renders changes; holds what it has learnt of captures, shapes and types (by oid), and no connection.

    `max_event_bytes` bounds an event's JSON object; a larger one goes without its values.
    """

    def __init__(self, max_event_bytes: int) -> None:
        self.captures: dict[int, Capture] = {}
        self.book = ShapeBook()
        self.types: dict[int, Kind] = {}
        self.renamed: list[Shape] = []  # that only texts told of, still to be stored
        self._max_bytes = max_event_bytes - ENVELOPE_BYTES
        self._plans: dict[tuple[str, tuple[str, ...] | int], Plan] = {}
        self._latest: dict[str, Plan] = {}  # by origin, of JSON whose values can be sent
        self._who: tuple[str | None, bytes] = (None, b"null")
        self._second = -1
        self._second_text = ""

    def forget_plans(self) -> None:
        """After captures or shapes have changed."""
        self._plans.clear()
        self._latest.clear()

    def render(self, change: Change, *, settle: bool = False) -> Outcome:
        """The events of one change, in order: none, one, or a destroy and a create.

        Raises UnknownCaptureError and UnknownShapeError; with `settle` an unseen shape is tied as well as can be
        proved instead.
        """
        if change.origin.endswith(":::"):  # no flags, no attachment, no description: nearly all of them
            return self._of_json(change, settle)
        if change.origin == PUBLISHED:
            return self._of_published(change)
        origin = Origin.of(change.origin)
        if LINK in origin.flags:
            return Outcome((), ("unchanged",))
        if UNREAD_TRUNCATE in origin.flags:
            return Outcome((), ("unattributable",), f"the rows of a TRUNCATE could not be read: {change.old_row}")
        if DESCRIBED not in origin.flags:
            return self._of_json(change, settle)
        return self._of_records(change, TOO_LARGE in origin.flags, settle)

    def _of_json(self, change: Change, settle: bool) -> Outcome:
        old_text, new_text = change.old_row, change.new_row
        if COMPILED and old_text is not None and new_text is not None:
            latest = self._latest.get(change.origin)
            cut = None if latest is None else compared(old_text, new_text, latest.openings)
            if latest is not None and cut is not None:
                return self._two(latest, change, cut[0], cut[1], cut[2], settle)
        try:
            old = None if old_text is None else _members(old_text)
            new = None if new_text is None else _members(new_text)
        except UnicodeError:
            return self._without_values(change, settle, NO_TEXT)
        except (msgspec.DecodeError, RecursionError) as error:
            return self._without_values(change, settle, f"the row is no JSON that can be read: {error}")
        names = tuple(old if new is None else new)  # type: ignore[arg-type]
        plan = self._plans.get((change.origin, names)) or self._plan(change, names, settle)
        if plan.fault is not None:
            return self._without_values(change, settle, plan.fault)
        if COMPILED:
            self._latest[change.origin] = plan
        if old is None:
            return self._one(plan, change, CREATE, plan.values(new), settle)  # type: ignore[arg-type]
        if new is None:
            return self._one(plan, change, DESTROY, plan.values(old), settle)
        old_row, new_row, changed = plan.compared(old, new)
        return self._two(plan, change, old_row, new_row, changed, settle)

    def _of_records(self, change: Change, too_large: bool, settle: bool) -> Outcome:
        # A record's text may be somewhat longer than the JSON of the row.
        too_large = too_large or len(change.old_row or "") + len(change.new_row or "") > 4 * self._max_bytes
        try:
            old = None if change.old_row is None else literals.fields(change.old_row)
            new = None if change.new_row is None else literals.fields(change.new_row)
            plan = self._plan(change, len(old or new or ()), settle)
            if too_large or plan.fault is not None:
                return self._without_values(change, settle, None if too_large else plan.fault)
            old_row = None if old is None else plan.read(old)
            new_row = None if new is None else plan.read(new)
        except UnicodeError:
            return self._without_values(change, settle, NO_TEXT)
        except (ValueError, msgspec.DecodeError, RecursionError) as error:
            return self._without_values(change, settle, f"the row's text cannot be read: {error}")
        if old_row is None:
            return self._one(plan, change, CREATE, new_row, settle)  # type: ignore[arg-type]
        if new_row is None:
            return self._one(plan, change, DESTROY, old_row, settle)
        changed = [place for place, value in enumerate(new_row) if value != old_row[place]]
        return self._two(plan, change, old_row, new_row, changed, settle)

    def _of_published(self, change: Change) -> Outcome:
        try:
            about = published(readable(change.old_row or ""))
        except (msgspec.DecodeError, UnicodeError) as error:
            return Outcome((), ("unattributable",), f"a published event whose description cannot be read: {error}")
        data = (change.new_row or "null").strip()
        if not is_text(data):
            return Outcome(
                (self._published(change, about, b"null", b',"error":' + _encode(NO_TEXT)),), ("errors",), NO_TEXT
            )
        encoded = data.encode()
        if len(encoded) + len(self._who_of(change)) > self._max_bytes:
            return Outcome((self._published(change, about, b"null", b',"too_large":true'),), ("too_large",))
        return Outcome((self._published(change, about, encoded, b""),))

    def _published(self, change: Change, about: Published, data: bytes, flag: bytes) -> Rendered:
        """With a `flag`, which stands before `publish_id`, an envelope gets the whole object: no data can be sliced."""
        who = self._who_of(change)
        if len(who) > self._max_bytes:
            who = b"null"
        second, microsecond = divmod(change.created_at, 1_000_000)
        more = b'%b,"publish_id":%b,"data":%b' % (flag, _encode(about.publish_id), data)
        tail = tail_of(about.test, _time_of(second), microsecond, change.xid, NULL, NULL, who, more)
        return Rendered(
            about.organization, about.test, kind_of(about.type, about.resource_type), about.resource_id,
            one_line(_encode(about.resource_id)), one_line(tail),
        )  # fmt: skip

    def _two(self, plan: Plan, change: Change, old: Values, new: Values, changed: list[int], settle: bool) -> Outcome:
        if plan.may_have_moved(changed) and plan.identity(old) != plan.identity(new):
            destroyed = self._one(plan, change, DESTROY, old, settle)
            created = self._one(plan, change, CREATE, new, settle)
            return Outcome(
                [*destroyed.events, *created.events],
                [*destroyed.counted, *created.counted],
                destroyed.fault or created.fault,
            )
        return self._update(plan, change, old, new, changed, settle)

    def _update(
        self, plan: Plan, change: Change, old: Values, new: Values, changed: list[int], settle: bool
    ) -> Outcome:
        identity = plan.identity(new)
        if identity[0] is None:
            return Outcome((), ("null_organization",))
        if identity[2] is None:
            return self._without_values(change, settle, NULL_KEY)
        event = UPDATE
        if plan.anonymization_place is not None:
            event = _kind_of_update(plan.is_anonymized(old), plan.is_anonymized(new))
        if event == UPDATE and not plan.tells(changed):
            return Outcome((), ("unchanged",))
        shown = plan.shown(new)
        resource = plan.resource(shown, change.new_row or "")
        return self._outcome(plan, change, event, identity, resource, plan.delta(old, shown, changed))

    def _one(self, plan: Plan, change: Change, event: str, row: Values, settle: bool) -> Outcome:
        """A create or a destroy, whose row differs from one that is null throughout."""
        created = event == CREATE
        identity = plan.identity(row)
        if identity[0] is None:
            return Outcome((), ("null_organization",))
        if identity[2] is None:
            side = change.with_rows(None, change.new_row) if created else change.with_rows(change.old_row, None)
            return self._without_values(side, settle, NULL_KEY)
        shown = plan.shown(row)
        resource = plan.resource(shown, (change.new_row if created else change.old_row) or "")
        nulls = [NULL] * len(row)
        present = [place for place, value in enumerate(row) if value != NULL]
        delta = plan.delta(nulls, shown, present) if created else plan.delta(row, nulls, present)
        return self._outcome(plan, change, event, identity, resource, delta)

    def _outcome(
        self, plan: Plan, change: Change, event: str, identity: Identity, resource: bytes, delta: bytes
    ) -> Outcome:
        who = self._who[1] if change.who == self._who[0] else self._who_of(change)
        if len(resource) + len(delta) + len(who) > self._max_bytes:
            too_large = self._event(plan, change, event, identity, b"null", b"null", who, b',"too_large":true')
            return Outcome((too_large,), [*plan.counted, "too_large"])
        return Outcome((self._event(plan, change, event, identity, resource, delta, who, b""),), plan.counted)

    def _event(
        self, plan: Plan, change: Change, event: str, identity: Identity, resource: bytes, delta: bytes, who: bytes,
        flag: bytes,
    ) -> Rendered:  # fmt: skip
        organization, test, resource_id = identity
        assert organization is not None
        resource_id = resource_id or ""
        if len(who) > self._max_bytes:
            who, flag = b"null", b',"too_large":true'
        if plan.backfill:
            flag += b',"backfill":true'
        created_at = change.created_at
        second = created_at // 1_000_000
        if second != self._second:  # most events are of the same second as the one before
            self._second, self._second_text = second, _time_of(second)
        microsecond = created_at - second * 1_000_000
        tail = tail_of(test, self._second_text, microsecond, change.xid, resource, delta, who, flag)
        name = _encode(resource_id)
        if not name.isascii():
            name = one_line(name)
        return Rendered(organization, test, plan.kinds[event], resource_id, name, one_line(tail))

    def _who_of(self, change: Change) -> bytes:
        if change.who != self._who[0]:
            self._who = (change.who, _json_of(change.who))
        return self._who[1]

    def _without_values(self, change: Change, settle: bool, fault: str | None) -> Outcome:
        """The event of a row whose values cannot be sent: whose row it is must still be told. No `fault`: too large."""
        counted = ["too_large" if fault is None else "errors"]
        flag = b',"too_large":true' if fault is None else b',"error":' + _encode(fault)
        try:
            old, new = (self._identified(change, text, settle) for text in (change.old_row, change.new_row))
        except (ValueError, msgspec.DecodeError, RecursionError) as error:
            return Outcome((), ("unattributable",), f"{fault or 'too large'}; what tells whose row it is: {error}")
        if any(side is not None and not side[0].attributable for side in (old, new)) or old is new is None:
            return Outcome((), ("unattributable",), fault)
        ends: list[tuple[str, tuple[Plan, Values]]]
        if old is None:
            assert new is not None
            ends = [(CREATE, new)]
        elif new is None:
            ends = [(DESTROY, old)]
        elif old[0].identity(old[1]) != new[0].identity(new[1]):
            ends = [(DESTROY, old), (CREATE, new)]
        else:
            ends = [(_kind_of_update(old[0].is_anonymized(old[1]), new[0].is_anonymized(new[1])), new)]
        events = []
        for event, (plan, row) in ends:
            identity = plan.identity(row)
            if identity[0] is None:
                counted.append("null_organization")
                continue
            events.append(self._event(plan, change, event, identity, b"null", b"null", self._who_of(change), flag))
        return Outcome(events, counted, fault)

    def _identified(self, change: Change, text: str | None, settle: bool) -> tuple[Plan, Values] | None:
        if text is None:
            return None
        if DESCRIBED in Origin.of(change.origin).flags:
            values = literals.fields(text)
            plan = self._plan(change, len(values), settle)
            return plan, plan.read_identity(values)
        members = scan.members(text)
        plan = self._plan(change, tuple(members), settle)
        if plan.organization is not None and not is_text(members[plan.organization]):
            raise ValueError("the organization's id is no text")
        return plan, [readable(raw).encode() for raw in members.values()]

    def _plan(self, change: Change, layout: tuple[str, ...] | int, settle: bool) -> Plan:
        plan = self._plans.get((change.origin, layout))
        if plan is None:
            origin = Origin.of(change.origin)
            capture = self.captures.get(origin.capture)
            if capture is None:
                raise UnknownCaptureError(origin.capture)
            if not settle:
                size = layout if isinstance(layout, int) else len(layout)
                # The text of a row that is too large has a few columns only, so no shape is like it.
                seen = TOO_LARGE in origin.flags or self.book.has_state(origin, size)
                if not seen or not origin.types <= self.types.keys():
                    raise UnknownShapeError(change)
            if isinstance(layout, tuple) and (shape := self.book.renamed(origin, layout)) is not None:
                self.renamed.append(shape)
            plan = self._plans[change.origin, layout] = Plan(capture, self.book, origin, layout, self.types, EVENTS)
        return plan


def tail_of(
    test: bool, second: str, microsecond: int, transaction: int, resource: bytes, delta: bytes, who: bytes, more: bytes
) -> bytes:
    """The rest of an event's object behind the organization. `resource`, `delta` and `who` are JSON values, `more`
    further members with a comma before each."""
    told = "true" if test else "false"
    start = f',"test":{told},"created_at":"{second}.{microsecond:06d}Z","transaction_id":"{transaction}","resource":'
    return b"".join((start.encode(), resource, b',"delta":', delta, b',"who":', who, more, b"}"))


def _time_of(second: int) -> str:
    """Of the Unix epoch, as events have it up to the fraction."""
    return ids.datetime_of(second * 1_000).isoformat()[:19]


NULL_KEY: Final = "the key of the row is null"
NO_TEXT: Final = "the row holds bytes that are no text in its database's encoding"


def _json_of(text: str | None) -> bytes:
    """The JSON in `text`, or `text` as a JSON string where it is none."""
    if not text:
        return b"null"
    try:
        return bytes(_raw(text)).strip()
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return _encode(readable(text))


def _kind_of_update(was: bool | None, now: bool | None) -> str:
    """By whether the row was, and is, to be anonymized; None where nothing tells it."""
    if was is now or was is None or now is None:
        return UPDATE
    return ANONYMIZATION_REQUEST if now else ANONYMIZATION_CANCEL
