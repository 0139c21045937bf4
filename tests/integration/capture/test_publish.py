"""streamhub.publish: in the caller's transaction, and once for a publish_id."""

import asyncio
from typing import Any, Final

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamhub.core.frames import enveloped, parts_of
from streamhub.core.names import wrong_type, wrong_with
from tests.support.stage import Event, Stage, one

PUBLISH: Final = "SELECT streamhub.publish('org_1', 'query.received', '{\"a\": 1.50}', publish_id => 'p1')"
QUICKLY: Final = settings(
    max_examples=80, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
TEXT: Final = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=3)


def types(events: list[Event]) -> list[str]:
    return [event["type"] for event in events]


async def test_a_published_event_has_no_resource_and_its_publish_id_and_data_come_last(stage: Stage) -> None:
    await stage.sql(
        "BEGIN",
        'SET LOCAL streamhub.who = \'{"application":"importer"}\'',
        "SELECT streamhub.publish('org_1', 'a.query.received', '7', 'a.query', 'q7', 'p1', true)",
        "COMMIT",
    )
    event = one(await stage.relayed())
    assert (event["type"], event["event"], event["resource_type"]) == ("a.query.received", "received", "a.query")
    assert (event["resource"], event["delta"], event["resource_id"], event["test"]) == (None, None, "q7", True)
    assert event["who"] == {"application": "importer"}
    assert list(event.items())[-2:] == [("publish_id", "p1"), ("data", 7)]


DATA: Final = (
    '{"big":12345678901234567,"n": 1.50, "n":2,"zero":"\\u0000","e":1E+5,"line":"\u2028",\n"deep":[{"data":{}}]}'
)


async def test_the_data_comes_as_it_was_sent(stage: Stage) -> None:
    """But for what could end a line within a frame."""
    await stage.connection.execute("SELECT streamhub.publish('org_1', 'a.b', $1)", DATA)
    await stage.relayed()
    (frame,) = await stage.frames()
    assert parts_of(frame).data.decode() == DATA.replace("\n", " ").replace("\u2028", "\\u2028")
    assert enveloped(frame, "event").count(b"\n") == 3


# -- the caller's transaction


async def test_a_publish_that_is_rolled_back_publishes_nothing_and_leaves_its_publish_id_free(stage: Stage) -> None:
    await stage.sql("BEGIN", PUBLISH, "ROLLBACK")
    assert await stage.relayed() == []
    await stage.sql(PUBLISH)
    assert one(await stage.relayed())["publish_id"] == "p1"


async def test_a_publish_within_a_savepoint_that_is_rolled_back_publishes_nothing(stage: Stage) -> None:
    again = PUBLISH.replace("query.received", "query.again")
    await stage.sql("BEGIN", "SAVEPOINT s", PUBLISH, "ROLLBACK TO s", again, "COMMIT")
    assert types(await stage.relayed()) == ["query.again"]


async def test_published_events_and_changes_of_a_transaction_come_in_the_order_in_which_they_were_made(
    stage: Stage,
) -> None:
    await stage.shop()
    await stage.sql(
        "BEGIN",
        "INSERT INTO skus VALUES (1, 'org_1', 1, 'a')",
        "SELECT streamhub.publish('org_1', 'first.said', '1')",
        "UPDATE skus SET price = 2",
        "UPDATE skus SET price = 3",
        "SELECT streamhub.publish('org_1', 'second.said', '2')",
        "DELETE FROM skus",
        "COMMIT",
    )
    events = await stage.relayed()
    assert types(events) == ["skus.create", "first.said", "skus.update", "skus.update", "second.said", "skus.destroy"]
    assert len({event["transaction_id"] for event in events}) == 1


async def test_a_trigger_of_the_application_publishes(stage: Stage) -> None:
    await stage.shop()
    await stage.sql(
        "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "PERFORM streamhub.publish(NEW.organization_id, 'sku.sold', to_json(NEW.note)); RETURN NULL; END $$",
        "CREATE TRIGGER tell AFTER INSERT ON skus FOR EACH ROW EXECUTE FUNCTION tell()",
        "INSERT INTO skus SELECT n, 'org_1', n, n FROM generate_series(1, 3) AS n",
    )
    events = await stage.relayed()
    assert [event["data"] for event in events if event["type"] == "sku.sold"] == ["1", "2", "3"]


async def test_an_organization_that_was_never_seen_is_registered(stage: Stage) -> None:
    await stage.sql(PUBLISH.replace("org_1", "New One"))
    assert one(await stage.relayed())["organization"] == {"id": "New One", "slug": "new-one"}


async def test_an_organization_that_is_not_enterprise_gets_no_event(stage: Stage) -> None:
    await stage.sql(
        "INSERT INTO streamhub_hub.organizations (id, slug, slug_is_made, enterprise) "
        "VALUES ('org_1', 'o', false, false)",
        PUBLISH,
    )
    assert await stage.relayed() == []
    assert await stage.counters() == {"not_enterprise": 1}


# -- publish_id


async def test_a_publish_id_publishes_once_whatever_else_the_event_is(stage: Stage) -> None:
    await stage.sql(PUBLISH, PUBLISH.replace("query.received", "another.type"))
    await stage.sql("BEGIN", PUBLISH, PUBLISH, "COMMIT")
    assert types(await stage.relayed()) == ["query.received"]


async def test_a_publish_id_that_was_made_counts_as_one_that_was_given(stage: Stage) -> None:
    made = await stage.value("SELECT streamhub.publish('org_1', 'a.b', '1')")
    assert await stage.value("SELECT streamhub.publish('org_1', 'a.b', '1', publish_id => $1)", made) == made
    assert one(await stage.relayed())["publish_id"] == made


