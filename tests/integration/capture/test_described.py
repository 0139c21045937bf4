"""A row that is written as a record's text gives the same JSON as one that row_to_json writes, for every type."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.capture.test_values import TYPES as COMPOSITES
from tests.support.stage import Event, Stage, kinds, running

# Each built-in kind, with values that are hard to write.
VALUES: dict[str, list[str]] = {
    "bigint": ["-9223372036854775808", "0"],
    "smallint": ["-32768"],
    "int": ["2147483647"],
    "oid": ["4294967295"],
    "numeric": ["'NaN'", "'-Infinity'", "0.1000000000000000000000001", "1e40", "1e-40", "0"],
    "numeric(40,2)": ["1e30"],
    "float8": ["'NaN'", "'-Infinity'", "0.1", "1e300", "'-0'", "5e-324"],
    "real": ["'Infinity'", "0.1", "1e-40"],
    "boolean": ["true", "false"],
    "text": ["''", "'null'", "'NULL'", "E'\\t\\n\\r\\\\ \\u2028 \\U0001F600'", "'a\"b'", "'(a,b)'", "'{a,b}'", "' '"],
    "varchar(5)": ["'a,b'"],
    "char(5)": ["'a'", "''"],
    "name": ["'a\"b'"],
    '"char"': ["'\"'", "''"],
    "bytea": ["'\\xdeadbeef'", "''", "decode(repeat('61', 100), 'hex')"],
    "json": ["'{\"b\":\n\t1,\r\n\"a\":[]}'", "'\"\\u0000\"'", "'{\"a\":1,\"a\":2}'", "'[1.500, 1e400, -0]'", "'null'"],
    "jsonb": ["'{\"b\": 1.50, \"a\": 9007199254740993}'", "'null'", "'\"a\\\\b\"'"],
    "timestamptz": ["'2026-11-22 12:00:00.5+02'", "'infinity'", "'-infinity'", "'0044-03-15 12:00:00+00 BC'",
                    "'294276-12-31 23:59:59+00'"],
    "timestamp": ["'2026-11-22 12:00:00'", "'infinity'", "'0044-03-15 12:00:00.000001 BC'"],
    "date": ["'2026-11-22'", "'infinity'", "'0044-03-15 BC'"],
    "time": ["'12:00'", "'24:00'"],
    "timetz": ["'12:00+05:30'"],
    "interval": ["'1 year 2 mons -3 days 04:05:06.7'", "'0'"],
    "money": ["12345.67", "-0.01"],
    "uuid": ["'ab3c1e60-0000-7000-8000-000000000000'"],
    "inet": ["'10.0.0.1/8'", "'::1'"],
    "macaddr": ["'08:00:2b:01:02:03'"],
    "bit(3)": ["B'101'"],
    "varbit": ["B''"],
    "point": ["'(1,2)'"],
    "box": ["'(2,2),(1,1)'"],
    "polygon": ["'((0,0),(0,1),(1,1))'"],
    "tsvector": ["'a:1 b:2'", "$$'it''s':1A$$"],
    "tsquery": ["$$'a' & 'b'$$"],
    "pg_lsn": ["'16/B374D848'"],
    "regclass": ["'pg_class'"],
    "int2vector": ["'1 2'"],
    "oidvector": ["'1 2'"],
    "int8range": ["'[1,5)'", "'empty'", "'(,)'"],
    "numrange": ["'[1.5,]'"],
    "tstzrange": ["'[2026-01-01 12:00+02,)'"],
    "daterange": ["'[2026-01-01,2026-02-01)'"],
    "int8multirange": ["'{[1,5),[7,9)}'", "'{}'"],
    "int[]": ["'{}'", "'{1,NULL}'", "'{{1,2},{3,NULL}}'", "'[2:3]={1,2}'", "'[0:0][-1:0]={{1,2}}'"],
    "bigint[]": ["'{9007199254740993,NULL}'", "'{{{1},{2}},{{3},{4}}}'"],
    "numeric[]": ["'{NaN,1.50,NULL}'"],
    "float8[]": ["'{NaN,Infinity,0.1}'"],
    "boolean[]": ["'{t,f,NULL}'"],
    "text[]": ["ARRAY['a,b', '\"', NULL, 'NULL', '', '{', '\\', ' ', E'\\n']", "'{{a},{b}}'"],
    "char(3)[]": ["'{a,NULL}'"],
    "bytea[]": ["ARRAY['\\xff'::bytea, NULL, '']"],
    "json[]": ["ARRAY['[1]'::json, NULL, '{\"a\": \"b,c\"}', 'null']"],
    "jsonb[]": ["ARRAY['{\"a\": 1.50}'::jsonb]"],
    "timestamptz[]": ["ARRAY['2026-01-01 00:00+02'::timestamptz, 'infinity']"],
    "box[]": ["ARRAY['(2,2),(1,1)'::box, '(4,4),(3,3)']"],
    "date[]": ["ARRAY['2026-01-01'::date]"],
    "uuid[]": ["ARRAY['ab3c1e60-0000-7000-8000-000000000000'::uuid]"],
    "int4range[]": ["ARRAY['[1,5)'::int4range, NULL]"],
    "size": ["ROW(9007199254740993, 'a', ARRAY[1.50, NULL])", "ROW(NULL, NULL, NULL)", "ROW(1, '', '{}')",
             "ROW(1, '(\",\\', NULL)"],
    "box_of": ["ROW(ROW(1, 'a\"b', NULL)::size, '\\xff')", "ROW(NULL, NULL)"],
    "size[]": ["ARRAY[ROW(1, 'a,\"b\\', ARRAY[1.5])::size, NULL]", "ARRAY[ARRAY[ROW(1, 'a', NULL)::size]]"],
    "box_of[]": ["ARRAY[ROW(ROW(1, 'a,\"b\\', ARRAY[1.5])::size, '\\x00')::box_of]"],
    "amounts": ["ARRAY[1.5, NULL]::amounts"],
}  # fmt: skip
FORMS = {
    "record": "ALTER TABLE {} ADD extra mood DEFAULT 'ok'",
    "described": "ALTER TABLE {} ADD extra size DEFAULT ROW(1, 'a', NULL)",
}


async def one_in_json(stage: Stage, columns: dict[str, str]) -> None:
    """The same table three times; the one called json has a plain column where the others have a user's type."""
    listed = ", ".join(f"{name} {type_}" for name, type_ in columns.items())
    for name in ("json", *FORMS):
        await stage.sql(f"CREATE TABLE \"{name}\" (id int PRIMARY KEY, organization_id text DEFAULT 'org_1', {listed})")
        await stage.sql(FORMS[name].format(f'"{name}"') if name in FORMS else f"ALTER TABLE {name} ADD extra text")
        await stage.add(f'public."{name}"', resource_type=name)


