"""Pages of history: what is in them, how large they get, and by which plan PostgreSQL finds it."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from streamhub.core import ids
from streamhub.core.events import StoredEvent
from streamhub.history.partitions import Partitions, Week
from streamhub.history.reader import PAGE_BYTES, PAGE_ROWS, SMALL, Reader, Selection, _page_query
from tests.support.database import Pool
from tests.support.history import insert


def frame(id_: str, size: int) -> bytes:
    return b"event: update\nid: %s\ndata: %s\n\n" % (id_.encode(), b"x" * size)


async def fill(pool: Pool, events: list[tuple[int, str, bool, str, str, int]]) -> list[str]:
    """(organization, id, test, type, resource id, size) each."""
    records = [
        StoredEvent(key, id_, test, f"{kind}.update", kind, one, frame(id_, size))
        for key, id_, test, kind, one, size in events
    ]
    async with pool.acquire() as connection:
        await insert(connection, records)
    return [record.id for record in records]


def made(count: int, *, size: int = 10, organization: int = 1) -> list[tuple[int, str, bool, str, str, int]]:
    return [(organization, ids.event_id(n + 1, 0), False, "skus", f"s{n}", size) for n in range(count)]


async def test_a_page_holds_what_is_after_one_id_and_up_to_another(pool: Pool) -> None:
    new = await fill(pool, made(10))
    page = await Reader(pool).page(Selection(1), new[2], new[6])
    assert page.frames == b"".join(frame(each, 10) for each in new[3:7])
    assert (page.events, page.first_id, page.last_id, page.read_to, page.complete) == (4, new[3], new[6], new[6], True)


async def test_an_empty_page_is_complete_and_has_read_to_the_end_asked_for(pool: Pool) -> None:
    page = await Reader(pool).page(Selection(1), ids.MIN_ID, ids.MAX_ID)
    assert page == (b"", 0, None, None, ids.MAX_ID, True)


async def test_a_page_has_a_bound_in_rows(pool: Pool) -> None:
    new = await fill(pool, made(PAGE_ROWS + 1))
    page = await Reader(pool).page(Selection(1), ids.MIN_ID, ids.MAX_ID)
    assert (page.events, page.read_to, page.complete) == (PAGE_ROWS, new[PAGE_ROWS - 1], False)


async def test_a_page_that_is_full_to_the_row_is_followed_by_an_empty_one(pool: Pool) -> None:
    await fill(pool, made(PAGE_ROWS))
    pages = [page.events async for page in Reader(pool).pages(Selection(1), ids.MIN_ID, ids.MAX_ID)]
    assert pages == [PAGE_ROWS, 0]


async def test_a_page_never_exceeds_its_bound_in_bytes_by_more_than_one_frame(pool: Pool) -> None:
    await fill(pool, made(100, size=30_000))
    page = await Reader(pool).page(Selection(1), ids.MIN_ID, ids.MAX_ID)
    assert PAGE_BYTES <= len(page.frames) < PAGE_BYTES + 31_000
    assert not page.complete


async def test_frames_of_16_mib_come_one_a_page(pool: Pool) -> None:
    await fill(pool, made(3, size=16 * 2**20 - 100))
    pages = [page.events async for page in Reader(pool).pages(Selection(1), ids.MIN_ID, ids.MAX_ID)]
    assert pages == [1, 1, 1]


async def test_all_pages_together_are_everything_once(pool: Pool) -> None:
    new = await fill(pool, made(5_000, size=700))
    frames = b"".join([page.frames async for page in Reader(pool).pages(Selection(1), new[9], new[-10])])
    assert frames == b"".join(frame(each, 700) for each in new[10:-9])


@pytest.mark.parametrize("large", [{2_000}, {1_600, 3_100}, {*range(1_500, 1_700)}, {*range(0, 5_000, 400)}])
async def test_large_frames_among_small_ones_come_in_their_places(pool: Pool, large: set[int]) -> None:
    sizes = [40_000 if n in large else 100 for n in range(5_000)]
    new = await fill(pool, [(*event[:5], size) for event, size in zip(made(5_000), sizes, strict=True)])
    pages = [page async for page in Reader(pool).pages(Selection(1), ids.MIN_ID, ids.MAX_ID)]
    assert b"".join(page.frames for page in pages) == b"".join(map(frame, new, sizes))
    assert sum(page.events for page in pages) == 5_000


async def test_pages_of_small_frames_stay_about_their_bound_in_bytes(pool: Pool) -> None:
    await fill(pool, made(5_000, size=1_500))
    pages = [page async for page in Reader(pool).pages(Selection(1), ids.MIN_ID, ids.MAX_ID, 200_000)]
    assert max(len(page.frames) for page in pages) < 202_000
    assert len(pages) < 80


async def test_frames_that_grow_within_a_walk_never_make_a_page_of_more_than_three_megabytes(pool: Pool) -> None:
    await fill(pool, [*made(2_000, size=10), *made(4_000, size=1_900)[2_000:]])
    pages = [page async for page in Reader(pool).pages(Selection(1), ids.MIN_ID, ids.MAX_ID)]
    assert max(len(page.frames) for page in pages) <= PAGE_ROWS * SMALL
    assert sum(page.events for page in pages) == 4_000


async def test_leaving_in_the_middle_of_pages_gives_the_connection_back(pool: Pool) -> None:
    await fill(pool, made(5_000, size=700))
    for _ in range(20):
        pages = Reader(pool).pages(Selection(1), ids.MIN_ID, ids.MAX_ID)
        await anext(pages)
        await pages.aclose()
    assert pool.get_size() - pool.get_idle_size() == 0


@pytest.mark.parametrize(
    ("selection", "wanted"),
    [
        (Selection(1), "abcdef"),
        (Selection(2), "g"),
        (Selection(1, test=True), "ce"),
        (Selection(1, test=False), "abdf"),
        (Selection(1, resource_type="orders"), "bcf"),
        (Selection(1, test=False, resource_type="orders"), "bf"),
        (Selection(1, None, "orders", ["2"]), "cf"),
        (Selection(1, None, "orders", ["1", "2"]), "bcf"),
        (Selection(1, True, "orders", ["1", "2"]), "c"),
        (Selection(1, None, "nothing", ["1"]), ""),
    ],
)
async def test_a_selection_brings_what_it_names(pool: Pool, selection: Selection, wanted: str) -> None:
    table = {
        "a": (1, False, "skus", "1"), "b": (1, False, "orders", "1"), "c": (1, True, "orders", "2"),
        "d": (1, False, "skus", "2"), "e": (1, True, "skus", "3"), "f": (1, False, "orders", "2"),
        "g": (2, False, "orders", "2"),
    }  # fmt: skip
    names = dict(zip((ids.event_id(n + 1, 0) for n in range(7)), table, strict=True))
    await fill(pool, [(table[name][0], id_, *table[name][1:], 10) for id_, name in names.items()])
    found = [page.frames async for page in Reader(pool).pages(selection, ids.MIN_ID, ids.MAX_ID)]
    assert b"".join(found) == b"".join(frame(id_, 10) for id_, name in names.items() if name in wanted)


async def test_a_collision_of_resource_keys_shows_nothing(pool: Pool) -> None:
    (mine,) = await fill(pool, made(1))
    await pool.execute(
        "INSERT INTO streamhub_hub.history "
        "SELECT organization, $1, test, resource_key, type, resource_type, 'other', frame FROM streamhub_hub.history",
        ids.event_id(99, 0),
    )
    page = await Reader(pool).page(Selection(1, None, "skus", ["s0"]), ids.MIN_ID, ids.MAX_ID)
    assert (page.events, page.last_id) == (1, mine)


async def test_by_ids_partitions_and_what_lies_outside_them_come_in_time_order(
    pool: Pool, connection: "asyncpg.Connection[Any]"
) -> None:
    monday = Week.of(datetime(2026, 11, 22, tzinfo=UTC)).start
    await Partitions(connection).ensure(ids.ms_of(monday))
    days = [timedelta(days=d) for d in (-400, -1, 0, 6, 7, 20, 400)]
    events = [(1, ids.event_id(ids.ms_of(monday + day), 5), False, "skus", "one", 10) for day in days]
    new = await fill(pool, events)
    pages = [page async for page in Reader(pool).pages(Selection(1, None, "skus", ["one"]), ids.MIN_ID, ids.MAX_ID)]
    assert [page.first_id for page in pages if page.events] == [new[0], new[2], new[4], new[5], new[6]]
    assert b"".join(page.frames for page in pages) == b"".join(frame(each, 10) for each in new)


# -- plans


@pytest.fixture
async def grown(pool: Pool, connection: "asyncpg.Connection[Any]") -> Pool:
    """Four weeks of a hub with two organizations, analyzed."""
    monday = ids.ms_of(Week.of(datetime(2026, 11, 22, tzinfo=UTC)).start)
    await Partitions(connection).ensure(monday)
    step = 28 * 86_400_000 // 20_000
    events = [
        (1 + n % 2, ids.event_id(monday + n * step, 0), n % 7 == 0, ("skus", "orders")[n % 3 == 0], f"r{n % 2000}", 200)
        for n in range(20_000)
    ]
    await fill(pool, events)
    await connection.execute("VACUUM ANALYZE streamhub_hub.history")
    return pool


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


async def plan_of(pool: Pool, selection: Selection, *, generic: bool) -> list[dict[str, Any]]:
    """The nodes of the plan for one page of a day in the second week."""
    start = Week.of(datetime(2026, 11, 22, tzinfo=UTC)).start + timedelta(days=9)
    bounds = [ids.first_id_of(ids.ms_of(start + timedelta(days=d))) for d in (0, 1)]
    query, arguments = _page_query(selection, bounds[0], bounds[1], PAGE_BYTES, PAGE_ROWS)
    async with pool.acquire() as connection:
        await connection.execute(f"SET plan_cache_mode = force_{'generic' if generic else 'custom'}_plan")
        rows = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", *arguments)
    return list(nodes(json.loads(rows)[0]["Plan"]))


@pytest.mark.parametrize("generic", [True, False])
@pytest.mark.parametrize(
    ("selection", "index"),
    [
        (Selection(1), "pkey"),
        (Selection(1, False), "pkey"),
        (Selection(1, False, "skus"), "pkey"),
        (Selection(1, False, "skus", ["r1", "r77", "r1999"]), "resource_key"),
    ],
)
async def test_a_page_is_an_index_range_scan_of_its_week_alone(
    grown: Pool, selection: Selection, index: str, generic: bool
) -> None:
    plan = await plan_of(grown, selection, generic=generic)
    scans = [node for node in plan if node.get("Relation Name") and node["Actual Loops"]]
    kept = [node for node in scans if node["Relation Name"] != "history_default"]
    assert {node["Relation Name"] for node in kept} == {"history_2026w48"}
    assert {node["Node Type"] for node in kept} <= {"Index Scan", "Bitmap Heap Scan"}
    used = [node["Index Name"] for node in plan if "Index Name" in node and "w48" in node["Index Name"]]
    assert used
    assert all(index in name for name in used)
