"""Adding, listing and removing captures: everything is checked first, and all of it happens or nothing does."""

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import asyncpg

from streamhub.capture import catalog, triggers
from streamhub.capture.catalog import HIDDEN_ROWS, SHOWN
from streamhub.core import control
from streamhub.core.rendering import EVENTS
from streamhub.errors import UserError
from streamhub.postgres import migrate
from streamhub.postgres.migrate import CAPTURE_ROLE

_LOCK_TIMEOUT: Final = "5s"
_TYPE: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_LONGEST_TYPE: Final = 255

# A name without a schema is one of public: sessions of ours look in pg_catalog alone.
_TABLE: Final = f"""
SELECT c.oid, {SHOWN.format("c", "n")} AS name, format('%I.%I', n.nspname, c.relname) AS full_name, c.relnatts AS natts,
       c.relkind::text AS kind, c.relpersistence::text AS persistence, n.nspname AS schema,
       c.relispartition AS is_partition, CASE WHEN c.relispartition THEN pg_partition_root(c.oid)::text END AS root,
       has_table_privilege(c.oid, 'TRIGGER') AS may_trigger, {HIDDEN_ROWS.format("c")} AS hidden_rows,
       (SELECT min(i.inhrelid::regclass::text) FROM pg_inherits i WHERE i.inhparent = c.oid AND c.relkind = 'r')
         AS heir,
       (WITH RECURSIVE tree AS (
          SELECT c.oid AS relation WHERE c.relkind = 'p'
          UNION ALL SELECT i.inhrelid FROM tree JOIN pg_inherits i ON i.inhparent = tree.relation)
        SELECT min(relation::regclass::text) FROM tree JOIN pg_class leaf ON leaf.oid = relation
        WHERE leaf.relkind = 'f') AS foreign_partition,
       EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.condeferrable AND k.contype IN ('p', 'u'))
         AS deferrable_key
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, pg_roles r
WHERE c.oid = coalesce(to_regclass($1), CASE WHEN $1 !~ '[.]' THEN to_regclass('public.' || $1) END)
  AND r.rolname = '{CAPTURE_ROLE}' AND to_regclass('streamhub.captures') IS NOT NULL
"""
_COLUMNS: Final = """
SELECT a.attname AS name, a.attnum AS number, a.atttypid = 'boolean'::regtype AS is_boolean,
       a.attgenerated::text = 'v' AS is_virtual,
       array_position(k.conkey, a.attnum) AS key_position
FROM pg_attribute a LEFT JOIN pg_constraint k ON k.conrelid = a.attrelid AND k.contype = 'p'
WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
# What to_regclass raises for a text that is no name; a later PostgreSQL gives null for most of them.
_NO_NAME: Final = (
    asyncpg.PostgresSyntaxError, asyncpg.InvalidNameError, asyncpg.FeatureNotSupportedError, asyncpg.DataError,
)  # fmt: skip
_OPTIONS: Final = (
    "resource_type", "key_columns", "key_is_primary", "organization_column", "organization_id", "test_column", "test",
    "excluded_columns", "redacted_columns", "anonymization_column", "type_names", "column_names",
)  # fmt: skip
_SELECTED: Final = ", ".join(f"{name}::text" if name in ("type_names", "column_names") else name for name in _OPTIONS)
# A capture whose table was restored or made again means columns that are not there.
_ACTIVE: Final = f"""
SELECT c.id, {_SELECTED} FROM streamhub.captures c JOIN pg_class k ON k.oid = c.relation_oid
WHERE c.relation_oid = $1 AND c.relation = c.relation_oid AND k.relnatts >= c.natts AND removed_at IS NULL
"""
_INSERT: Final = f"""
INSERT INTO streamhub.captures (relation, relation_oid, name, natts, {", ".join(_OPTIONS)})
VALUES ($1::oid::regclass, $1, $2, $3, {", ".join(f"${n}" for n in range(4, 4 + len(_OPTIONS)))}) RETURNING id
"""
_REMOVE: Final = """
UPDATE streamhub.captures SET removed_at = clock_timestamp() WHERE removed_at IS NULL AND relation = $1::oid::regclass
"""
# Of a table that is gone, where another one has its name now.
_REMOVE_GONE: Final = """
UPDATE streamhub.captures SET removed_at = clock_timestamp()
WHERE removed_at IS NULL AND name = $1 AND NOT EXISTS (SELECT FROM pg_class WHERE oid = relation_oid)
"""
_NAME: Final = "UPDATE streamhub.captures SET name = $2 WHERE id = $1 AND name <> $2"
_CAPTURED: Final = f"""
SELECT s.relation::oid, {SHOWN.format("c", "n")} AS name
FROM streamhub.captures s JOIN pg_class c ON c.oid = s.relation JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE removed_at IS NULL AND relation = coalesce(to_regclass($1),
                                                 CASE WHEN $1 !~ '[.]' THEN to_regclass('public.' || $1) END)
