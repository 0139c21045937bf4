"""A read that cuts transactions gives the order that one whole read gives, and looks ahead seldom."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamhub.core.changes import Change
from streamhub.relay.lookahead import Lookahead
from streamhub.relay.outbox import Outbox, Ranges, delete
from tests.support.stage import Stage

pytestmark = pytest.mark.runs_once

INSERT = (
    "INSERT INTO streamhub.outbox (seq, xid, origin, old_ctid, new_ctid, chained, new_row) "
    "VALUES ($1, $2, $3, $4, $5, $6, $7)"
)


async def read_in_pieces(stage: Stage, most: int) -> list[list[Change]]:
    """What a relay gets that reads the next rows while the ones before are in hand, and consumes those then."""
    hub = await stage.claimed()
    outbox = Outbox(stage.connection, most)
    reads: list[list[Change]] = []
    while True:
        hand = Ranges.of(change.seq for change in reads[-1]) if reads else None
        changes, more = await outbox.read(hand)
        if hand is not None:
            await delete(stage.connection, hand, len(reads[-1]), hub)
        if not changes:
            assert not more
            return reads
        reads.append(changes)


@st.composite
def captured(draw: st.DrawFn) -> list[tuple[Any, ...]]:
    """Rows of the outbox as nested triggers leave them: chains of versions, of some transactions, captured in any
    order; the first version of some was made by another transaction, also one with a higher id."""
    chains = []
    place = 0
    for _ in range(draw(st.integers(1, 6))):
        xid = 100 + draw(st.integers(0, 2))
        first = draw(st.sampled_from(["inserted", "was there", "made by another"]))
        versions: list[tuple[int, int] | None] = []
        for _ in range(draw(st.integers(2, 5))):
            place += 1
            versions.append((0, place))
        if first == "inserted":
            versions.insert(0, None)
        if draw(st.booleans()):
            versions.append(None)
        for n, (old, new) in enumerate(pairwise(versions)):
            chains.append((xid, old, new, old is not None and (n > 0 or first == "made by another")))
    order = draw(st.permutations(range(len(chains))))
    gaps = draw(st.lists(st.integers(1, 3), min_size=len(chains), max_size=len(chains)))
    rows, seq = [], 0
    for i, gap in zip(order, gaps, strict=True):
        seq += gap
        xid, old, new, chained = chains[i]
        rows.append((seq, xid, "1:1:1:4:", old, new, chained, "{}"))
    return rows


@settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=captured(), most=st.integers(1, 8), late=st.sampled_from([1, 2, 100_000]))
async def test_any_cut_gives_each_version_behind_its_maker_and_every_row_once(
    stage: Stage, rows: list[tuple[Any, ...]], most: int, late: int
) -> None:
    await stage.sql("TRUNCATE streamhub.outbox")
    await stage.connection.executemany(INSERT, rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streamhub.relay.lookahead.MOST_LATE", late)
        reads = await read_in_pieces(stage, most)
    order = [change.seq for changes in reads for change in changes]
    assert sorted(order) == [row[0] for row in rows]
    made = {(xid, new): seq for seq, xid, _, _, new, _, _ in rows if new is not None}
    for seq, xid, _, old, _, chained, _ in rows:
        if chained and (xid, old) in made:
            assert order.index(made[xid, old]) < order.index(seq)


@settings(max_examples=30, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=captured(), most=st.integers(1, 8))
async def test_any_cut_gives_the_order_of_one_whole_read_for_each_row_of_a_table(
    stage: Stage, rows: list[tuple[Any, ...]], most: int
) -> None:
    await stage.sql("TRUNCATE streamhub.outbox")
    await stage.connection.executemany(INSERT, rows)
    (whole,) = await read_in_pieces(stage, 2_000)
    await stage.connection.executemany(INSERT, rows)
    cut = [change for changes in await read_in_pieces(stage, most) for change in changes]
    chain_of = dict(chains_of(rows))
    for chain in set(chain_of.values()):
        assert [c.seq for c in cut if chain_of[c.seq] == chain] == [c.seq for c in whole if chain_of[c.seq] == chain]


def chains_of(rows: list[tuple[Any, ...]]) -> Iterator[tuple[int, int]]:
    """(number, number of its chain's first row): one row of the table each."""
    maker = {(xid, new): seq for seq, xid, _, _, new, _, _ in rows if new is not None}
    before = {seq: maker.get((xid, old)) for seq, xid, _, old, _, _, _ in rows}
    for seq in before:
        first = seq
        while (earlier := before[first]) is not None:
            first = earlier
        yield seq, first


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    made: list[int] = []
    looked = Lookahead._looked

    async def counting(self: Lookahead, since: int) -> Any:
        made.append(since)
        return await looked(self, since)

    monkeypatch.setattr(Lookahead, "_looked", counting)
    return made


async def test_transactions_that_are_cut_cost_no_look_where_what_they_replace_was_consumed_before(
    stage: Stage, looks: list[int]
) -> None:
    await stage.shop()
    for id_ in range(30):
        await stage.sql(
            f"BEGIN; INSERT INTO skus VALUES ({id_}, 'org_1', 0, 'a'); UPDATE skus SET price = 1 WHERE id = {id_}; "
            f"UPDATE skus SET price = 2 WHERE id = {id_}; COMMIT"
        )
    reads = await read_in_pieces(stage, 4)
    assert sum(map(len, reads)) == 90
    assert not looks


async def test_versions_that_a_transaction_with_a_higher_id_made_cost_one_look_at_most(
    stage: Stage, looks: list[int]
) -> None:
    await stage.shop()
    await stage.sql("INSERT INTO skus SELECT i, 'org_1', 0, 'a' FROM generate_series(1, 50) AS i")
    await stage.sql("TRUNCATE streamhub.outbox")
    older = await asyncpg.connect(stage.url)
    transaction = older.transaction()
    await transaction.start()
    await older.execute("SELECT pg_current_xact_id()")
    await stage.sql("UPDATE skus SET price = 1")
    await older.execute("UPDATE skus SET price = 2")
    await transaction.commit()
    await older.close()
    assert await stage.value("SELECT count(*) FROM streamhub.outbox WHERE chained") == 50
    reads = await read_in_pieces(stage, 7)
    assert sum(map(len, reads)) == 100
    assert len(looks) <= 1  # reads without any such change are not remembered, which keeps them cheap


async def test_one_look_is_enough_for_all_transactions_that_it_saw(stage: Stage, looks: list[int]) -> None:
    """Each has its changes in reverse order, and each read cuts one."""
    rows = []
    for n in range(200):
        seq, xid = 3 * n, 100 + n
        rows += [
            (seq + 1, xid, "1:1:1:4:", (n, 2), (n, 3), True, "{}"),
            (seq + 2, xid, "1:1:1:4:", (n, 1), (n, 2), True, "{}"),
            (seq + 3, xid, "1:1:1:4:", None, (n, 1), False, "{}"),
        ]
    await stage.connection.executemany(INSERT, rows)
    reads = await read_in_pieces(stage, 10)
    assert [c.seq for changes in reads for c in changes] == [3 * n + i for n in range(200) for i in (3, 2, 1)]
    assert len(looks) == 1
