"""Which column is it, across partitions that come and go: no value goes to another organization, none that is excluded out.

Every value carries its own marker: whatever a column is called, a secret begins with SECRET, and an organization's id says
whose the row is. So what leaked is seen in the frames, and where a row belongs in the row itself.
"""  # noqa: E501

import json
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamhub import capture
from streamhub.capture import CaptureSpec, faults
from tests.support.stage import Event, Stage, kinds, one, running

COLUMNS = ("id int NOT NULL", "organization_id text", "buyer text", "secret text", "v int")
ROOT = f"CREATE TABLE {{name}} ({', '.join(COLUMNS)}, PRIMARY KEY (id)) PARTITION BY RANGE (id)"


def table(name: str, seed: int = 0) -> str:
    """The same columns in another order, with dropped ones in between."""
    chance = random.Random(seed)
    columns = list(COLUMNS)
    if seed:
        chance.shuffle(columns)
    drops = []
    for number in range(chance.randint(1, 3) if seed else 0):
        columns.insert(chance.randint(0, len(columns)), f"gone_{number} text DEFAULT 'gone'")
        drops.append(f"DROP gone_{number}")
    statements = [f"CREATE TABLE {name} ({', '.join(columns)}, PRIMARY KEY (id))"]
    if drops:
        statements.append(f"ALTER TABLE {name} {', '.join(drops)}")
    return "; ".join(statements)


def row(id_: int, organization: str = "acme", into: str = "root") -> str:
    return (
        f"INSERT INTO {into} (id, organization_id, buyer, secret, v) "
        f"VALUES ({id_}, '{organization}', 'globex', 'SECRET-{organization}', 7)"
    )


async def captured(stage: Stage, name: str = "root", **more: Any) -> None:
    spec = CaptureSpec(name, name, organization_column="organization_id", exclude=["secret"], **more)
    await capture.add(stage.connection, spec)


async def leaked(stage: Stage) -> list[bytes]:
    return [frame for frame in await stage.frames() if b"SECRET" in frame]


def whole(id_: int) -> dict[str, Any]:
    return {"id": id_, "organization_id": "acme", "buyer": "globex", "v": 7}


def is_right(event: Event) -> bool:
    """Its organization is the row's, and its values are, or it has none and says why."""
    return event["organization"]["id"] == "acme" and (
        "error" in event or event["resource"] == whole(int(event["resource_id"]))
    )


SEEDS = pytest.mark.parametrize("seed", [0, 1])
RELAYS = pytest.mark.parametrize("beside", [True, False], ids=["relay runs", "relay comes late"])


async def events_of(stage: Stage, beside: bool, *steps: str) -> list[Event]:
    """Do the steps, with a relay that takes each one in or one that comes when all is done."""
    if not beside:
        await stage.sql(*steps)
        return await stage.relayed()
    async with stage.relaying():
        for step in steps:
            await stage.sql(step)
            await stage.drained()
    return await stage.new_events()


@RELAYS
@SEEDS
async def test_a_table_that_is_attached_is_captured_as_part_of_the_root(stage: Stage, seed: int, beside: bool) -> None:
    await stage.sql(ROOT.format(name="root"), table("leaf", seed), row(1, into="leaf"))
    await captured(stage)
    events = await events_of(
        stage, beside,
        "ALTER TABLE root ATTACH PARTITION leaf FOR VALUES FROM (0) TO (100)", row(2), row(3, into="leaf"),
        "UPDATE root SET v = 7, buyer = 'globex' WHERE id = 1", "DELETE FROM leaf WHERE id = 2",
    )  # fmt: skip
    assert [event["event"] for event in events] == ["create", "create", "destroy"]
    assert [event["resource"] for event in events] == [whole(2), whole(3), whole(2)]
    assert {event["organization"]["id"] for event in events} == {"acme"}
    assert await leaked(stage) == []