def members(event: Event) -> list[tuple[str, Any]]:
    assert event["resource"] is not None, event
    return [(name, repr(value)) for name, value in event["resource"].items() if name != "extra"]


async def test_every_builtin_type_comes_the_same_in_all_forms(stage: Stage) -> None:
    """Of those that a user's type is in, the form is never JSON: they are compared between the other two."""
    await stage.sql(COMPOSITES)
    user = {"size", "box_of", "size[]", "box_of[]", "amounts"}
    plain = {type_: values for type_, values in VALUES.items() if type_ not in user}
    await one_in_json(stage, {f"c{n}": type_ for n, type_ in enumerate(plain)})
    most = max(map(len, plain.values()))
    for number in range(most + 1):
        row = ", ".join(values[number] if number < len(values) else "NULL" for values in plain.values())
        for name in ("json", *FORMS):
            await stage.sql(f"INSERT INTO \"{name}\" VALUES ({number}, 'org_1', {row})")
    assert [form for (form,) in await stage.rows("SELECT form FROM streamhub.shapes ORDER BY capture")] == [
        "json", "record", "described",
    ]  # fmt: skip
    by_form = shown_by_type(await stage.relayed())
    assert by_form["record"] == by_form["json"]
    assert by_form["described"] == by_form["json"]


def shown_by_type(events: list[Event]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for event in events:
        found.setdefault(event["resource_type"], []).append(members(event))
    return found


@pytest.mark.parametrize("type_", ["size", "box_of", "size[]", "box_of[]"])
async def test_a_composite_comes_as_row_to_json_writes_it_but_for_numbers_and_bytes(stage: Stage, type_: str) -> None:
    await stage.sql(COMPOSITES, f"CREATE TABLE t (id int PRIMARY KEY, organization_id text, v {type_})")
    await stage.add("t")
    for number, value in enumerate(VALUES[type_]):
        await stage.sql(f"INSERT INTO t VALUES ({number}, 'org_1', {value})")
    as_json = [
        eval_(text) for (text,) in await stage.rows("SELECT row_to_json(t)::text FROM t ORDER BY id")
    ]  # fmt: skip
    events = await stage.relayed()
    assert [with_spelling(row) for row in as_json] == [event["resource"] for event in events]


def eval_(text: str) -> Any:
    import json

    return json.loads(text, parse_float=str, parse_int=str)


def with_spelling(row: Any, name: str = "") -> Any:
    """What the contract says beyond row_to_json: bytes are base64; ids of the table are numbers."""
    import base64

    if isinstance(row, dict):
        return {key: int(value) if key == "id" else with_spelling(value, key) for key, value in row.items()}
    if isinstance(row, list):
        return [with_spelling(each, name) for each in row]
    if name == "data" and isinstance(row, str):
        return base64.b64encode(bytes.fromhex(row[2:])).decode()
    return row


TEXTS = st.one_of(
    st.none(), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
    st.text('",\\(){} \nNUL', max_size=12),
)  # fmt: skip


ROWS = st.tuples(TEXTS, st.lists(TEXTS, max_size=4), st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)))


