"""How values of every type arrive, and that neither they nor the writer's session make a statement fail or differ."""

import json
from collections.abc import Mapping
from typing import Any, Final

import asyncpg
import pytest

from tests.support.event_schema import check_events
from tests.support.hub import new_database
from tests.support.stage import Event, Stage, kinds, one

TYPES = """
CREATE TYPE size AS (width bigint, name text, dims numeric[]);
CREATE TYPE box_of AS (inner_size size, data bytea);
CREATE DOMAIN amount AS numeric CHECK (value > -1000000);
CREATE DOMAIN amounts AS amount[];
CREATE TYPE mood AS ENUM ('ok', 'it''s "bad"');
"""


async def stored(stage: Stage, type_: str, value: str) -> Any:
    await stage.sql(TYPES, f"CREATE TABLE t (id int PRIMARY KEY, organization_id text, v {type_})")
    await stage.add("t")
    await stage.sql(f"INSERT INTO t VALUES (1, 'org_1', {value})")
    event = one(await stage.relayed())
    assert "error" not in event
    assert event["delta"].get("v", {"to": None})["to"] == event["resource"]["v"]
    return event["resource"]["v"]


VALUES: Final = [
    ("bigint", "-9223372036854775808", "-9223372036854775808"),
    ("numeric", "0.1000000000000000000000001", "0.1000000000000000000000001"),
    ("numeric(40,2)", "1e30", "1" + "0" * 30 + ".00"),
    ("numeric", "'NaN'", "NaN"),
    ("numeric", "'-Infinity'", "-Infinity"),
    ("amount", "12.50", "12.50"),
    ("amounts", "ARRAY[1.5, NULL, 2]", ["1.5", None, "2"]),
    ("int", "7", 7),
    ("smallint", "7", 7),
    ("float8", "0.1", 0.1),
    ("float8", "1e300", 1e300),
    ("float8", "'NaN'", "NaN"),
    ("float8", "'-Infinity'", "-Infinity"),
    ("real", "'Infinity'", "Infinity"),
    ("boolean", "true", True),
    ("bytea", "'\\xdeadbeef'", "3q2+7w=="),
    ("bytea", "''", ""),
    ("bytea", "decode(repeat('61', 100), 'hex')", "YWFh" * 33 + "YQ=="),
    ("bytea[]", "ARRAY['\\xff'::bytea, NULL]", ["/w==", None]),
    ("bigint[]", "ARRAY[9007199254740993, NULL]", ["9007199254740993", None]),
    ("bigint[]", "ARRAY[[1,2],[3,4]]", [["1", "2"], ["3", "4"]]),
    ("numeric[]", "ARRAY['NaN', 1]::numeric[]", ["NaN", "1"]),
    ("bigint[]", "'{}'", []),
    ("int[]", "ARRAY[1,2]", [1, 2]),
    ("text[]", "ARRAY['a,b', '\"', NULL]", ["a,b", '"', None]),
    ("json[]", "ARRAY['[1]'::json]", [[1]]),
    ("size", "ROW(9007199254740993, 'a', ARRAY[1.50])", {
        "width": "9007199254740993", "name": "a", "dims": ["1.50"],
    }),
    ("size[]", "ARRAY[ROW(1, 'a', NULL)::size]", [{"width": "1", "name": "a", "dims": None}]),
    ("box_of", "ROW(ROW(1, 'a', NULL)::size, '\\xff')", {
        "inner_size": {"width": "1", "name": "a", "dims": None}, "data": "/w==",
    }),
    ("size", "NULL", None),
    ("mood", "'it''s \"bad\"'", 'it\'s "bad"'),
    ("timestamptz", "'2026-11-22 12:00:00.5+02'", "2026-11-22T10:00:00.5+00:00"),
    ("timestamptz", "'infinity'", "infinity"),
    ("timestamptz", "'0044-03-15 12:00:00+00 BC'", "0044-03-15T12:00:00+00:00 BC"),
    ("timestamp", "'2026-11-22 12:00:00'", "2026-11-22T12:00:00"),
    ("date", "'2026-11-22'", "2026-11-22"),
    ("time", "'12:00'", "12:00:00"),
    ("interval", "'1 day 02:00'", "1 day 02:00:00"),
    ("money", "12345.67", "$12,345.67"),
    ("int8range", "'[1,5)'", "[1,5)"),
    ("tstzrange", "'[2026-01-01 12:00+02,)'", '["2026-01-01 10:00:00+00",)'),
    ("numrange", "'[1.5,]'", "[1.5,)"),
    ("uuid", "'AB3C1E60-0000-7000-8000-000000000000'", "ab3c1e60-0000-7000-8000-000000000000"),
    ("inet", "'10.0.0.1/8'", "10.0.0.1/8"),
    ("bit(3)", "B'101'", "101"),
    ("point", "'(1,2)'", "(1,2)"),
    ("tsvector", "'a:1 b:2'", "'a':1 'b':2"),
    ("regclass", "'pg_class'", "pg_class"),
    ("jsonb", "'{\"b\": 1.50, \"a\": 9007199254740993}'", {"b": 1.50, "a": 9007199254740993}),
    ("json", "'{\"b\":\n\t1,\r\n\"a\":[]}'", {"b": 1, "a": []}),
    ("json", "'\"a\\u0000b\"'", "a\0b"),
    ("json", "'{\"a\":1,\"a\":2}'", {"a": 2}),
    ("text", "E'tab\\t \\u2028 \\U0001F600 \\\\ \\n\\r'", "tab\t \u2028 \U0001f600 \\ \n\r"),
    ("char(3)", "'a'", "a  "),
    ("hstore_like", "NULL", None),
]  # fmt: skip
"""(type, value, what is shown of it)"""


