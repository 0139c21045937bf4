"""What a change of a row looks like as an event (section 2 of the contract)."""

import json
from collections.abc import Sequence
from typing import Final

import asyncpg
import pytest

from streamhub.core.frames import data_of
from tests.support.hub import new_database
from tests.support.stage import Event, Stage, kinds, one, rebuilt

OBJECT = [
    "id", "type", "event", "resource_type", "resource_id", "organization", "test", "created_at", "transaction_id",
    "resource", "delta", "who",
]  # fmt: skip


async def test_a_create_has_the_row_and_every_column_that_is_not_null_in_its_delta(stage: Stage) -> None:
    await stage.shop()
    await stage.sql("INSERT INTO skus VALUES (9007199254740993, 'org_1', 12.50, NULL)")
    event = one(await stage.relayed())
    assert event["resource"] == {
        "id": "9007199254740993", "organization_id": "org_1", "price": "12.50", "note": None,
    }  # fmt: skip
    assert event["delta"] == {
        "id": {"from": None, "to": "9007199254740993"},
        "organization_id": {"from": None, "to": "org_1"},
        "price": {"from": None, "to": "12.50"},
    }


async def test_an_update_has_the_row_after_it_and_only_what_differs_in_its_delta(stage: Stage) -> None:
    await stage.shop()
    await stage.sql("INSERT INTO skus VALUES (1, 'org_1', 10.00, 'a')", "UPDATE skus SET price = 12.50, note = 'a'")
    _, event = await stage.relayed()
    assert event["resource"]["price"] == "12.50"
    assert event["delta"] == {"price": {"from": "10.00", "to": "12.50"}}


async def test_a_destroy_has_the_row_before_it_and_every_column_that_was_not_null_in_its_delta(stage: Stage) -> None:
    await stage.shop()
    await stage.sql("INSERT INTO skus VALUES (1, 'org_1', NULL, 'a')", "DELETE FROM skus")
    _, event = await stage.relayed()
    assert (event["event"], event["resource"]["note"]) == ("destroy", "a")
    assert event["delta"] == {
        "id": {"from": "1", "to": None},
        "organization_id": {"from": "org_1", "to": None},
        "note": {"from": "a", "to": None},
    }


async def test_the_members_of_an_event_stand_in_the_order_of_the_contract(stage: Stage) -> None:
    await stage.shop()
    await stage.sql("INSERT INTO skus VALUES (1, 'org_1', 1, 'a')")
    event = one(await stage.relayed())
    assert list(event) == OBJECT


async def test_the_frame_is_three_lines_with_the_id_of_the_row_and_compact_json(stage: Stage) -> None:
    await stage.shop()
    await stage.sql("INSERT INTO skus VALUES (1, 'org_1', 1, 'a')")
    event = one(await stage.relayed())
    stored = await stage.value("SELECT id::text FROM streamhub_hub.history")
    frame = (await stage.frames())[0]
    assert frame == b"event: create\nid: %b\ndata: %b\n\n" % (
        stored.encode(), json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode(),
    )  # fmt: skip
    assert event["id"] == stored


async def test_the_header_columns_of_history_are_those_of_the_event(stage: Stage) -> None:
    await stage.shop(test=True, type_names={"create": "product.added"})
    await stage.sql("INSERT INTO skus VALUES (1, 'org_1', 1, 'a')")
    event = one(await stage.relayed())
    rows = await stage.rows("SELECT test, type, resource_type, resource_id FROM streamhub_hub.history")
    assert rows == [(True, "product.added", "skus", "1")]
    assert (event["test"], event["type"], event["event"]) == (True, "product.added", "create")


async def test_the_organization_is_the_registrys_with_a_slug_made_from_the_id(stage: Stage) -> None:
    await stage.shop()
    await stage.sql("INSERT INTO skus VALUES (1, 'Org_1', 1, 'a')")
    assert one(await stage.relayed())["organization"] == {"id": "Org_1", "slug": "org-1"}


async def test_the_transaction_id_is_that_of_the_writers_transaction(stage: Stage) -> None:
    await stage.shop()
    async with stage.connection.transaction():
        await stage.sql("INSERT INTO skus VALUES (1, 'org_1', 1, 'a')")
        xid = await stage.value("SELECT pg_current_xact_id()::text")
        async with stage.connection.transaction():
            await stage.sql("INSERT INTO skus VALUES (2, 'org_1', 1, 'a')")
    assert {event["transaction_id"] for event in await stage.relayed()} == {xid}


