"""No code that an application's role can define runs with other rights than its own, in any statement of the hub.

Each of the attacker's functions tells who ran it, tries to make its role a superuser, and tries to write to the outbox.
"""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from streamhub import capture
from streamhub.capture import CaptureSpec, Progress, faults
from streamhub.errors import UserError
from streamhub.postgres import connections
from tests.integration.capture.roles import Attacker, attacker
from tests.support.stage import Event, Stage, kinds

LONG = "repeat('long ', 20000)"


def silent(_: Progress) -> None:
    pass


@pytest.fixture
async def app(stage: Stage) -> AsyncIterator[Attacker]:
    async with attacker(stage) as app:
        yield app


async def sent(stage: Stage, table: str) -> int:
    """Backfill a table; how many rows."""
    result = await capture.backfill(stage.connection, table, report=silent)
    return result.rows


# Types, values, what is shown of them, and the types that get casts.
TYPES: dict[str, tuple[str, str, str, Any, str]] = {
    "enum": ("CREATE TYPE app.mood AS ENUM ('ok', 'bad')", "app.mood", "'ok'", "ok", "app.mood"),
    "domain": (
        "CREATE TYPE app.mood AS ENUM ('ok'); CREATE DOMAIN app.inner AS app.mood; CREATE DOMAIN app.d AS app.inner",
        "app.d", "'ok'", "ok", "app.mood",
    ),
    "array": ("CREATE TYPE app.mood AS ENUM ('ok')", "app.mood[]", "'{ok,NULL}'", ["ok", None], "app.mood"),
    "domain of an array": (
        "CREATE TYPE app.mood AS ENUM ('ok'); CREATE DOMAIN app.d AS app.mood[]", "app.d", "'{{ok}}'", [["ok"]],
        "app.mood",
    ),
    "composite": (
        "CREATE TYPE app.mood AS ENUM ('ok'); CREATE TYPE app.c AS (n bigint, m app.mood)", "app.c", "'(1,ok)'",
        {"n": "1", "m": "ok"}, "app.mood",
    ),
    "array of composites": (
        "CREATE TYPE app.mood AS ENUM ('ok'); CREATE TYPE app.c AS (n bigint, m app.mood[])", "app.c[]",
        """'{"(1,\\"{ok,ok}\\")",NULL}'""", [{"n": "1", "m": ["ok", "ok"]}, None], "app.mood",
    ),
    "range": ("CREATE TYPE app.r AS RANGE (subtype = text)", "app.r", "'[a,b)'", "[a,b)", "app.r"),
    "multirange": (
        "CREATE TYPE app.r AS RANGE (subtype = text, multirange_type_name = app.mr)", "app.mr", "'{[a,b),[c,d)}'",
        "{[a,b),[c,d)}", "app.mr",
    ),
    "range over an enum": (
        "CREATE TYPE app.mood AS ENUM ('ok', 'bad'); CREATE TYPE app.r AS RANGE (subtype = app.mood)", "app.r",
        "'[ok,bad)'", "[ok,bad)", "app.r",
    ),
}  # fmt: skip


def casts(type_: str) -> str:
    """To every type that a row's text could pass through."""
    return "".join(
        f"""
        CREATE FUNCTION app.to_{to}({type_}) RETURNS {to} LANGUAGE plpgsql IMMUTABLE AS $$
        BEGIN PERFORM app.attack('to {to}'); RETURN '"forged"'::{to}; END $$;
        CREATE CAST ({type_} AS {to}) WITH FUNCTION app.to_{to}({type_}) AS {how};
        """
        for to, how in (("json", "IMPLICIT"), ("jsonb", "IMPLICIT"), ("text", "ASSIGNMENT"), ("varchar", "IMPLICIT"))
    )


