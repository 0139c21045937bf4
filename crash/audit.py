"""Pure comparisons: committed changes with history, and history with what each reader received.

They use none of the hub's code. The writers' audit table has the committed changes, each row's in order. A finding is
a sentence with the row, the versions and the ids needed to investigate it.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

SHOWN = 8  # ids of each kind in one finding


class Row(NamedTuple):
    """One resource, as a consumer sees it."""

    organization: str
    test: bool
    resource_type: str
    resource_id: str

    def __str__(self) -> str:
        environment = "test" if self.test else "live"
        return f"{self.resource_type} {self.resource_id} of {self.organization} ({environment})"


class Mark(NamedTuple):
    """Identifies a change of a row. `born`: its insert. `version`: counted from there. `digest`: of its content."""

    event: str
    born: str
    version: int
    digest: str

    def __str__(self) -> str:
        return f"{self.event} of version {self.version} (born {self.born})"


class Committed(NamedTuple):
    """A change in the writers' audit table."""

    row: Row
    mark: Mark
    transaction: str


class Event(NamedTuple):
    """An event in history. `fault`: how its bytes contradict each other, else empty."""

    id: str
    row: Row
    mark: Mark
    frame: bytes  # its digest
    fault: str


class Delivered(NamedTuple):
    """An event that a reader received: the id and the digest of the frame."""

    id: str
    frame: bytes


class Record(NamedTuple):
    """A record of the topic: offset, event id, key, and the digest of the frame of its value."""

    offset: int
    id: str
    key: str
    frame: bytes


class Posted(NamedTuple):
    """A webhook that a receiver got: its webhook-id, the digest of the frame that its body has the data of, and whether
    it was answered with 204."""

    id: str
    frame: bytes
    taken: bool


def history_against(committed: Iterable[Committed], events: Sequence[Event]) -> list[str]:
    """Findings: events that are missing, repeated, never committed or out of order, and ids that are not unique."""
    findings = [f"event {event.id}: {event.fault}" for event in events if event.fault]
    findings += [
        f"{times} events have the id {id_}" for id_, times in Counter(e.id for e in events).items() if times > 1
    ]
    expected: dict[Row, list[Committed]] = defaultdict(list)
    found: dict[Row, list[Event]] = defaultdict(list)
    for change in committed:
        expected[change.row].append(change)
    for event in events:
        found[event.row].append(event)
    for row in expected.keys() | found.keys():
        findings += _row_against(row, expected[row], found[row])
    return findings


def _row_against(row: Row, expected: list[Committed], found: list[Event]) -> list[str]:
    if [change.mark for change in expected] == [event.mark for event in found]:
        return []
    committed, published = Counter(change.mark for change in expected), Counter(event.mark for event in found)
    findings = [
        f"lost: {row}: {change.mark}, committed in {change.transaction}; {_around(change.mark, found)}"
        for change in expected
        if change.mark not in published
    ]
    findings += [
        f"never committed: {row}: {event.mark} as {event.id}" for event in found if event.mark not in committed
    ]
    findings += [
        f"{times} times instead of {committed[mark]}: {row}: {mark}, as "
        + ", ".join(event.id for event in found if event.mark == mark)
        for mark, times in published.items()
        if committed[mark] and times != committed[mark]
    ]
    if not findings:
        place = next(n for n, event in enumerate(found) if event.mark != expected[n].mark)
        findings.append(
            f"reordered: {row}: {found[place].mark} as {found[place].id} is where {expected[place].mark} of "
            f"{expected[place].transaction} should be"
        )
    return findings


def _around(mark: Mark, found: list[Event]) -> str:
    """The events of the same row next to a missing one."""
    life = [event for event in found if event.mark.born == mark.born]
    near = [event for event in life if abs(event.mark.version - mark.version) <= 1]
    shown = "; ".join(f"{event.mark.event} {event.mark.version} is {event.id}" for event in near[:SHOWN])
    return shown or f"history has {len(life)} events of this row"


def ledger_against(acknowledged: Iterable[str], undone: Iterable[str], committed: Iterable[Committed]) -> list[str]:
    """Findings about PostgreSQL itself: lost or revived transactions would explain all others."""
    known = {change.transaction for change in committed}
    findings = [f"PostgreSQL acknowledged {name} and does not have it" for name in acknowledged if name not in known]
    return findings + [f"PostgreSQL has {name}, which was rolled back" for name in undone if name in known]


def reader_against(who: str, log: Sequence[Delivered], expected: Sequence[Delivered]) -> list[str]:
    """Findings unless the log has every event once, in order, with the same bytes."""
    if list(log) == list(expected):
        return []
    findings = _against_bytes(who, log, expected)
    given, there = Counter(each.id for each in log), {each.id for each in expected}
    missing = [each.id for each in expected if each.id not in given]
    findings += [f"{who} missed {len(missing)}: {_some(missing)}"] if missing else []
    repeated = [id_ for id_, times in given.items() if times > 1]
    findings += [f"{who} received {len(repeated)} more than once: {_some(repeated)}"] if repeated else []
    foreign = [id_ for id_ in given if id_ not in there]
    findings += [f"{who} received {len(foreign)} of others: {_some(foreign)}"] if foreign else []
    if not findings:
        late = [after.id for before, after in itertools.pairwise(log) if after.id < before.id]
        findings.append(f"{who} received {len(late)} after a later one: {_some(late)}")
    return findings


