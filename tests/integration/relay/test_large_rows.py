"""What a read of the outbox holds in memory, and that large rows among small ones change nothing else."""

from collections.abc import Sequence

import pytest

from streamhub.core.changes import Change
from streamhub.relay.outbox import MOST_BYTES, SMALL, SMALL_WHO, Outbox, Ranges, delete
from streamhub.relay.source import BATCH
from tests.support.stage import Stage, kinds

pytestmark = pytest.mark.runs_once

ROWS = "INSERT INTO skus SELECT i, 'org_1', i, repeat(md5(i::text), {repeated}) FROM generate_series(1, {count}) AS i"


async def consumed(outbox: Outbox, stage: Stage) -> list[list[Change]]:
    """What each read gave, until there was nothing more."""
    hub = await stage.claimed()
    reads = []
    while True:
        changes, more = await outbox.read()
        reads.append(changes)
        if changes:
            await delete(stage.connection, Ranges.of(change.seq for change in changes), len(changes), hub)
        if not more:
            return reads


def octets(changes: Sequence[Change]) -> int:
    return sum(
        len(text.encode()) for change in changes for text in (change.old_row, change.new_row, change.who) if text
    )


@pytest.mark.parametrize("repeated", [300, 40_000])
async def test_a_read_holds_a_bounded_number_of_bytes_and_the_next_one_goes_on(stage: Stage, repeated: int) -> None:
    await stage.shop()
    count = 3 * MOST_BYTES // (repeated * 32) // 2
    await stage.sql(ROWS.format(count=count, repeated=repeated))
    reads = await consumed(Outbox(stage.connection, 20_000), stage)
    assert [change.seq for changes in reads for change in changes] == sorted(
        change.seq for changes in reads for change in changes
    )
    assert sum(map(len, reads)) == count
    assert MOST_BYTES / 2 < max(map(octets, reads)) < MOST_BYTES + 2 * 32 * repeated


@pytest.mark.parametrize("statement", ["UPDATE skus SET note = {}", "DELETE FROM skus", "UPDATE skus SET price = 0"])
@pytest.mark.parametrize("large", [(1,), (2,), (3,), (1, 2, 3)])
async def test_a_change_with_a_large_row_on_either_side_comes_whole_and_in_its_place(
    stage: Stage, statement: str, large: tuple[int, ...]
) -> None:
    await stage.shop()
    long = f"CASE WHEN id = ANY (ARRAY{list(large)}) THEN repeat('é', {SMALL}) ELSE 'short' END"
    await stage.sql(f"INSERT INTO skus SELECT id, 'org_1', 1, {long} FROM generate_series(1, 3) AS id")
    await stage.sql(statement.format("'short again ' || id"), statement.format(long))
    events = await stage.relayed()
    assert [one for kind, one in kinds(events) if kind == "create"] == ["1", "2", "3"]
    notes = [event["resource"]["note"] for event in events[:3]]
    assert notes == ["é" * SMALL if id_ in large else "short" for id_ in (1, 2, 3)]
    changed = [(kind, one) for kind, one in kinds(events[3:]) if kind != "create"]
    kind = "destroy" if statement.startswith("DELETE") else "update"
    rounds = 2 if "{}" in statement else 1
    assert changed == [(kind, one) for _ in range(rounds) for one in ("1", "2", "3")]


async def test_after_large_rows_small_ones_come_in_one_read_again(stage: Stage) -> None:
    await stage.shop()
    outbox = Outbox(stage.connection, 100)
    await stage.sql(ROWS.format(count=3, repeated=1000))
    await consumed(outbox, stage)
    await stage.sql("UPDATE skus SET note = 'short'", "DELETE FROM skus")
    reads = await consumed(outbox, stage)
    assert [len(changes) for changes in reads] == [6]
    assert [change.new_row is None for change in reads[0]] == [False] * 3 + [True] * 3


@pytest.mark.parametrize("kilobytes", [3, 256])
async def test_what_the_application_tells_of_itself_counts_in_the_bytes_of_a_read(stage: Stage, kilobytes: int) -> None:
    await stage.shop()
    count = 3 * MOST_BYTES // (kilobytes * 1024) // 2
    await stage.sql(
        f"BEGIN; SELECT set_config('streamhub.who', repeat('x', {kilobytes} * 1024), true); "
        f"INSERT INTO skus SELECT i, 'org_1', 0, 'a' FROM generate_series(1, {count}) AS i; COMMIT"
    )
    reads = await consumed(Outbox(stage.connection, 20_000), stage)
    assert sum(map(len, reads)) == count
    assert {len(change.who or "") for changes in reads for change in changes} == {kilobytes * 1024}
    assert max(map(octets, reads)) < MOST_BYTES + 2 * 1024 * kilobytes


async def test_a_read_of_small_texts_never_holds_more_than_its_bytes(stage: Stage) -> None:
    assert BATCH * (2 * SMALL + SMALL_WHO) <= MOST_BYTES


@pytest.mark.parametrize("size", [0, 1, SMALL_WHO, SMALL_WHO + 1])
async def test_who_comes_whole_whatever_its_size(stage: Stage, size: int) -> None:
    await stage.shop()
    await stage.sql(
        f"BEGIN; SELECT set_config('streamhub.who', repeat('y', {size}), true); "
        "INSERT INTO skus VALUES (1, 'org_1', 0, 'a'); COMMIT",
        "INSERT INTO skus VALUES (2, 'org_1', 0, 'a')",
    )
    assert [event["who"] for event in await stage.relayed()] == ["y" * size or None, None]


async def test_a_row_that_brings_many_large_ones_along_is_read_alone(stage: Stage) -> None:
    """What must come first counts in the bytes of a read too, as far as it can be put off."""
    each, count = 1024 * 1024, 60
    await stage.connection.executemany(
        "INSERT INTO streamhub.outbox (seq, xid, origin, old_ctid, new_ctid, chained, new_row) "
        "VALUES ($1, '100', '1:1:1:4:', $2, $3, $4, repeat('x', $5))",
        [(n, (n, 1), (n, 2), True, 10) for n in range(1, count + 1)]
        + [(count + n, None, (n, 1), False, each) for n in range(1, count + 1)],
    )
    reads = await consumed(Outbox(stage.connection, count), stage)
    assert [change.seq for changes in reads for change in changes] == [
        seq for n in range(1, count + 1) for seq in (count + n, n)
    ]
    assert max(map(octets, reads)) < MOST_BYTES + 2 * each
