"""Tables, keys and columns that are replaced: told with a remedy, put right where what was meant is plain, never mixed up."""  # noqa: E501

import itertools
from typing import Any

import pytest

from streamhub import capture
from streamhub.capture import CaptureFault, CaptureSpec, faults
from streamhub.errors import UserError
from tests.support.stage import Event, Stage, kinds, one

TABLE = "CREATE TABLE t (id int PRIMARY KEY, organization_id text, test boolean DEFAULT false, secret text, other int, v int)"  # noqa: E501
ROW = "INSERT INTO t (id, organization_id, secret, other, v) VALUES ({id}, 'org_1', 'SECRET', {id}00, 1)"
BY_TEST = {"test_column": "test"}


async def captured(stage: Stage, **more: Any) -> None:
    await stage.sql(TABLE)
    await stage.add("t", **{"exclude": ["secret"], "resource_type": "t", **more})


def row(id_: int) -> str:
    return ROW.format(id=id_)


async def fixed(stage: Stage) -> list[CaptureFault]:
    """Do all that `doctor --fix` may; the faults that there were."""
    found = await faults(stage.connection)
    for fault in found:
        assert fault.remedy
        if fault.fix is not None:
            await capture.fix(stage.connection, fault)
    return found


async def nothing_leaked(stage: Stage) -> bool:
    return not [frame for frame in await stage.frames() if b"SECRET" in frame]


def in_error(event: Event) -> bool:
    return "error" in event and event["resource"] is None and event["delta"] is None


# The key


async def test_a_key_that_is_swapped_by_renames_is_told_and_put_right(stage: Stage) -> None:
    await captured(stage)
    await stage.sql(
        row(1),
        "BEGIN; ALTER TABLE t RENAME id TO old_id; ALTER TABLE t RENAME other TO id; ALTER TABLE t DROP CONSTRAINT t_pkey; "  # noqa: E501
        "ALTER TABLE t ADD PRIMARY KEY (id); ALTER TABLE t ALTER old_id DROP NOT NULL; COMMIT",
        "INSERT INTO t (id, organization_id) VALUES (7, 'org_1')",
    )
    events = await stage.relayed()
    assert [event["organization"]["id"] for event in events] == ["org_1"] * len(events)
    assert kinds(events)[0] == ("create", "1")
    assert [in_error(event) for event in events] == [False, True]
    (fault,) = await fixed(stage)
    assert "key" in fault.fault
    assert await faults(stage.connection) == []
    await stage.sql("INSERT INTO t (id, organization_id) VALUES (8, 'org_1')")
    assert kinds(await stage.relayed()) == [("create", "8")]
    assert await nothing_leaked(stage)


async def test_a_key_column_that_is_dropped_and_added_again_never_names_another_row(stage: Stage) -> None:
    await captured(stage)
    await stage.sql(row(1), "ALTER TABLE t DROP id", "ALTER TABLE t ADD id serial PRIMARY KEY", "UPDATE t SET v = 2")
    events = await stage.relayed()
    assert [event for event in events[1:] if not in_error(event)] == []
    assert "key" in (await fixed(stage))[0].fault
    assert await faults(stage.connection) == []
    await stage.sql("UPDATE t SET v = 3")
    assert kinds(await stage.relayed()) == [("update", "1")]
    assert await nothing_leaked(stage)


async def test_a_null_in_a_chosen_key_is_an_event_with_an_error(stage: Stage) -> None:
    await captured(stage, id_columns=["other"])
    await stage.sql("INSERT INTO t (id, organization_id) VALUES (1, 'org_1')", row(2))
    events = await stage.relayed()
    assert [in_error(event) for event in events] == [True, False]


# The table