"""
# Captures that can have no change in the outbox any more: their tables, or they themselves, have been gone for a while.
_DROPPED: Final = """
UPDATE streamhub.captures c SET removed_at = clock_timestamp()
WHERE removed_at IS NULL AND NOT EXISTS (SELECT FROM pg_class WHERE oid = c.relation_oid)
  AND to_regclass(c.name) IS NULL
"""
_OVER: Final = """
SELECT c.id FROM streamhub.captures c
WHERE c.removed_at < clock_timestamp() - interval '1 hour'
  AND NOT EXISTS (SELECT FROM streamhub.outbox WHERE starts_with(origin, c.id || ':'))
LIMIT 100
"""
_LIST: Final = f"""
SELECT s.id, {SHOWN.format("c", "n")} AS table, s.relation_oid, s.created_at, {_SELECTED}
FROM streamhub.captures s JOIN pg_class c ON c.oid = s.relation_oid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE removed_at IS NULL ORDER BY 2
"""


class CaptureSpec(NamedTuple):
    """What to capture and how, by the names that people use. `organization_id` is a registered organization's id.

    Exactly one of `organization_column` and `organization_id` is given; `id_columns` empty means the primary key.
    """

    table: str
    resource_type: str
    id_columns: Sequence[str] = ()
    organization_column: str | None = None
    organization_id: str | None = None
    test_column: str | None = None
    test: bool = False
    exclude: Sequence[str] = ()
    redact: Sequence[str] = ()
    type_names: Mapping[str, str] = {}
    anonymization_column: str | None = None


class AddResult(NamedTuple):
    """`state` is ``added``, ``replaced`` or ``unchanged``; `warnings` are sentences."""

    state: str
    table: str
    warnings: Sequence[str]


class RemoveResult(NamedTuple):
    """`warnings` are sentences."""

    table: str
    warnings: Sequence[str]


class ListedCapture(NamedTuple):
    """A capture as it is now, columns by their present names."""

    table: str
    resource_type: str
    key: Sequence[str]
    organization: str
    environment: str
    excluded: Sequence[str]
    redacted: Sequence[str]
    type_names: Mapping[str, str]
    anonymization_column: str | None


async def add(connection: "asyncpg.Connection[Any]", spec: CaptureSpec) -> AddResult:
    """Capture a table from now on, or change how it is captured. Raises UserError for whatever stands against it."""
    _check_names(spec)
    async with connection.transaction(isolation="read_committed"):
        await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
        await migrate.keep_out(connection)  # before the table's lock: a migration is not waited for with that in hand
        table = await _table(connection, spec.table)
        _check_table(table)
        try:
            # From here on nobody writes or alters, so names mean what they mean now.
            await triggers.lock(connection, table["oid"])
            table = await _table_again(connection, spec.table, table)
            warnings = _check_table(table)
            options = await _options(connection, table, spec)
            active = await connection.fetchrow(_ACTIVE, table["oid"])
            if active is not None and all(active[name] == value for name, value in options.items()):
                state, capture = "unchanged", active["id"]
                await connection.execute(_NAME, capture, table["full_name"])
            else:
                state = "added" if active is None else "replaced"
                await connection.execute(_REMOVE, table["oid"])
                await connection.execute(_REMOVE_GONE, table["full_name"])
                capture = await connection.fetchval(
                    _INSERT, table["oid"], table["full_name"], table["natts"], *options.values()
                )
            always = await triggers.install(connection, table["oid"], capture)
            await connection.execute("UPDATE streamhub.captures SET always = $2 WHERE id = $1", capture, always)
            await catalog.store_shapes(connection, await catalog.read_shapes(connection, captures=[capture]))
        except asyncpg.LockNotAvailableError:
            raise UserError(
                f"{table['name']} was locked by others for {_LOCK_TIMEOUT}: nothing was changed, try again"
            ) from None
        except asyncpg.InsufficientPrivilegeError as error:
            raise UserError(f"{table['name']} cannot be captured by this role: {error.args[0]}") from None
    if not always:
        warnings.append(
            f"this role does not own {table['name']}, so a session with session_replication_role = replica is not "
            "captured: run the command as the table's owner to change that"
        )
    return AddResult(state, table["name"], warnings)


async def remove(connection: "asyncpg.Connection[Any]", table: str) -> RemoveResult:
    """Capture no more of a table; what was written before still comes. Raises UserError where it is not captured."""
    async with connection.transaction(isolation="read_committed"):
        await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
        await migrate.keep_out(connection)
        try:
            row = await connection.fetchrow(_CAPTURED, table)
        except _NO_NAME:
            row = None
        if row is None:
            raise UserError(f"{table!r} is not captured: streamhub capture list shows what is")
        try:
            dropped = await triggers.uninstall(connection, row["relation"])
        except asyncpg.LockNotAvailableError:
            raise UserError(
                f"{row['name']} was locked by others for {_LOCK_TIMEOUT}: nothing was changed, try again"
            ) from None
        except asyncpg.InsufficientPrivilegeError as error:
            raise UserError(f"{row['name']} belongs to another role: {error.args[0]}") from None
        await connection.execute(_REMOVE, row["relation"])
    warnings = []
    if not dropped:
        warnings.append(
            f"this role does not own {row['name']}, so its triggers stay and do nothing: its owner may drop those that "
            "begin with !streamhub"
        )
    return RemoveResult(row["name"], warnings)


async def list_captures(connection: "asyncpg.Connection[Any]") -> list[ListedCapture]:
    """What is captured now, by table."""
    listed = []
    for row in await connection.fetch(_LIST):
        names = {each["number"]: each["name"] for each in await connection.fetch(_COLUMNS, row["relation_oid"])}

        def named(numbers: Iterable[int | None], names: Mapping[int, str] = names) -> list[str]:
            return [names.get(number, f"(dropped column {number})") for number in numbers if number is not None]

        organization = row["organization_id"] or f"column {named([row['organization_column']])[0]}"
        environment = "test" if row["test"] else "live"
        if row["test_column"] is not None:
            environment = f"column {named([row['test_column']])[0]}"
        listed.append(
            ListedCapture(
                row["table"],
                row["resource_type"],
                named(row["key_columns"]),
                organization,
                environment,
                named(row["excluded_columns"]),
                named(row["redacted_columns"]),
                json.loads(row["type_names"]),
                next(iter(named([row["anonymization_column"]])), None),
            )
        )
    return listed


async def forget_dropped(connection: "asyncpg.Connection[Any]") -> None:
    """Remove what is left of captures that ended: their shapes, positions of backfills and trigger functions.

    Nothing is waited for. A capture whose table was dropped has ended; one whose table was replaced is a fault.
    """
    async with connection.transaction(isolation="read_committed"):
        await connection.execute("SET LOCAL lock_timeout = '100ms'")
        try:
            await migrate.keep_out(connection)
        except UserError:
            return
        await connection.execute(_DROPPED)
        for (capture,) in await connection.fetch(_OVER):
            function = f"streamhub.capture_{capture}()"
            # A trigger that still calls it, in a table that was restored or whose owner was asked to drop it.
            if not await connection.fetchval(
                "SELECT EXISTS (SELECT FROM pg_trigger WHERE tgfoid = to_regprocedure($1))", function
            ):
                await connection.execute(f"DROP FUNCTION IF EXISTS {function}")
                await connection.execute("DELETE FROM streamhub.captures WHERE id = $1", capture)


def check_type(name: str) -> None:
    """Raises UserError unless `name` may be an event's type."""
    if not _TYPE.fullmatch(name) or len(name) > _LONGEST_TYPE:
        raise UserError(
            f"{name!r} is no type: letters, digits, - and _ in segments joined by dots, at most {_LONGEST_TYPE} "
            "characters, for example product.updated"
        )
    if control.is_reserved(name):
        raise UserError(f"{name!r} is no type: {name.rpartition('.')[2]!r} is the name of a control frame")