# Each example starts a relay, which takes long: few examples, of many rows.
@pytest.mark.runs_once
@settings(
    max_examples=6, derandomize=True, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(rows=st.lists(ROWS, min_size=8, max_size=16))
async def test_any_text_comes_the_same_in_all_forms(
    stage: Stage, rows: list[tuple[str | None, list[str | None], int | None]]
) -> None:
    if not await stage.value("SELECT to_regtype('mood') IS NOT NULL"):
        await stage.sql(COMPOSITES)
        await one_in_json(stage, {"a": "text", "b": "text[]", "c": "bigint", "d": "json", "e": "varchar"})
    await stage.sql("TRUNCATE streamhub_hub.history", "TRUNCATE streamhub.outbox")
    for name in ("json", *FORMS):
        for row in rows:
            await stage.connection.execute(
                f'INSERT INTO "{name}" (id, a, b, c, d, e) SELECT (SELECT count(*) FROM "{name}"), $1, $2, $3, '
                "to_json(ARRAY[$1]), $1",
                *row,
            )
    async with running(stage.relay()):
        await stage.drained()
    events = await stage.history()
    by_form = shown_by_type(events)
    assert by_form["json"] == by_form["record"] == by_form["described"]
    resources = [event["resource"] for event in events if event["resource_type"] == "json"]
    assert [(each["a"], each["b"], each["d"]) for each in resources] == [
        (text, texts, [text]) for text, texts, _ in rows
    ]


ALTERS = {
    "ADD": ("ALTER TYPE size ADD ATTRIBUTE height bigint", "ROW(1, 'a', NULL, 2)",
            {"width": "1", "name": "a", "dims": None, "height": "2"}),
    "DROP": ("ALTER TYPE size DROP ATTRIBUTE name", "ROW(1, NULL)", {"width": "1", "dims": None}),
    "RENAME": ("ALTER TYPE size RENAME ATTRIBUTE name TO title", "ROW(1, 'a', NULL)",
               {"width": "1", "title": "a", "dims": None}),
    "swap": (
        "ALTER TYPE size RENAME ATTRIBUTE name TO x; ALTER TYPE size RENAME ATTRIBUTE width TO name; "  # noqa: ISC004
        "ALTER TYPE size RENAME ATTRIBUTE x TO width", "ROW(1, 'a', NULL)", {"name": "1", "width": "a", "dims": None},
    ),
    "DROP and ADD": (
        "ALTER TYPE size DROP ATTRIBUTE width; ALTER TYPE size ADD ATTRIBUTE width text", "ROW('a', NULL, 'w')",
        {"name": "a", "dims": None, "width": "w"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("late", [True, False], ids=["relay comes late", "relay runs"])
@pytest.mark.parametrize(("alter", "value", "shown"), ALTERS.values(), ids=ALTERS.keys())
async def test_a_composite_that_is_altered_between_writes_has_the_fields_of_each_moment(
    stage: Stage, alter: str, value: str, shown: dict[str, Any], late: bool
) -> None:
    await stage.sql(COMPOSITES, "CREATE TABLE t (id int PRIMARY KEY, organization_id text, v size, w size[], x box_of)")
    await stage.add("t")
    row = "INSERT INTO t VALUES ({id}, 'org_1', {v}, ARRAY[{v}::size], ROW({v}::size, NULL))"
    before, after = row.format(id=1, v="ROW(1, 'a', NULL)"), row.format(id=2, v=value)
    if late:
        await stage.sql(before, alter, after)
        events = await stage.relayed()
    else:
        async with running(stage.relay()):
            await stage.sql(before)
            await stage.drained()
            await stage.sql(alter, after)
            await stage.drained()
        events = await stage.history()
    assert kinds(events) == [("create", "1"), ("create", "2")]
    former = {"width": "1", "name": "a", "dims": None}
    for event, its in zip(events, (former, shown), strict=True):
        assert "error" not in event
        assert event["resource"]["v"] == its
        assert event["resource"]["w"] == [its]
        assert event["resource"]["x"]["inner_size"] == its