NEW = TABLE.replace("TABLE t", "TABLE t_new").replace(
    "test boolean DEFAULT false, secret text", "secret text, test boolean"
)
REPLACED = {
    "DROP and RENAME": f"BEGIN; {NEW}; INSERT INTO t_new (id, organization_id) SELECT id, organization_id FROM t; "
    "DROP TABLE t; ALTER TABLE t_new RENAME TO t; COMMIT",
    "RENAME and RENAME": f"BEGIN; {NEW}; ALTER TABLE t RENAME TO t_old; ALTER TABLE t_new RENAME TO t; COMMIT",
    "DROP and CREATE": f"DROP TABLE t; {TABLE}",
    "another schema": f"CREATE SCHEMA old; ALTER TABLE t SET SCHEMA old; {TABLE}",
    "a partitioned table": "BEGIN; ALTER TABLE t RENAME TO t_old; CREATE TABLE t (LIKE t_old INCLUDING ALL) "
    "PARTITION BY RANGE (id); ALTER TABLE t ATTACH PARTITION t_old FOR VALUES FROM (0) TO (1000); COMMIT",
    "a partitioned table without the old": "BEGIN; ALTER TABLE t RENAME TO t_old; CREATE TABLE t (LIKE t_old INCLUDING ALL) "  # noqa: E501
    "PARTITION BY RANGE (id); CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (1000); COMMIT",
}


@pytest.mark.parametrize("beside", [True, False], ids=["relay runs", "no relay"])
@pytest.mark.parametrize("replace", REPLACED.values(), ids=REPLACED.keys())
async def test_a_table_that_is_replaced_is_told_and_its_capture_goes_to_the_new_one(
    stage: Stage, replace: str, beside: bool
) -> None:
    await captured(stage, **BY_TEST)
    await stage.sql(row(1))
    if beside:
        async with stage.relaying():
            await stage.sql(replace)
            await stage.drained()
    else:
        await stage.sql(replace)
    found = await fixed(stage)
    assert [fault.table for fault in found if "captured" in fault.fault] != []
    assert await faults(stage.connection) == []
    await stage.relayed()
    await stage.sql(row(2), "TRUNCATE t")
    events = await stage.relayed()
    assert ("create", "2") in kinds(events)
    assert ("destroy", "2") in kinds(events)
    assert [event for event in events if "error" in event] == []
    assert {(event["organization"]["id"], event["test"]) for event in events} <= {("org_1", False), ("org_1", True)}
    assert await nothing_leaked(stage)


async def test_a_new_table_that_lacks_a_column_of_the_capture_is_told_and_not_captured_in_part(stage: Stage) -> None:
    await captured(stage)
    await stage.sql("DROP TABLE t", "CREATE TABLE t (id int PRIMARY KEY, organization_id text, hidden text)")
    (fault,) = await faults(stage.connection)
    with pytest.raises(UserError, match="secret"):
        await capture.fix(stage.connection, fault)
    await stage.sql("INSERT INTO t VALUES (1, 'org_1', 'SECRET')")
    assert await stage.relayed() == []


# The triggers

DISABLED = {
    "all, and enabled again": "ALTER TABLE t DISABLE TRIGGER ALL; ALTER TABLE t ENABLE TRIGGER ALL",
    "users', and enabled again": "ALTER TABLE t DISABLE TRIGGER USER; ALTER TABLE t ENABLE TRIGGER USER",
    "all": "ALTER TABLE t DISABLE TRIGGER ALL",
    "for replicas only": 'ALTER TABLE t ENABLE REPLICA TRIGGER "!streamhub"',
    "dropped": 'DROP TRIGGER "!streamhub" ON t; DROP TRIGGER "!streamhub_truncate" ON t',
}
PARTED = """
CREATE TABLE t (id int PRIMARY KEY, organization_id text, test boolean DEFAULT false, secret text, other int, v int)
PARTITION BY RANGE (id);
CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (1000);
"""


@pytest.mark.parametrize("disable", DISABLED.values(), ids=DISABLED.keys())
async def test_triggers_that_were_turned_off_are_told_and_turned_on(stage: Stage, disable: str) -> None:
    await captured(stage)
    await stage.sql(disable)
    assert await fixed(stage)
    assert await faults(stage.connection) == []
    await stage.sql("SET session_replication_role = replica", row(1), "TRUNCATE t", "RESET session_replication_role")
    assert kinds(await stage.relayed()) == [("create", "1"), ("destroy", "1")]