def _check_names(spec: CaptureSpec) -> None:
    check_type(spec.resource_type)
    for event, name in spec.type_names.items():
        if event not in EVENTS:
            raise UserError(f"{event!r} is no event of a row: one of {', '.join(EVENTS)}")
        check_type(name)
    if (spec.organization_column is None) == (spec.organization_id is None):
        raise UserError(
            "name either the column that holds the organization's id (--org-column) or one organization (--org)"
        )
    if spec.test and spec.test_column is not None:
        raise UserError("name either the column that tells the environment (--test-column) or --test, not both")


async def _table(connection: "asyncpg.Connection[Any]", name: str) -> "asyncpg.Record":
    try:
        row: asyncpg.Record | None = await connection.fetchrow(_TABLE, name)
    except _NO_NAME:
        raise UserError(f"{name!r} is no table's name: schema and table, for example public.skus") from None
    except asyncpg.InsufficientPrivilegeError as error:
        if "streamhub" in error.args[0] or "for schema" not in error.args[0]:
            raise UserError(
                f"this role may not use the streamhub schema ({error.args[0]}): run the command as the role "
                f"that owns it"
            ) from None
        schema = error.args[0].rpartition(" ")[2]
        raise UserError(
            f"this role may not use the schema of {name}: GRANT USAGE ON SCHEMA {schema} TO it, {CAPTURE_ROLE}"
        ) from None
    except (asyncpg.InvalidSchemaNameError, asyncpg.UndefinedFunctionError):
        row = None
    if row is None and await connection.fetchval("SELECT to_regclass('streamhub.captures') IS NULL"):
        raise UserError("this database has no streamhub schema yet: streamhub migrate makes it")
    if row is None:
        raise UserError(f"there is no table {name!r} in this database: schema and table, for example public.skus")
    return row