def overlapping_reader_against(
    who: str, log: Sequence[Delivered], starts: Sequence[int], expected: Sequence[Delivered]
) -> list[str]:
    """Findings about a reader that may receive events again, but must miss none. Each connection (`starts`: where in
    the log they begin) must be a part of history without a gap that begins no later than the one before ended.
    """
    findings = _against_bytes(who, log, expected)
    place = {each.id: n for n, each in enumerate(expected)}
    next_ = 0
    for start, end in itertools.pairwise([*starts, len(log)]):
        ids = [each.id for each in log[start:end]]
        if not ids:
            continue
        foreign = [id_ for id_ in ids if id_ not in place]
        if foreign:
            return [*findings, f"{who} received {len(foreign)} of others: {_some(foreign)}"]
        first = place[ids[0]]
        if first > next_:
            findings.append(f"{who} missed {first - next_} before {ids[0]}, the first after it connected again")
        for before, after in itertools.pairwise(ids):
            if place[after] != place[before] + 1:
                findings.append(f"{who} received {after} right after {before}, which it does not follow in history")
        next_ = max(next_, place[ids[-1]] + 1)
    if next_ < len(expected):
        findings.append(f"{who} missed the last {len(expected) - next_}, from {expected[next_].id} on")
    return findings


def topic_against(partitions: Mapping[int, Sequence[Record]], events: Sequence[Event]) -> list[str]:
    """Findings where a reader would lose or misplace an event. It ignores ids up to the partition's greatest so far.
    Repeats are allowed: a publisher that was killed sends them.
    """
    findings: list[str] = []
    expected = {event.id: event for event in events}
    came: set[str] = set()
    for partition, records in partitions.items():
        greatest = ""
        seen: set[str] = set()
        for record in records:
            where = f"{record.id} (partition {partition}, offset {record.offset})"
            event = expected.get(record.id)
            if event is None:
                findings.append(f"the topic has {where}, which history does not have")
            elif (record.key, record.frame) != (event.row.organization, event.frame):
                findings.append(f"the topic has another key or other bytes for {where}")
            if record.id < greatest and record.id not in seen:
                findings.append(f"the topic has {where} for the first time after {greatest}")
            if record.id in came and record.id not in seen:
                findings.append(f"the topic has {where} in another partition too")
            greatest = max(greatest, record.id)
            seen.add(record.id)
        came |= seen
    missing = [id_ for id_ in expected if id_ not in came]
    return findings + ([f"the topic lacks {len(missing)}: {_some(missing)}"] if missing else [])


def endpoint_against(who: str, log: Sequence[Posted], expected: Sequence[Event], *, in_order: bool) -> list[str]:
    """Findings unless each event was taken at least once, and nothing else came. Repeats are allowed, with the same id
    and bytes. `in_order`: no event of a row may come before the ones before it were taken.
    """
    findings = _against_bytes(who, log, [Delivered(event.id, event.frame) for event in expected])
    there = {event.id: event for event in expected}
    foreign = list(dict.fromkeys(each.id for each in log if each.id not in there))
    findings += [f"{who} received {len(foreign)} of others: {_some(foreign)}"] if foreign else []
    taken = {each.id for each in log if each.taken}
    missing = [event.id for event in expected if event.id not in taken]
    findings += [f"{who} missed {len(missing)}: {_some(missing)}"] if missing else []
    return findings + (_early(who, log, there) if in_order else [])


def _early(who: str, log: Sequence[Posted], events: Mapping[str, Event]) -> list[str]:
    waiting: dict[Row, list[str]] = defaultdict(list)
    for event in events.values():
        waiting[event.row].append(event.id)
    taken: set[str] = set()
    early = []
    for each in log:
        if each.id in events:
            queue = waiting[events[each.id].row]
            while queue and queue[0] in taken:
                del queue[0]
            if queue and queue[0] < each.id:
                early.append(each.id)
        if each.taken:
            taken.add(each.id)
    return [f"{who} received {len(early)} before an earlier one of the row: {_some(early)}"] if early else []


def _against_bytes(who: str, log: Sequence[Delivered | Posted], expected: Sequence[Delivered]) -> list[str]:
    frames = {each.id: each.frame for each in expected}
    other = [each.id for each in log if each.id in frames and frames[each.id] != each.frame]
    return [f"{who} received other bytes for {len(other)}: {_some(other)}"] if other else []


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:SHOWN]) + (" …" if len(ids) > SHOWN else "")