@pytest.mark.parametrize("on", ["t", "t_1"])
async def test_triggers_of_partitions_that_were_turned_off_are_told_and_turned_on(stage: Stage, on: str) -> None:
    await stage.sql(PARTED)
    await stage.add("t", exclude=["secret"])
    await stage.sql(f"ALTER TABLE {on} DISABLE TRIGGER ALL; ALTER TABLE {on} ENABLE TRIGGER ALL")
    assert await fixed(stage)
    assert await faults(stage.connection) == []
    await stage.sql("SET session_replication_role = replica", row(1), "TRUNCATE t_1", "RESET session_replication_role")
    assert kinds(await stage.relayed()) == [("create", "1"), ("destroy", "1")]


# Columns that are hidden, or tell whose a row is


@pytest.mark.parametrize("how", ["exclude", "redact"])
@pytest.mark.parametrize("beside", [True, False], ids=["relay runs", "relay comes late"])
@pytest.mark.parametrize(
    "again",
    [
        "ALTER TABLE t DROP secret; ALTER TABLE t ADD secret text",
        "ALTER TABLE t RENAME secret TO s; ALTER TABLE t ADD secret text; ALTER TABLE t DROP s",
        "ALTER TABLE t ADD between text; ALTER TABLE t DROP secret; ALTER TABLE t RENAME between TO secret",
        "ALTER TABLE t DROP secret; ALTER TABLE t ADD secret varchar; ALTER TABLE t DROP secret; ALTER TABLE t ADD secret text",  # noqa: E501
    ],
)
async def test_a_hidden_name_stays_hidden_when_a_column_of_that_name_comes_again(
    stage: Stage, again: str, how: str, beside: bool
) -> None:
    await stage.sql(TABLE)
    await stage.add("t", **{how: ["secret"]})
    if beside:
        async with stage.relaying():
            await stage.sql(row(1), again, row(2), "UPDATE t SET secret = 'SECRET2' WHERE id = 2")
            await stage.drained()
    else:
        await stage.sql(row(1), again, row(2), "UPDATE t SET secret = 'SECRET2' WHERE id = 2")
        await stage.relayed()
    assert await nothing_leaked(stage)
    (fault,) = await fixed(stage)
    assert "secret" in fault.fault
    assert await faults(stage.connection) == []
    await stage.sql(row(3))
    assert kinds(await stage.relayed()) != []
    assert await nothing_leaked(stage)


async def test_a_key_column_is_not_redacted(stage: Stage) -> None:
    await stage.sql(TABLE)
    with pytest.raises(UserError, match="resource_id"):
        await stage.add("t", redact=["id"])


GONE = {
    "dropped": "ALTER TABLE t DROP {column}",
    "dropped and added again": "ALTER TABLE t DROP {column}; ALTER TABLE t ADD {column} {type_}",
    "renamed, another in its place": "ALTER TABLE t RENAME {column} TO was; ALTER TABLE t ADD {column} {type_}",
    "renamed and dropped": "ALTER TABLE t RENAME {column} TO was; ALTER TABLE t DROP was",
}


@pytest.mark.parametrize("gone", GONE.values(), ids=GONE.keys())
async def test_a_test_row_never_comes_as_live_where_its_column_went_while_it_waited(stage: Stage, gone: str) -> None:
    await captured(stage, **BY_TEST)
    await stage.sql(
        "INSERT INTO t (id, organization_id, test) VALUES (1, 'org_1', true)",
        gone.format(column="test", type_="boolean DEFAULT false"),
        "INSERT INTO t (id, organization_id) VALUES (2, 'org_1')",
    )
    for event in await stage.relayed():
        if event["resource_id"] == "1":
            assert event["test"] is True
        else:
            assert in_error(event) or "was" in event["resource"]