async def test_created_at_is_when_the_row_was_written_and_not_when_the_transaction_began(stage: Stage) -> None:
    await stage.shop()
    form = """to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
    async with stage.connection.transaction():
        began = await stage.value("SELECT " + form.format("now()"))
        await stage.sql("INSERT INTO skus VALUES (1, 'org_1', 1, 'a')")
        after = await stage.value("SELECT " + form.format("clock_timestamp()"))
    created_at = one(await stage.relayed())["created_at"]
    assert began < created_at < after
    assert len(created_at) == len("2026-11-22T10:00:00.123456Z")


WHO: Final = [
    ('{"application": "importer"}', {"application": "importer"}),
    ('  ["a", 1]  ', ["a", 1]),
    ("null", None),
    ("12", 12),
    ("importer", "importer"),
    ("{not json", "{not json"),
    ('a "quoted"\nname\\', 'a "quoted"\nname\\'),
    ('{"a":\n1}', {"a": 1}),
    ("NaN", "NaN"),
    ('"\\ud800"', '"\\ud800"'),
    ("[" * 2000 + "]" * 2000, "[" * 2000 + "]" * 2000),
    ("\u2028é", "\u2028é"),
    ("", None),
]
"""(the setting streamhub.who, what an event tells of it)"""


@pytest.fixture(scope="module")
async def told(postgres_url: str, template: str) -> Sequence[Event]:
    """The event of a transaction with each of WHO."""
    async with new_database(postgres_url, template) as url:
        stage = Stage(url, await asyncpg.connect(url))
        await stage.shop()
        for n, (setting, _) in enumerate(WHO):
            async with stage.connection.transaction():
                await stage.value("SELECT set_config('streamhub.who', $1, true)", setting)
                await stage.sql(f"INSERT INTO skus VALUES ({n}, 'org_1', 1, 'a')")
        events = await stage.relayed()
        stage.connection.terminate()
    return events


@pytest.mark.parametrize("n", range(len(WHO)), ids=[setting[:30] for setting, _ in WHO])
async def test_who_is_the_json_of_the_setting_or_its_text_as_a_string(told: Sequence[Event], n: int) -> None:
    assert (told[n]["resource_id"], told[n]["who"]) == (str(n), WHO[n][1])


async def test_who_is_null_once_the_transaction_that_set_it_has_ended(stage: Stage) -> None:
    await stage.shop()
    async with stage.connection.transaction():
        await stage.sql("SET LOCAL streamhub.who = 'importer'", "INSERT INTO skus VALUES (1, 'org_1', 1, 'a')")
    await stage.sql("INSERT INTO skus VALUES (2, 'org_1', 1, 'a')")
    assert [event["who"] for event in await stage.relayed()] == ["importer", None]


async def test_an_update_that_changes_nothing_is_no_event(stage: Stage) -> None:
    await stage.sql("CREATE TABLE skus (id int PRIMARY KEY, organization_id text, j json, p point)")
    await stage.add()
    await stage.sql(
        "INSERT INTO skus VALUES (1, 'org_1', '{\"a\":1}', '(1,2)')", "UPDATE skus SET j = j, p = p, id = 1"
    )
    assert kinds(await stage.relayed()) == [("create", "1")]


async def test_an_update_that_changes_only_the_image_of_a_value_is_no_event_without_a_difference(stage: Stage) -> None:
    await stage.sql("CREATE TABLE skus (id int PRIMARY KEY, organization_id text, f float8)")
    await stage.add()
    await stage.sql("INSERT INTO skus VALUES (1, 'org_1', 0)", "UPDATE skus SET f = f * 1")
    assert kinds(await stage.relayed()) == [("create", "1")]


async def test_a_change_of_excluded_columns_alone_is_no_event(stage: Stage) -> None:
    await stage.shop(exclude=["note"])
    await stage.sql("INSERT INTO skus VALUES (1, 'org_1', 1, 'secret')", "UPDATE skus SET note = 'other'")
    event = one(await stage.relayed())
    assert "note" not in event["resource"]
    assert "note" not in event["delta"]


async def test_a_change_of_a_redacted_column_is_an_event_that_shows_neither_value(stage: Stage) -> None:
    await stage.shop(redact=["note"])
    await stage.sql("INSERT INTO skus VALUES (1, 'org_1', 1, 'secret')", "UPDATE skus SET note = 'secret2'")
    _, event = await stage.relayed()
    assert event["delta"] == {"note": {"from": "[REDACTED]", "to": "[REDACTED]"}}
    assert event["resource"]["note"] == "[REDACTED]"
    assert not [frame for frame in await stage.frames() if b"secret" in frame]


async def test_the_null_of_a_redacted_column_stays_null(stage: Stage) -> None:
    await stage.shop(redact=["note"])
    await stage.sql(
        "INSERT INTO skus VALUES (1, 'org_1', 1, NULL)", "UPDATE skus SET note = 'x'", "UPDATE skus SET note = NULL"
    )
    create, set_, unset = await stage.relayed()
    assert create["resource"]["note"] is None
    assert "note" not in create["delta"]
    assert set_["delta"]["note"] == {"from": None, "to": "[REDACTED]"}
    assert unset["delta"]["note"] == {"from": "[REDACTED]", "to": None}


async def test_the_parts_of_a_composite_key_are_joined_with_colons(stage: Stage) -> None:
    await stage.sql("CREATE TABLE t (b text, a bigint, organization_id text, PRIMARY KEY (a, b))")
    await stage.add("t")
    await stage.sql("INSERT INTO t VALUES ('x\"y', 9007199254740993, 'org_1')")
    assert one(await stage.relayed())["resource_id"] == '9007199254740993:x"y'


async def test_the_named_id_columns_are_joined_in_the_order_in_which_they_are_named(stage: Stage) -> None:
    await stage.shop(id_columns=["note", "id"])
    await stage.sql("INSERT INTO skus VALUES (1, 'org_1', 1, 'n')")
    assert one(await stage.relayed())["resource_id"] == "n:1"


@pytest.mark.parametrize(
    ("type_", "value", "resource_id"),
    [
        ("uuid", "'AB3C1E60-0000-7000-8000-000000000000'", "ab3c1e60-0000-7000-8000-000000000000"),
        ("text", "'a\\b\"c\té\u2028'", 'a\\b"c\té\u2028'),
        ("numeric", "1.50", "1.50"),
        ("boolean", "true", "true"),
        ("timestamptz", "'2026-01-02 03:04:05+02'", "2026-01-02T01:04:05+00:00"),
        ("bytea", "'\\xdead'", "3q0="),
        ("date", "'infinity'", "infinity"),
    ],
)
async def test_a_resource_id_is_a_string_for_every_type_of_key(
    stage: Stage, type_: str, value: str, resource_id: str
) -> None:
    await stage.sql(f"CREATE TABLE t (id {type_} PRIMARY KEY, organization_id text)")
    await stage.add("t")
    await stage.sql(f"INSERT INTO t VALUES ({value}, 'org_1')")
    assert one(await stage.relayed())["resource_id"] == resource_id


async def test_a_change_of_the_key_is_a_destroy_and_a_create(stage: Stage) -> None:
    await stage.shop()
    await stage.sql("INSERT INTO skus VALUES (1, 'org_1', 1, 'a')", "UPDATE skus SET id = 2, note = 'b'")
    events = (await stage.relayed())[1:]
    assert kinds(events) == [("destroy", "1"), ("create", "2")]
    assert [event["resource"]["note"] for event in events] == ["a", "b"]


async def test_a_row_that_changes_its_organization_is_destroyed_there_and_created_here(stage: Stage) -> None:
    await stage.shop()
    await stage.sql("INSERT INTO skus VALUES (1, 'org_1', 1, 'a')", "UPDATE skus SET organization_id = 'org_2'")
    events = (await stage.relayed())[1:]
    assert [(event["event"], event["organization"]["id"]) for event in events] == [
        ("destroy", "org_1"),
        ("create", "org_2"),
    ]


async def test_a_row_that_changes_its_environment_is_destroyed_there_and_created_here(stage: Stage) -> None:
    await stage.sql("CREATE TABLE t (id int PRIMARY KEY, organization_id text, test boolean)")
    await stage.add("t", test_column="test")
    await stage.sql("INSERT INTO t VALUES (1, 'org_1', true)", "UPDATE t SET test = false")
    events = await stage.relayed()
    assert [(event["event"], event["test"]) for event in events] == [
        ("create", True),
        ("destroy", True),
        ("create", False),
    ]


async def test_an_environment_from_null_to_live_is_no_move(stage: Stage) -> None:
    await stage.sql("CREATE TABLE t (id int PRIMARY KEY, organization_id text, test boolean)")
    await stage.add("t", test_column="test")
    await stage.sql("INSERT INTO t VALUES (1, 'org_1', NULL)", "UPDATE t SET test = false")
    events = await stage.relayed()
    assert [(event["event"], event["test"]) for event in events] == [("create", False), ("update", False)]


async def test_a_row_without_an_organization_is_counted_and_no_event(stage: Stage) -> None:
    await stage.shop()
    await stage.sql("INSERT INTO skus VALUES (1, NULL, 1, 'a')", "UPDATE skus SET note = 'b'", "DELETE FROM skus")
    assert await stage.relayed() == []
    assert await stage.counters() == {"null_organization": 3}


async def test_a_row_that_gets_an_organization_is_a_create_and_one_that_loses_it_a_destroy(stage: Stage) -> None:
    await stage.shop()
    await stage.sql(
        "INSERT INTO skus VALUES (1, NULL, 1, 'a')",
        "UPDATE skus SET organization_id = 'org_1'",
        "UPDATE skus SET organization_id = NULL",
    )
    assert kinds(await stage.relayed()) == [("create", "1"), ("destroy", "1")]


@pytest.mark.parametrize("exclude", [(), ("requested_at",)])
async def test_an_anonymization_is_requested_and_cancelled(stage: Stage, exclude: tuple[str, ...]) -> None:
    await stage.sql("CREATE TABLE t (id int PRIMARY KEY, organization_id text, requested_at timestamptz, name text)")
    await stage.add("t", anonymization_column="requested_at", exclude=exclude)
    await stage.sql(
        "INSERT INTO t VALUES (1, 'org_1', NULL, 'a')",
        "UPDATE t SET requested_at = '2026-01-01'",
        "UPDATE t SET name = 'b'",
        "UPDATE t SET requested_at = NULL",
    )
    events = await stage.relayed()
    assert [event["event"] for event in events] == [
        "create", "anonymization_request", "update", "anonymization_cancel",
    ]  # fmt: skip
    assert ("requested_at" in events[1]["delta"]) == (not exclude)
    assert events[1]["type"] == "skus.anonymization_request"


async def test_a_row_whose_anonymization_moves_to_another_time_is_an_update(stage: Stage) -> None:
    await stage.sql("CREATE TABLE t (id int PRIMARY KEY, organization_id text, requested_at timestamptz)")
    await stage.add("t", anonymization_column="requested_at")
    await stage.sql("INSERT INTO t VALUES (1, 'org_1', '2026-01-01')", "UPDATE t SET requested_at = '2026-02-01'")
    assert [event["event"] for event in await stage.relayed()] == ["create", "update"]


async def test_one_organization_may_own_a_whole_table(stage: Stage) -> None:
    await stage.sql("CREATE TABLE t (id int PRIMARY KEY)")
    await stage.add("t", organization_id="org_9")
    await stage.sql("INSERT INTO t VALUES (1)")
    assert one(await stage.relayed())["organization"]["id"] == "org_9"


async def test_an_organization_column_of_any_type_gives_the_id_as_text(stage: Stage) -> None:
    await stage.sql("CREATE TABLE t (id int PRIMARY KEY, organization_id bigint)")
    await stage.add("t")
    await stage.sql("INSERT INTO t VALUES (1, 9007199254740993)")
    assert one(await stage.relayed())["organization"]["id"] == "9007199254740993"


@pytest.mark.parametrize("organization", ["", "x" * 256, "a\u2028b" * 100])
async def test_a_text_that_cannot_be_an_organizations_id_is_counted_and_told(stage: Stage, organization: str) -> None:
    await stage.shop()
    await stage.connection.execute("INSERT INTO skus VALUES (1, $1, 1, 'a')", organization)
    assert await stage.relayed() == []
    assert await stage.counters() == {"invalid_organization": 1}
    assert len(await stage.incidents("poison")) == 1


async def test_a_consumer_who_applies_every_event_holds_the_table(stage: Stage) -> None:
    await stage.shop()
    await stage.sql(
        "INSERT INTO skus SELECT i, 'org_' || i % 3, i, 'n' FROM generate_series(1, 50) AS i",
        "UPDATE skus SET price = price + 1 WHERE id % 2 = 0",
        "UPDATE skus SET organization_id = 'org_0' WHERE id % 5 = 0",
        "DELETE FROM skus WHERE id % 7 = 0",
        "UPDATE skus SET id = id + 1000 WHERE id < 20",
        "INSERT INTO skus VALUES (7, 'org_1', 1, 'again')",
    )
    held = rebuilt(await stage.relayed())
    rows = await stage.rows("SELECT organization_id, id::text, price::text FROM skus")
    assert {(org, id_): row["price"] for (org, _, id_), row in held.items()} == {
        (org, id_): price for org, id_, price in rows
    }


async def test_data_of_a_frame_is_its_json_object(stage: Stage) -> None:
    await stage.shop()
    await stage.sql("INSERT INTO skus VALUES (1, 'org_1', 1, 'data: \n\n')")
    await stage.relayed()
    assert json.loads(data_of((await stage.frames())[0]))["resource"]["note"] == "data: \n\n"
