"""The comparison, pure: what was committed against history, and history against what each reader was given.

Nothing of ours is used for it. What was committed is told by the writers' own audit, in the order in which each row was
changed; a finding is a sentence with the row, the versions and the ids that it takes to look into it.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

SHOWN = 8  # of each kind within one finding


class Row(NamedTuple):
    """What an integrator sees as one resource."""

    organization: str
    test: bool
    resource_type: str
    resource_id: str

    def __str__(self) -> str:
        environment = "test" if self.test else "live"
        return f"{self.resource_type} {self.resource_id} of {self.organization} ({environment})"


class Mark(NamedTuple):
    """What tells a change of a row from all others: which life of the row, its version in it, what it held."""

    event: str
    born: str
    version: int
    digest: str

    def __str__(self) -> str:
        return f"{self.event} of version {self.version} (born {self.born})"


class Committed(NamedTuple):
    """A change as the writers' audit has it."""

    row: Row
    mark: Mark
    transaction: str


class Event(NamedTuple):
    """An event as history has it. `fault`: what in its bytes contradicts itself, else empty."""

    id: str
    row: Row
    mark: Mark
    frame: bytes  # its digest
    fault: str


class Delivered(NamedTuple):
    """An event as a reader was given it: the id and the digest of the frame."""

    id: str
    frame: bytes


class Record(NamedTuple):
    """A record of the topic: its offset, the event's id, the key, and the digest of the frame that its value makes."""

    offset: int
    id: str
    key: str
    frame: bytes


def history_against(committed: Iterable[Committed], events: Sequence[Event]) -> list[str]:
    """Findings: what is missing, there twice, never committed, out of order; ids that are not unique."""
    findings = [f"event {event.id}: {event.fault}" for event in events if event.fault]
    findings += [
        f"the id {id_} was given {times} times" for id_, times in Counter(e.id for e in events).items() if times > 1
    ]
    wanted: dict[Row, list[Committed]] = defaultdict(list)
    found: dict[Row, list[Event]] = defaultdict(list)
    for change in committed:
        wanted[change.row].append(change)
    for event in events:
        found[event.row].append(event)
    for row in wanted.keys() | found.keys():
        findings += _row_against(row, wanted[row], found[row])
    return findings


def _row_against(row: Row, wanted: list[Committed], found: list[Event]) -> list[str]:
    if [change.mark for change in wanted] == [event.mark for event in found]:
        return []
    committed, published = Counter(change.mark for change in wanted), Counter(event.mark for event in found)
    findings = [
        f"lost: {row}: {change.mark}, committed in {change.transaction}; {_around(change.mark, found)}"
        for change in wanted
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
        place = next(n for n, event in enumerate(found) if event.mark != wanted[n].mark)
        findings.append(
            f"reordered: {row}: {found[place].mark} as {found[place].id} stands where {wanted[place].mark} of "
            f"{wanted[place].transaction} belongs"
        )
    return findings


def _around(mark: Mark, found: list[Event]) -> str:
    """Which events of the same life stand next to a missing one."""
    life = [event for event in found if event.mark.born == mark.born]
    near = [event for event in life if abs(event.mark.version - mark.version) <= 1]
    shown = "; ".join(f"{event.mark.event} {event.mark.version} is {event.id}" for event in near[:SHOWN])
    return shown or f"history has {len(life)} events of this life"


def ledger_against(acknowledged: Iterable[str], undone: Iterable[str], committed: Iterable[Committed]) -> list[str]:
    """Findings about PostgreSQL itself: without its word nothing else means anything."""
    known = {change.transaction for change in committed}
    findings = [f"PostgreSQL acknowledged {name} and does not have it" for name in acknowledged if name not in known]
    return findings + [f"PostgreSQL has {name}, which was rolled back" for name in undone if name in known]


def reader_against(who: str, log: Sequence[Delivered], wanted: Sequence[Delivered]) -> list[str]:
    """Findings where a log is not exactly what it should be: every event once, in order, with the same bytes."""
    if list(log) == list(wanted):
        return []
    findings = _against_bytes(who, log, wanted)
    given, there = Counter(each.id for each in log), {each.id for each in wanted}
    missing = [each.id for each in wanted if each.id not in given]
    findings += [f"{who} missed {len(missing)}: {_some(missing)}"] if missing else []
    repeated = [id_ for id_, times in given.items() if times > 1]
    findings += [f"{who} was given {len(repeated)} more than once: {_some(repeated)}"] if repeated else []
    foreign = [id_ for id_ in given if id_ not in there]
    findings += [f"{who} was given {len(foreign)} that are not its own: {_some(foreign)}"] if foreign else []
    if not findings:
        late = [after.id for before, after in itertools.pairwise(log) if after.id < before.id]
        findings.append(f"{who} was given {len(late)} after a later one: {_some(late)}")
    return findings


def overlapping_reader_against(
    who: str, log: Sequence[Delivered], starts: Sequence[int], wanted: Sequence[Delivered]
) -> list[str]:
    """Findings about a reader that may be given events again, but none too late: each of its connections (`starts`:
    where in the log they begin) has to be a run of history without a gap that begins no later than the last one ended.
    """
    findings = _against_bytes(who, log, wanted)
    place = {each.id: n for n, each in enumerate(wanted)}
    next_ = 0
    for start, end in itertools.pairwise([*starts, len(log)]):
        ids = [each.id for each in log[start:end]]
        if not ids:
            continue
        foreign = [id_ for id_ in ids if id_ not in place]
        if foreign:
            return [*findings, f"{who} was given {len(foreign)} that are not its own: {_some(foreign)}"]
        first = place[ids[0]]
        if first > next_:
            findings.append(f"{who} missed {first - next_} before {ids[0]}, the first after it connected again")
        for before, after in itertools.pairwise(ids):
            if place[after] != place[before] + 1:
                findings.append(f"{who} was given {after} right after {before}, which it does not follow in history")
        next_ = max(next_, place[ids[-1]] + 1)
    if next_ < len(wanted):
        findings.append(f"{who} missed the last {len(wanted) - next_}, from {wanted[next_].id} on")
    return findings


def topic_against(partitions: Mapping[int, Sequence[Record]], events: Sequence[Event]) -> list[str]:
    """Findings where a reader of the topic that drops what is not above the greatest id of the partition would lose or
    misplace an event. Repeats are none: a publisher that was killed sends again.
    """
    findings: list[str] = []
    wanted = {event.id: event for event in events}
    came: set[str] = set()
    for partition, records in partitions.items():
        greatest = ""
        seen: set[str] = set()
        for record in records:
            where = f"{record.id} (partition {partition}, offset {record.offset})"
            event = wanted.get(record.id)
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
    missing = [id_ for id_ in wanted if id_ not in came]
    return findings + ([f"the topic lacks {len(missing)}: {_some(missing)}"] if missing else [])


def _against_bytes(who: str, log: Sequence[Delivered], wanted: Sequence[Delivered]) -> list[str]:
    frames = {each.id: each.frame for each in wanted}
    other = [each.id for each in log if each.id in frames and frames[each.id] != each.frame]
    return [f"{who} was given other bytes for {len(other)}: {_some(other)}"] if other else []


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:SHOWN]) + (" …" if len(ids) > SHOWN else "")
