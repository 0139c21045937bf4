"""Changes of one row keep the order in which they were made, whatever the application's triggers do in between."""

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamhub import capture
from streamhub.capture import CaptureSpec
from tests.support.stage import Stage, kinds, rebuilt, running

# An AFTER trigger of the application that changes the row itself, or others, some of which the same statement changes.
APPLICATION = """
CREATE TABLE skus (id int PRIMARY KEY, organization_id text DEFAULT 'org_1', n int DEFAULT 0, note text);
CREATE FUNCTION application() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  {body}
  RETURN NULL;
END $$;
CREATE TRIGGER "{name}" AFTER INSERT OR UPDATE OR DELETE ON skus FOR EACH ROW {when} EXECUTE FUNCTION application();
"""
BODIES = {
    "the same row": "UPDATE skus SET n = n + 1 WHERE id = NEW.id AND n < 3;",
    "the next row": "UPDATE skus SET n = n + 1 WHERE id = NEW.id + 1 AND n < 3;",
    "the row before": "UPDATE skus SET n = n + 1 WHERE id = NEW.id - 1 AND n < 3;",
    "every row": "IF pg_trigger_depth() = 1 THEN UPDATE skus SET n = n + 1; END IF;",
    "every row, deeper": "IF pg_trigger_depth() < 4 THEN UPDATE skus SET n = n + 1 WHERE id <> NEW.id; END IF;",
    "rows that it deletes": "IF pg_trigger_depth() = 1 THEN DELETE FROM skus WHERE id = NEW.id + 1; END IF;",
    "rows that it replaces": (
        "IF pg_trigger_depth() = 1 AND TG_OP = 'UPDATE' THEN DELETE FROM skus WHERE id = NEW.id + 1; "
        "INSERT INTO skus VALUES (NEW.id + 1) ON CONFLICT DO NOTHING; END IF;"
    ),
    "rows whose key it changes": (
        "IF pg_trigger_depth() = 1 THEN UPDATE skus SET id = id + 1000 WHERE id = NEW.id + 1; END IF;"
    ),
}


async def follows(stage: Stage) -> None:
    """What a consumer holds who applied every event in turn is what the table holds."""
    held = {int(id_): row for (_, _, id_), row in rebuilt(await stage.history()).items()}
    table = dict(await stage.rows("SELECT id, n FROM skus"))
    assert {id_: row["n"] for id_, row in held.items()} == table


@pytest.mark.parametrize("name", [" before", "zz"])
@pytest.mark.parametrize("body", BODIES)
async def test_rows_that_a_trigger_changes_within_the_statement_stay_in_order(
    stage: Stage, body: str, name: str
) -> None:
    await stage.sql(APPLICATION.format(body=BODIES[body], name=name, when=""))
    await stage.add()
    await stage.sql(
        "INSERT INTO skus SELECT i FROM generate_series(1, 6) AS i",
        "UPDATE skus SET n = 0",
        "BEGIN; UPDATE skus SET n = -1 WHERE id IN (2, 3); UPDATE skus SET n = 0; "
        "DELETE FROM skus WHERE id = 4; COMMIT",
    )
    await stage.relayed()
    await follows(stage)


@pytest.mark.runs_once
@pytest.mark.parametrize("batch", [1, 2, 3, 7])
@pytest.mark.parametrize("body", BODIES)
async def test_a_transaction_that_is_larger_than_a_batch_stays_in_order(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, body: str, batch: int
) -> None:
    monkeypatch.setattr("streamhub.relay.source.BATCH", batch)
    await stage.sql(APPLICATION.format(body=BODIES[body], name="zz", when=""))
    await stage.add()
    await stage.sql("INSERT INTO skus SELECT i FROM generate_series(1, 5) AS i", "UPDATE skus SET n = 0")
    await stage.relayed()
    await follows(stage)


FUNCTION = """
CREATE TABLE skus (id int PRIMARY KEY, organization_id text DEFAULT 'org_1', n int DEFAULT 0, note text);
CREATE FUNCTION bump(which int) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
  UPDATE skus SET n = n + 10 WHERE id = which;
  RETURN which;
END $$;
"""


@pytest.mark.runs_once
@pytest.mark.parametrize("batch", [1, 2, 2000])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE skus SET n = n + 1 RETURNING bump(id)",
        "INSERT INTO skus SELECT i FROM generate_series(10, 13) AS i RETURNING bump(id)",
        "WITH changed AS (UPDATE skus SET n = n + 1 RETURNING id) SELECT bump(id) FROM changed",
    ],
)
async def test_rows_that_a_function_changes_within_the_statement_stay_in_order(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, statement: str, batch: int
) -> None:
    monkeypatch.setattr("streamhub.relay.source.BATCH", batch)
    await stage.sql(FUNCTION)
    await stage.add()
    await stage.sql("INSERT INTO skus SELECT i FROM generate_series(1, 4) AS i")
    await stage.sql(statement)
    await stage.relayed()
    await follows(stage)


