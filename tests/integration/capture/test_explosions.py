"""A value that is small where it is stored and huge as a text costs its writer little, and arrives as too large."""

import time
from typing import Any

import pytest

from tests.support.stage import Stage, kinds, one

pytestmark = pytest.mark.runs_once

QUICK = 10.0  # seconds for a statement on a slow machine, of up to two rows; the text itself takes many times that
TYPES = "CREATE TYPE pair AS (n numeric, d jsonb); CREATE DOMAIN doc AS jsonb; CREATE DOMAIN numbers AS numeric[]"


def many(number: str, count: int, made: str = "jsonb_agg(v)") -> str:
    """`made` of so many of a number `v` that is already jsonb: to make each of them one takes seconds."""
    one = f"WITH one AS MATERIALIZED (SELECT to_jsonb({number}) AS v)"
    return f"({one} SELECT {made} FROM one, generate_series(1, {count}) AS i)"


LARGE = "1e131071::numeric"
HUGE = {
    "jsonb, large": ("jsonb", many(LARGE, 9000)),
    "jsonb, large negative": ("jsonb", many(f"-{LARGE}", 9000)),
    "jsonb, as keys' values": ("jsonb", many(LARGE, 9000, "jsonb_object_agg('k' || i, v)")),
    "jsonb, nested": ("jsonb", many(LARGE, 9000, "jsonb_agg(jsonb_build_object('a', jsonb_build_array(v)))")),
    "jsonb, small": ("jsonb", many("1e-16383::numeric", 40000)),
    "jsonb, zeros of many digits": ("jsonb", many("0::numeric(1000,0) * 1e-16383", 60000)),
    "a domain over jsonb": ("doc", many(LARGE, 9000)),
    "numeric[]": ("numeric[]", "ARRAY(SELECT 1e131071::numeric FROM generate_series(1, 9000))"),
    "numeric[] of zeros": ("numeric[]", "ARRAY(SELECT 0 * 1e-16383::numeric FROM generate_series(1, 60000))"),
    "a domain over numeric[]": ("numbers", "ARRAY(SELECT 1e131071::numeric FROM generate_series(1, 9000))"),
    "numrange[]": ("numrange[]", "ARRAY(SELECT numrange(1e131070, 1e131071) FROM generate_series(1, 9000))"),
    "nummultirange": (
        "nummultirange",
        "(SELECT range_agg(numrange(('1e' || i)::numeric, ('2e' || i)::numeric)) "  # noqa: ISC004
        "FROM generate_series(100000, 104000) AS i)",
    ),
    "array of jsonb": ("jsonb[]", many(LARGE, 5000, "array_agg(jsonb_build_array(v, v))")),
    "composite": ("pair", f"ROW(1, {many(LARGE, 9000)})::pair"),
    "array of composites": (
        "pair[]", "ARRAY(SELECT ROW(1e131071::numeric, NULL)::pair FROM generate_series(1, 9000))",
    ),
}  # fmt: skip


async def seconds(stage: Stage, statement: str) -> float:
    began = time.monotonic()
    await stage.sql(statement)
    return time.monotonic() - began


@pytest.mark.parametrize(("type_", "value"), HUGE.values(), ids=HUGE.keys())
async def test_a_value_that_explodes_is_written_at_once_and_told_as_too_large(
    stage: Stage, type_: str, value: str
) -> None:
    await stage.sql(TYPES, f"CREATE TABLE t (id int PRIMARY KEY, organization_id text, v {type_}, n int)")
    await stage.sql(f"CREATE TABLE plain (v {type_})", f"INSERT INTO plain VALUES ({value})")
    await stage.add("t")
    took = [
        await seconds(stage, statement)
        for statement in (
            "INSERT INTO t SELECT 1, 'org_1', v, 1 FROM plain", "UPDATE t SET n = 2", "UPDATE t SET id = 2", "DELETE FROM t",  # noqa: E501
            "INSERT INTO t SELECT 3, 'org_1', v, 1 FROM plain", "TRUNCATE t",
        )
    ]  # fmt: skip
    assert max(took) < QUICK, took
    events = await stage.relayed()
    assert kinds(events) == [
        ("create", "1"), ("update", "1"), ("destroy", "1"), ("create", "2"), ("destroy", "2"), ("create", "3"),
        ("destroy", "3"),
    ]  # fmt: skip
    assert {(e["resource"], e["delta"], e.get("too_large")) for e in events} == {(None, None, True)}


@pytest.mark.parametrize("type_", ["jsonb", "numeric[]"])
async def test_a_column_that_explodes_and_was_renamed_is_still_told_as_too_large(stage: Stage, type_: str) -> None:
    value = HUGE["jsonb, large" if type_ == "jsonb" else "numeric[]"][1]
    await stage.sql(f"CREATE TABLE t (id int PRIMARY KEY, organization_id text, v {type_})")
    await stage.add("t")
    await stage.sql("ALTER TABLE t RENAME v TO w")
    assert await seconds(stage, f"INSERT INTO t VALUES (1, 'org_1', {value})") < QUICK
    assert one(await stage.relayed())["too_large"] is True


USUAL = {
    "jsonb of usual numbers": (
        "jsonb", "(SELECT jsonb_agg(jsonb_build_object('n', i, 'x', i * 0.01, 'z', 0)) FROM generate_series(1, 120000) AS i)",  # noqa: E501
    ),
    "jsonb of zeros": ("jsonb", many("0", 900000)),
    "jsonb of long texts": (
        "jsonb", "jsonb_build_object('a', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 150000) AS i))",
    ),
    "numeric[]": ("numeric[]", "ARRAY(SELECT i * 0.01 FROM generate_series(1, 300000) AS i)"),
    "numeric[] of a hundred digits": ("numeric[]", "ARRAY(SELECT 1e99 + i FROM generate_series(1, 20000) AS i)"),
    "one number of many digits": ("jsonb", "jsonb_build_array(1e1000)"),
    "one numeric of the most digits": ("numeric", "1e131071::numeric + 0.5"),
}  # fmt: skip


@pytest.mark.parametrize(("type_", "value"), USUAL.values(), ids=USUAL.keys())
async def test_a_large_document_of_usual_numbers_arrives_whole(stage: Stage, type_: str, value: str) -> None:
    await stage.sql(f"CREATE TABLE t (id int PRIMARY KEY, organization_id text, v {type_})")
    await stage.add("t")
    await stage.sql(f"INSERT INTO t VALUES (1, 'org_1', {value})")
    length = await stage.value("SELECT length(v::text) FROM t")
    event = one(await stage.relayed())
    assert (event.get("too_large"), event.get("error")) == (None, None), length
    assert _size(event["resource"]["v"]) > 0


def _size(value: Any) -> int:
    return len(str(value))


async def test_who_counts_in_what_an_event_may_hold(stage: Stage) -> None:
    """100 rows of one transaction with a note of 1 MB each."""
    await stage.shop()
    async with stage.connection.transaction():
        await stage.value("SELECT set_config('streamhub.who', repeat('w', 1000000), true)")
        await stage.sql("INSERT INTO skus SELECT i, 'org_1', 1, 'a' FROM generate_series(1, 100) AS i")
    events = await stage.relayed()
    assert len(events) == 100
    assert {len(event["who"]) for event in events} == {1_000_000}