@pytest.fixture(scope="module")
async def arrived(postgres_url: str, template: str) -> Mapping[str, Event]:
    """The event of each of VALUES; the row of the one at `n` is that of the table `t<n>`."""
    async with new_database(postgres_url, template) as url:
        stage = Stage(url, await asyncpg.connect(url))
        await stage.sql(TYPES, "CREATE DOMAIN hstore_like AS text")
        for n, (type_, value, _) in enumerate(VALUES):
            await stage.sql(f"CREATE TABLE t{n} (id int PRIMARY KEY, organization_id text, v {type_})")
            await stage.add(f"t{n}", resource_type=f"t{n}")
            await stage.sql(f"INSERT INTO t{n} VALUES (1, 'org_1', {value})")
        events = {event["resource_type"]: event for event in await stage.relayed()}
        stage.connection.terminate()
    return events


@pytest.mark.parametrize(
    ("table", "shown"),
    [pytest.param(f"t{n}", shown, id=f"{type_}-{value}") for n, (type_, value, shown) in enumerate(VALUES)],
)
async def test_a_value_arrives_as_the_contract_spells_its_type(
    arrived: Mapping[str, Event], table: str, shown: Any
) -> None:
    event = arrived[table]
    check_events([event])
    assert "error" not in event
    assert event["delta"].get("v", {"to": None})["to"] == event["resource"]["v"] == shown


async def test_numbers_in_json_columns_keep_every_digit(stage: Stage) -> None:
    await stored(stage, "json", "'[1.500, 9007199254740993, 1e400, -0]'")
    assert b'"v":[1.500, 9007199254740993, 1e400, -0]' in (await stage.frames())[0]


async def test_a_frame_holds_no_line_break_within_its_data(stage: Stage) -> None:
    await stored(stage, "json", '\'{"b":\n1,\r\n"a":\r2}\'')
    frame = (await stage.frames())[0]
    assert (frame.count(b"\n"), frame.count(b"\r")) == (4, 0)