async def rows_come_and_go(app: Attacker, value: str) -> None:
    """Every way for a row to be captured, by the application's role."""
    await app.sql(
        f"INSERT INTO app.t (id, organization_id, v) VALUES (1, 'org_1', {value})",
        "UPDATE app.t SET note = 'b' WHERE id = 1",
        f"INSERT INTO app.t (id, organization_id, v, note) VALUES (2, 'org_1', {value}, {LONG})",
        "SET TimeZone = 'Asia/Tokyo'; SET DateStyle = German; SET search_path = app, public; SET bytea_output = escape",
        f"INSERT INTO app.t (id, organization_id, v) VALUES (3, 'org_1', {value})",
        "DELETE FROM app.t WHERE id = 3",
        "UPDATE app.t SET id = 4 WHERE id = 2",
        "UPDATE app.t SET v = v",
        "RESET ALL",
    )


CHANGES = [
    ("create", "1"), ("update", "1"), ("create", "2"), ("create", "3"), ("destroy", "3"), ("destroy", "2"),
    ("create", "4"),
]  # fmt: skip


def shown(events: list[Event]) -> list[Any]:
    return [event["resource"]["v"] for event in events if event["resource"] is not None]


TABLE = "CREATE TABLE app.t (id int PRIMARY KEY, organization_id text, v {type_}, note text)"
PARTED = """
CREATE TABLE app.t (id int PRIMARY KEY, organization_id text, v {type_}, note text) PARTITION BY RANGE (id);
CREATE TABLE app.t_1 PARTITION OF app.t FOR VALUES FROM (0) TO (3);
CREATE TABLE app.t_2 (note text, gone int, v {type_}, id int NOT NULL, organization_id text);
ALTER TABLE app.t_2 DROP gone;
ALTER TABLE app.t ATTACH PARTITION app.t_2 FOR VALUES FROM (3) TO (100);
"""


@pytest.mark.parametrize("table", [TABLE, PARTED], ids=["table", "partitions"])
@pytest.mark.parametrize("made", TYPES.values(), ids=TYPES.keys())
async def test_no_cast_of_a_type_is_called_for_a_row_of_it(
    stage: Stage, app: Attacker, made: tuple[str, str, str, Any, str], table: str
) -> None:
    types, type_, value, as_shown, cast_from = made
    await app.sql(types, casts(cast_from), table.format(type_=type_))
    await stage.add("app.t")
    await rows_come_and_go(app, value)
    assert await sent(stage, "app.t") == 2
    await app.sql("TRUNCATE app.t")
    events = await stage.relayed()
    assert sorted(kinds(events)) == sorted(
        [*CHANGES, ("create", "1"), ("create", "4"), ("destroy", "1"), ("destroy", "4")]
    )
    assert shown(events) == [as_shown] * len(events)
    assert await app.runs_as_itself() == 0
    assert await app.got_nothing()