@RELAYS
@SEEDS
async def test_a_captured_table_whose_root_is_attached_above_it_goes_on(stage: Stage, seed: int, beside: bool) -> None:
    """The usual way to partition a table that is in use."""
    await stage.sql(table("inv", seed))
    await captured(stage, "inv")
    events = await events_of(
        stage, beside, row(1, into="inv"),
        "BEGIN; ALTER TABLE inv RENAME TO inv_old; CREATE TABLE inv (LIKE inv_old INCLUDING ALL) PARTITION BY RANGE (id); "  # noqa: E501
        "ALTER TABLE inv ATTACH PARTITION inv_old FOR VALUES FROM (0) TO (1000); COMMIT",
        row(2, into="inv"),
    )  # fmt: skip
    assert [event["resource"] for event in events] == [whole(1), whole(2)]
    assert {event["organization"]["id"] for event in events} == {"acme"}
    assert await leaked(stage) == []


@RELAYS
@SEEDS
async def test_a_captured_table_that_gave_way_to_a_partitioned_one_is_told(
    stage: Stage, seed: int, beside: bool
) -> None:
    await stage.sql(table("inv", seed))
    await captured(stage, "inv")
    await events_of(
        stage, beside,
        "BEGIN; ALTER TABLE inv RENAME TO inv_old; CREATE TABLE inv (LIKE inv_old INCLUDING ALL) PARTITION BY RANGE (id); "  # noqa: E501
        "ALTER TABLE inv ATTACH PARTITION inv_old FOR VALUES FROM (0) TO (1000); "
        "CREATE TABLE inv_new PARTITION OF inv FOR VALUES FROM (1000) TO (2000); COMMIT",
    )  # fmt: skip
    found = await faults(stage.connection)
    assert found
    for fault in found:
        if fault.fix is not None:
            await capture.fix(stage.connection, fault)
    assert await faults(stage.connection) == []
    events = await events_of(stage, beside, row(2, into="inv"), row(1500, into="inv"), "TRUNCATE inv")
    assert sorted(kinds(events)) == [("create", "1500"), ("create", "2"), ("destroy", "1500"), ("destroy", "2")]
    assert all(map(is_right, events))
    assert await leaked(stage) == []


@RELAYS
@SEEDS
async def test_the_example_of_a_capture_that_is_removed_and_added_again_at_the_root(
    stage: Stage, seed: int, beside: bool
) -> None:
    await stage.sql(table("inv", seed))
    await captured(stage, "inv")
    await stage.sql(row(1, into="inv"))
    await capture.remove(stage.connection, "inv")
    await stage.sql(
        "BEGIN; ALTER TABLE inv RENAME TO inv_old; CREATE TABLE inv (LIKE inv_old INCLUDING ALL) PARTITION BY RANGE (id); "  # noqa: E501
        "ALTER TABLE inv ATTACH PARTITION inv_old FOR VALUES FROM (0) TO (1000); COMMIT",
    )  # fmt: skip
    await captured(stage, "inv")
    events = await events_of(stage, beside, row(2, into="inv"), "UPDATE inv SET v = 8 WHERE id = 1", "TRUNCATE inv")
    assert sorted(kinds(events)) == [
        ("create", "1"), ("create", "2"), ("destroy", "1"), ("destroy", "2"), ("update", "1"),
    ]  # fmt: skip
    assert {event["organization"]["id"] for event in events} == {"acme"}
    assert [event for event in events if "error" in event] == []
    assert await leaked(stage) == []


SWAPS = (
    ("buyer", "organization_id"), ("secret", "buyer"), ("secret", "organization_id"), ("id", "v"), ("v", "secret"),
)  # fmt: skip


def swap(name: str, left: str, right: str) -> str:
    return (
        f"ALTER TABLE {name} RENAME {left} TO between; ALTER TABLE {name} RENAME {right} TO {left}; "
        f"ALTER TABLE {name} RENAME between TO {right}"
    )