async def test_a_trigger_within_a_savepoint_that_is_rolled_back_leaves_the_rest_in_order(stage: Stage) -> None:
    await stage.sql(APPLICATION.format(body=BODIES["every row, deeper"], name="zz", when=""))
    await stage.add()
    await stage.sql("INSERT INTO skus SELECT i FROM generate_series(1, 3) AS i")
    await stage.sql(
        "BEGIN; UPDATE skus SET n = 0; SAVEPOINT s; UPDATE skus SET n = 50; ROLLBACK TO s; SAVEPOINT s2; "
        "UPDATE skus SET n = 7 WHERE id = 2; RELEASE s2; UPDATE skus SET n = 9; COMMIT"
    )
    await stage.relayed()
    await follows(stage)


async def test_a_transaction_with_more_out_of_order_than_is_kept_in_memory_stays_in_order(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamhub.relay.source.BATCH", 3)
    monkeypatch.setattr("streamhub.relay.lookahead.MOST_LATE", 4)
    await stage.sql(APPLICATION.format(body=BODIES["the next row"], name="zz", when=""))
    await stage.add()
    await stage.sql("INSERT INTO skus SELECT i FROM generate_series(1, 20) AS i", "UPDATE skus SET n = 0")
    await stage.relayed()
    await follows(stage)


async def test_a_table_truncated_twice_in_its_transaction_stays_in_order(stage: Stage) -> None:
    await stage.shop()
    await stage.sql(
        "BEGIN; TRUNCATE skus; INSERT INTO skus VALUES (1, 'org_1', 1, 'a'); UPDATE skus SET price = 2; TRUNCATE skus; "
        "INSERT INTO skus VALUES (1, 'org_1', 5, 'a'); UPDATE skus SET price = 6; TRUNCATE skus; "
        "INSERT INTO skus VALUES (1, 'org_1', 7, 'a'); UPDATE skus SET price = 8; COMMIT"
    )
    events = await stage.relayed()
    assert kinds(events) == [("create", "1"), ("update", "1"), ("destroy", "1")] * 2 + [
        ("create", "1"),
        ("update", "1"),
    ]
    rebuilt(events)


@pytest.mark.parametrize("batch", [1, 3, 2000])
async def test_cascades_of_a_table_to_itself_stay_in_order(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr("streamhub.relay.source.BATCH", batch)
    await stage.sql(
        "CREATE TABLE skus (id int PRIMARY KEY, organization_id text DEFAULT 'org_1', n int DEFAULT 0, "
        "parent int REFERENCES skus ON UPDATE CASCADE ON DELETE SET NULL)",
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF pg_trigger_depth() < 3 THEN UPDATE skus SET n = n + 1 WHERE parent = NEW.id; END IF; RETURN NULL; END $$",
        "CREATE TRIGGER touch AFTER UPDATE ON skus FOR EACH ROW EXECUTE FUNCTION touch()",
    )
    await stage.add()
    await stage.sql(
        "INSERT INTO skus SELECT i, 'org_1', 0, CASE WHEN i > 1 THEN i - 1 END FROM generate_series(1, 5) AS i",
        "UPDATE skus SET id = id + 100, n = 1",
        "DELETE FROM skus WHERE id = 103",
    )
    await stage.relayed()
    await follows(stage)


STATEMENTS = st.lists(
    st.one_of(
        st.integers(1, 6).map("INSERT INTO skus VALUES ({}) ON CONFLICT (id) DO UPDATE SET n = skus.n - 1".format),
        st.tuples(st.integers(1, 6), st.integers(0, 3)).map(lambda p: f"UPDATE skus SET n = {p[1]} WHERE id >= {p[0]}"),
        st.integers(1, 6).map("DELETE FROM skus WHERE id = {}".format),
        st.integers(1, 6).map("UPDATE skus SET n = n + 1 WHERE id <> {} RETURNING bump(id)".format),
        st.sampled_from(["SAVEPOINT a", "ROLLBACK TO a", "RELEASE a", "COMMIT; BEGIN", "TRUNCATE skus"]),
    ),
    min_size=2,
    max_size=12,
)


@pytest.mark.runs_once
@settings(max_examples=25, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(statements=STATEMENTS, body=st.sampled_from(list(BODIES)), batch=st.sampled_from([1, 3, 2000]))
async def test_whatever_the_application_does_a_consumer_can_follow_it(
    stage: Stage, statements: list[str], body: str, batch: int
) -> None:
    await stage.sql(
        "ROLLBACK", "DROP TABLE IF EXISTS skus", "DROP FUNCTION IF EXISTS application, bump",
        "TRUNCATE streamhub_hub.history",
        APPLICATION.format(body=BODIES[body], name="zz", when=""), FUNCTION.split(";", 1)[1],
    )  # fmt: skip
    await capture.add(stage.connection, CaptureSpec("skus", "skus", organization_column="organization_id"))
    await stage.sql("BEGIN")
    saved = False
    for statement in statements:
        if statement in ("ROLLBACK TO a", "RELEASE a") and not saved:
            continue
        saved = statement == "SAVEPOINT a" or (saved and statement not in ("RELEASE a", "COMMIT; BEGIN"))
        try:
            await stage.sql(statement)
        except asyncpg.TriggeredDataChangeViolationError:  # a function changed what its own statement is changing
            await stage.sql("ROLLBACK", "BEGIN")
            saved = False
    await stage.sql("COMMIT")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streamhub.relay.source.BATCH", batch)
        async with running(stage.relay()):
            await stage.drained()
    await follows(stage)