async def _table_again(connection: "asyncpg.Connection[Any]", name: str, locked: "asyncpg.Record") -> "asyncpg.Record":
    """The table as it is now that it is locked."""
    try:
        table = await _table(connection, name)
    except UserError:
        table = None
    if table is None or table["oid"] != locked["oid"]:
        raise UserError(
            f"{locked['name']} was replaced or renamed while it was waited for: nothing was changed, try again"
        )
    return table


def _check_table(table: "asyncpg.Record") -> list[str]:
    """The warnings about a table that can be captured; UserError for one that cannot."""
    name = table["name"]
    if table["kind"] not in ("r", "p") or table["persistence"] == "t":
        kinds = {"v": "a view", "m": "a materialized view", "f": "a foreign table", "S": "a sequence", "i": "an index"}
        what = "a temporary table" if table["persistence"] == "t" else kinds.get(table["kind"], "no table")
        raise UserError(f"{name} is {what}: only ordinary and partitioned tables have changes to capture")
    if table["schema"] in ("streamhub", "streamhub_hub", "pg_catalog", "information_schema"):
        raise UserError(f"{name} belongs to {table['schema']}: capture a table of the application")
    if table["is_partition"]:
        raise UserError(f"{name} is a partition: capture {table['root']}, and all of its partitions are")
    if table["foreign_partition"] is not None:
        raise UserError(
            f"{name} has the foreign table {table['foreign_partition']} as a partition, whose changes no trigger here "
            "sees: detach it, or capture the other partitions one by one"
        )
    if table["heir"] is not None:
        raise UserError(
            f"{name} has INHERITS children ({table['heir']} is one), and changes made through it would be changes of "
            "theirs: capture each table without children, or partition it instead"
        )
    if not table["may_trigger"]:
        raise UserError(f"this role may not put a trigger on {name}: GRANT TRIGGER ON {name} TO it")
    if table["hidden_rows"]:
        raise UserError(
            f"{name} has row-level security that {CAPTURE_ROLE}, whose functions read it at a TRUNCATE, does "
            f"not bypass: "
            f"ALTER ROLE {CAPTURE_ROLE} BYPASSRLS"
        )
    warnings = []
    if table["deferrable_key"]:
        warnings.append(
            f"{name} has a DEFERRABLE unique key: an INSERT may be captured before the DELETE that made room for it"
        )
    if table["persistence"] == "u":
        warnings.append(f"{name} is UNLOGGED: a crash of PostgreSQL empties it, and no event tells so")
    return warnings