@pytest.mark.parametrize("gone", GONE.values(), ids=GONE.keys())
async def test_no_row_comes_at_another_organization_where_its_column_went_while_it_waited(
    stage: Stage, gone: str
) -> None:
    await captured(stage)
    await stage.sql(
        row(1), gone.format(column="organization_id", type_="text DEFAULT 'org_2'"),
        "INSERT INTO t (id) VALUES (2)", "UPDATE t SET v = 2 WHERE id = 1",
    )  # fmt: skip
    events = await stage.relayed()
    assert {event["organization"]["id"] for event in events} <= {"org_1"}
    counters = await stage.counters()
    assert len(events) + counters.get("unattributable", 0) + counters.get("null_organization", 0) == 3
    assert await faults(stage.connection) != [] or "was" in gone


# Organizations and keys of odd texts


async def test_a_padded_organization_is_the_one_without_padding_and_so_is_a_padded_key(stage: Stage) -> None:
    await stage.sql(
        "CREATE TABLE t (id char(5), part char(3), organization_id char(10), v int, PRIMARY KEY (id, part))"
    )
    await stage.add("t")
    await stage.sql("INSERT INTO t VALUES ('a', 'b', 'org_1', 1)", "UPDATE t SET v = 2", "TRUNCATE t")
    events = await stage.relayed()
    assert {(e["organization"]["id"], e["resource_id"]) for e in events} == {("org_1", "a:b")}
    assert events[0]["resource"]["organization_id"] == "org_1     "


@pytest.mark.parametrize("organization", ["", "o" * 300, " ", "\t"])
async def test_rows_of_an_organization_that_cannot_be_cost_one_incident_a_minute(
    stage: Stage, organization: str
) -> None:
    await stage.shop()
    await stage.connection.execute(
        "INSERT INTO skus SELECT i, $1, 1, 'a' FROM generate_series(1, 3000) AS i", organization
    )
    await stage.sql("INSERT INTO skus VALUES (0, 'org_1', 1, 'a')")
    events = await stage.relayed()
    incidents = await stage.value("SELECT count(*) FROM streamhub_hub.incidents")
    if len(events) == 1:
        assert incidents <= 1
        assert sum((await stage.counters()).values()) >= 3000
    else:
        assert organization in (" ", "\t")
        assert incidents == 0


# Names

ODD = [
    "t", "streamhub_row", "streamhub_row_", "streamhub_row__", "r", "ctid_", "whole", "key", "n", "label", "written", "l",  # noqa: E501
    "state", "record", "value", "OLD", "NEW", 'a"b', "a b", "$1", "%I", "origin", "digits", "identity", "leaf", "xid",
]  # fmt: skip


@pytest.mark.parametrize("type_", ["text", "jsonb", "mood", "pair"])
async def test_a_column_may_have_any_name(stage: Stage, type_: str) -> None:
    quoted = ['"' + name.replace('"', '""') + '"' for name in ODD]
    value = {"text": "'x'", "jsonb": "'{\"a\": 1}'", "mood": "'ok'", "pair": "ROW(1, 2)"}[type_]
    await stage.sql(
        "CREATE TYPE mood AS ENUM ('ok'); CREATE TYPE pair AS (a int, b int)",
        f"CREATE TABLE t (id int PRIMARY KEY, organization_id text, {', '.join(f'{name} {type_}' for name in quoted)})",
    )
    await stage.add("t")
    await stage.sql(
        f"INSERT INTO t VALUES (1, 'org_1', {', '.join([value] * len(ODD))})", "UPDATE t SET id = 2",
        "ALTER TABLE t ADD more text", "UPDATE t SET more = repeat('long ', 20000)",
    )  # fmt: skip
    assert (await capture.backfill(stage.connection, "t", report=lambda _: None)).rows == 1
    await stage.sql("TRUNCATE t")
    events = await stage.relayed()
    assert kinds(events) == [
        ("create", "1"), ("destroy", "1"), ("create", "2"), ("update", "2"), ("create", "2"), ("destroy", "2"),
    ]  # fmt: skip
    assert [event for event in events if "error" in event] == []
    assert set(events[-1]["resource"]) == {"id", "organization_id", "more", *ODD}