async def test_a_json_nested_two_thousand_levels_deep_arrives(stage: Stage) -> None:
    await stage.sql("CREATE TABLE t (id int PRIMARY KEY, organization_id text, v json)")
    await stage.add("t")
    deep = "[" * 2000 + "]" * 2000
    await stage.connection.execute("INSERT INTO t VALUES (1, 'org_1', $1)", deep)
    async with stage.relaying():
        await stage.drained()
    frame = (await stage.frames())[0]
    assert deep.encode() in frame or b'"error"' in frame


@pytest.mark.parametrize("document", ['"\\ud800"', '{"a":["\\udc00\\ud800"]}'])
async def test_a_json_with_a_lone_surrogate_arrives_or_is_told_as_an_error(stage: Stage, document: str) -> None:
    await stage.sql("CREATE TABLE t (id int PRIMARY KEY, organization_id text, v json)")
    await stage.add("t")
    await stage.connection.execute("INSERT INTO t VALUES (1, 'org_1', $1)", document)
    event = one(await stage.relayed())
    if event["resource"] is None:
        assert event["delta"] is None
        assert event["error"]
    else:
        assert event["resource"]["v"] == json.loads(document)
    assert (event["resource_id"], event["organization"]["id"], event["event"]) == ("1", "org_1", "create")


async def test_the_line_goes_on_after_a_row_that_cannot_be_rendered(stage: Stage) -> None:
    await stage.sql("CREATE TABLE t (id int PRIMARY KEY, organization_id text, v json)")
    await stage.add("t")
    await stage.connection.execute("INSERT INTO t VALUES (1, 'org_1', $1)", "[" * 3000 + '"\\ud800"' + "]" * 3000)
    await stage.sql("UPDATE t SET v = '1'", "INSERT INTO t VALUES (2, 'org_1', '2')")
    events = await stage.relayed()
    assert kinds(events) == [("create", "1"), ("update", "1"), ("create", "2")]
    assert events[2]["resource"]["v"] == 2


NAMES = [
    'a"b', "a'b", "a b", "é", "a$1", "$1", '($1)."x"', "($1).", "a\\b", "a.b", "%I", "%s", "select", "A", "\u2028",
    "{}",     "a\nb", "organization", "id\t",
]  # fmt: skip