async def _options(connection: "asyncpg.Connection[Any]", table: "asyncpg.Record", spec: CaptureSpec) -> dict[str, Any]:
    columns = {row["name"]: row for row in await connection.fetch(_COLUMNS, table["oid"])}

    def number(name: str, option: str) -> int:
        if name not in columns:
            near = difflib.get_close_matches(name, columns, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(columns)}"
            raise UserError(f"{option}: {table['name']} has no column {name!r}; {hint}")
        return int(columns[name]["number"])

    def stored(name: str, option: str) -> int:
        found = number(name, option)
        if columns[name]["is_virtual"]:
            raise UserError(
                f"{option}: {name!r} of {table['name']} is computed when it is read (VIRTUAL), so no trigger sees its "
                "value: name a column that is stored"
            )
        return found

    def numbers(names: Sequence[str], option: str) -> list[int]:
        return sorted({number(name, option) for name in names})

    key = [stored(name, "--id-column") for name in spec.id_columns] or [
        row["number"]
        for row in sorted(columns.values(), key=lambda row: row["key_position"] or 0)
        if row["key_position"] is not None
    ]
    if not key:
        raise UserError(
            f"{table['name']} has no primary key: name the columns that tell its rows apart, for example "
            f"--id-column {next(iter(columns), 'id')}"
        )
    if spec.test_column is not None and spec.test_column in columns and not columns[spec.test_column]["is_boolean"]:
        raise UserError(f"--test-column: {spec.test_column!r} of {table['name']} is no boolean")
    if secret := [name for name in spec.redact if name in columns and columns[name]["number"] in key]:
        raise UserError(
            f"--redact: {secret[0]!r} is of the key of {table['name']}, and every event tells its value as the "
            "resource_id: name another key (--id-column)"
        )
    options: dict[str, Any] = {
        "resource_type": spec.resource_type,
        "key_columns": key,
        "key_is_primary": not spec.id_columns,
        "organization_column": None
        if spec.organization_column is None
        else stored(spec.organization_column, "--org-column"),
        "organization_id": spec.organization_id,
        "test_column": None if spec.test_column is None else stored(spec.test_column, "--test-column"),
        "test": spec.test,
        "excluded_columns": numbers(spec.exclude, "--exclude"),
        "redacted_columns": numbers(spec.redact, "--redact"),
        "anonymization_column": None
        if spec.anonymization_column is None
        else stored(spec.anonymization_column, "--anonymization-column"),
        "type_names": json.dumps(dict(sorted(spec.type_names.items()))),
    }
    named = {*key, *options["excluded_columns"], *options["redacted_columns"]} | {
        options[name] for name in ("organization_column", "test_column", "anonymization_column")
    }
    by_number = {row["number"]: name for name, row in columns.items()}
    options["column_names"] = json.dumps({str(n): by_number[n] for n in sorted(named - {None})})
    return options