@RELAYS
@pytest.mark.parametrize("side", ["root", "leaf"])
@pytest.mark.parametrize(("left", "right"), SWAPS[:3])
async def test_columns_that_are_swapped_while_a_partition_is_detached_leak_nothing(
    stage: Stage, left: str, right: str, side: str, beside: bool
) -> None:
    await stage.sql(ROOT.format(name="root"), table("leaf", 1))
    await captured(stage)
    attach = "ALTER TABLE root ATTACH PARTITION leaf FOR VALUES FROM (0) TO (100)"
    events = await events_of(
        stage, beside, attach, row(1), "ALTER TABLE root DETACH PARTITION leaf", swap(side, left, right),
    )  # fmt: skip
    if beside:
        assert kinds(events) == [("create", "1")]
    else:  # the columns cannot be identified, and an incident says so
        assert len(events) + (await stage.counters()).get("unattributable", 0) == 1
        assert len(events) + len(await stage.incidents("poison")) == 1
    assert all(map(is_right, events))
    assert await leaked(stage) == []


@RELAYS
async def test_a_partition_that_is_detached_and_captured_alone_has_its_own_columns(stage: Stage, beside: bool) -> None:
    await stage.sql(
        ROOT.format(name="root"), table("leaf", 2), "ALTER TABLE root ATTACH PARTITION leaf FOR VALUES FROM (0) TO (100)"  # noqa: E501
    )  # fmt: skip
    await captured(stage)
    first = await events_of(stage, beside, row(1), "ALTER TABLE root DETACH PARTITION leaf", row(2, into="leaf"))
    assert kinds(first) == [("create", "1")]
    await captured(stage, "leaf")
    events = await events_of(stage, beside, row(3, into="leaf"), "TRUNCATE leaf")
    assert sorted(kinds(events)) == [
        ("create", "3"), ("destroy", "1"), ("destroy", "2"), ("destroy", "3"),
    ]  # fmt: skip
    assert [event for event in events if not is_right(event)] == []
    assert await leaked(stage) == []


@RELAYS
@SEEDS
async def test_a_captured_table_that_is_attached_to_a_captured_root_is_captured_by_both(
    stage: Stage, seed: int, beside: bool
) -> None:
    await stage.sql(ROOT.format(name="root"), table("leaf", seed))
    await captured(stage)
    await captured(stage, "leaf")
    events = await events_of(
        stage, beside, "ALTER TABLE root ATTACH PARTITION leaf FOR VALUES FROM (0) TO (100)", row(1), "TRUNCATE root",
    )  # fmt: skip
    assert [event for event in events if not is_right(event)] == []
    assert [(e["event"], e["resource_id"]) for e in events if e["resource_type"] == "root"][:1] == [("create", "1")]
    assert [(e["event"], e["resource_id"]) for e in events if e["resource_type"] == "leaf"] == [
        ("create", "1"), ("destroy", "1"),
    ]  # fmt: skip
    assert await leaked(stage) == []


@RELAYS
@SEEDS
async def test_a_partitioned_table_that_is_captured_and_then_attached_goes_on(
    stage: Stage, seed: int, beside: bool
) -> None:
    await stage.sql(
        ROOT.format(name="root"), ROOT.format(name="sub"), table("leaf", seed),
        "ALTER TABLE sub ATTACH PARTITION leaf FOR VALUES FROM (0) TO (50)",
    )  # fmt: skip
    await captured(stage, "sub")
    events = await events_of(
        stage, beside, row(1, into="sub"), "ALTER TABLE root ATTACH PARTITION sub FOR VALUES FROM (0) TO (100)", row(2),
        "TRUNCATE leaf",
    )  # fmt: skip
    assert kinds(events) == [("create", "1"), ("create", "2"), ("destroy", "1"), ("destroy", "2")]
    assert [event["resource"] for event in events] == [whole(1), whole(2), whole(1), whole(2)]
    assert await leaked(stage) == []