async def test_a_publish_id_is_free_again_after_24_hours(stage: Stage) -> None:
    await stage.sql(PUBLISH, "UPDATE streamhub.publish_ids SET published_at = now() - interval '23 hours'", PUBLISH)
    await stage.sql("UPDATE streamhub.publish_ids SET published_at = now() - interval '24 hours'", PUBLISH, PUBLISH)
    assert len(await stage.relayed()) == 2


async def test_organizations_and_environments_have_publish_ids_of_their_own(stage: Stage) -> None:
    await stage.sql(PUBLISH, PUBLISH.replace("'p1'", "'p1', test => true"), PUBLISH.replace("org_1", "org_2"))
    events = await stage.relayed()
    assert [(event["organization"]["id"], event["test"]) for event in events] == [
        ("org_1", False), ("org_1", True), ("org_2", False),
    ]  # fmt: skip


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
async def test_of_two_that_publish_one_publish_id_at_once_the_second_waits_for_the_firsts_end(
    stage: Stage, end: str
) -> None:
    other: Any = await asyncpg.connect(stage.url)
    try:
        await stage.sql("BEGIN", PUBLISH)
        second = asyncio.create_task(other.fetchval(PUBLISH))
        await asyncio.wait([second], timeout=0.1)
        assert not second.done()
        await stage.sql(end)
        assert await asyncio.wait_for(second, 30) == "p1"
    finally:
        other.terminate()
    one(await stage.relayed())


async def test_one_that_was_published_since_its_snapshot_fails_to_serialize(stage: Stage) -> None:
    other: Any = await asyncpg.connect(stage.url)
    try:
        async with other.transaction(isolation="repeatable_read"):
            await other.fetchval("SELECT 1")
            await stage.sql(PUBLISH)
            with pytest.raises(asyncpg.SerializationError):
                async with other.transaction():
                    await other.fetchval(PUBLISH)
    finally:
        other.terminate()


BATCH: Final = """
SELECT streamhub.write_published('org_1', false, array_fill('a.b'::text, ARRAY[cardinality(i)]),
  array_fill('1'::text, ARRAY[cardinality(i)]), array_fill(NULL::text, ARRAY[cardinality(i)]),
  array_fill(NULL::text, ARRAY[cardinality(i)]), i) FROM (SELECT $1::text[] AS i) AS ids
"""


async def test_batches_with_the_same_publish_ids_in_another_order_never_deadlock(stage: Stage) -> None:
    async def publish(backwards: bool) -> None:
        connection: Any = await asyncpg.connect(stage.url)
        try:
            for n in range(20):
                ids = [f"p{n}-{each}" for each in range(50)]
                await connection.execute(BATCH, ids[::-1] if backwards else ids)
        finally:
            connection.terminate()

    await asyncio.gather(publish(False), publish(True), publish(True))
    assert await stage.value("SELECT count(*) FROM streamhub.outbox") == 20 * 50


# -- what is refused


REFUSED: Final = (
    "NULL, 'a', '1'",
    "'', 'a', '1'",
    "repeat('o', 256), 'a', '1'",
    "'org_1', NULL, '1'",
    "'org_1', 'a', NULL",
    "'org_1', 'a', to_json(repeat('a', 1048576))",
    "'org_1', 'a', '1', test => NULL",
)


async def test_what_is_no_event_is_refused(stage: Stage) -> None:
    for arguments in REFUSED:
        with pytest.raises(asyncpg.InvalidParameterValueError, match=r"^streamhub\.publish: "):
            await stage.sql(f"SELECT streamhub.publish({arguments})")


async def is_published(stage: Stage, **arguments: str) -> bool:
    names = ", ".join(f"{name} => ${n}" for n, name in enumerate(arguments, 1))
    try:
        async with stage.connection.transaction():
            await stage.connection.fetchval(
                f"SELECT streamhub.publish(organization => 'org_1', data => '1', {names})", *arguments.values()
            )
    except asyncpg.InvalidParameterValueError:
        return False
    return True


@QUICKLY
@given(
    st.from_regex(
        r"[A-Za-z0-9_.-]{0,4}(\.?(heartbeat|gap|stream_error|replay_started|stream_complete))?.?", fullmatch=True
    )
    | st.text("aZ0_-. \n\u00e9", max_size=6)
    | st.integers(250, 260).map("a".__mul__)
)
async def test_sql_judges_a_type_as_http_does(stage: Stage, type_: str) -> None:
    assert await is_published(stage, type=type_.replace("\0", "")) == (wrong_type(type_.replace("\0", "")) is None)


@QUICKLY
@given(
    TEXT | st.integers(250, 260).map("\u00e9".__mul__),
    st.sampled_from(["resource_type", "resource_id", "publish_id"]),
)
async def test_sql_judges_a_name_as_http_does(stage: Stage, value: str, member: str) -> None:
    assert await is_published(stage, type="a.b", **{member: value}) == (wrong_with(value) is None)


async def test_a_session_in_which_a_backslash_means_another_thing_forges_nothing(stage: Stage) -> None:
    """Strings in a function are read as the session has them that calls it."""
    other: Any = await asyncpg.connect(stage.url, server_settings={"standard_conforming_strings": "off"})
    try:
        for type_ in ("a.heartbeat", "gap", "a\nid: 1\ndata: {}\n\nevent: gap", "a/b", "a.b\n"):
            with pytest.raises(asyncpg.InvalidParameterValueError):
                await other.fetchval("SELECT streamhub.publish('org_1', $1, '1')", type_)
        for name in ("a\n", "a\u2028", " a", "a\u3000"):
            with pytest.raises(asyncpg.InvalidParameterValueError):
                await other.fetchval("SELECT streamhub.publish('org_1', 'a', '1', resource_id => $1)", name)
    finally:
        other.terminate()