@pytest.mark.parametrize("key", ODD[:6])
async def test_a_key_may_have_any_name(stage: Stage, key: str) -> None:
    await stage.sql(
        f'CREATE TABLE t ("{key}" int PRIMARY KEY, organization_id text)', "INSERT INTO t VALUES (1, 'org_1')"
    )
    await stage.add("t")
    assert (await capture.backfill(stage.connection, "t", report=lambda _: None)).rows == 1
    assert kinds(await stage.relayed()) == [("create", "1")]


async def test_line_separators_never_stand_raw_in_a_frame(stage: Stage) -> None:
    odd = "a\u0085b\u2028c\u2029d"
    await stage.sql(f'CREATE TABLE t (id text PRIMARY KEY, organization_id text, "{odd}" text, j json)')
    await stage.add("t", organization_column="organization_id")
    async with stage.connection.transaction():
        await stage.value("SELECT set_config('streamhub.who', $1, true)", odd)
        await stage.connection.execute("INSERT INTO t VALUES ($1, 'org_1', $1, to_json($1::text))", odd)
    (frame,) = await stage.frames() or [b""] if await stage.relayed() is None else await stage.frames()
    assert frame.decode().splitlines() == frame.decode().split("\n")[:-1]
    event = one(await stage.history())
    assert (event["resource_id"], event["resource"][odd], event["resource"]["j"], event["who"]) == (odd, odd, odd, odd)


# Links

NO_OPS = [
    "UPDATE t SET v = v", "UPDATE t SET v = 1; UPDATE t SET v = 1", "INSERT INTO t (id, organization_id, v) VALUES (1, "  # noqa: ISC004
    "'org_1', 5) ON CONFLICT (id) DO UPDATE SET v = t.v",
]  # fmt: skip


@pytest.mark.parametrize("no_op", NO_OPS)
@pytest.mark.parametrize(
    "first",
    [
        "UPDATE t SET v = 2",
        "UPDATE t SET v = v",
        "DELETE FROM t; INSERT INTO t VALUES (1, 'org_1', true, 'SECRET', 100, 9)",
    ],
)
async def test_a_rows_last_event_is_its_last_state_with_updates_that_change_nothing_between(
    stage: Stage, first: str, no_op: str
) -> None:
    await captured(stage)
    await stage.sql(
        row(1),
        f"BEGIN; {first}; {no_op}; UPDATE t SET v = 3; {no_op.replace('1', '3', 1) if 'v = 1' in no_op else no_op}; UPDATE t SET v = v; UPDATE t SET v = 4; {no_op if 'v = 1' not in no_op else 'SELECT'}; COMMIT",  # noqa: E501
    )
    events = await stage.relayed()
    last = await stage.value("SELECT v FROM t")
    assert events[-1]["resource"]["v"] == last
    for before, after in itertools.pairwise(events):
        if after["event"] == "update":
            assert after["delta"]["v"]["from"] == before["resource"]["v"]


# Restored dumps


async def test_a_capture_whose_table_has_another_oid_sends_errors_until_it_is_added_again(stage: Stage) -> None:
    await captured(stage)
    await stage.sql("UPDATE streamhub.captures SET relation_oid = 1", row(1))
    events = await stage.relayed()
    assert [in_error(event) for event in events] in ([], [True])
    found = await fixed(stage)
    assert found
    spec = CaptureSpec("t", "t", organization_column="organization_id", exclude=["secret"])
    await capture.add(stage.connection, spec)
    assert await faults(stage.connection) == []
    await stage.sql(row(2))
    assert kinds(await stage.relayed()) == [("create", "2")]
    assert await nothing_leaked(stage)
