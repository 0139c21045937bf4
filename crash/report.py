"""The report of a run: its faults, what was committed and received, and the findings."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from crash.audit import Posted
from crash.consumers import Consumer
from crash.faults import DONE, Fault
from crash.process import Role
from crash.receiver import Endpoint
from crash.replays import Replay
from crash.writers import Writer

SHOWN = 20


class Outcome(NamedTuple):
    """`changes`: committed ones of enterprise organizations. `found_committed`: transactions of unknown outcome that
    were committed. `records`: in the topic, with repeats."""

    faults: Sequence[Fault]
    seconds: float
    writers: Sequence[Writer]
    found_committed: int
    changes: int
    events: int
    consumers: Sequence[Consumer]
    replays: Sequence[Replay]
    records: int
    roles: Sequence[Role]
    posted: Mapping[Endpoint, Sequence[Posted]]
    findings: Sequence[str]


def lines(outcome: Outcome) -> Iterable[str]:
    kinds = Counter((fault.target, fault.action) for fault in outcome.faults)
    yield f"{len(outcome.faults)} faults in {outcome.seconds:.0f} s:"
    for target in dict.fromkeys(target for target, _ in kinds):
        done = ", ".join(f"{DONE[action]} {times}" for (who, action), times in kinds.items() if who == target)
        yield f"  {target}: {done}"
    acknowledged, undone, unknown = (
        sum(len(getattr(writer, kind)) for writer in outcome.writers) for kind in ("acknowledged", "undone", "unknown")
    )
    yield (
        f"transactions: {acknowledged:,} committed, {undone:,} rolled back, {unknown} of unknown outcome "
        f"({outcome.found_committed} of them committed)"
    )
    yield f"changes committed: {outcome.changes:,}; events in history: {outcome.events:,}"
    if outcome.records:
        yield f"records in the topic: {outcome.records:,}, repeats included"
    for consumer in outcome.consumers:
        yield (
            f"{consumer.name}: {len(consumer.log):,} events, {len(consumer.starts)} connections, longest time without "
            f"an event {consumer.longest_pause:.1f} s; ends: {_counted(consumer.ends)}; refusals: "
            f"{_counted(consumer.refusals)}"
        )
    yield (
        f"replays: {len(outcome.replays)} of {sum(len(replay.log) for replay in outcome.replays):,} events in "
        f"{sum(replay.responses for replay in outcome.replays)} responses"
    )
    for endpoint, log in outcome.posted.items():
        taken = [each.id for each in log if each.taken]
        yield (
            f"{endpoint.name}: {len(set(taken)):,} events, {len(taken) - len(set(taken)):,} of them again, "
            f"{len(log) - len(taken):,} refused"
        )
    failed_starts = sum(role.failed_starts for role in outcome.roles)
    starts = ", ".join(f"{role.name} {role.starts}" for role in outcome.roles)
    yield f"starts: {starts}; {failed_starts} of them failed while the database was away"
    yield f"findings: {len(outcome.findings) or 'none'}"
    for finding in outcome.findings[:SHOWN]:
        yield f"  {finding}"
    if len(outcome.findings) > SHOWN:
        yield f"  and {len(outcome.findings) - SHOWN} more"


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {times}" for name, times in counts.most_common()) or "none"
