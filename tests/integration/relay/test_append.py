"""The one order: ids over clocks that step, fencing, and that an append happens whole or not at all."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from streamhub.core import frames, ids
from streamhub.core.drafts import Drafts
from streamhub.core.rendering import Rendered
from streamhub.core.rows import EventKind
from streamhub.history.append import Turn, append
from streamhub.history.consumption import Consumption, NotConsumedError
from streamhub.history.head import FencedError
from streamhub.history.notices import Notice, listen
from streamhub.history.partitions import AHEAD, WEEK, Partitions, Week, existing
from streamhub.relay import Relay, Source
from tests.support.history import move_head
from tests.support.stage import Stage, running, until

DAY = 86_400_000
WAITING = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database())"


def drafts(*counts: int, size: int = 10) -> Drafts:
    """So many events of the organization with the key 1, of the one with 2, …"""
    made = Drafts()
    kind = EventKind("create", "skus.create", "skus")
    tail = b',"x":"%b"}' % (b"x" * size)
    for key, count in enumerate(counts, 1):
        served = {f"org_{key}": (key, frames.organization_of(f"org_{key}", f"slug-{key}"))}
        made.add([Rendered(f"org_{key}", False, kind, str(n), b'"%d"' % n, tail) for n in range(count)], served)
    return made


async def nothing(_: Any) -> None:
    pass


async def appended(stage: Stage, events: Drafts, epoch: int = 0, **more: Any) -> Any:
    settings = {"source": "", "counted": {}, "within": nothing, **more}
    return (await append(stage.connection, epoch, events, **settings)).append


async def head(stage: Stage) -> str:
    ((ms, counter),) = await stage.rows("SELECT last_ms, last_counter FROM streamhub_hub.log_head")
    return ids.event_id(ms, counter)


@pytest.mark.parametrize("count", [1, 2, 47, 48, 500])
async def test_ids_are_successive_within_an_append_and_begin_with_a_counter_of_zero(stage: Stage, count: int) -> None:
    done = await appended(stage, drafts(count))
    ms = ids.milliseconds(done.first_id)
    assert [event.id for event in done.events] == ids.event_ids(ms, 0, count)
    assert await head(stage) == done.last_id
    stored = [row[0] for row in await stage.rows("SELECT id::text FROM streamhub_hub.history ORDER BY id")]
    assert stored == [event.id for event in done.events]


async def test_the_time_of_an_id_is_that_of_the_append(stage: Stage) -> None:
    before = await stage.value("SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint")
    done = await appended(stage, drafts(1))
    after = await stage.value("SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint")
    assert before <= ids.milliseconds(done.first_id) <= after


async def test_ids_go_on_from_the_last_one_while_the_clock_is_behind_it(stage: Stage) -> None:
    ahead = int(time.time() * 1000) + 3_600_000
    await move_head(stage.connection, ahead, 41)
    first, second = await appended(stage, drafts(2)), await appended(stage, drafts(3))
    assert [event.id for event in (*first.events, *second.events)] == ids.event_ids(ahead, 42, 5)
    assert (first.previous_head, second.previous_head) == (ids.event_id(ahead, 41), first.last_id)


async def test_an_append_without_events_leaves_the_head_where_it_is(stage: Stage) -> None:
    await appended(stage, drafts(1))
    before = await head(stage)
    assert await appended(stage, drafts()) is None
    assert await head(stage) == before


async def test_a_leader_of_an_older_epoch_appends_and_consumes_nothing(stage: Stage) -> None:
    await stage.sql("UPDATE streamhub_hub.log_epoch SET epoch = 7")
    consumed = False

    async def within(_: Any) -> None:
        nonlocal consumed
        consumed = True

    with pytest.raises(FencedError):
        await appended(stage, drafts(1), epoch=6, within=within)
    assert not consumed
    assert await stage.frames() == []


@pytest.mark.parametrize("count", [2, 200])
async def test_what_fails_within_an_append_undoes_all_of_it(stage: Stage, count: int) -> None:
    async def within(_: Any) -> None:
        raise ConnectionError("cut")

    before = await head(stage)
    with pytest.raises(ConnectionError):
        await appended(stage, drafts(count), within=within, counted=Counter(errors=1))
    assert await stage.frames() == []
    assert (await head(stage), await stage.counters()) == (before, {})


def of_five(last: int, rows: int) -> Consumption:
    """What consumes the first `last` rows of the table `five`, and asks that they be so many."""
    return Consumption("DELETE FROM five WHERE n <= {0}", (last,), rows)


@pytest.fixture
async def five(stage: Stage) -> Stage:
    await stage.sql("CREATE TABLE five AS SELECT n FROM generate_series(1, 5) AS n")
    return stage


async def left(stage: Stage) -> int:
    return int(await stage.value("SELECT count(*) FROM five"))


@pytest.mark.parametrize("count", [2, 200])
async def test_an_append_deletes_what_it_consumes(five: Stage, count: int) -> None:
    await appended(five, drafts(count), within=of_five(3, 3))
    assert (await left(five), len(await five.frames())) == (2, count)


@pytest.mark.parametrize("count", [2, 200])
async def test_an_append_that_finds_not_all_of_what_it_consumes_comes_to_nothing(five: Stage, count: int) -> None:
    with pytest.raises(NotConsumedError):
        await appended(five, drafts(count), within=of_five(3, 4))
    assert (await left(five), await five.frames()) == (5, [])


@pytest.mark.parametrize("count", [2, 200])
async def test_a_leader_of_an_older_epoch_leaves_what_it_would_consume(five: Stage, count: int) -> None:
    await five.sql("UPDATE streamhub_hub.log_epoch SET epoch = 7")
    with pytest.raises(FencedError):
        await appended(five, drafts(count), epoch=6, within=of_five(3, 3))
    assert (await left(five), await five.frames()) == (5, [])


@pytest.mark.parametrize("count", [2, 200])
async def test_a_leader_of_an_older_epoch_learns_that_first_where_another_has_consumed_its_rows(
    five: Stage, count: int
) -> None:
    await five.sql("UPDATE streamhub_hub.log_epoch SET epoch = 7")
    with pytest.raises(FencedError):
        await appended(five, drafts(count), epoch=6, within=of_five(3, 4))


async def test_what_an_append_of_few_counts_is_counted_with_what_it_consumes(five: Stage) -> None:
    await appended(five, drafts(2), within=of_five(3, 3), counted=Counter(errors=1), source="a")
    assert (await left(five), await five.rows("SELECT value FROM streamhub_hub.counters")) == (2, [(1,)])


async def begun_behind_another(stage: Stage, first: Drafts, second: Drafts, within: Any) -> Sequence[Any]:
    """What two appends came to, where the second waits in the database for the first, which ends with `within`."""
    behind = await asyncpg.connect(stage.url)

    async def and_then(connection: Any) -> None:
        await until(lambda: connection.fetchval(WAITING), "the second one waits")
        await within()

    turn = Turn()
    done = await asyncio.gather(
        append(stage.connection, 0, first, source="", counted={}, within=and_then, turn=turn),
        append(behind, 0, second, source="", counted={}, within=nothing, after=turn),
        return_exceptions=True,
    )
    await behind.close()
    return done


@pytest.mark.parametrize("count", [2, 200])
async def test_an_append_that_is_begun_behind_one_that_fails_comes_to_nothing(stage: Stage, count: int) -> None:
    async def within() -> None:
        raise ConnectionError("cut")

    first, second = await begun_behind_another(stage, drafts(200), drafts(count), within)
    assert (type(first), type(second)) == (ConnectionError, asyncio.CancelledError)
    assert await stage.frames() == []


@pytest.mark.parametrize("count", [2, 200])
async def test_an_append_that_is_begun_behind_another_follows_it(stage: Stage, count: int) -> None:
    async def within() -> None:
        pass

    first, second = await begun_behind_another(stage, drafts(200), drafts(count), within)
    assert second.append.previous_head == first.append.last_id
    assert len(await stage.frames()) == 200 + count


async def test_a_row_and_a_copy_of_the_same_event_are_stored_alike(stage: Stage) -> None:
    """Few events are handed to a function, many are copied."""
    few, many = await appended(stage, drafts(3)), await appended(stage, drafts(300))
    columns = "organization, test, resource_key, type, resource_type, resource_id, substring(frame FROM 90)"
    rows = [
        await stage.rows(f"SELECT {columns} FROM streamhub_hub.history WHERE id = ANY($1) ORDER BY id", some)
        for some in ([event.id for event in few.events], [event.id for event in many.events[:3]])
    ]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("count", [3, 300])
async def test_few_events_are_noted_and_told_like_many(stage: Stage, count: int) -> None:
    before = await appended(stage, drafts(1))
    heard: asyncio.Queue[str] = asyncio.Queue()
    listener = await asyncpg.connect(stage.url)
    await listen(listener, lambda *arguments: heard.put_nowait(arguments[3]))
    done = await appended(stage, drafts(1, count - 1), journal=True)
    notice = Notice.parse(await asyncio.wait_for(heard.get(), 10))
    await listener.close()
    assert notice == Notice(before.last_id, done.first_id, done.last_id, frozenset({1, 2}))
    assert await stage.rows(
        "SELECT previous_id::text, last_id::text, organizations, events FROM streamhub_hub.appends"
    ) == [(before.last_id, done.last_id, [1, 2], count)]


@pytest.mark.parametrize("ms", [0, 1_795_000_000_000, ids.MAX_MS])
@pytest.mark.parametrize("counter", [0, 1, 0xFFF, ids.MAX_COUNTER])
async def test_the_database_makes_the_same_id(stage: Stage, ms: int, counter: int) -> None:
    made = await stage.connection.fetchval("SELECT streamhub_hub.event_id($1, $2)::text", ms, counter)
    assert made == ids.event_id(ms, counter)


async def test_large_frames_are_copied_whole(stage: Stage) -> None:
    done = await appended(stage, drafts(60, size=200_000))
    assert await stage.frames() == [event.frame for event in done.events]


async def test_counters_add_up_over_appends(stage: Stage) -> None:
    await appended(stage, drafts(), counted={"errors": 2}, source="a")
    await appended(stage, drafts(), counted={"errors": 3, "too_large": 1}, source="a")
    assert await stage.rows("SELECT name, source, value FROM streamhub_hub.counters ORDER BY name") == [
        ("errors", "a", 5), ("too_large", "a", 1),
    ]  # fmt: skip


async def weeks(stage: Stage) -> list[str]:
    return [week.name for week in await existing(stage.connection)]


@pytest.mark.usefixtures("without_weeks")
async def test_the_week_and_those_ahead_of_it_are_made_in_time(stage: Stage) -> None:
    await stage.shop()
    await stage.sql("INSERT INTO skus VALUES (1, 'org_1', 1, 'a')")
    await stage.relayed()
    this = Week.of(datetime.now(UTC))
    assert await weeks(stage) == [Week.of(this.start + n * WEEK).name for n in range(AHEAD + 1)]
    assert (
        await stage.value("SELECT tableoid::regclass::text FROM streamhub_hub.history") == f"streamhub_hub.{this.name}"
    )


@pytest.mark.parametrize("days", [40, 400])
async def test_a_clock_that_steps_forward_finds_its_week_made(stage: Stage, days: int) -> None:
    """The head stands for the clock: ids go on from the later of the two."""
    await stage.shop()
    ahead = int(time.time() * 1000) + days * DAY
    await move_head(stage.connection, ahead)
    await stage.sql("INSERT INTO skus VALUES (1, 'org_1', 1, 'a')")
    await stage.relayed()
    week = Week.of(ids.datetime_of(ahead)).name
    assert await stage.value("SELECT tableoid::regclass::text FROM streamhub_hub.history") == f"streamhub_hub.{week}"


async def test_a_clock_that_steps_is_told(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await stage.shop()
    monkeypatch.setattr("streamhub.relay.upkeep.TICK", 0.01)
    async with stage.relaying():
        await stage.sql("INSERT INTO skus VALUES (1, 'org_1', 1, 'a')")
        await stage.drained()
        real = time.clock_gettime
        monkeypatch.setattr("streamhub.relay.relay.time.clock_gettime", lambda clock: real(clock) + 120)
        await stage.sql("UPDATE skus SET price = 2")

        async def told() -> bool:
            return bool(await stage.incidents("clock"))

        await until(told, "the step is told")
        monkeypatch.undo()
    told_of = re.search(r"jumped by (\S+) s", (await stage.incidents("clock"))[0])
    assert told_of is not None
    assert float(told_of[1]) == pytest.approx(-120, abs=5)  # what passes between two looks at two clocks is in it


async def test_events_that_fell_into_the_default_partition_move_when_their_week_is_made(stage: Stage) -> None:
    ahead = int(time.time() * 1000) + 100 * DAY
    await move_head(stage.connection, ahead)
    await appended(stage, drafts(3))
    place = "SELECT DISTINCT tableoid::regclass::text FROM streamhub_hub.history"
    assert await stage.value(place) == "streamhub_hub.history_default"
    before = await stage.frames()
    await Partitions(stage.connection).ensure(ahead)
    assert await stage.rows(place) == [(f"streamhub_hub.{Week.of(ids.datetime_of(ahead)).name}",)]
    assert await stage.frames() == before


async def test_every_id_of_a_week_belongs_to_its_partition(stage: Stage) -> None:
    week = Week.of(datetime(2026, 11, 22, tzinfo=UTC))
    await Partitions(stage.connection).ensure(ids.ms_of(week.start))
    edges = [
        ids.event_id(ids.ms_of(week.start), 0), ids.event_id(ids.ms_of(week.end) - 1, ids.MAX_COUNTER),
        ids.event_id(ids.ms_of(week.end), 0),
    ]  # fmt: skip
    for id_ in edges:
        await stage.connection.execute(
            "INSERT INTO streamhub_hub.history VALUES (1, $1, false, 0, 't', NULL, NULL, '')", id_
        )
    places = await stage.rows("SELECT tableoid::regclass::text FROM streamhub_hub.history ORDER BY id")
    following = Week.of(week.end)
    assert places == [(f"streamhub_hub.{name}",) for name in (week.name, week.name, following.name)]


@pytest.mark.usefixtures("without_weeks")
async def test_one_who_cannot_make_the_week_that_another_is_making_finds_it_made_later(stage: Stage) -> None:
    other = await asyncpg.connect(stage.url)
    await other.execute("SET lock_timeout = '100ms'")
    now = int(time.time() * 1000)
    blocked = Partitions(other)
    async with stage.connection.transaction():
        await Partitions(stage.connection).ensure(now)
        with pytest.raises(asyncpg.PostgresError):
            await blocked.ensure(now)
    await blocked.ensure(now)
    assert len(await weeks(stage)) == AHEAD + 1
    await other.close()


async def test_weeks_past_retention_are_dropped_and_no_others(stage: Stage) -> None:
    await stage.shop()
    now = datetime.now(UTC)
    for ago in (70, 21, 8):
        await Partitions(stage.connection).ensure(ids.ms_of(now - timedelta(days=ago)))
    relay = Relay(
        stage.url, [Source("shop", stage.url, in_hub=True)], announce=stage.announced.append,
        retention=timedelta(days=10),
    )  # fmt: skip
    oldest = Week.of(now - timedelta(days=10))
    async with running(relay):

        async def dropped() -> bool:
            return all(week.start >= oldest.start for week in await existing(stage.connection))

        await until(dropped, "what is past retention is dropped")
        await stage.sql("INSERT INTO skus VALUES (1, 'org_1', 1, 'a')")
        await stage.drained()
    assert (await weeks(stage))[0] == oldest.name


async def test_the_outbox_does_not_grow_with_the_changes_that_pass_through_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamhub.relay.upkeep.VACUUM_EVERY", 0.05)
    monkeypatch.setattr("streamhub.relay.upkeep.VACUUM_FROM", 1)
    await stage.shop()
    await stage.sql("INSERT INTO skus SELECT i, 'org_1', 0, repeat('x', 300) FROM generate_series(1, 1000) AS i")
    size = "SELECT pg_total_relation_size('streamhub.outbox')"
    async with stage.relaying():
        await stage.drained()
        largest = 0
        for _ in range(15):
            vacuumed = await stage.value(
                "SELECT vacuum_count FROM pg_stat_user_tables WHERE relid = 'streamhub.outbox'::regclass"
            )
            await stage.sql("UPDATE skus SET price = price + 1")
            await stage.drained()
            largest = max(largest, await stage.value(size))

            async def vacuumed_again(before: int = vacuumed) -> bool:
                await stage.sql("SELECT pg_stat_clear_snapshot()")
                return bool(
                    await stage.value(
                        "SELECT vacuum_count > $1 FROM pg_stat_user_tables WHERE relid = 'streamhub.outbox'::regclass",
                        before,
                    )
                )

            await until(vacuumed_again, "the outbox is vacuumed")
    assert largest < 6_000_000  # one round of a thousand changes takes about 1.3 MB