@RELAYS
async def test_a_leaf_that_replaces_another_under_its_name_has_its_own_columns(stage: Stage, beside: bool) -> None:
    await stage.sql(
        ROOT.format(name="root"), table("leaf", 1), "ALTER TABLE root ATTACH PARTITION leaf FOR VALUES FROM (0) TO (100)"  # noqa: E501
    )  # fmt: skip
    await captured(stage)
    events = await events_of(
        stage, beside, row(1),
        "ALTER TABLE root DETACH PARTITION leaf; ALTER TABLE leaf RENAME TO leaf_old; " + table("leaf", 3),
        "ALTER TABLE root ATTACH PARTITION leaf FOR VALUES FROM (0) TO (100)", row(2), "TRUNCATE leaf_old", row(3),
    )  # fmt: skip
    assert kinds(events) == [("create", "1"), ("create", "2"), ("create", "3")]
    assert all(map(is_right, events))
    assert events[2]["resource"] == whole(3)
    assert await leaked(stage) == []


ADDED = "ALTER TABLE root ADD extra text DEFAULT 'e'"
DROPPED = "ALTER TABLE root DROP buyer"


@RELAYS
@SEEDS
async def test_columns_that_come_and_go_at_the_root_come_and_go_in_its_partitions(
    stage: Stage, seed: int, beside: bool
) -> None:
    await stage.sql(
        ROOT.format(name="root"), table("leaf", seed),
        "ALTER TABLE root ATTACH PARTITION leaf FOR VALUES FROM (0) TO (100)",
    )  # fmt: skip
    await captured(stage)
    events = await events_of(
        stage, beside, row(1), ADDED, row(2), DROPPED, "UPDATE root SET v = 8 WHERE id = 1",
        "ALTER TABLE root ALTER v TYPE bigint", "UPDATE root SET v = 9 WHERE id = 1",
    )  # fmt: skip
    assert kinds(events) == [("create", "1"), ("create", "2"), ("update", "1"), ("update", "1")]
    assert {event["organization"]["id"] for event in events} == {"acme"}
    assert [(e["delta"] or {}).get("v", {}).get("to") for e in events[2:]] in (
        [8, "9"], [None, "9"], [8, None], [None, None],
    )  # fmt: skip
    assert all("error" in e or "resource" in e for e in events)
    assert await leaked(stage) == []


STEP = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 3), st.just(0)),
    st.tuples(st.just("write"), st.integers(0, 3), st.just(0)),
    st.tuples(st.just("attach"), st.integers(0, 2), st.just(0)),
    st.tuples(st.just("detach"), st.integers(0, 2), st.just(0)),
    st.tuples(st.just("swap"), st.integers(0, 3), st.integers(0, 2)),
    st.tuples(st.just("add"), st.integers(0, 3), st.just(0)),
    st.tuples(st.just("truncate"), st.integers(0, 3), st.just(0)),
    st.tuples(st.just("relay"), st.just(0), st.just(0)),
    st.tuples(st.just("capture"), st.integers(0, 2), st.just(0)),
)
PLACES = ("leaf_0", "leaf_1", "leaf_2", "root")


class Oracle:
    """What each table's columns hold, by name: a swap of names moves what is meant with them."""

    def __init__(self) -> None:
        self.means = {name: {c.split()[0]: c.split()[0] for c in COLUMNS} for name in PLACES}
        self.attached: set[str] = set()
        self.added = 0

    def tables(self, name: str) -> set[str]:
        return {name, *self.attached} if name == "root" else {name}

    def insert(self, place: str, id_: int) -> str:
        held = self.means[place]
        values = {"id": id_, "organization_id": "'acme'", "buyer": "'globex'", "secret": "'SECRET'", "v": 7}
        names = list(held)
        return (
            f"INSERT INTO {place} ({', '.join(names)}) VALUES "
            f"({', '.join(str(values.get(held[name], chr(39) + 'extra' + chr(39))) for name in names)})"
        )