LATER = {
    "a cast that comes after the capture": ("app.mood", [], [casts("app.mood")]),
    "a cast and a column that come after the capture": (
        "text", [], [casts("app.mood"), "ALTER TABLE app.t DROP v; ALTER TABLE app.t ADD v app.mood"],
    ),
    "a column of a plain type that gives way by renames to one with a cast": (
        "text", ["ALTER TABLE app.t ADD w app.mood"],
        [casts("app.mood"), "ALTER TABLE app.t RENAME v TO x; ALTER TABLE app.t RENAME w TO v"],
    ),
    "a column whose type is changed to one with a cast": (
        "int", [], [casts("app.mood"), "ALTER TABLE app.t ALTER v TYPE app.mood USING 'ok'"],
    ),
    "a domain whose array is put in place of a built-in one": (
        "text", [], [casts("app.mood"), "CREATE DOMAIN app.d AS app.mood; ALTER TABLE app.t DROP v, ADD v app.d"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("table", "relay_runs"), [(TABLE, True), (PARTED, False)], ids=["beside a relay", "partitions before a relay"]
)
@pytest.mark.parametrize("steps", LATER.values(), ids=LATER.keys())
async def test_no_cast_that_comes_later_is_called(
    stage: Stage, app: Attacker, steps: tuple[str, list[str], list[str]], table: str, relay_runs: bool
) -> None:
    type_, before, after = steps
    await app.sql("CREATE TYPE app.mood AS ENUM ('ok')", table.format(type_=type_), *before)
    await stage.add("app.t")
    if relay_runs:
        async with stage.relaying():
            await app.sql(*after)
            await rows_come_and_go(app, "'ok'")
            await stage.drained()
        events = await stage.new_events()
    else:
        await app.sql(*after)
        await rows_come_and_go(app, "'ok'")
        events = await stage.relayed()
    assert sorted(kinds(events)) == sorted(CHANGES)
    assert shown(events) == ["ok"] * len(events)
    assert await app.runs_as_itself() == 0
    assert await app.got_nothing()


KEYS = {
    "text": ("", "text", "'a'"),
    "int": ("", "int", "1"),
    "numeric": ("", "numeric", "1.5"),
    "enum": ("CREATE TYPE app.k AS ENUM ('a', 'b')", "app.k", "'a'"),
    "domain": ("CREATE DOMAIN app.k AS text", "app.k", "'a'"),
    "domain of an enum": ("CREATE TYPE app.e AS ENUM ('a', 'b'); CREATE DOMAIN app.k AS app.e", "app.k", "'a'"),
}


EXACT = [
    ("oid", "regclass"), ("regclass", "oid"), ("oid", "oid"), ("oid", "regtype"), ("regproc", "oid"), ("name", "text"),
    ("text", "name"), ("name", "name"), ("text", "text"), ("text", "varchar"), ('"char"', "text"), ("smallint", "integer"),  # noqa: E501
    ("bigint", "integer"), ("record", "record"), ("regrole", "oid"), ("oid", "regrole"), ("json", "text"),
    ("oid", "regnamespace"), ("smallint[]", "smallint"), ("text[]", "text[]"), ("xid8", "xid8"), ("integer", "bigint"),
]  # fmt: skip


async def operators(app: Attacker, schema: str, *types: tuple[str, str]) -> None:
    """Better matches than PostgreSQL's own operators, which take what can be cast to their types."""
    signs = (">", "=", "<", "<=", ">=", "<>", "*=", "||", "->", "->>", "!~", "~", "&", "+", "^", "%")
    for number, (left, right) in enumerate(types):
        await app.sql(
            f"CREATE FUNCTION {schema}.is_{number}({left}, {right}) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ "
            f"BEGIN PERFORM app.attack('operator of {left.replace(chr(34), '')}'); RETURN true; END $$"
        )
        for sign in signs:
            await app.sql(
                f"CREATE OPERATOR {schema}.{sign} (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = {schema}.is_{number})"  # noqa: E501
            )


@pytest.mark.parametrize("schema", ["app", "public"])
@pytest.mark.parametrize("made", KEYS.values(), ids=KEYS.keys())
async def test_no_operator_of_others_is_called_for_a_row(
    stage: Stage, app: Attacker, made: tuple[str, str, str], schema: str
) -> None:
    types, type_, value = made
    await stage.sql(f"GRANT CREATE ON SCHEMA public TO {app.name}")
    await app.sql(
        types or "SELECT", f"CREATE TABLE app.t (id {type_} PRIMARY KEY, organization_id text, v {type_}, note text)"
    )
    await stage.add("app.t")
    own = [(type_, type_), ("app.t", "app.t"), (type_, "text"), ("text", type_)]
    await operators(app, schema, *EXACT, *(pair for pair in dict.fromkeys(own) if pair not in EXACT))
    await app.sql(
        f"SET search_path = {schema}, pg_catalog",
        f"INSERT INTO app.t VALUES ({value}, 'org_1', {value}, 'a')",
        "UPDATE app.t SET note = 'b'",
        "UPDATE app.t SET note = 'b'",
    )
    await stage.sql(f"SET search_path = {schema}, pg_catalog")
    await app.sql("TRUNCATE app.t", f"INSERT INTO app.t VALUES ({value}, 'org_1', {value}, 'a')")
    await stage.sql("RESET search_path")
    before = await app.runs_as_itself()
    events = await stage.relayed()
    assert [event["event"] for event in events] == ["create", "update", "destroy", "create"]
    assert await app.runs_as_itself() == before
    assert await app.got_nothing()


@pytest.mark.parametrize("made", KEYS.values(), ids=KEYS.keys())
async def test_no_operator_of_others_is_called_by_a_command(
    stage: Stage, app: Attacker, made: tuple[str, str, str]
) -> None:
    types, type_, value = made
    await stage.sql(f"GRANT CREATE ON SCHEMA public TO {app.name}")
    await app.sql(
        types or "SELECT",
        f"CREATE TABLE app.t (id {type_} PRIMARY KEY, organization_id text, v {type_}, note text)",
        f"INSERT INTO app.t VALUES ({value}, 'org_1', {value}, 'a')",
    )
    own = [(type_, type_), ("app.t", "app.t"), (type_, "text"), ("text", type_)]
    await operators(app, "public", *EXACT, *(pair for pair in dict.fromkeys(own) if pair not in EXACT))
    operator = await connections.connect(stage.url)  # as the commands do
    try:
        spec = CaptureSpec("app.t", "t", organization_column="organization_id")
        assert (await capture.add(operator, spec)).state == "added"
        assert (await capture.backfill(operator, "app.t", report=silent)).rows == 1
        assert (await capture.backfill(operator, "app.t", report=silent)).rows == 1
        assert await faults(operator) == []
        assert len(await capture.list_captures(operator)) == 1
        await capture.unfinished_backfills(operator)
        await capture.add(operator, spec._replace(exclude=["note"]))
        await capture.remove(operator, "app.t")
    finally:
        await operator.close()
    assert await app.got_nothing()


@pytest.mark.parametrize(
    ("base", "value"),
    [
        ("text", "'a'"),
        ("int", "1"),
        ("jsonb", "jsonb_build_object('a', repeat('x', 3000))"),
        ("numeric[]", "ARRAY(SELECT n + 0.5 FROM generate_series(1, 200) AS n)"),
        ("nummultirange", "(SELECT range_agg(numrange(n, n + 0.5)) FROM generate_series(1, 100) AS n)"),
    ],
)
async def test_no_check_of_a_domain_is_called_with_other_rights(
    stage: Stage, app: Attacker, base: str, value: str
) -> None:
    await app.sql(
        f"""CREATE FUNCTION app.checked({base}) RETURNS boolean LANGUAGE plpgsql AS $$
            BEGIN PERFORM app.attack('check'); RETURN true; END $$""",
        f"CREATE DOMAIN app.d AS {base} CHECK (app.checked(VALUE))",
        "CREATE DOMAIN app.k AS int CHECK (app.checked(NULL))",
        "CREATE TYPE app.c AS (d app.d)",
        "CREATE TABLE app.t (id app.k PRIMARY KEY, organization_id text, v app.d, c app.c, a app.d[], note text)",
    )
    await stage.add("app.t")
    row = f"'org_1', {value}, ROW({value}), ARRAY[{value}::app.d]"
    await app.sql(
        f"INSERT INTO app.t VALUES (1, {row})", f"INSERT INTO app.t VALUES (2, {row}, {LONG})",
        "UPDATE app.t SET note = 'b' WHERE id = 1", "DELETE FROM app.t WHERE id = 2",
    )  # fmt: skip
    assert await sent(stage, "app.t") == 1
    await app.sql("TRUNCATE app.t")
    events = await stage.relayed()
    assert [event["event"] for event in events] == ["create", "create", "update", "destroy", "create", "destroy"]
    assert not [event for event in events if "error" in event]
    assert await app.got_nothing()


POLICY = """
CREATE FUNCTION app.sees() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN PERFORM app.attack('policy'); RETURN true; END $$;
ALTER TABLE app.t ENABLE ROW LEVEL SECURITY;
ALTER TABLE app.t FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON app.t USING (app.sees());
"""


@pytest.fixture
async def policies_count(stage: Stage) -> AsyncIterator[None]:
    """For the trigger functions, too, as where no superuser made their role."""
    await stage.sql("ALTER ROLE streamhub_capture NOBYPASSRLS")
    yield
    await stage.sql("ALTER ROLE streamhub_capture BYPASSRLS")


async def test_a_policy_is_not_asked_with_other_rights(stage: Stage, app: Attacker, policies_count: None) -> None:
    await app.sql(TABLE.format(type_="text"))
    await stage.add("app.t")
    await app.sql(POLICY, "INSERT INTO app.t VALUES (1, 'org_1', 'v', 'n')", "UPDATE app.t SET note = 'm'")
    assert await sent(stage, "app.t") == 1  # a superuser, whom no policy concerns
    await app.sql("TRUNCATE app.t")
    assert kinds(await stage.relayed()) == [("create", "1"), ("update", "1"), ("create", "1")]
    assert await app.got_nothing()


async def test_a_truncate_that_a_policy_hides_from_us_is_told_and_succeeds(
    stage: Stage, app: Attacker, policies_count: None
) -> None:
    await app.sql(TABLE.format(type_="text"))
    await stage.add("app.t")
    await app.sql(POLICY)
    assert ["row-level security" in fault.fault for fault in await faults(stage.connection)] == [True]
    await app.sql("INSERT INTO app.t VALUES (1, 'org_1', 'v', 'n')", "TRUNCATE app.t")
    assert kinds(await stage.relayed()) == [("create", "1")]
    assert len(await stage.incidents("poison")) == 1


CONSTANT = """
CREATE FUNCTION app.of(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN PERFORM app.attack('planned'); RETURN $1; END $$;
CREATE FUNCTION app.is(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN PERFORM app.attack('planned'); RETURN true; END $$;
CREATE FUNCTION app.both(text, text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT app.of($1 || $2)';
CREATE DOMAIN app.checked AS text CHECK (app.is(VALUE));
CREATE OPERATOR app.+ (LEFTARG = text, RIGHTARG = text, FUNCTION = app.both);
"""
PLANNED = {
    "index expression": "CREATE INDEX ON app.t ((v || app.of('a')))",
    "index of a constant": "CREATE INDEX ON app.t ((app.of('a')))",
    "index predicate": "CREATE INDEX ON app.t (v) WHERE app.is('a')",
    "index predicate beside a column": "CREATE INDEX ON app.t (v) WHERE v IS NOT NULL AND app.is('a')",
    "unique index": "CREATE UNIQUE INDEX ON app.t (id, (app.of('a')))",
    "operator": "CREATE INDEX ON app.t (('a' OPERATOR(app.+) 'b'))",
    "sql function": "CREATE INDEX ON app.t ((app.both('a', 'b')))",
    "nested call": "CREATE INDEX ON app.t ((upper(app.of(lower('A'))) || v))",
    "domain": "CREATE INDEX ON app.t (('a'::app.checked))",
    "case": "CREATE INDEX ON app.t ((CASE WHEN app.is('a') THEN v ELSE note END))",
    "coalesce": "CREATE INDEX ON app.t (coalesce(app.of('a'), v))",
    "array": "CREATE INDEX ON app.t ((v = ANY (ARRAY[app.of('a'), 'b'])))",
    "array operator": "CREATE INDEX ON app.t (('a' OPERATOR(app.+) 'b' = v))",
    "statistics": "CREATE STATISTICS app.s ON (v || app.of('a')), (note || 'x') FROM app.t",
    "exclusion": "ALTER TABLE app.t ADD EXCLUDE USING btree ((v || app.of('a')) WITH =)",
    "check": "ALTER TABLE app.t ADD CHECK (v <> app.of('zzz'))",
    "default": "ALTER TABLE app.t ALTER note SET DEFAULT app.of('a')",
    "function of a column": "CREATE INDEX ON app.t (app.of(v)) WHERE app.is(note)",
    "stored generated column": "ALTER TABLE app.t ADD g text GENERATED ALWAYS AS (app.of('a')) STORED",
}


@pytest.mark.parametrize("made", PLANNED.values(), ids=PLANNED.keys())
async def test_what_the_planner_computes_of_an_index_is_not_run_with_other_rights(
    stage: Stage, app: Attacker, made: str
) -> None:
    await app.sql(TABLE.format(type_="text"), CONSTANT)
    await stage.add("app.t")
    await app.sql(made, "INSERT INTO app.t VALUES (1, 'org_1', 'v', 'n')", "UPDATE app.t SET note = 'm'")
    try:
        assert await sent(stage, "app.t") == 1
    except UserError as refused:
        assert "would run functions of its owner" in str(refused)  # noqa: PT017
    await app.sql("TRUNCATE app.t")
    assert await app.role.connection.fetchval("SELECT count(*) FROM app.t") == 0
    events = await stage.relayed()
    assert kinds(events)[:2] == [("create", "1"), ("update", "1")]
    assert kinds(events)[-1:] == [("destroy", "1")] or len(await stage.incidents("poison")) == 1
    assert await faults(stage.connection) is not None
    assert await app.runs_as_others() == {}
    assert await app.has_gained() == []


async def test_an_index_that_comes_while_a_backfill_runs_is_not_run_with_its_rights(
    stage: Stage, app: Attacker
) -> None:
    await app.sql(TABLE.format(type_="text"), CONSTANT)
    await app.sql("INSERT INTO app.t SELECT i, 'org_1', 'v', 'n' FROM generate_series(1, 1000) AS i")
    await stage.add("app.t")
    index = None

    def attack(progress: Progress) -> None:
        nonlocal index
        if index is None:
            import asyncio

            index = asyncio.get_running_loop().create_task(app.sql("CREATE INDEX ON app.t ((v || app.of('a')))"))

    try:
        result = await capture.backfill(stage.connection, "app.t", rate=1000, report=attack)
        assert result.rows >= 1000
    except UserError as refused:
        assert "would run functions of its owner" in str(refused)  # noqa: PT017
    assert index is not None
    await index
    assert await app.got_nothing()


SHADOWS = [
    "CREATE TABLE pg_temp.pg_type (oid oid, typtype text)",
    "CREATE TABLE pg_temp.pg_class (oid oid)",
    "CREATE FUNCTION pg_temp.format(text, VARIADIC \"any\") RETURNS text LANGUAGE internal AS 'text_format'",
    "CREATE TABLE pg_temp.outbox (origin text)",
    "CREATE DOMAIN pg_temp.text AS pg_catalog.text",
]


@pytest.mark.parametrize("shadow", SHADOWS)
async def test_a_writers_temporary_objects_replace_nothing_of_the_hub(stage: Stage, app: Attacker, shadow: str) -> None:
    await stage.sql(f"GRANT TEMPORARY ON DATABASE {await stage.value('SELECT current_database()')} TO {app.name}")
    await app.sql("CREATE TYPE app.c AS (n int)", TABLE.format(type_="app.c"))
    await stage.add("app.t")
    try:
        await app.sql(shadow)
    except asyncpg.PostgresError:
        return  # PostgreSQL allows no such object
    await app.sql("SET search_path = pg_temp, app")
    await rows_come_and_go(app, "ROW(1)")
    await app.sql("TRUNCATE app.t")
    events = await stage.relayed()
    assert len(events) == len(CHANGES) + 2
    assert shown(events) == [{"n": 1}] * len(events)


async def test_what_a_writer_leaves_half_made_in_its_own_schema_fails_no_statement(stage: Stage, app: Attacker) -> None:
    """Functions of the names that ours call, in the schema that the writer's session looks in first."""
    await app.sql("CREATE TYPE app.mood AS ENUM ('ok')", TABLE.format(type_="app.mood"))
    await stage.add("app.t")
    names = await stage.rows(
        "SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND pronargs = 1 "
        "AND proargtypes[0] IN ('record'::regtype, 'oid'::regtype, 'anyelement'::regtype, 'text'::regtype)"
    )
    for (name,) in names:
        for argument in ("record", "oid", "text"):
            try:
                await app.sql(
                    f"""CREATE FUNCTION app."{name}"({argument}) RETURNS text LANGUAGE sql AS 'SELECT 1/0; SELECT NULL::text'"""  # noqa: E501
                )
            except asyncpg.PostgresError:
                continue
    await app.sql("SET search_path = app, pg_catalog")
    await rows_come_and_go(app, "'ok'")
    assert sorted(kinds(await stage.relayed())) == sorted(CHANGES)


# Who may do what


async def test_the_role_of_the_trigger_functions_may_do_what_its_grants_say_and_nothing_else(stage: Stage) -> None:
    await stage.shop()
    await stage.sql("REVOKE SELECT ON skus FROM streamhub_capture")
    tables = await stage.rows(
        """SELECT c.oid::regclass::text, p FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
           unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS p
           WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'
             AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
             AND (has_table_privilege('streamhub_capture', c.oid, p)
                  OR p IN ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
                     AND has_any_column_privilege('streamhub_capture', c.oid, p)) ORDER BY 1, 2"""
    )
    assert tables == [
        ("streamhub.captures", "SELECT"), ("streamhub.outbox", "INSERT"), ("streamhub.shapes", "SELECT"),
    ]  # fmt: skip


async def test_the_role_of_the_trigger_functions_may_take_numbers_and_no_more(stage: Stage) -> None:
    sequences = await stage.rows(
        """SELECT c.oid::regclass::text, p FROM pg_class c, unnest(ARRAY['USAGE', 'SELECT', 'UPDATE']) AS p
           WHERE c.relkind = 'S' AND has_sequence_privilege('streamhub_capture', c.oid, p)"""
    )
    assert sequences == [("streamhub.outbox_seq_seq", "USAGE")]


async def test_the_role_of_the_trigger_functions_may_make_nothing_anywhere(stage: Stage) -> None:
    await stage.shop()
    schemas = await stage.rows(
        """SELECT nspname, p FROM pg_namespace, unnest(ARRAY['USAGE', 'CREATE']) AS p
           WHERE nspname NOT IN ('pg_catalog', 'information_schema', 'public') AND nspname !~ '^pg_(toast|temp)'
             AND has_schema_privilege('streamhub_capture', oid, p)"""
    )
    assert schemas == [("streamhub", "USAGE")]
    assert not await stage.value(
        "SELECT has_schema_privilege('streamhub_capture', 'public', 'CREATE') "
        "OR has_database_privilege('streamhub_capture', current_database(), 'CREATE')"
    )


async def test_the_role_of_the_trigger_functions_owns_functions_and_nothing_else(stage: Stage) -> None:
    await stage.shop()
    owned = await stage.rows(
        """SELECT DISTINCT classid::regclass::text FROM pg_shdepend
           WHERE refobjid = 'streamhub_capture'::regrole AND deptype = 'o'
             AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"""
    )
    assert owned == [("pg_proc",)]


async def test_every_function_of_capture_that_runs_as_its_owner_belongs_to_the_role_that_may_write_to_the_outbox(
    stage: Stage,
) -> None:
    await stage.shop()
    await stage.add(exclude=["note"])
    others = await stage.rows(
        """SELECT proname::text FROM pg_proc WHERE pronamespace = 'streamhub'::regnamespace AND prosecdef
             AND proowner <> 'streamhub_capture'::regrole"""
    )
    assert others == [("publish",)]


async def test_the_role_of_the_trigger_functions_can_log_in_nowhere_and_is_in_no_other(stage: Stage) -> None:
    assert await stage.rows(
        """SELECT rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolreplication,
           (SELECT count(*) FROM pg_auth_members m WHERE m.member = r.oid)
           FROM pg_roles r WHERE rolname = 'streamhub_capture'"""
    ) == [(False, False, False, False, False, 0)]