@pytest.mark.parametrize("size", [1, 40_000])
async def test_odd_names_of_columns_tables_and_schemas_are_quoted_everywhere(stage: Stage, size: int) -> None:
    def quoted(name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    table, key = quoted("my $1 schema") + "." + quoted('t"able $1 é'), quoted("($1).key")
    columns = ", ".join(f"{quoted(name)} text DEFAULT 'x'" for name in NAMES)
    await stage.sql('CREATE SCHEMA "my $1 schema"', f"CREATE TABLE {table} ({key} int PRIMARY KEY, {columns})")
    await stage.add(table, organization_column="($1).")
    await stage.connection.execute(f'INSERT INTO {table} ({key}, "$1") VALUES (1, $1)', "y" * size)
    await stage.sql(f"""UPDATE {table} SET "$1" = repeat('z', {size})""", f"TRUNCATE {table}")
    events = await stage.relayed()
    assert kinds(events) == [("create", "1"), ("update", "1"), ("destroy", "1")]
    assert set(events[0]["resource"]) == {"($1).key", *NAMES}


SETTINGS = {
    "TimeZone": "Asia/Kolkata",
    "DateStyle": "German, DMY",
    "IntervalStyle": "sql_standard",
    "bytea_output": "escape",
    "extra_float_digits": "-10",
    "lc_monetary": "C.UTF-8",
    "quote_all_identifiers": "on",
    "search_path": "nowhere",
    "standard_conforming_strings": "on",
    "row_security": "off",
    "client_encoding": "LATIN1",
    "xmlbinary": "hex",
    "plpgsql.extra_errors": "all",
    "default_toast_compression": "pglz",
    "transform_null_equals": "on",
    "enable_seqscan": "off",
    "plan_cache_mode": "force_generic_plan",
    "check_function_bodies": "off",
    "default_transaction_isolation": "serializable",
    "synchronous_commit": "off",
}
WIDE = """
CREATE TABLE public.wide (id int PRIMARY KEY, organization_id text, tz timestamptz, d date, i interval, b bytea,
                          f float8, m money, r regclass, n numeric, rt regtype, tr tstzrange, filler text)
"""
ROW = """
(1, 'org_1', '2026-01-02 03:04:05.123456+00', '2026-01-02', '1 year 2 mons 3 days 04:05:06.7',
 '\\x00ff', 0.30000000000000004, '1234.50', 'public.wide', 1.10, 'timestamp with time zone',
 '[2026-01-01 00:00+00,2026-02-01 00:00+00)', {filler})
"""


@pytest.mark.parametrize("filler", ["'x'", "(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 3000) AS i)"])
async def test_the_text_of_an_event_does_not_depend_on_the_writers_session(stage: Stage, filler: str) -> None:
    await stage.sql(WIDE)
    await stage.add("public.wide")
    insert = f"INSERT INTO public.wide VALUES {ROW.format(filler=filler)}"
    await stage.sql(insert, "UPDATE public.wide SET n = 2", "DELETE FROM public.wide")
    for name, value in SETTINGS.items():
        writer = await asyncpg.connect(stage.url)
        # Values are read in the default style and written in the session's.
        await writer.execute(
            "BEGIN; SET LOCAL DateStyle = 'ISO, MDY'; "
            + ("" if name == "DateStyle" else f"SET LOCAL {name} = '{value}'; ")
            + f"{insert}; "
            + (f"SET LOCAL DateStyle = '{value}'; " if name == "DateStyle" else "")
            + "UPDATE public.wide SET n = 2; DELETE FROM public.wide; COMMIT"
        )
        await writer.close()
    events = await stage.relayed()
    assert len(events) == 3 * (1 + len(SETTINGS))

    def values(event: dict[str, Any]) -> tuple[str, str]:
        return json.dumps(event["resource"]), json.dumps(event["delta"])

    for number, name in enumerate(SETTINGS, 1):
        assert list(map(values, events[3 * number : 3 * number + 3])) == list(map(values, events[:3])), name


async def test_a_truncate_gives_the_same_text_in_every_session(stage: Stage) -> None:
    await stage.sql(WIDE)
    await stage.add("public.wide")
    await stage.sql(
        "INSERT INTO public.wide VALUES " + ROW.format(filler="'x'"),
        "SET TimeZone = 'Asia/Kolkata'; SET DateStyle = 'German'; SET bytea_output = 'escape'; SET search_path = ''; "
        "SET quote_all_identifiers = on; SET IntervalStyle = 'iso_8601'; SET extra_float_digits = -5",
        "TRUNCATE public.wide",
        "RESET ALL",
    )
    create, destroy = await stage.relayed()
    assert destroy["resource"] == create["resource"]


@pytest.mark.parametrize("compressible", [True, False])
@pytest.mark.parametrize("size", [70, 1000])
async def test_a_row_over_64_kib_arrives_whole(stage: Stage, size: int, compressible: bool) -> None:
    await stage.shop()
    text = "x" * (size * 1024) if compressible else "".join(chr(33 + i * i % 89) for i in range(size * 1024))
    if not compressible:
        await stage.sql("ALTER TABLE skus ALTER note SET STORAGE EXTERNAL")
    await stage.connection.execute("INSERT INTO skus VALUES (1, 'org_1', 1, $1)", text)
    await stage.sql("UPDATE skus SET price = 2", "DELETE FROM skus")
    events = await stage.relayed()
    assert [event["resource"]["note"] == text for event in events] == [True, True, True]
    assert list(events[1]["delta"]) == ["price"]


@pytest.mark.runs_once
async def test_a_row_of_80_mb_is_written_and_its_event_tells_that_it_is_too_large(stage: Stage) -> None:
    await stage.shop()
    await stage.sql(
        "ALTER TABLE skus ALTER note SET STORAGE EXTERNAL",
        "INSERT INTO skus VALUES (1, 'org_1', 1, repeat('x', 80000000))",
        "UPDATE skus SET price = 2",
        "UPDATE skus SET id = 2",
        "UPDATE skus SET organization_id = 'org_2'",
        "TRUNCATE skus",
    )
    events = await stage.relayed()
    assert [(e["event"], e["resource_id"], e["organization"]["id"]) for e in events] == [
        ("create", "1", "org_1"), ("update", "1", "org_1"), ("destroy", "1", "org_1"), ("create", "2", "org_1"),
        ("destroy", "2", "org_1"), ("create", "2", "org_2"), ("destroy", "2", "org_2"),
    ]  # fmt: skip
    assert {(e["resource"], e["delta"], e["too_large"]) for e in events} == {(None, None, True)}


@pytest.mark.runs_once
async def test_a_value_that_json_makes_larger_than_a_gigabyte_does_not_fail_the_statement(stage: Stage) -> None:
    await stage.sql("CREATE TABLE t (id int PRIMARY KEY, organization_id text, v text)")
    await stage.add("t")
    await stage.sql("INSERT INTO t VALUES (1, 'org_1', repeat(chr(1), 200000000))")
    event = one(await stage.relayed())
    assert (event["too_large"], event["resource"]) == (True, None)


async def test_an_event_over_the_limit_goes_without_its_values(stage: Stage) -> None:
    stage.max_event_bytes = 20_000
    await stage.shop()
    await stage.connection.execute("INSERT INTO skus VALUES (1, 'org_1', 1, $1)", "x" * 30_000)
    await stage.sql("INSERT INTO skus VALUES (2, 'org_1', 1, 'small')")
    large, small = await stage.relayed()
    assert (large["resource"], large["delta"], large["too_large"]) == (None, None, True)
    assert "too_large" not in small


@pytest.mark.parametrize("over", [-1300, -1000, -500, 0, 500])
async def test_no_event_ever_exceeds_the_limit(stage: Stage, over: int) -> None:
    stage.max_event_bytes = 20_000
    await stage.shop(type_names={"create": "t" * 255})
    await stage.connection.execute("INSERT INTO skus VALUES (1, $1, 1, $2)", "o" * 255, "x" * ((20_000 + over) // 2))
    event = one(await stage.relayed())
    assert len(json.dumps(event, separators=(",", ":"))) <= 20_000


async def test_a_huge_who_is_left_out_before_the_limit_is_passed(stage: Stage) -> None:
    stage.max_event_bytes = 20_000
    await stage.shop()
    async with stage.connection.transaction():
        await stage.value("SELECT set_config('streamhub.who', $1, true)", "w" * 30_000)
        await stage.sql("INSERT INTO skus VALUES (1, 'org_1', 1, 'a')")
    event = one(await stage.relayed())
    assert (event["who"], event["too_large"]) == (None, True)


@pytest.mark.needs_postgres_18
async def test_a_virtual_generated_column_is_not_shown(stage: Stage) -> None:
    await stage.sql("CREATE TABLE t (id int PRIMARY KEY, organization_id text, twice int GENERATED ALWAYS AS (id * 2))")
    await stage.add("t")
    await stage.sql("INSERT INTO t VALUES (1, 'org_1')")
    assert one(await stage.relayed())["resource"] == {"id": 1, "organization_id": "org_1"}


async def test_a_stored_generated_column_is_shown(stage: Stage) -> None:
    await stage.sql(
        "CREATE TABLE t (id int PRIMARY KEY, organization_id text, twice bigint GENERATED ALWAYS AS (id * 2) STORED)"
    )
    await stage.add("t")
    await stage.sql("INSERT INTO t VALUES (1, 'org_1')")
    assert one(await stage.relayed())["resource"]["twice"] == "2"