@pytest.mark.runs_once
@settings(
    max_examples=12, derandomize=True, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(steps=st.lists(STEP, min_size=5, max_size=18), beside=st.booleans(), seed=st.integers(0, 1000))
async def test_nothing_leaks_when_partitions_and_columns_come_and_go(
    stage: Stage, steps: list[tuple[str, int, int]], beside: bool, seed: int
) -> None:
    await stage.sql(
        "DROP TABLE IF EXISTS root CASCADE",
        *(f"DROP TABLE IF EXISTS {name}" for name in PLACES[:3]),
        "TRUNCATE streamhub.outbox, streamhub_hub.history, streamhub.captures CASCADE",
        ROOT.format(name="root"),
        *(table(name, seed + number) for number, name in enumerate(PLACES[:3])),
    )
    await captured(stage)
    untold_before = (await stage.counters()).get("unattributable", 0)
    oracle = Oracle()
    ids = 0
    created = 0

    async def take(steps: list[tuple[str, int, int]]) -> None:
        nonlocal ids, created
        for step, first, second in steps:
            place = PLACES[first]
            if step == "write" and not (place == "root" and not oracle.attached):
                leaf = place if place != "root" else min(oracle.attached)
                ids += 1
                await stage.sql(oracle.insert(place, 1000 * PLACES.index(leaf) + ids))
                created += leaf in oracle.attached
            elif step == "attach" and place not in oracle.attached and oracle.means[place] == oracle.means["root"]:
                await stage.sql(
                    f"ALTER TABLE root ATTACH PARTITION {place} FOR VALUES FROM ({1000 * first}) TO ({1000 * first + 1000})"  # noqa: E501
                )
                oracle.attached.add(place)
            elif step == "detach" and place in oracle.attached:
                await stage.sql(f"ALTER TABLE root DETACH PARTITION {place}")
                oracle.attached.discard(place)
            elif step == "swap" and place not in oracle.attached:
                left, right = SWAPS[second]
                await stage.sql(swap(place, left, right))
                for name in oracle.tables(place):
                    held = oracle.means[name]
                    held[left], held[right] = held[right], held[left]
            elif step == "add" and place not in oracle.attached:
                oracle.added += 1
                await stage.sql(f"ALTER TABLE {place} ADD extra_{oracle.added} text")
                for name in oracle.tables(place):
                    oracle.means[name][f"extra_{oracle.added}"] = f"extra_{oracle.added}"
            elif step == "truncate" and place in ("root", *oracle.attached):
                await stage.sql(f"TRUNCATE {place}")
            elif step == "capture":
                await capture.add(
                    stage.connection, CaptureSpec(
                        "root", "root", organization_column=name_of(oracle, "organization_id"),
                        exclude=[name_of(oracle, "secret")], type_names={"create": f"root.c{second}{first}"},
                    ),
                )  # fmt: skip
            elif step == "relay":
                async with running(stage.relay()):
                    await stage.drained()

    if beside:
        async with running(stage.relay()):
            await take(steps)
            await stage.drained()
    else:
        await take(steps)
        async with running(stage.relay()):
            await stage.drained()
    events = await stage.history()
    told = {(e["organization"]["id"], "SECRET" in json.dumps(e)) for e in events}
    assert told <= {("acme", False)}, (steps, oracle.means)
    untold = (await stage.counters()).get("unattributable", 0) - untold_before
    assert created - untold <= len([e for e in events if e["event"] == "create"]) <= created, (steps, kinds(events))


def name_of(oracle: Oracle, meaning: str) -> str:
    return next(name for name, held in oracle.means["root"].items() if held == meaning)


async def test_a_partition_gives_one_event_for_one_change_where_root_and_sub_root_are_captured_in_turn(
    stage: Stage,
) -> None:
    await stage.sql(
        ROOT.format(name="root"), ROOT.format(name="sub"), table("leaf", 1),
        "ALTER TABLE sub ATTACH PARTITION leaf FOR VALUES FROM (0) TO (50)",
    )  # fmt: skip
    await captured(stage, "sub")
    await stage.sql(row(1, into="sub"))
    await capture.remove(stage.connection, "sub")
    await stage.sql("ALTER TABLE root ATTACH PARTITION sub FOR VALUES FROM (0) TO (100)")
    await captured(stage)
    await stage.sql(row(2))
    assert kinds(await stage.relayed()) == [("create", "1"), ("create", "2")]
    assert one([e for e in await stage.history() if e["resource_id"] == "2"])["resource_type"] == "root"
